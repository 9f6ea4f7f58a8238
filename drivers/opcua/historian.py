"""Asks a server for history, a piece at a time, within what it handles at once.

Continuation points are a server's scarce good: each is given back before the next piece, which
begins behind the last time up to which everything came. A request has a hard limit of time; one
that takes too long, or whose answer is too large, is asked again for fewer values, while live
values go on.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from drivers.opcua.frames import Point
from drivers.opcua.history import Answer, Column, column, decode_history, piece, request
from drivers.opcua.measure import Malformed
from drivers.opcua.nodes import Server, find, in_parts, read_attributes
from drivers.opcua.notification import DecodeVariant
from drivers.opcua.stack import Channel, Refused, status_name, ua
from drivers.opcua.station import Place
from edgeagent.driver import BadReply, GroupSchema, HistoryPiece, LinkLost
from edgeagent.model.clock import Clock

ANSWER_WITHIN_S: Final = 30.0

VALUES_MAX: Final = 5_000
"""Values in one answer, of all its nodes."""

VALUES_PER_NODE_MAX: Final = 1_000

ROUNDS_MAX: Final = 100
"""Requests for one node until it gets further than where it stood."""

SAME_TIME_MAX: Final = 100_000
"""Values of one node at one time; only a server without continuation points is asked for many."""

REST_S_MAX: Final = 3600
"""Longest time without history after losses of the link."""

USER_ACCESS_LEVEL: Final = 18
HISTORY_READ: Final = 4
"""Bit of an access level (OPC 10000-3 section 8.57)."""

_CODES = ua.StatusCodes
_NOTHING = (_CODES.BadNoData, _CODES.BadNoDataAvailable, _CODES.BadBoundNotFound)
_NEVER = (
    _CODES.BadHistoryOperationUnsupported, _CODES.BadServiceUnsupported, _CODES.BadNotImplemented,
    _CODES.BadNotSupported, _CODES.BadTimestampNotSupported,
)  # fmt: skip
_TOO_LARGE = (
    _CODES.BadResponseTooLarge, _CODES.BadEncodingLimitsExceeded, _CODES.BadTcpMessageTooLarge,
    _CODES.BadOutOfMemory, _CODES.BadTimeout,
)  # fmt: skip
_TOO_MANY = (_CODES.BadTooManyOperations, _CODES.BadRequestTooLarge)
_GONE = (
    _CODES.BadSessionClosed, _CODES.BadSessionIdInvalid, _CODES.BadSessionNotActivated,
    _CODES.BadSecureChannelClosed, _CODES.BadSecureChannelIdInvalid, _CODES.BadConnectionClosed,
)  # fmt: skip

log = structlog.get_logger()


class Historian:
    """Which tags of a link a server remembers, and how they are asked for.

    :ivar is_known: whether the server has been asked which tags it remembers
    """

    def __init__(self, url: str, clock: Clock, variant: DecodeVariant) -> None:
        self._url = url
        self._clock = clock
        self._variant = variant
        self._nodes: dict[Point, Any] = {}
        self._groups: set[GroupSchema] = set()
        self._told: set[tuple[Point, str]] = set()
        self._nodes_max = 1
        self._values_max = VALUES_MAX
        self._losses = 0
        self._rests_until_ns = 0
        self.is_known = False

    def remembers(self, group: GroupSchema) -> bool:
        """Return whether the server remembers any tag of a group."""
        return group in self._groups

    async def look(self, channel: Channel, server: Server, places: Mapping[Point, Place]) -> None:
        """Ask the server of which tags this user may read history.

        :raises LinkLost: if the link is gone
        """
        self._nodes, self._nodes_max = {}, server.limits["history"]
        self._regroup()
        self.is_known = False
        try:
            found = await find(channel, server, [(p.start, p.address) for p in places.values()])
            nodes = {
                point: where.node
                for point, where in zip(places, found, strict=True)
                if not where.fault
            }
            levels = await read_attributes(
                channel, list(nodes.values()), USER_ACCESS_LEVEL, server.limits["read"]
            )
        except Refused as error:
            log.warning("history.unknown", url=self._url, cause=str(error))
            return
        for (point, node), level in zip(nodes.items(), levels, strict=True):
            bits = None if level.Value is None else level.Value.Value
            if isinstance(bits, int) and bits & HISTORY_READ:
                self._nodes[point] = node
        self._regroup()
        self.is_known = True

    async def history(
        self, channel: Channel, group: GroupSchema, after_ns: int, before_ns: int
    ) -> HistoryPiece:
        """Ask for the oldest piece of an open interval; see :class:`edgeagent.driver.Historian`.

        :raises BadReply: if the server does not give it now
        :raises LinkLost: if the link is gone
        """
        wanted = [point for point in self._nodes if point.group is group]
        self._check_rest()
        columns: dict[Point, Column] = {}

        async def ask(part: Sequence[Point]) -> Sequence[None]:
            columns.update(await self._ask(channel, part, after_ns, before_ns))
            return ()

        try:
            await in_parts(wanted, min(self._nodes_max, self._values_max), ask)
        except Refused as error:
            raise BadReply("refused", f"the server refuses history: {error}") from None
        if not columns:
            raise BadReply(
                "refused",
                f"the server gives no history of {group}; let it keep history of its nodes and the "
                "user read it, or cancel the back-fill",
            )
        found, refused = piece(group, columns, self._clock.utc_ns(), self._clock.boot_ns())
        for point, why in refused.items():
            self._tell(point, why)
        self._values_max = min(VALUES_MAX, 2 * self._values_max)
        self._losses = 0
        return found

    # -- one request ---------------------------------------------------------------------------

    async def _ask(
        self, channel: Channel, part: Sequence[Point], after_ns: int, before_ns: int
    ) -> dict[Point, Column]:
        """Return what each tag has given; every one gets further than it was."""
        count = max(1, min(VALUES_PER_NODE_MAX, self._values_max // len(part)))

        async def read(places: Sequence[tuple[Point, bytes]], count: int) -> list[Answer]:
            nodes = [(self._nodes[point], at) for point, at in places]
            asked = request(nodes, after_ns, before_ns, count)
            return await self._read(channel, asked, [point for point, _ in places], count)

        answers = dict(zip(part, await read([(p, b"") for p in part], count), strict=True))
        columns: dict[Point, Column] = {}
        alone: list[Point] = []
        held: list[tuple[Point, bytes]] = []
        for point, answer in answers.items():
            if answer.status == _CODES.BadNoContinuationPoints and len(part) > 1:
                alone.append(point)
                continue
            held += [(point, answer.continuation)] if answer.continuation else []
        try:
            for point, answer in answers.items():
                if point in alone or not self._gives(point, answer):
                    continue
                got = await self._further(point, answer, count, after_ns, before_ns, read, held)
                if got is not None:
                    columns[point] = got
        finally:
            self._release(channel, held)
        for point in alone:  # now that there are continuation points again
            columns |= await self._ask(channel, [point], after_ns, before_ns)
        return columns

    async def _further(
        self,
        point: Point,
        answer: Answer,
        count: int,
        after_ns: int,
        before_ns: int,
        read: Callable[..., Any],
        held: list[tuple[Point, bytes]],
    ) -> Column | None:
        """Return a tag's history up to a time beyond the last piece, asking on where needed."""
        values = list(answer.values)
        for _ in range(ROUNDS_MAX):
            at = answer.continuation
            is_whole = not at and len(answer.values) + answer.untimed < count
            got = column(values, after_ns, before_ns, is_whole=is_whole)
            if is_whole or got.upto_ns > after_ns:
                return got
            if at:
                held.remove((point, at))
            else:  # there are more, yet no place to go on from
                count, values = min(10 * count, SAME_TIME_MAX), []
                if len(answer.values) >= SAME_TIME_MAX:
                    break
            (answer,) = await read([(point, at)], count)
            if answer.continuation:
                held.append((point, answer.continuation))
            if not self._gives(point, answer):
                return None
            values += answer.values
        raise BadReply(
            "refused", f"tag {point.name}: its history does not get beyond {after_ns} ns"
        )

    async def _read(
        self, channel: Channel, asked: Any, part: Sequence[Point], count: int
    ) -> list[Answer]:
        """Send one request; return what each node answers."""
        try:
            body = await channel.ask_bytes(asked, ANSWER_WITHIN_S)
            status, answers = decode_history(body, self._variant)
        except Malformed as error:
            raise BadReply("bad_reply", f"the server's history cannot be read: {error}") from None
        except (LinkLost, asyncio.CancelledError) as error:  # cancelled: others saw it first
            self._ask_less(len(part) * count)
            if channel.lost is None and isinstance(error, LinkLost):
                raise BadReply("timeout", f"no history within {ANSWER_WITHIN_S:g} s") from None
            self._rest()
            raise
        except Refused as error:
            status, answers = error.status, []
        if status in _NEVER:
            return [Answer(status)] * len(part)
        if status in _TOO_MANY:
            raise Refused(status)
        if status in _GONE:
            raise LinkLost(f"the server ended the session ({status_name(status)})")
        if status in _TOO_LARGE:
            self._ask_less(len(part) * count)
        if status >> 31:
            raise BadReply("refused", f"the server refuses history: {status_name(status)}")
        if len(answers) != len(part):
            raise BadReply(
                "bad_reply", f"the server answers for {len(answers)} of {len(part)} nodes"
            )
        return answers

    def _release(self, channel: Channel, held: Sequence[tuple[Point, bytes]]) -> None:
        """Give continuation points back; what the server answers does not matter."""
        nodes = [(self._nodes[point], at) for point, at in held if point in self._nodes]
        if nodes and channel.lost is None:
            asked = request(nodes, 0, 0, 0, release=True)
            channel.send(asked).add_done_callback(lambda d: d.cancelled() or d.exception())

    def _gives(self, point: Point, answer: Answer) -> bool:
        """Return whether a node gives history at all."""
        status = answer.status & 0xFFFF_0000
        if answer.untimed:
            self._forget(point, "its history has no source times")
        elif status in _NEVER:
            self._forget(point, f"the server gives no history of it ({status_name(status)})")
        elif status >> 31 and status not in _NOTHING:
            if status in _TOO_LARGE:
                self._ask_less(self._values_max)
            raise BadReply("refused", f"tag {point.name}: {status_name(status)}")
        return point in self._nodes

    # -- what a server cannot do ---------------------------------------------------------------

    def _forget(self, point: Point, why: str) -> None:
        """Do not ask for a tag's history again in this session."""
        self._nodes.pop(point, None)
        self._regroup()
        self._tell(point, why)

    def _tell(self, point: Point, why: str) -> None:
        if (point, why) not in self._told:
            self._told.add((point, why))
            log.warning("history.refused", url=self._url, tag=point.name, cause=why)

    def _regroup(self) -> None:
        self._groups = {point.group for point in self._nodes}

    def _ask_less(self, asked: int) -> None:
        """Ask for a tenth from now on; each piece that comes doubles it again."""
        self._values_max = max(1, min(self._values_max, asked) // 10)

    def _rest(self) -> None:
        """Ask for nothing for a while, the longer the more often the link was lost over it.

        A server that does one thing at a time looks dead while it searches its history, and an
        answer may break the connection: live values come first.
        """
        self._losses += 1
        rest_s = min(4**self._losses, REST_S_MAX)
        self._rests_until_ns = self._clock.boot_ns() + rest_s * 10**9

    def _check_rest(self) -> None:
        rest_s = (self._rests_until_ns - self._clock.boot_ns()) / 1e9
        if rest_s > 0:
            raise BadReply(
                "refused",
                f"the link was lost {self._losses} times while history was asked for; it is asked "
                f"again in {rest_s:.0f} s",
            )

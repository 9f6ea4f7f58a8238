"""Reading one set of values of one unit, and learning what the unit refuses.

A device that refuses one address refuses the whole request in which it stands. So a refused block
is cut in two, and each part again, until the values at fault stand alone: they are absent, their
neighbours are read. What was learned holds until the connection is new; what was refused is asked
again now and then, for a device may be reconfigured while connected.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from drivers.modbus.codec import Block, Failure, Limits, Point, failure, plan, plan_of
from drivers.modbus.wire import Wire
from edgeagent.model import quality
from edgeagent.model.clock import Clock
from edgeagent.model.errors import BadReply
from edgeagent.model.frame import Value

REFUSED_AGAIN_AFTER_NS = 300 * 10**9
"""How long a refused address is left alone."""

CUTS_MAX = 16
"""Blocks cut in two within one read; what is then still refused as a whole waits for the next."""


class Reading(NamedTuple):
    """What one read brought; the names are those of :class:`~edgeagent.model.frame.Frame`."""

    values: tuple[Value, ...]
    received_utc_ns: int
    received_boot_ns: int
    raw: bytes
    present: tuple[int, ...] | None
    status: int | tuple[int, ...]


class Unit:
    """One device on the link.

    :param number: its unit id
    :param pause_ns: silence that it needs between a reply and the next request
    """

    def __init__(self, number: int, pause_ns: int = 0) -> None:
        self.number = number
        self.pause_s = pause_ns / 10**9
        self._rested_at_s = 0.0

    async def ask(self, wire: Wire, block: Block) -> bytes | Failure:
        """Ask for one block; return its reply PDU if that is the right one."""
        if self.pause_s:
            await self._rest()
        try:
            reply = await wire.ask(self.number, block.request)
        except BadReply as error:
            status = quality.BAD_TIMEOUT if error.cause == "timeout" else quality.BAD_DECODING_ERROR
            return Failure(error.cause, status, error.detail)
        finally:
            if self.pause_s:
                self._rested_at_s = asyncio.get_running_loop().time() + self.pause_s
        if len(reply) == block.reply_bytes and reply.startswith(block.head):
            return reply
        return failure(block, reply)

    async def _rest(self) -> None:
        """Wait until the device may be asked again."""
        left_s = self._rested_at_s - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.sleep(left_s)


class Reader:
    """Reads the values at some points of one unit."""

    def __init__(self, unit: Unit, points: Sequence[Point], limits: Limits, clock: Clock) -> None:
        self._unit = unit
        self._points = points
        self._clock = clock
        self._original = plan(points, limits)
        self._plan = self._original
        self._refused: dict[Block, int] = {}
        self._ask_again_boot_ns = 0

    def requests(self) -> tuple[bytes, ...]:
        """Return the requests that bring all values."""
        return tuple(block.request for block in self._original.blocks)

    def exact_requests(self) -> tuple[bytes, ...]:
        """Return those of them that bring nothing besides the values."""
        return tuple(
            block.request
            for block in self._original.blocks
            if block.count
            == len(
                {
                    at
                    for i in block.points
                    for at in range(self._points[i].address, self._points[i].end)
                }
            )
        )

    def shorter_requests(self) -> tuple[bytes, ...]:
        """Return requests of fewer addresses of the same, where the device allows parts."""
        return tuple(
            Block(block.table, block.address, block.count - 1, block.points).request
            for block in self._original.blocks
            if block.count > 1 and not block.atomic
        )

    def forget(self) -> None:
        """Ask for everything again: the connection, or the device, is new."""
        self._plan = self._original
        self._refused = {}

    async def read(self, wire: Wire) -> Reading:
        """Read once; what fails is absent.

        :raises BadReply: if nothing could be read
        :raises LinkLost: if the link is gone
        """
        if self._refused and self._clock.boot_ns() >= self._ask_again_boot_ns:
            self._use([*self._plan.blocks, *self._refused], {})
        current = self._plan
        replies: list[bytes] = []
        utc_ns = boot_ns = 0
        for block in current.blocks:
            reply = await self._unit.ask(wire, block)
            if isinstance(reply, Failure):
                effort = _Effort(current.blocks, replies, utc_ns, boot_ns)
                effort.fail(reply, self._points)
                return await self._salvage(wire, effort)
            utc_ns = self._clock.utc_ns()
            boot_ns = self._clock.boot_ns()
            replies.append(reply)
        if not replies:
            raise BadReply("refused", f"unit {self._unit.number} refuses all that is asked")
        raw = replies[0] if len(replies) == 1 else b"".join(replies)
        return Reading(current.decode(raw), utc_ns, boot_ns, raw, current.present, current.status)

    async def read_thoroughly(self, wire: Wire) -> Reading:
        """Read afresh until every value has come or is refused for good; that may be all.

        :raises BadReply: if something else went wrong, which may pass
        :raises LinkLost: if the link is gone
        """
        self.forget()
        effort = _Effort(self._plan.blocks, cuts_max=len(self._points))
        await self._ask_ahead(wire, effort)
        if effort.passing is not None:
            raise self._bad_reply(effort.passing)
        return self._reading(effort)

    async def _salvage(self, wire: Wire, effort: "_Effort") -> Reading:
        """Get what can be got after a block has failed, and learn from it."""
        await self._ask_ahead(wire, effort)
        if effort.learned:
            if effort.refused:
                self._ask_again_boot_ns = self._clock.boot_ns() + REFUSED_AGAIN_AFTER_NS
            kept = [*(block for block, _ in effort.done), *effort.failed]
            self._use(kept, self._refused | effort.refused)
        if not effort.done:
            assert effort.first is not None
            raise self._bad_reply(effort.first)
        return self._reading(effort)

    async def _ask_ahead(self, wire: Wire, effort: "_Effort") -> None:
        while effort.ahead:
            reply = await self._unit.ask(wire, effort.ahead[0])
            if isinstance(reply, Failure):
                effort.fail(reply, self._points)
            else:
                effort.succeed(reply, self._clock)

    def _bad_reply(self, found: Failure) -> BadReply:
        return BadReply(found.cause, f"unit {self._unit.number}: {found.detail}")

    def _reading(self, effort: "_Effort") -> Reading:
        """Decode what came, with a status for what did not."""
        brought = plan_of(
            self._points,
            (block for block, _ in effort.done),
            _absent(self._refused | effort.refused | effort.failed),
        )
        replies = dict(effort.done)
        raw = b"".join(replies[block] for block in brought.blocks)
        return Reading(
            brought.decode(raw), effort.utc_ns, effort.boot_ns, raw, brought.present, brought.status
        )

    def _use(self, blocks: Iterable[Block], refused: dict[Block, int]) -> None:
        """Read these blocks from now on."""
        self._refused = refused
        self._plan = plan_of(self._points, blocks, _absent(refused))


class _Effort:
    """One read that does not go smoothly: what came, what did not, what is still to be asked.

    :ivar done: blocks with their replies
    :ivar failed: blocks that brought nothing this time, with the status for their values
    :ivar refused: blocks that the unit refuses and that cannot be cut, likewise
    :ivar learned: whether later reads should ask otherwise
    :ivar first: what went wrong first
    :ivar passing: what went wrong first of all that is no refusal for good
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        replies: Sequence[bytes] = (),
        utc_ns: int = 0,
        boot_ns: int = 0,
        cuts_max: int = CUTS_MAX,
    ) -> None:
        self.done = list(zip(blocks, replies, strict=False))
        self.ahead = deque(blocks[len(replies) :])
        self.utc_ns = utc_ns
        self.boot_ns = boot_ns
        self.failed: dict[Block, int] = {}
        self.refused: dict[Block, int] = {}
        self.learned = False
        self.first: Failure | None = None
        self.passing: Failure | None = None
        self._cuts_left = cuts_max

    def succeed(self, reply: bytes, clock: Clock) -> None:
        """Take the reply to the block that was asked."""
        self.done.append((self.ahead.popleft(), reply))
        self.utc_ns = clock.utc_ns()
        self.boot_ns = clock.boot_ns()

    def fail(self, found: Failure, points: Sequence[Point]) -> None:
        """Decide what becomes of the block that was asked."""
        self.first = self.first or found
        block = self.ahead.popleft()
        if found.illegal:
            self.learned = True
            self._refuse(block, found, points)
            return
        self.passing = self.passing or found
        self.failed[block] = found.status
        if found.cause == "timeout":  # the unit is away: the rest would cost a timeout each
            self.failed.update(dict.fromkeys(self.ahead, found.status))
            self.ahead.clear()

    def _refuse(self, block: Block, found: Failure, points: Sequence[Point]) -> None:
        """Look for the values at fault."""
        halves = block.halves(points)
        if halves is None:
            self.refused[block] = found.status
        elif self._cuts_left:
            self._cuts_left -= 1
            self.ahead.extendleft(reversed(halves))
        else:
            self.failed.update(dict.fromkeys(halves, found.status))


def _absent(blocks: dict[Block, int]) -> dict[int, int]:
    """Return the status of each value in these blocks."""
    return {index: status for block, status in blocks.items() for index in block.points}

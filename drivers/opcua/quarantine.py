"""Tags whose value breaks the connection: found by halving, left out, reported.

Some servers close the connection when one value makes an answer too large. All tags of the session
die with it, again and again. So when a connection ends before everything that was subscribed has
brought its first value, the values are read in parts, each part that breaks is halved, and the tags
that stand alone at the end are left out for an hour. The others flow.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from drivers.opcua.frames import Point
from drivers.opcua.nodes import Server, read_values
from drivers.opcua.stack import Channel, Refused, ua
from edgeagent.driver import LinkLost
from edgeagent.model.clock import Clock

AGAIN_AFTER_NS = 3600 * 10**9
END_WITHIN_S = 1.0
READS_MAX = 200
"""Reads in one search; what is then still in doubt is left out as a whole."""


class Quarantine:
    """Which tags of a link are left out, and how that is found."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._out: dict[Point, tuple[str, int]] = {}
        self._awaited: set[int] = set()

    @property
    def is_waiting(self) -> bool:
        """Whether a tag has not brought its first value."""
        return bool(self._awaited)

    def brought(self, handles: Iterable[int]) -> None:
        """Take note that these tags have brought a value."""
        if self._awaited:
            self._awaited.difference_update(handles)

    async def inspect(
        self,
        nodes: Mapping[Point, Any],
        server: Server,
        reopen: Callable[[], Awaitable[Channel]],
        is_suspected: bool,
    ) -> dict[Point, tuple[int, str]]:
        """Return the tags to leave out, each with a status and the words for a person.

        :param is_suspected: the connection before was cut; else nothing is looked at
        """
        now_ns = self._clock.boot_ns()
        self._out = {p: (why, at) for p, (why, at) in self._out.items() if at > now_ns}
        suspects = [p for p in nodes if p.handle in self._awaited and p not in self._out]
        if is_suspected and suspects:
            for point, why in (await _search(suspects, nodes, server, reopen)).items():
                self._out[point] = (why, now_ns + AGAIN_AFTER_NS)
        self._awaited = {point.handle for point in nodes if point not in self._out}
        return {
            point: (
                ua.StatusCodes.BadResponseTooLarge,
                f"its value breaks the connection ({why}); it is left out for an hour; raise the "
                "server's message size, or remove the tag",
            )
            for point, (why, _) in self._out.items()
            if point in nodes
        }


async def _search(
    suspects: Sequence[Point],
    nodes: Mapping[Point, Any],
    server: Server,
    reopen: Callable[[], Awaitable[Channel]],
) -> dict[Point, str]:
    """Return the tags that cannot be read without harm, by reading parts and halves."""
    size = min(server.limits["read"], len(suspects))
    parts = [list(suspects[i : i + size]) for i in range(0, len(suspects), size)]
    broken: dict[Point, str] = {}
    channel = await reopen()
    try:
        for _ in range(READS_MAX):
            if not parts:
                break
            part = parts.pop()
            try:
                await read_values(channel, [nodes[point] for point in part], len(part))
            except (LinkLost, Refused) as error:
                if len(part) == 1:
                    broken[part[0]] = str(error)
                else:
                    parts += [part[: len(part) // 2], part[len(part) // 2 :]]
                if channel.lost is not None:
                    await channel.close()
                    channel = await reopen()
    finally:
        await channel.end_session(END_WITHIN_S)
        await channel.close()
    broken.update({point: "not examined to the end" for part in parts for point in part})
    return broken

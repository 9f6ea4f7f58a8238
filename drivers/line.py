"""A serial line on which no reply says which request it answers: when it is at rest, when not.

What all drivers of such lines share. After a lost reply, characters that nobody asked for, and on
opening, the line is *dirty*: nothing that comes is trusted, nothing is asked until the slowest
reply must have come. How a station then proves that it is in step is the driver's.
"""

import asyncio
from collections.abc import Hashable

from drivers.connection import Connection, End
from edgeagent.model.errors import BadReply, LinkLost

PROOFS_MAX = 3
"""Proofs that may fail one after the other, other than by silence, until the link is lost."""

_INSTANT_S = 1e-5  # less than any clock tells or any line notices


class Line(Connection):
    """A line and what is known of its rest; times are those of the event loop.

    :ivar _dirty: why nothing is trusted; empty when all is well
    :ivar _slowest_s: longest time after a request at which its reply may still come
    :ivar _silence_s: silence that there must be between two frames
    :ivar _sent_at_s: when the last request was sent
    :ivar _heard_at_s: when something last came
    :ivar _rested_at_s: from when on each station may be asked again
    """

    def __init__(self, settings: End, *, slowest_s: float, silence_s: float) -> None:
        super().__init__(settings)
        self._slowest_s = slowest_s
        self._silence_s = silence_s
        self._dirty = "the line was just opened"
        self._sent_at_s = self._heard_at_s = -slowest_s
        self._silent_until_s = 0.0
        self._rested_at_s: dict[Hashable, float] = {}
        self._proofs_failed = 0

    async def open(self) -> None:
        """Open the line.

        :raises LinkLost: if that fails
        """
        await super().open()
        # Whoever asked before us, a killed agent say, may still be answered.
        self._silent_until_s = self.loop.time() + self._slowest_s

    def _soil(self, why: str) -> None:
        """From now on nothing that comes is trusted."""
        self._dirty = why
        patience = 1 + min(self._proofs_failed, PROOFS_MAX)
        self._silent_until_s = max(
            self._silent_until_s, self._sent_at_s + patience * self._slowest_s
        )

    async def _get_ready(self, station: Hashable) -> None:
        """Wait until a station may be asked; drop what comes in the meantime.

        :raises LinkLost: if the line is gone, or never silent
        """
        begun_s = now_s = self.loop.time()
        while True:
            if not self.is_active():
                raise LinkLost(self._gone)
            free_s = max(self._heard_at_s + self._silence_s, self._rested_at_s.get(station, 0.0))
            if self._dirty:
                free_s = max(free_s, self._silent_until_s)
            if free_s - now_s < _INSTANT_S:
                return
            if now_s > max(begun_s, self._silent_until_s) + self._slowest_s:
                self._lose(
                    f"{self.peer}: the line is never silent; look for another master on it, for a "
                    "device that sends by itself, and for wrong baud rate, parity or wiring"
                )
                continue
            await self._sleep(free_s - now_s)
            now_s = self.loop.time()

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but wake when the connection is lost."""
        try:
            async with asyncio.timeout(seconds):
                await self._lost.wait()
        except TimeoutError:
            return

    def _count_failure(self, error: BadReply) -> None:
        """Note a proof that failed.

        :raises LinkLost: if it was one too many
        """
        self._proofs_failed += 1
        self._soil(error.detail)
        if self._proofs_failed >= PROOFS_MAX:
            self._lose(f"{self.peer}: nobody could be brought in step; last: {error.detail}")
            raise LinkLost(self._gone) from None

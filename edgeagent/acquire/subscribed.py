"""The owner task of one subscribed link: the device pushes, and may forget what we committed."""

import asyncio
from collections.abc import Sequence
from random import Random

import structlog

from edgeagent.acquire.acquisition import Acquisition
from edgeagent.acquire.backfill import Backfill
from edgeagent.acquire.link import keep_link
from edgeagent.driver import (
    Frame,
    Historian,
    Identity,
    Instrument,
    Loss,
    MarkingDriver,
    SubscribedDriver,
)
from edgeagent.journal import Storing
from edgeagent.model.frame import Origin

WAIT_S_MAX = 3.0
"""Longest wait before the next attempt: what a device keeps for us, it does not keep for long."""

FULL_LOOK_S = 1.0
"""How often is looked whether a full journal takes history again."""

log = structlog.get_logger()


class SubscribedLink:
    """One link on which the device pushes."""

    def __init__(
        self,
        name: str,
        driver: SubscribedDriver,
        instruments: Sequence[Instrument],
        acquisition: Acquisition,
        random: Random,
        backfill: Backfill | None = None,
    ) -> None:
        self._driver = driver
        self._backfill = backfill
        self._acquisition = acquisition
        self._recorder = acquisition.recorder
        self._random = random
        self._groups = [group for item in instruments for group in item.groups]
        self._last: Frame | None = None
        self._arrived = asyncio.Event()
        self.status = acquisition.link(name)

    async def run(self) -> None:
        """Keep the link up and take what comes, for ever; see :func:`keep_link`."""
        known = self._acquisition.continuity
        self._driver.resume({group: known.lines[str(group)].sources() for group in self._groups})
        if isinstance(self._driver, MarkingDriver):
            self._driver.take_up({g: dict(known.marks.get(str(g), {})) for g in self._groups})
        await keep_link(
            self._driver, self._serve, self._acquisition, self.status, self._groups, self._random,
            WAIT_S_MAX,
        )  # fmt: skip

    async def _serve(self, _: tuple[Identity, ...]) -> None:
        try:
            async with asyncio.TaskGroup() as both:
                if self._backfill is not None and isinstance(self._driver, Historian):
                    work = self._backfill.serve(self._driver, self._groups)
                    both.create_task(work, name=f"{self.status.name}:history")
                both.create_task(self._take_all(), name=f"{self.status.name}:next")
                both.create_task(self._acknowledge(), name=f"{self.status.name}:committed")
        except ExceptionGroup as group:
            await self._settle()
            raise group.exceptions[0] from None

    async def _settle(self) -> None:
        """Say that what was taken is durable, before the driver gives again what is not."""
        await self._recorder.committed()
        if self._last is not None:
            await self._driver.committed(self._last)

    async def _take_all(self) -> None:
        while True:
            for item in await self._driver.next():
                await self._room_for(item)
                if isinstance(item, Identity):
                    self._acquisition.identified(item)
                    continue
                if isinstance(item, Loss):
                    if item.to_utc_ns is None:
                        words = {"group": str(item.group), "cause": item.cause}
                        log.warning("values.lost", link=self.status.name, **words, why=item.detail)
                    self._acquisition.lose(item)
                    continue
                self._acquisition.take(item)
                self.status.frames += 1
                self._last = item
                self._arrived.set()

    async def _room_for(self, item: Frame | Loss | Identity) -> None:
        """Wait while the journal does not take this: the device keeps what we do not take.

        History waits also while only the reserve is stored to; what is live becomes a gap then.
        """
        recorder = self._recorder
        is_history = isinstance(item, Frame) and item.origin is Origin.BACKFILL
        while not recorder.accepting or (is_history and recorder.storing < Storing.ALL):
            if recorder.accepting:
                await recorder.lull(FULL_LOOK_S)
            else:
                await recorder.committed()

    async def _acknowledge(self) -> None:
        """Tell the device what is durable, as commits end."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            last = self._last
            await self._recorder.committed()
            if last is not None:
                await self._driver.committed(last)

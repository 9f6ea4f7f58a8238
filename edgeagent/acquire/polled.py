"""The owner task of one polled link: connect, identify, read on the grid, back off."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import structlog

from edgeagent.acquire.acquisition import Acquisition
from edgeagent.acquire.link import keep_link
from edgeagent.acquire.schedule import Due, tick_after
from edgeagent.driver import (
    BadReply,
    Frame,
    GroupSchema,
    Identity,
    Instrument,
    LinkLost,
    PolledDriver,
)
from edgeagent.model.backoff import backoff_s

SILENT_POLLS_MAX = 3

PROBE_SHARE = 20
"""Those that are silent take at most one part in so many of the time of those that answer."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Silence:
    """A silent instrument backs off alone and is identified before its next value.

    :ivar until_s: left alone until then
    :ivar cost_s: line time that the last attempt took: the timeout and what follows from it
    """

    failures: int = 0
    until_s: float = 0.0
    cost_s: float = 0.0


class PolledLink:
    """One link that is asked. Everything on it is serialised in :meth:`run`."""

    def __init__(
        self,
        name: str,
        driver: PolledDriver,
        instruments: Sequence[Instrument],
        acquisition: Acquisition,
        random: Random,
    ) -> None:
        self._driver = driver
        self._instruments = instruments
        self._acquisition = acquisition
        self._recorder = acquisition.recorder
        self._random = random
        self._groups = [group for item in instruments for group in item.groups]
        self._due: dict[GroupSchema, Due] = {}
        self._silent: dict[str, _Silence] = {}
        self._probes_from_s = 0.0
        self.status = acquisition.link(name)

    async def run(self) -> None:
        """Keep the link up and poll it, for ever; see :func:`keep_link`."""
        await keep_link(
            self._driver, self._serve, self._acquisition, self.status, self._groups, self._random
        )

    async def _serve(self, identities: tuple[Identity, ...]) -> None:
        now = asyncio.get_running_loop().time()
        answered = {identity.instrument for identity in identities}
        self._silent = {i.name: _Silence() for i in self._instruments if i.name not in answered}
        self._probes_from_s = now
        self._due = {
            group: Due(group.period_ns / 1e9, tick_after(now, group.period_ns / 1e9) - 1)
            for group in self._groups
        }
        await self._poll_tick(self._groups)  # nobody waits an hour for the first value of an hour
        await self._poll()

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            wake_s = min(due.at_s for due in self._due.values())
            if wake_s > now:
                await asyncio.sleep(wake_s - now)
                now = loop.time()
            ready = [group for group, due in self._due.items() if due.at_s <= now]
            if ready:
                self._note_lateness(now, [self._due[group] for group in ready])
                await self._poll_tick(ready)

    def _note_lateness(self, now_s: float, ready: Sequence[Due]) -> None:
        late_s = now_s - min(due.at_s for due in ready)
        self.status.late_s = late_s
        self.status.late.add(now_s, late_s)
        self.status.late_share.add(now_s, late_s / min(due.period_s for due in ready))

    async def _poll_tick(self, ready: Sequence[GroupSchema]) -> None:
        """Poll the groups that are due, one after the other; who is silent comes last."""
        loop = asyncio.get_running_loop()
        waiting = len(ready)
        for _ in ready:
            self._recorder.poll_started()
        try:
            for group in sorted(ready, key=self._silent_since):
                frame = await self._poll_group(group)
                missed = self._due[group].advance(loop.time())
                if missed:
                    self.status.skipped += missed
                    self.status.missed.add(loop.time(), missed)
                if frame is not None:
                    self._acquisition.take(frame, missed)
                    self.status.frames += 1
                waiting -= 1
                self._recorder.poll_ended()
        finally:
            for _ in range(waiting):
                self._recorder.poll_ended()

    def _silent_since(self, group: GroupSchema) -> float:
        silence = self._silent.get(group.instrument)
        return -1.0 if silence is None else silence.until_s

    def _is_left_alone(self, instrument: str, now_s: float) -> bool:
        """Return whether an instrument backs off, or would now keep one that answers waiting.

        It is asked when the attempt fits before the next poll of a neighbour; where that has not
        come about for one of their periods, also when it does not fit.
        """
        silence = self._silent.get(instrument)
        if silence is None:
            return False
        answering = [d for g, d in self._due.items() if g.instrument not in self._silent]
        if silence.until_s > now_s or not answering:
            return silence.until_s > now_s
        from_s = max(silence.until_s, self._probes_from_s)
        free_s = min(due.at_s for due in answering) - now_s
        if from_s > now_s or free_s <= 0:
            return True
        overdue_s = from_s + max(due.period_s for due in answering)
        return free_s < silence.cost_s and now_s < overdue_s

    async def _poll_group(self, group: GroupSchema) -> Frame | None:
        """Return the frame of one group, or ``None`` when it is noted that there is none."""
        instrument, begun_s = group.instrument, asyncio.get_running_loop().time()
        if self._is_left_alone(instrument, begun_s):
            self._acquisition.miss(group, "timeout", self.status.silent.get(instrument))
            return None
        try:
            if instrument in self._silent:
                self._acquisition.identified(await self._driver.identify(instrument))
                del self._silent[instrument]
                self.status.silent.pop(instrument, None)
            return await self._driver.poll(group)
        except BadReply as error:
            self.status.failures += 1
            self._acquisition.miss(group, error.cause, error.detail)
            if error.cause == "timeout":
                self._fell_silent(instrument, error.detail, begun_s)
            return None

    def _fell_silent(self, instrument: str, detail: str, asked_at_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        silence = self._silent.setdefault(instrument, _Silence())
        silence.failures += 1
        silence.cost_s = now_s - asked_at_s
        silence.until_s = now_s + backoff_s(silence.failures, self._random.random())
        if silence.failures > 1:  # a probe; the first failure of another keeps nobody waiting
            self._probes_from_s = now_s + PROBE_SHARE * silence.cost_s
        if instrument not in self.status.silent:
            log.warning("instrument.silent", instrument=instrument, cause=detail)
        self.status.silent[instrument] = detail
        everybody = len(self._silent) == len(self._instruments)
        if everybody and min(s.failures for s in self._silent.values()) >= SILENT_POLLS_MAX:
            raise LinkLost("no instrument on this link answers")

"""Back-fill: what devices remember of gaps, fetched piece by piece, as jobs that can be watched.

A job goes on behind what is durable: the place that it has reached is written in one transaction
with the frames up to there. A piece that fails is asked again, never passed over. A gap that is
filled is annotated, never erased: the frames carry the device's time and the origin *back-fill*.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from random import Random
from typing import Any

import structlog

from edgeagent.acquire.acquisition import Acquisition
from edgeagent.acquire.continuity import Stretch
from edgeagent.driver import BadReply, Frame, GroupSchema, Historian
from edgeagent.journal import Storing
from edgeagent.model.backoff import backoff_s
from edgeagent.model.record import decode_json, encode_json

NOTE_PREFIX = "backfill/"
ENDED_KEPT_MAX = 100
FULL_LOOK_S = 1.0
WAITING_MAX = 1000

log = structlog.get_logger()


class State(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    DONE = "done"
    CANCELLED = "cancelled"


class NoSuchJob(ValueError):
    """A job that does not exist, or that cannot be changed so, in words for a person."""


@dataclass(frozen=True, slots=True)
class Job:
    """One stretch of one group's time that is fetched; all times are the device's.

    :ivar group: ``instrument/group``
    :ivar bounds: of each tag that is wanted: index, later than, earlier than
    :ivar upto_utc_ns: everything up to here is durable
    :ivar why: the gap's number, or who asked and why
    :ivar attempts: failures since the last piece that came
    """

    number: int
    group: str
    bounds: tuple[tuple[int, int, int], ...]
    upto_utc_ns: int
    why: str
    state: State = State.WAITING
    frames: int = 0
    attempts: int = 0
    error: str | None = None

    @property
    def after_utc_ns(self) -> int:
        """Values later than this are wanted."""
        return min(after for _, after, _ in self.bounds)

    @property
    def before_utc_ns(self) -> int:
        """Values earlier than this are wanted."""
        return max(before for _, _, before in self.bounds)

    @property
    def untouched(self) -> bool:
        """Whether nothing has been fetched yet."""
        return self.state is State.WAITING and self.upto_utc_ns == self.after_utc_ns

    def stated(self) -> dict[str, Any]:
        """Return the job as people and scripts see it."""
        whole = self.before_utc_ns - self.after_utc_ns
        return {
            "job": self.number,
            "group": self.group,
            "state": self.state.value,
            "tags": len(self.bounds),
            "from_utc_ns": self.after_utc_ns,
            "to_utc_ns": self.before_utc_ns,
            "upto_utc_ns": self.upto_utc_ns,
            "percent": round(100 * (self.upto_utc_ns - self.after_utc_ns) / whole, 1),
            "frames": self.frames,
            "why": self.why,
            "attempts": self.attempts,
            "error": self.error,
        }


def _decoded(content: bytes) -> Job:
    stated: dict[str, Any] = decode_json(content)
    stated["bounds"] = tuple(map(tuple, stated["bounds"]))
    stated["state"] = State(stated["state"])
    return Job(**stated)


def _wanted(frame: Frame, job: Job) -> Frame | None:
    """Return the part of a frame that a job wants: the rest has come already."""
    every = range(len(frame.group.tags))
    times = frame.source_utc_ns
    present = set(every if frame.present is None else frame.present)
    kept = []
    for index, after, before in job.bounds:
        at = times if isinstance(times, int) or times is None else times[index]
        if index in present and at is not None and after < at < before:
            kept.append(index)
    if not kept:
        return None
    return frame if len(kept) == len(every) else replace(frame, present=tuple(sorted(kept)))


class Backfill:
    """The jobs of the site, and how a link works on its own.

    :ivar jobs: every job that is not forgotten, by number
    """

    def __init__(self, acquisition: Acquisition, random: Random) -> None:
        self._acquisition = acquisition
        self._recorder = acquisition.recorder
        self._random = random
        self._remembering: dict[str, Historian] = {}
        self._rest: dict[int, float] = {}
        self._changed = asyncio.Event()
        kept = self._recorder.journal.notes.items()
        found = [_decoded(note) for name, note in kept if name.startswith(NOTE_PREFIX)]
        self.jobs = {job.number: job for job in sorted(found, key=lambda job: job.number)}

    # -- jobs ----------------------------------------------------------------------------------

    def stated(self) -> list[dict[str, Any]]:
        """Return every job as people and scripts see it."""
        return [job.stated() for job in self.jobs.values()]

    def gap_ended(self, stretch: Stretch) -> None:
        """Take note that values came back: what is missing is fetched if the device remembers.

        A gap may be told twice, by its first value and by the driver: it is fetched once.
        """
        if not self.remembers(stretch.group):
            return
        name = str(stretch.group)
        known = {bound for job in self.jobs.values() if job.group == name for bound in job.bounds}
        stretch = replace(stretch, bounds=tuple(b for b in stretch.bounds if b not in known))
        if not stretch.bounds:
            return
        for job in self._waiting([name]):
            if job.untouched and not {i for i, _, _ in job.bounds} & {
                i for i, _, _ in stretch.bounds
            }:  # the tags of one outage come back one after the other
                bounds = (*job.bounds, *stretch.bounds)
                start = min(after for _, after, _ in bounds)
                self._keep(replace(job, bounds=bounds, upto_utc_ns=start))
                return
        self.start(stretch)

    def remembers(self, group: GroupSchema) -> bool:
        """Return whether a group's link is up and its device remembers."""
        historian = self._remembering.get(str(group))
        return historian is not None and historian.remembers(group)

    def start(self, stretch: Stretch, **who: object) -> Job:
        """Begin a job.

        :raises NoSuchJob: if the stretch is empty, or too many jobs wait already
        """
        if not stretch.bounds or any(after >= before for _, after, before in stretch.bounds):
            raise NoSuchJob("the stretch is empty: it ends before it begins")
        if len(self._waiting()) >= WAITING_MAX:
            raise NoSuchJob(f"{WAITING_MAX} jobs wait already; cancel some")
        number = max(self.jobs, default=0) + 1
        start = min(after for _, after, _ in stretch.bounds)
        job = Job(number, str(stretch.group), stretch.bounds, start, stretch.why)
        self._keep(job)
        self._event("backfill.started", job, f"back-fill {number} of {job.group} began", **who)
        return job

    def cancel(self, number: int, **who: object) -> Job:
        """End a job before its time; what it has fetched stays.

        :raises NoSuchJob: if there is none that waits
        """
        job = replace(self._in_state(number, State.WAITING), state=State.CANCELLED)
        self._keep(job)
        self._event("backfill.cancelled", job, f"back-fill {number} was cancelled", **who)
        return job

    def resume(self, number: int, **who: object) -> Job:
        """Let a cancelled job go on behind what it has fetched.

        :raises NoSuchJob: if there is none that was cancelled
        """
        job = replace(self._in_state(number, State.CANCELLED), state=State.WAITING)
        self._keep(job)
        self._event("backfill.resumed", job, f"back-fill {number} goes on", **who)
        return job

    def _in_state(self, number: int, state: State) -> Job:
        job = self.jobs.get(number)
        if job is None:
            known = ", ".join(map(str, self.jobs)) or "none"
            raise NoSuchJob(f"there is no back-fill {number}; known: {known}")
        if job.state is not state:
            raise NoSuchJob(f"back-fill {number} is {job.state}, not {state}")
        return job

    def _waiting(self, groups: Iterable[str] | None = None) -> list[Job]:
        wanted = None if groups is None else set(groups)
        return [
            job
            for job in self.jobs.values()
            if job.state is State.WAITING and (wanted is None or job.group in wanted)
        ]

    def _keep(self, job: Job) -> None:
        """Change a job, in one commit with the records that were put for it."""
        self.jobs[job.number] = job
        self._recorder.note(f"{NOTE_PREFIX}{job.number}", encode_json(asdict(job)))
        ended = [each for each in self.jobs.values() if each.state is not State.WAITING]
        for old in ended[:-ENDED_KEPT_MAX]:
            del self.jobs[old.number]
            self._recorder.note(f"{NOTE_PREFIX}{old.number}", None)
        self._changed.set()

    def _event(self, kind: str, job: Job, text: str, **facts: object) -> None:
        self._recorder.event(
            kind,
            "info",
            text,
            job=job.number,
            group=job.group,
            from_utc_ns=job.after_utc_ns,
            to_utc_ns=job.before_utc_ns,
            frames=job.frames,
            why=job.why,
            **facts,
        )

    # -- work ----------------------------------------------------------------------------------

    async def serve(self, driver: Historian, groups: Sequence[GroupSchema]) -> None:
        """Work on the jobs of one link for as long as it is up.

        :raises LinkLost: passed on; the job goes on when the link is up again
        """
        by_name = {str(group): group for group in groups}
        self._remembering |= dict.fromkeys(by_name, driver)
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._changed.clear()
                waiting = self._waiting(by_name)
                due = [job for job in waiting if self._rest.get(job.number, 0.0) <= loop.time()]
                for job in due:
                    await self._piece(driver, by_name[job.group], job)
                if not due:
                    rests = [self._rest[job.number] for job in waiting]
                    await self._change_before(min(rests, default=None))
        finally:
            for name in by_name:
                self._remembering.pop(name, None)

    async def _change_before(self, deadline_s: float | None) -> None:
        """Wait until a job is new or changed, or until one may be asked for again."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline_s):
                await self._changed.wait()

    async def _piece(self, driver: Historian, group: GroupSchema, job: Job) -> None:
        """Fetch the next piece of a job; one that does not come is asked for again."""
        try:
            piece = await driver.history(group, job.upto_utc_ns, job.before_utc_ns)
        except BadReply as error:
            self._failed(job, str(error))
            return
        # The device keeps what we do not take; when there is space again is retention's matter.
        while self._recorder.storing is not Storing.ALL or not self._recorder.accepting:  # noqa: ASYNC110
            await asyncio.sleep(FULL_LOOK_S)
        if self.jobs[job.number] != job:
            return  # cancelled or extended meanwhile
        frames = [part for frame in piece.frames if (part := _wanted(frame, job)) is not None]
        for frame in frames:
            self._acquisition.take(frame)
        upto = max(job.upto_utc_ns, min(piece.upto_utc_ns, job.before_utc_ns))
        state = State.DONE if upto >= job.before_utc_ns else State.WAITING
        count = job.frames + len(frames)
        job = replace(job, upto_utc_ns=upto, frames=count, attempts=0, error=None, state=state)
        self._keep(job)
        if state is State.DONE:
            words = f"back-fill {job.number} of {job.group} ended with {job.frames} frames"
            self._event("backfill.done", job, words)
        await self._recorder.committed()

    def _failed(self, job: Job, error: str) -> None:
        current = self.jobs[job.number]
        attempts = current.attempts + 1
        wait_s = backoff_s(attempts, self._random.random())
        self._rest[job.number] = asyncio.get_running_loop().time() + wait_s
        self._keep(replace(current, attempts=attempts, error=error))
        log.warning("backfill.failed", job=job.number, cause=error)

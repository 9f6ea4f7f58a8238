"""Keeps the journal within its budget and its disk, for ever; what to do is decided in ``policy``.

Housekeeping goes piece by piece, each right behind a commit or while there is none, so that no
commit waits for it.
"""

import asyncio
import os
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from edgeagent.journal.growth import Growth
from edgeagent.journal.policy import (
    Decision,
    Pack,
    Purge,
    PurgeReplies,
    Shrink,
    Situation,
    Work,
    decide,
    fill,
    housekeeping_share,
    room,
)
from edgeagent.journal.recorder import Recorder, Storing
from edgeagent.journal.reserve import Reserve
from edgeagent.journal.survey import Survey, received_upto
from edgeagent.model.errors import JournalFull
from edgeagent.model.record import Lane
from edgeagent.model.settings import JournalSettings

LOOK_EVERY_S = 1.0
LULL_S = 0.25
REST_S = 60.0
"""Seconds until something is tried again that had nothing to do, or could not be done."""

_FULL_DISK = (
    "the disk is full: only critical tags, gaps, alarms and audit are stored, from the reserve; "
    "free space on it"
)
_FULL_BUDGET = (
    "the budget is used up: only critical tags, gaps, alarms and audit are stored, from the "
    "reserve; let consumers receipt, retire those that are gone, or raise journal.budget"
)
_EXHAUSTED = "the reserve is used up, too: records wait in memory; free space on this disk"
_SPACE = "there is space again: everything is stored"


class Retention:
    """The loop, and what it has found.

    :param state_dir: where the journal and the reserve are
    """

    def __init__(self, recorder: Recorder, settings: JournalSettings, state_dir: Path) -> None:
        self._recorder = recorder
        self._journal = recorder.journal
        self._settings = settings
        self._state_dir = state_dir
        self._reserve = Reserve(state_dir)
        self._growth = Growth()
        self._survey = Survey(recorder)
        self._wake = asyncio.Event()
        self._now: Situation | None = None
        self._stage = 0
        self._received_share = 0.0
        self._oldest_utc_ns: int | None = None
        self._work: Purge | PurgeReplies | None = None
        self._work_done = 0
        self._shrunk = False
        self._refusals = 0
        self._growing = False
        self._yielded_s = float("-inf")
        self._resting: dict[object, float] = {}

    # -- what others see -------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return how the journal stands against its budget, as status and health state it.

        ``hours_left`` is how long it would take to fill at today's rate if no consumer receipted
        any more; ``None`` when the rate is not known yet, or nothing grows.
        """
        now, settings = self._now, self._settings
        hours = None if now is None else self._hours_left(now)
        return {
            "used_bytes": None if now is None else now.usage.used_bytes,
            "budget_bytes": settings.budget,
            "room_bytes": None if now is None else room(now, settings),
            "fill_percent": None if now is None else round(fill(now, settings), 1),
            "stage": self._stage,
            "storing": self._recorder.storing.name.lower(),
            "paused_since_utc_ns": self._recorder.full_since_ns,
            "reserve_bytes": self._reserve.held,
            "received_share": round(self._received_share, 4),
            "bytes_per_hour": None if now is None else self._per_hour(now),
            "hours_left": hours,
            "days_left": None if hours is None else round(hours / 24, 1),
            "oldest_utc_ns": self._oldest_utc_ns,
            "keep_ns": settings.keep,
            "evidence_keep_ns": settings.evidence_keep,
        }

    def _per_hour(self, now: Situation) -> float | None:
        return self._growth.per_hour(self._recorder.clock.boot_ns(), now.usage.used_bytes)

    def _hours_left(self, now: Situation) -> float | None:
        per_hour = self._per_hour(now)
        if per_hour is None or per_hour <= 0:
            return None
        left = room(now, self._settings) + now.usage.used_bytes * self._received_share
        return round(left / per_hour, 1)

    # -- the loop ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep it, for ever.

        :raises JournalFailed: the journal could not be mended
        """
        self._recorder.make_way = self._make_way
        self._reserve.look()
        try:
            while True:
                if not await self.turn():
                    await self._pause()
        finally:
            self._recorder.make_way = None
            self._reserve.close()

    async def _pause(self) -> None:
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._wake.wait()

    async def turn(self) -> bool:
        """Look, decide, and do one piece of work; return whether there was any."""
        refusals = self._refusals
        now = self._now = await self._look()
        decision = decide(now, self._settings)
        await self._apply(now, decision, refusals)
        work = self._work or decision.work
        if work is None:
            return False
        try:
            await self._do(work)
        except JournalFull:
            self._work = None
            self._make_way()
            return False
        if self._recorder.storing is not Storing.ALL:
            await self._journal.move_log(at_once=True)  # what was given up counts from then on
        return True

    def _make_way(self) -> bool:
        """Give up the part of the reserve that is for records; return whether there was any."""
        self._refusals += 1
        self._wake.set()
        share = housekeeping_share(self._settings.reserve)
        if self._reserve.held > share and not self._growing and self._reserve.resize(share):
            self._recorder.store(Storing.RESERVED, _FULL_DISK)
            return True
        self._recorder.store(Storing.NOTHING, _EXHAUSTED)
        return False

    async def _apply(self, now: Situation, decision: Decision, refusals: int) -> None:
        storing = decision.storing
        if decision.reserve > self._reserve.held and not await self._grow(decision.reserve):
            storing = min(storing, Storing.RESERVED)
        elif decision.reserve < self._reserve.held:
            self._reserve.resize(decision.reserve)
        if refusals != self._refusals:
            return  # the disk has turned full since we looked
        if storing is not self._recorder.storing:
            self._recorder.store(storing, self._why(now, storing))
        if decision.stage != self._stage:
            self._enter_stage(now, decision.stage)

    async def _grow(self, size: int) -> bool:
        self._growing = True
        try:
            return await asyncio.to_thread(self._reserve.resize, size)
        finally:
            self._growing = False

    def _why(self, now: Situation, storing: Storing) -> str:
        if storing is Storing.ALL:
            return _SPACE
        if storing is Storing.NOTHING:
            return _EXHAUSTED
        over = now.usage.used_bytes >= self._settings.budget
        return _FULL_BUDGET if over else _FULL_DISK

    def _enter_stage(self, now: Situation, stage: int) -> None:
        rising, self._stage = stage > self._stage, stage
        hours = self._hours_left(now)
        self._recorder.event(
            "journal.budget",
            "alarm" if rising else "info",
            f"the journal is {fill(now, self._settings):.0f} % full"
            + ("" if rising or stage else ", less than every stage of its alarm"),
            stage=stage,
            used_bytes=now.usage.used_bytes,
            budget_bytes=self._settings.budget,
            room_bytes=room(now, self._settings),
            hours_left=hours,
        )

    # -- looking -----------------------------------------------------------------------------------

    async def _look(self) -> Situation:
        journal, recorder = self._journal, self._recorder
        usage = await journal.usage()
        disk = await asyncio.to_thread(os.statvfs, self._state_dir)
        at = recorder.now()
        heads = {lane: journal.heads[lane][0] for lane in Lane}
        self._growth.sample(at.boot_ns, usage.used_bytes, journal.epoch.number, heads)
        await self._survey.look()
        found = [await self._survey.oldest(lane, self._rests) for lane in Lane]
        self._received_share = self._survey.received_share()
        self._oldest_utc_ns = await self._survey.oldest_utc_ns()
        unsynced = recorder.context.get("clock", {}).get("state") == "unsynced"
        return Situation(
            usage=usage,
            disk_free=disk.f_bavail * disk.f_frsize,
            reserve=self._reserve.held,
            stage=self._stage,
            storing=recorder.storing,
            utc_ns=None if unsynced else at.utc_ns,
            oldest=tuple(each for each in found if each is not None),
            replies=await self._survey.replies(),
            rested=self._loop_s() - self._yielded_s >= REST_S,
            shrunk=self._shrunk,
            packable=tuple(self._packable(at.boot_ns, heads)),
        )

    def _loop_s(self) -> float:
        return asyncio.get_running_loop().time()

    def _rests(self, key: object) -> bool:
        return self._resting.get(key, float("-inf")) > self._loop_s()

    def _rest(self, key: object) -> None:
        self._resting[key] = self._loop_s() + REST_S

    def _packable(self, boot_ns: int, heads: dict[Lane, int]) -> list[tuple[Lane, int]]:
        found = []
        for lane in Lane:
            then = self._growth.head_at(
                boot_ns - self._settings.pack_after, self._journal.epoch.number, lane
            )
            if then is not None and not self._rests(lane):
                found.append((lane, heads[lane] - then))
        return found

    # -- doing -------------------------------------------------------------------------------------

    async def _do(self, work: Work) -> None:
        if self._recorder.storing is Storing.ALL:
            await self._recorder.lull(LULL_S)
        match work:
            case Pack(lane, keep_newest):
                if not await self._journal.pack(lane, keep_newest=keep_newest):
                    self._rest(lane)
                self._shrunk = False
            case Shrink():
                self._shrunk = not await self._journal.shrink()
            case Purge() | PurgeReplies():
                await self._purge(work)

    async def _purge(self, work: Purge | PurgeReplies) -> None:
        """Give up one piece; what and why is on record before the first one goes."""
        if self._work is None:
            work = await self._begin(work)
        if isinstance(work, Purge):
            # A consumer with a new database has its cursor taken back: it is owed what is there.
            upto = min(work.upto, received_upto(self._journal, work.epoch, work.lane))
            piece = partial(self._journal.purge, work.epoch, work.lane, upto)
            count = await self._freeing(piece) if upto >= work.lowest else 0
            self._survey.purged(work.epoch, work.lane)
        else:
            count = await self._freeing(
                partial(self._journal.purge_evidence, work.epoch, work.upto)
            )
        self._work_done += count
        if not count:
            if not self._work_done and isinstance(work, Purge):
                self._rest((work.epoch.number, work.lane))
            self._work = None

    async def _begin(self, work: Purge | PurgeReplies) -> Purge | PurgeReplies:
        lane = work.lane if isinstance(work, Purge) else Lane.DATA
        if work.before_utc_ns is not None:
            upto = await self._survey.last_before(
                work.epoch, lane, work.lowest, work.upto, work.before_utc_ns
            )
            work = replace(work, upto=upto)
        self._work, self._work_done = work, 0
        self._audit(work, lane)
        if self._recorder.storing is not Storing.NOTHING:
            await self._flush()
        return work

    async def _flush(self) -> None:
        """Wait for what is on record, unless the disk turns full: what would make space goes on."""
        self._wake.clear()
        waiting = [
            asyncio.create_task(self._recorder.flush()),
            asyncio.create_task(self._wake.wait()),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)

    def _audit(self, work: Purge | PurgeReplies, lane: Lane) -> None:
        early = work.before_utc_ns is None
        if early:
            self._yielded_s = self._loop_s()
        what = "records" if isinstance(work, Purge) else "raw replies"
        why = "yield before their time: the journal is nearly full" if early else "had their time"
        self._recorder.event(
            "journal.purged",
            "warning" if early else "info",
            f"{what} {work.lowest} to {work.upto} of lane {lane} {why}",
            what=what,
            cause=work.cause,
            epoch=work.epoch.uuid,
            lane=lane.value,
            first=work.lowest,
            last=work.upto,
        )

    async def _freeing(self, piece: partial[Any]) -> int:
        before = (await self._journal.usage()).used_bytes
        try:
            count = int(await piece())
        except ValueError:  # a consumer was enrolled just now
            count = 0
        if count:
            after = (await self._journal.usage()).used_bytes
            self._growth.freed(max(0, before - after))
            self._shrunk = False
        return count

"""Back-fill: what a device remembers of a gap comes once, whole and in order, through any kill.

Method: a device that remembers a value a second and gives it in pieces, a real journal on disk; the
agent is killed after any commit and begins again. What is on disk is held against the device.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeagent.acquire import backfill as backfill_module
from edgeagent.acquire.acquisition import Acquisition
from edgeagent.acquire.backfill import Backfill, NoSuchJob, State
from edgeagent.acquire.continuity import Stretch
from edgeagent.driver import BadReply, Frame, GroupSchema, HistoryPiece, LinkLost, Loss
from edgeagent.journal import Journal, Recorder, Storing
from edgeagent.model.frame import Origin
from edgeagent.model.record import Lane, decode_json
from tests.clocks import START_UTC_NS, ManualClock
from tests.fakes import group_of, instrument_of

SECOND = 10**9
GROUP = group_of("freezer-1", tags=2)


def at(second: int) -> int:
    return START_UTC_NS + second * SECOND


class Logger:
    """A device that remembers both tags each second; it answers so many at a time.

    :ivar trouble: raised by the next requests, one after the other
    """

    def __init__(self, group: GroupSchema, at_once: int = 3) -> None:
        self.group = group
        self.at_once = at_once
        self.trouble: list[Exception] = []
        self.asked: list[tuple[int, int]] = []

    def remembers(self, group: GroupSchema) -> bool:
        return group is self.group

    async def history(
        self, group: GroupSchema, after_utc_ns: int, before_utc_ns: int
    ) -> HistoryPiece:
        self.asked.append((after_utc_ns, before_utc_ns))
        await asyncio.sleep(0)
        if self.trouble:
            raise self.trouble.pop(0)
        first = (after_utc_ns - START_UTC_NS) // SECOND + 1
        seconds = [s for s in range(first, first + self.at_once) if at(s) < before_utc_ns]
        whole = len(seconds) < self.at_once
        frames = tuple(self.frame(second, origin=Origin.BACKFILL) for second in seconds)
        return HistoryPiece(frames, before_utc_ns if whole else at(seconds[-1]))

    def frame(self, second: int, **facts: object) -> Frame:
        values = (float(second), float(-second))
        known = Frame(self.group, values, at(10**6), 0, source_utc_ns=at(second))
        return replace(known, **facts)


class Agent:
    """A journal, a recorder, acquisition and back-fill; the link is up while :meth:`up` runs."""

    def __init__(self, journal: Journal, random: Random) -> None:
        self.journal = journal
        self.recorder = Recorder(
            journal, journal._clock, commit_within_s=0.0, held_bytes_max=1 << 20
        )
        self.acquisition = Acquisition(self.recorder, [instrument_of(GROUP)])
        self.backfill = Backfill(self.acquisition, random)
        self.acquisition.continuity.on_stretch = self.backfill.gap_ended

    async def stored(self, origin: Origin = Origin.BACKFILL) -> list[tuple[int, list[int], list]]:
        """Return device time, tags and values of every frame on disk of an origin."""
        await self.recorder.flush()
        await self.recorder.flush()
        entries = await self.journal.read(self.journal.epoch, Lane.DATA, 0, bytes_max=1 << 30)
        bodies = [decode_json(entry.body) for entry in entries]
        return [
            (b[9], b[8] or [0, 1], b[11]) for b in bodies if b[0] == "F" and b[6] == origin.value
        ]

    async def until_ended(self, number: int) -> None:
        async with asyncio.timeout(20):
            while self.backfill.jobs[number].state is State.WAITING:  # noqa: ASYNC110 - polled
                await asyncio.sleep(0.001)


@asynccontextmanager
async def agent(directory: Path) -> AsyncIterator[Agent]:
    journal = await Journal.open(directory, ManualClock())
    started = Agent(journal, Random(1))
    await started.recorder.load()
    committing = asyncio.create_task(started.recorder.run())
    try:
        started.recorder.set_context({"boot_id": journal._clock.boot_id})
        await started.acquisition.begin()
        await started.recorder.flush()
        yield started
    finally:
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)
        await journal.close()


@asynccontextmanager
async def up(running: Agent, logger: Logger) -> AsyncIterator[None]:
    task = asyncio.create_task(running.backfill.serve(logger, [GROUP]))
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def stretch(first: int, last: int, tags: Sequence[int] = (0, 1), why: str = "test") -> Stretch:
    return Stretch(GROUP, tuple((tag, at(first), at(last)) for tag in tags), why)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill_module, "backoff_s", lambda attempts, chance: 0.001)
    monkeypatch.setattr(backfill_module, "FULL_LOOK_S", 0.001)


async def test_a_gap_is_filled_by_itself_with_what_the_device_remembers(tmp_path: Path) -> None:
    logger = Logger(GROUP)
    async with agent(tmp_path) as running, up(running, logger):
        running.acquisition.take(logger.frame(1))
        running.acquisition.miss(GROUP, "link_lost", None)
        running.acquisition.take(logger.frame(10))
        await running.until_ended(1)
        stored = await running.stored()
        assert stored == [(at(s), [0, 1], [float(s), float(-s)]) for s in range(2, 10)]
        assert [t for t, _, _ in await running.stored(Origin.LIVE)] == [at(1), at(10)]
        job = running.backfill.jobs[1]
        assert (job.frames, job.state, job.why) == (8, State.DONE, "gap 2")
        assert running.acquisition.continuity.open_count() == 0, "annotated, not opened again"


async def test_the_tags_of_one_outage_come_back_one_after_the_other_and_once(
    tmp_path: Path,
) -> None:
    """Each tag has its own last value and its own first: nothing that came live comes again."""
    logger = Logger(GROUP)
    async with agent(tmp_path) as running:
        acquisition = running.acquisition
        async with up(running, logger):
            acquisition.take(logger.frame(1))
            acquisition.take(logger.frame(3, present=(1,), source_utc_ns=(None, at(3))))
            acquisition.miss(GROUP, "link_lost", None)
            acquisition.take(logger.frame(8, present=(0,), source_utc_ns=(at(8), None)))
            acquisition.take(logger.frame(9, present=(1,), source_utc_ns=(None, at(9))))
            await running.until_ended(1)
        stored = await running.stored()
        by_tag = {tag: [t for t, tags, _ in stored if tag in tags] for tag in (0, 1)}
        assert by_tag == {0: [at(s) for s in range(2, 8)], 1: [at(s) for s in range(4, 9)]}
        assert len(running.backfill.jobs) == 1


async def test_a_gap_that_its_first_value_and_the_driver_tell_is_fetched_once(
    tmp_path: Path,
) -> None:
    logger = Logger(GROUP)
    async with agent(tmp_path) as running, up(running, logger):
        running.acquisition.take(logger.frame(1))
        running.acquisition.miss(GROUP, "link_lost", None)
        running.acquisition.take(logger.frame(10))
        running.acquisition.lose(Loss(GROUP, "link_lost", at(1), at(10)))
        await running.until_ended(1)
        running.acquisition.lose(Loss(GROUP, "link_lost", at(1), at(10)))
        assert list(running.backfill.jobs) == [1]
        assert [t for t, _, _ in await running.stored()] == [at(s) for s in range(2, 10)]


async def test_a_device_that_remembers_nothing_is_not_asked(tmp_path: Path) -> None:
    logger = Logger(group_of("another"))
    async with agent(tmp_path) as running, up(running, logger):
        running.acquisition.take(Logger(GROUP).frame(1))
        running.acquisition.miss(GROUP, "link_lost", None)
        running.acquisition.take(Logger(GROUP).frame(9))
        assert not running.backfill.jobs


async def test_a_piece_that_fails_is_asked_again_and_never_passed_over(tmp_path: Path) -> None:
    logger = Logger(GROUP)
    logger.trouble = [BadReply("timeout", "busy")] * 3
    async with agent(tmp_path) as running, up(running, logger):
        running.backfill.start(stretch(0, 8))
        await running.until_ended(1)
        assert [t for t, _, _ in await running.stored()] == [at(s) for s in range(1, 8)]
        assert logger.asked[:4] == [(at(0), at(8))] * 4
        assert running.backfill.jobs[1].error is None


async def test_a_link_that_is_lost_ends_the_work_and_the_job_goes_on_later(tmp_path: Path) -> None:
    logger = Logger(GROUP)
    async with agent(tmp_path) as running:
        running.backfill.start(stretch(0, 12))
        serving = asyncio.create_task(running.backfill.serve(logger, [GROUP]))
        while running.backfill.jobs[1].frames < 3:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.001)
        logger.trouble = [LinkLost("gone")]
        with pytest.raises(LinkLost):
            await serving
        assert running.backfill.jobs[1].state is State.WAITING
        async with up(running, logger):
            await running.until_ended(1)
        assert [t for t, _, _ in await running.stored()] == [at(s) for s in range(1, 12)]


async def test_a_cancelled_job_keeps_what_it_has_and_can_be_taken_up_again(tmp_path: Path) -> None:
    logger = Logger(GROUP, at_once=1)
    async with agent(tmp_path) as running:
        async with up(running, logger):
            running.backfill.start(stretch(0, 9))
            while running.backfill.jobs[1].frames < 2:  # noqa: ASYNC110 - polled
                await asyncio.sleep(0)
            running.backfill.cancel(1, who="eve")
            asked = len(logger.asked)
            await asyncio.sleep(0.02)
            assert len(logger.asked) <= asked + 1
            with pytest.raises(NoSuchJob, match="is cancelled, not waiting"):
                running.backfill.cancel(1)
            running.backfill.resume(1)
            await running.until_ended(1)
        assert [t for t, _, _ in await running.stored()] == [at(s) for s in range(1, 9)]


async def test_while_the_disk_is_full_the_device_keeps_it(tmp_path: Path) -> None:
    logger = Logger(GROUP)
    async with agent(tmp_path) as running, up(running, logger):
        running.recorder.store(Storing.RESERVED, "full")
        running.backfill.start(stretch(0, 5))
        await asyncio.sleep(0.05)
        assert running.backfill.jobs[1].frames == 0
        running.recorder.store(Storing.ALL, "space")
        await running.until_ended(1)
        assert [t for t, _, _ in await running.stored()] == [at(s) for s in range(1, 5)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b.start(stretch(5, 5)), "is empty"),
        (lambda b: b.start(Stretch(GROUP, (), "x")), "is empty"),
        (lambda b: b.cancel(7), "no back-fill 7; known: none"),
        (lambda b: b.resume(7), "no back-fill 7; known: none"),
    ],
)
async def test_what_cannot_be_done_is_said_in_words(tmp_path: Path, change, said: str) -> None:
    async with agent(tmp_path) as running:
        with pytest.raises(NoSuchJob, match=said):
            change(running.backfill)


async def test_old_jobs_are_forgotten_waiting_ones_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill_module, "ENDED_KEPT_MAX", 2)
    async with agent(tmp_path) as running:
        for _ in range(5):
            running.backfill.start(stretch(0, 5))
        for number in (2, 3, 4):
            running.backfill.cancel(number)
        await running.recorder.flush()
    async with agent(tmp_path) as again:
        states = {number: job.state.value for number, job in again.backfill.jobs.items()}
        assert states == {1: "waiting", 3: "cancelled", 4: "cancelled", 5: "waiting"}


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(kills=st.lists(st.integers(0, 6), max_size=5), at_once=st.integers(1, 5))
async def test_through_any_kills_each_value_is_stored_once(
    tmp_path_factory: pytest.TempPathFactory, kills: list[int], at_once: int
) -> None:
    """A kill loses what was not committed; the place that the job has reached goes with it."""
    directory = tmp_path_factory.mktemp("kills")
    logger = Logger(GROUP, at_once=at_once)
    async with agent(directory) as first:
        first.backfill.start(stretch(0, 12))
        await first.recorder.flush()
    for commits in kills:
        async with agent(directory) as running:
            left, killed = [commits], asyncio.Event()

            def count(_: object, left: list[int] = left, killed: asyncio.Event = killed) -> None:
                left[0] -= 1
                if left[0] <= 0:
                    killed.set()

            running.recorder.listeners.append(count)
            async with up(running, logger):
                waits = [
                    asyncio.create_task(killed.wait()),
                    asyncio.create_task(running.until_ended(1)),
                ]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
                await asyncio.gather(*waits, return_exceptions=True)
    async with agent(directory) as last, up(last, logger):
        await last.until_ended(1)
        assert [t for t, _, _ in await last.stored()] == [at(s) for s in range(1, 12)]

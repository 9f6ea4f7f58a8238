"""The recorder: when it commits, what it promises, and the numbers that it gives.

Its moments are held fast by a disk whose syncs wait until the test lets them go on, so nothing
here depends on how quick the machine is.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from edgeagent.journal import Committed, Journal, Recorder, Storing
from edgeagent.journal.recorder import RETRY_WHEN_FULL_S
from edgeagent.model.record import Lane, decode_json
from tests.clocks import START_UTC_NS, ManualClock
from tests.storage import Disk
from tests.unit.journal.witness import event, frame, look

NEVER_S = 3600.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with Disk(tmp_path / "state") as disk:
        yield disk


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Desk(Recorder):
    """A recorder at work that keeps what it told its listeners."""

    def __init__(self, journal: Journal, clock: ManualClock, commit_within_s: float) -> None:
        super().__init__(journal, clock, commit_within_s=commit_within_s, held_bytes_max=1 << 20)
        self.told: list[Committed] = []
        self.listeners.append(self.told.append)

    def sizes(self) -> list[int]:
        """How many records each commit held."""
        return [len(part.bodies) for part in self.told]

    def bodies(self, lane: Lane) -> list[bytes]:
        return [body for part in self.told if part.lane is lane for body in part.bodies]


@asynccontextmanager
async def at_work(
    disk: Disk, clock: ManualClock, commit_within_s: float = NEVER_S
) -> AsyncIterator[Desk]:
    journal = await Journal.open(disk.directory, clock, vfs=disk.name)
    desk = Desk(journal, clock, commit_within_s)
    await desk.load()
    committing = asyncio.create_task(desk.run())
    try:
        async with asyncio.timeout(10):
            yield desk
    finally:
        disk.let_sync()
        committing.cancel()
        await asyncio.wait([committing])
        await journal.close()


@pytest.fixture
async def desk(disk: Disk, clock: ManualClock) -> AsyncIterator[Desk]:
    async with at_work(disk, clock) as desk:
        yield desk


async def turns() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def commit_under_way(disk: Disk, desk: Desk) -> AsyncIterator[asyncio.Task[None]]:
    """A commit of frame 0.0 that waits for the disk until the block ends."""
    disk.hold_syncs()
    desk.put(frame(0.0))
    flushing = asyncio.create_task(desk.flush())
    assert await asyncio.to_thread(disk.holding.wait, 5)
    yield flushing
    disk.let_sync()
    await flushing


# -- when it commits ---------------------------------------------------------------------------


async def test_a_tick_is_one_commit(desk):
    """As soon as its last poll has ended, with or without an answer."""
    for _ in range(3):
        desk.poll_started()
    for value in (1.0, 2.0):
        desk.put(frame(value))
        desk.poll_ended()
    await turns()
    assert desk.told == []
    waiting = asyncio.create_task(desk.committed())
    desk.poll_ended()
    await waiting
    assert desk.sizes() == [2]


async def test_a_poll_without_records_commits_nothing(desk):
    desk.poll_started()
    desk.poll_ended()
    await turns()
    await desk.flush()
    assert desk.told == []
    assert desk.journal.heads[Lane.DATA][0] == 0


async def test_a_silent_instrument_holds_the_tick_back_no_longer_than_the_budget(disk, clock):
    async with at_work(disk, clock, commit_within_s=0.01) as desk:
        desk.poll_started()
        desk.poll_started()
        desk.put(frame(1.0))
        desk.poll_ended()
        began = asyncio.get_running_loop().time()
        await desk.committed()
        assert asyncio.get_running_loop().time() - began >= 0.009
        assert desk.sizes() == [1]


async def test_what_comes_during_a_commit_goes_into_the_next_one_together(disk, desk):
    async with commit_under_way(disk, desk):
        for value in (1.0, 2.0):
            desk.poll_started()
            desk.put(frame(value))
            desk.poll_ended()
            await turns()
        assert desk.told == []
        rest = asyncio.create_task(desk.committed())
    await rest
    assert desk.sizes() == [1, 2]
    assert desk.bodies(Lane.DATA) == [frame(float(n)).body(n + 1) for n in range(3)]


async def test_listeners_get_every_body_once_and_in_order(disk, clock):
    random = Random(4711)
    async with at_work(disk, clock, commit_within_s=0.0) as desk:
        for number in range(300):
            desk.put(frame(float(number)) if random.random() < 0.8 else event(str(number)))
            if random.random() < 0.2:
                await turns()
            if random.random() < 0.05:
                await desk.flush()
        await desk.flush()
        found = look(disk.directory)
        assert len(desk.told) > 20
        for lane in Lane:
            assert tuple(desk.bodies(lane)) == found.bodies[0, lane]
            parts = [part for part in desk.told if part.lane is lane]
            for before, after in zip([None, *parts], parts, strict=False):
                assert after.first == (before.last + 1 if before else 1)
                assert before is None or after.prev == before.chain


# -- flush and committed -----------------------------------------------------------------------


async def test_committed_waits_without_hurrying_and_flush_hurries(desk):
    desk.put(frame(1.0))
    waiting = asyncio.create_task(desk.committed())
    await turns()
    assert not waiting.done()
    await desk.flush()
    assert waiting.done()
    await waiting
    assert desk.sizes() == [1]


async def test_committed_waits_for_the_commit_that_is_under_way(disk, desk):
    async with commit_under_way(disk, desk) as flushing:
        waiting = asyncio.create_task(desk.committed())
        await turns()
        assert not waiting.done()
        assert not flushing.done()
    await waiting


async def test_with_nothing_to_write_both_return_at_once(desk):
    await desk.committed()
    await desk.flush()
    assert desk.told == []


async def test_what_was_flushed_survives_the_end_of_the_task(disk, clock, tmp_path):
    async with at_work(disk, clock) as desk:
        desk.put(frame(1.0))
        await desk.flush()
        found = look(disk.power_loss(tmp_path / "after", seed=0))
    assert found.bodies[0, Lane.DATA] == (frame(1.0).body(1),)


async def test_a_commit_whose_task_is_cancelled_is_still_whole(disk, clock):
    """The writer thread ends what it has begun before the file is closed."""
    journal = await Journal.open(disk.directory, clock, vfs=disk.name)
    recorder = Recorder(journal, clock, commit_within_s=NEVER_S, held_bytes_max=1 << 20)
    committing = asyncio.create_task(recorder.run())
    disk.hold_syncs()
    recorder.put(frame(1.0))
    recorder.put(event("a"))
    flushing = asyncio.create_task(recorder.flush())
    assert await asyncio.to_thread(disk.holding.wait, 5)
    flushing.cancel()
    committing.cancel()
    await asyncio.wait([committing, flushing])
    disk.let_sync()
    await journal.close()
    found = look(disk.directory)
    assert found.bodies == {
        (0, Lane.DATA): (frame(1.0).body(1),),
        (0, Lane.EVENT): (event("a").body(1),),
    }


async def test_a_waiter_that_gave_up_does_not_disturb_the_others(desk):
    desk.put(frame(1.0))
    gone, patient = asyncio.create_task(desk.committed()), asyncio.create_task(desk.committed())
    await turns()
    gone.cancel()
    await desk.flush()
    await patient
    assert gone.cancelled()


# -- schemas and contexts ----------------------------------------------------------------------


def stated(bodies: list[bytes]) -> list[list[object]]:
    return [decode_json(body) for body in bodies]


async def test_a_schema_has_one_number_for_ever(disk, clock):
    one, two = {"instrument": "incubator", "group": "a"}, {"instrument": "freezer", "group": "b"}
    async with at_work(disk, clock) as desk:
        assert (desk.schema_number(one), desk.schema_number(two), desk.schema_number(one)) == (
            1,
            2,
            1,
        )
        await desk.flush()
        assert stated(desk.bodies(Lane.DATA)) == [
            ["S", 1, 1, START_UTC_NS, clock.boot_ns(), one],
            ["S", 2, 2, START_UTC_NS, clock.boot_ns(), two],
        ]
    async with at_work(disk, clock) as desk:
        assert desk.schema_number(two) == 2
        assert desk.schema_number({**one, "period_ns": 1}) == 3
        await desk.new_epoch("test")
        assert desk.schema_number(one) == 1
        assert desk.schema_number({}) == 4


async def test_a_context_has_a_number_in_each_lane_and_a_change_is_recorded(disk, clock):
    async with at_work(disk, clock) as desk:
        desk.set_context({"boot_id": "b", "clock": "unknown"})
        desk.set_context({"clock": "unknown"})
        assert [desk.context_number(lane) for lane in Lane] == [1, 1]
        desk.set_context({"clock": "synced"})
        assert desk.context == {"boot_id": "b", "clock": "synced"}
        desk.event("clock.step", "info", "UTC was set")
        await desk.flush()
        for lane in Lane:
            contexts = [body for body in stated(desk.bodies(lane)) if body[0] == "C"]
            assert [(body[2], body[5]) for body in contexts] == [
                (1, {"boot_id": "b", "clock": "unknown"}),
                (2, {"boot_id": "b", "clock": "synced"}),
            ]
        assert stated(desk.bodies(Lane.EVENT))[-1][2] == 2, "the event names what holds now"
    async with at_work(disk, clock) as desk:
        assert [desk.context_number(lane) for lane in Lane] == [2, 2]
        desk.set_context({"boot_id": "c"})
        assert [desk.context_number(lane) for lane in Lane] == [3, 3]


async def test_an_event_is_readable_alone(desk):
    desk.event("consumer.enrolled", "info", "central enrolled", consumer="central", before=None)
    await desk.flush()
    at = desk.now()
    facts = {"severity": "info", "text": "central enrolled", "consumer": "central"}
    assert stated(desk.bodies(Lane.EVENT)) == [["E", 1, 0, *at, "consumer.enrolled", facts]]


# -- epochs ------------------------------------------------------------------------------------


async def test_a_new_epoch_begins_behind_what_was_put_and_says_so(disk, desk):
    old = desk.journal.epoch
    desk.set_context({"boot_id": "b"})
    desk.schema_number({"instrument": "incubator"})
    desk.put(frame(1.0))
    await desk.new_epoch("found rolled back")
    desk.put(frame(2.0))
    await desk.flush()
    found = look(disk.directory)
    assert [body[2:3] for body in found.bodies[0, Lane.DATA]] == [b"C", b"S", b"F"]
    assert [body[2:3] for body in found.bodies[1, Lane.DATA]] == [b"C", b"S", b"F"]
    opened = decode_json(found.bodies[1, Lane.EVENT][-1])
    assert opened[5] == "epoch.opened"
    assert opened[6]["previous"] == old.uuid
    assert "found rolled back" in opened[6]["text"]
    assert [part.epoch for part in desk.told if part.lane is Lane.DATA] == [
        old.uuid,
        desk.journal.epoch.uuid,
        desk.journal.epoch.uuid,
    ]


async def test_a_new_epoch_waits_for_records_that_wait_for_a_commit(disk, desk):
    """They were put before it was asked for: the commit under way is not the last of the old."""
    async with commit_under_way(disk, desk):
        desk.put(frame(1.0))
        opening = asyncio.create_task(desk.new_epoch("test"))
        await turns()
    await opening
    found = look(disk.directory)
    assert len(found.bodies[0, Lane.DATA]) == 2
    assert found.epochs == 2


async def test_two_who_want_a_new_epoch_at_once_get_one(disk, desk):
    await asyncio.gather(desk.new_epoch("a"), desk.new_epoch("b"))
    assert look(disk.directory).epochs == 2


# -- checkpoints, and what went wrong ----------------------------------------------------------


async def test_a_checkpoint_is_kept_about_once_a_minute(desk, clock):
    count = SimpleNamespace(taken=0)

    def snapshot() -> bytes:
        count.taken += 1
        return b"%d" % count.taken

    async def kept() -> object:
        await desk.flush()
        return await desk.journal.checkpoint()

    desk.put(frame(1.0))
    assert await kept() is None
    desk.snapshot = snapshot
    desk.put(frame(2.0))
    assert await kept() == (0, 2, b"1")
    desk.put(frame(3.0))
    clock.advance(59)
    assert await kept() == (0, 2, b"1")
    clock.step(3600)
    desk.put(frame(4.0))
    assert await kept() == (0, 2, b"1"), "a step of UTC is no minute"
    clock.advance(2)
    assert await kept() == (0, 4, b"2"), "without new records it is true behind the last one"


async def test_a_mended_journal_is_an_event(disk, desk):
    disk.fail_syncs()
    desk.put(frame(1.0))
    await desk.flush()
    await desk.flush()
    assert [body[5] for body in stated(desk.bodies(Lane.EVENT))] == ["journal.reopened"]
    assert desk.bodies(Lane.DATA) == [frame(1.0).body(1)]


async def test_frames_are_refused_when_too_much_waits(disk, clock):
    journal = await Journal.open(disk.directory, clock, vfs=disk.name)
    recorder = Recorder(journal, clock, commit_within_s=NEVER_S, held_bytes_max=500)
    committing = asyncio.create_task(recorder.run())
    reply = bytes(200)
    recorder.put(frame(1.0, reply))
    assert recorder.accepting
    recorder.put(frame(2.0, reply))
    assert not recorder.accepting, "evidence counts, too"
    await recorder.flush()
    assert recorder.accepting
    committing.cancel()
    await asyncio.wait([committing])
    await journal.close()


# -- what is stored, and full disks ----------------------------------------------------------------


def types(desk: Desk) -> list[object]:
    return [body[5] for body in stated(desk.bodies(Lane.EVENT)) if body[0] == "E"]


async def test_that_ordinary_storage_pauses_and_resumes_is_an_event(desk, clock):
    assert desk.storing is Storing.ALL
    desk.store(Storing.RESERVED, "the disk is full")
    assert desk.full_since_ns == clock.utc_ns()
    await desk.flush()
    assert types(desk) == ["journal.full"], "written from the reserve"
    desk.store(Storing.RESERVED, "still full")
    desk.store(Storing.NOTHING, "the reserve, too")
    desk.store(Storing.RESERVED, "some space")
    await desk.flush()
    assert types(desk) == ["journal.full"]
    assert desk.full_since_ns is not None
    desk.store(Storing.ALL, "there is space again")
    assert desk.full_since_ns is None
    await desk.flush()
    assert types(desk) == ["journal.full", "journal.resumed"]


async def test_when_nothing_is_stored_records_wait_and_come_in_order(desk):
    desk.put(frame(1.0))
    desk.store(Storing.NOTHING, "full")
    waiting = asyncio.create_task(desk.flush())
    await turns()
    desk.put(frame(2.0))
    await turns()
    assert desk.told == []
    assert not waiting.done()
    desk.store(Storing.ALL, "space")
    await waiting
    await desk.flush()
    assert desk.bodies(Lane.DATA) == [frame(1.0).body(1), frame(2.0).body(2)]


async def test_a_refused_write_is_repeated_at_once_when_way_can_be_made(disk, desk):
    made = []

    def make_way() -> bool:
        made.append(desk.storing)
        disk.heal()
        desk.store(Storing.RESERVED, "the disk is full")
        return True

    desk.make_way = make_way
    disk.fill()
    desk.put(frame(1.0))
    began = asyncio.get_running_loop().time()
    await desk.flush()
    await desk.flush()
    assert asyncio.get_running_loop().time() - began < RETRY_WHEN_FULL_S
    assert made == [Storing.ALL]
    assert desk.bodies(Lane.DATA) == [frame(1.0).body(1)]
    assert types(desk) == ["journal.full"], "not resumed: ordinary storage still pauses"


async def test_a_lull_comes_right_behind_a_commit_or_without_one_in_its_time(disk, desk):
    async with commit_under_way(disk, desk):
        lull = asyncio.create_task(desk.lull(NEVER_S))
        await turns()
        assert not lull.done()
    await lull
    await asyncio.wait_for(desk.lull(0.001), 5)

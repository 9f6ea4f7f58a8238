"""Storage faults against the journal.

Goal: what ``append`` returned for is never missing or altered; what it did not return for is
there as a whole or not at all.
Method: the journal runs on a model disk (``tests/storage.py``) that loses, tears and reorders
what was not synced; a witness (``tests/unit/journal/witness.py``) that asks the journal nothing
says which states may be found. Every choice comes from a seed that is printed on failure.
"""

import asyncio
import contextlib
import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeagent.journal import Journal, Recorder
from edgeagent.journal import recorder as recorder_module
from edgeagent.journal import store as store_module
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import Cursor, Store
from edgeagent.model.errors import JournalFailed, JournalFull
from edgeagent.model.record import Lane, Record, decode_json
from tests.clocks import ManualClock
from tests.storage import (
    FOR_EVER,
    Create,
    Delete,
    Disk,
    Sync,
    SyncDirectory,
    Truncate,
    Write,
    after_power_loss,
)
from tests.unit.journal.witness import State, Witness, context, event, frame, look, schema

Place = Callable[[], Path]


def places(root: Path) -> Place:
    """What gives new directories, one after the other."""
    names = (root / str(number) for number in itertools.count())
    return lambda: next(names)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return places(tmp_path)


def remains(disk: Disk, place: Place, seed: int, moment: int | None = None) -> State:
    """What is found after a power loss."""
    found = disk.power_loss(place(), seed, moment)
    try:
        return look(found)
    finally:
        shutil.rmtree(found)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def recording(disk: Disk, clock: ManualClock, held_bytes_max: int) -> AsyncIterator[Recorder]:
    """A recorder at work on a journal on this disk."""
    journal = await Journal.open(disk.directory, clock, vfs=disk.name)
    recorder = Recorder(journal, clock, commit_within_s=0.0, held_bytes_max=held_bytes_max)
    committing = asyncio.create_task(recorder.run())
    try:
        yield recorder
    finally:
        committing.cancel()
        await asyncio.wait([committing])
        await journal.close()


# -- the model disk itself ---------------------------------------------------------------------


def outcomes(*log: Any) -> set[bytes | None]:
    """What may be found in file ``f`` behind this log, over many seeds."""
    log = (Create("f", 1), SyncDirectory(), *log)
    return {after_power_loss(log, Random(seed)).get("f") for seed in range(200)}


A, B, SYNC = Write(1, 0, b"a" * 1024), Write(1, 0, b"b" * 512), Sync(1, failed=False)


def test_the_disk_keeps_what_was_synced_and_nothing_else_for_sure():
    assert outcomes(A, SYNC) == {b"a" * 1024}
    assert {b"", b"a" * 512, bytes(512) + b"a" * 512, b"a" * 1024} == outcomes(A)
    assert outcomes(A, SYNC, B) == {b"a" * 1024, b"b" * 512 + b"a" * 512}
    assert outcomes(A, SYNC, Truncate(1, 0)) == {b"a" * 1024, b""}


def test_the_disk_forgets_what_a_failed_sync_dropped():
    failed = Sync(1, failed=True)
    assert outcomes(A, failed, SYNC) == outcomes(A)
    assert outcomes(A, failed, A, SYNC) == {b"a" * 1024}


def test_the_disk_knows_that_names_are_synced_apart():
    new = (Create("g", 2), Write(2, 0, b"g"), Sync(2, failed=False))
    assert {after_power_loss(new, Random(seed)).get("g") for seed in range(50)} == {None, b"g"}
    assert outcomes(A, SYNC, Delete("f")) == {b"a" * 1024, None}
    assert outcomes(A, SYNC, Delete("f"), SyncDirectory()) == {None}


# -- power loss at any moment ------------------------------------------------------------------


def record(kind: str, number: int) -> Record:
    """The ``number``-th record of a run, so that no two are alike."""
    match kind:
        case "frame":
            return frame(number / 8)
        case "reply":
            return frame(number / 8, raw=number.to_bytes(40 + number % 300, "big"))
        case "schema":
            return schema(number)
        case "context":
            return context(Lane.DATA, number)
        case "event context":
            return context(Lane.EVENT, number)
        case _:
            return event(f"event {number}" + "." * (number % 50) ** 2)


KINDS = ("frame", "reply", "event", "schema", "context", "event context")
COMMIT = st.tuples(
    st.lists(st.sampled_from(KINDS), max_size=12),
    st.none() | st.binary(min_size=1, max_size=5000),
    st.booleans(),
)
PURGE = st.tuples(st.sampled_from([*Lane, "evidence"]), st.floats(0, 1))
OTHER = st.sampled_from(["move", "reopen", "epoch", "pack", "pack", "shrink"])
STEPS = st.lists(st.one_of(COMMIT, COMMIT, COMMIT, OTHER, PURGE), min_size=1, max_size=20)


def work(disk: Disk, steps: list[Any], make: type[Store]) -> Witness:
    """Let a store do the steps; return who saw it."""
    witness, number = Witness(), 0
    witness.ask(0, witness.state)
    store = make(disk.directory / FILE_NAME, 0, disk.name)
    witness.took(len(disk.log))
    for step in steps:
        match step:
            case "move":
                store.move_log()
            case "reopen":
                store.close()
                store = make(disk.directory / FILE_NAME, 0, disk.name)
            case "epoch":
                witness.ask(len(disk.log), witness.state.with_epoch())
                taken = store.open_epoch(0, "test")
                witness.took(len(disk.log), taken)
            case "pack":
                for lane in Lane:
                    store.pack(lane, keep_newest=1)
            case "shrink":
                store.shrink()
            case (what, part):
                forget(disk, store, witness, what, part)
            case (kinds, checkpoint, moves):
                records = [record(kind, number + i) for i, kind in enumerate(kinds, 1)]
                number += len(records)
                cursors = {("central", 0, Lane.DATA): Cursor(number, bytes(32))} if moves else {}
                after = witness.state.with_commit(records, checkpoint, cursors)
                witness.ask(len(disk.log), after)
                taken = store.commit(records, checkpoint=checkpoint, cursors=cursors)
                witness.took(len(disk.log), taken)
    store.close()
    return witness


def forget(disk: Disk, store: Store, witness: Witness, what: str, part: float) -> None:
    """Let a store forget a part of the oldest epoch that holds something."""
    lane = Lane.DATA if what == "evidence" else Lane(what)
    epoch = next((e for e in store.epochs() if store.lane_range(e, lane)[1]), store.epoch)
    low, high, _ = store.lane_range(epoch, lane)
    upto = low + round((high - low) * part)
    state = witness.state
    if what == "evidence":
        witness.ask(len(disk.log), state.with_evidence_purge(epoch, upto))
        store.purge_evidence(epoch, upto)
    else:
        witness.ask(len(disk.log), state.with_purge(epoch, lane, upto))
        assert store.purge(epoch, lane, upto) == max(0, min(upto, high) - low + 1)
    witness.took(len(disk.log))


def check_power_loss(place: Place, steps: list[Any], seed: int, make: type[Store] = Store) -> None:
    """Cut the power at ten moments of a run and look what is found."""
    random = Random(seed)
    with Disk(place()) as disk:
        witness = work(disk, steps, make)
        for moment in random.sample(range(len(disk.log) + 1), 10):
            if moment >= witness.returned[0]:
                witness.check(remains(disk, place, random.getrandbits(32), moment), moment)
                continue
            found = disk.power_loss(place(), random.getrandbits(32), moment)
            with Disk(found) as next_start:  # the file was still being made
                make(found / FILE_NAME, 0, next_start.name).close()
            assert look(found) == State()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of a few records, so that there are many."""
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 500)
    monkeypatch.setattr(store_module, "PURGED_BLOCKS_MAX", 1 << 30)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, seed=st.integers(0, 1 << 32))
def test_nothing_that_was_committed_is_lost_with_the_power(tmp_path_factory, steps, seed):
    check_power_loss(places(tmp_path_factory.mktemp("power")), steps, seed)


@pytest.mark.parametrize("level", ["NORMAL", "OFF"])
def test_the_check_finds_a_journal_that_does_not_sync(place, level):
    """A checker that never failed is no evidence."""

    class Forgetful(Store):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self._db.execute(f"PRAGMA synchronous = {level}")

    few = [(["frame", "event"], None, False)] * 10
    for seed in range(10):
        with pytest.raises((AssertionError, apsw.Error)):
            check_power_loss(place, [*few, "move", *few], seed, Forgetful)


def busy(rounds: int = 3) -> list[Any]:
    """Steps of a journal that writes, packs, forgets and shrinks."""
    once = [(["reply", "frame", "event", "reply"], None, False)] * 4
    keep = ["pack", *once, "pack", (Lane.DATA, 0.3), ("evidence", 0.8), (Lane.EVENT, 0.5)]
    return [*once, *keep, "shrink", "move", "epoch"] * rounds


def check_every_moment(disk: Disk, witness: Witness, place: Place) -> None:
    for moment in range(witness.returned[0], len(disk.log) + 1):
        witness.check(remains(disk, place, moment, moment), moment)


def test_at_every_moment_of_packing_and_purging_nothing_is_lost_or_there_twice(place):
    with Disk(place()) as disk:
        check_every_moment(disk, work(disk, busy(), Store), place)


@pytest.mark.parametrize("first", ["remove", "insert"])
def test_the_check_finds_a_journal_that_packs_in_two_transactions(place, first):
    class Hasty(Store):
        def pack(self, lane: Lane, *, keep_newest: int) -> int:
            keys = self._db.execute(f"SELECT min(key), max(key) FROM {lane}").fetchall()[0]
            if keys[0] is None:
                return 0
            rows, _ = self._rows_to_pack(lane, *keys)
            base, chain = keys[0] - rows[0].seq, self._chain(self.epoch, lane, rows[-1].seq)
            steps = [
                lambda: self._insert_block(lane, base, rows, chain),
                lambda: self._db.execute(f"DELETE FROM {lane} WHERE key <= {base | rows[-1].seq}"),
            ]
            for step in steps if first == "insert" else reversed(steps):
                step()
            return len(rows)

    few = [(["frame", "event"], None, False)] * 10
    with Disk(place()) as disk:
        witness = work(disk, [*few, "pack", *few, "pack"], Hasty)
        with pytest.raises(AssertionError):
            check_every_moment(disk, witness, place)


# -- a sync that fails -------------------------------------------------------------------------


class Life:
    """One process that appends to a journal; what is visible when it has opened is promised.

    Like the recorder it waits for each append and then lets the log be moved.
    """

    def __init__(self, disk: Disk, witness: Witness | None = None) -> None:
        self.disk = disk
        self.witness = witness or Witness()

    async def __aenter__(self) -> "Life":
        disk, witness = self.disk, self.witness
        self.journal = await Journal.open(disk.directory, ManualClock(), vfs=disk.name)
        self.began = len(disk.log)
        witness.found(look(disk.directory), self.began)
        self.number = sum(map(len, witness.state.bodies.values()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.journal.close()

    async def append_often(self, times: int) -> None:
        for _ in range(times):
            await self.append()

    async def append(self, count: int = 3) -> None:
        """Append some records of both lanes; the witness sees it."""
        kinds = [KINDS[(self.number + i) % 3] for i in range(count)]
        records = [record(kind, self.number + i) for i, kind in enumerate(kinds)]
        self.witness.ask(len(self.disk.log), self.witness.state.with_commit(records))
        try:
            taken = await self.journal.append(records)
        except JournalFull:
            self.witness.refused()
            raise
        self.number += count
        self.witness.took(len(self.disk.log), taken)
        await self.journal.move_log()

    async def tend(self, part: float) -> None:
        """Pack what can be, forget a part of each lane and of the raw replies, and shrink."""
        journal, epoch = self.journal, self.journal.epoch
        for lane in Lane:
            await journal.pack(lane, keep_newest=2)
            held = await journal.lane_range(epoch, lane)
            upto = held.lowest + round((held.highest - held.lowest) * part)
            await self._forget(
                self.witness.state.with_purge(epoch, lane, upto), journal.purge(epoch, lane, upto)
            )
        upto = round(journal.heads[Lane.DATA][0] * (1 + part) / 2)
        await self._forget(
            self.witness.state.with_evidence_purge(epoch, upto),
            journal.purge_evidence(epoch, upto),
        )
        await journal.shrink()

    async def tend_often(self, times: int) -> None:
        for _ in range(times):
            await self.tend(0.3)
            await self.append_often(5)

    async def _forget(self, after: State, forgetting: Awaitable[int]) -> None:
        self.witness.ask(len(self.disk.log), after)
        try:
            await forgetting
        except JournalFull:
            self.witness.refused()
            raise
        self.witness.took(len(self.disk.log))

    def check_power_loss(self, place: Place, seed: int) -> None:
        """Lose the power now: what was promised is found."""
        self.witness.check(remains(self.disk, place, seed), len(self.disk.log))


@pytest.fixture
def short_log(monkeypatch):
    """A write-ahead log that is moved every few commits."""
    monkeypatch.setattr(store_module, "LOG_PAGES_MAX", 20)


@pytest.mark.usefixtures("short_log")
@pytest.mark.parametrize("failing", range(1, 36))
async def test_one_failed_sync_loses_nothing(place, failing):
    """Whichever sync it is, of the log or of the database: the journal is mended."""
    with Disk(place()) as disk:
        async with Life(disk) as life:
            disk.fail_syncs(failing)
            await life.append_often(25)
            assert life.journal.mended == 1
            for seed in range(5):
                life.check_power_loss(place, seed)


@pytest.mark.usefixtures("short_log")
@pytest.mark.parametrize("failing", range(1, 26))
async def test_one_failed_sync_while_packing_and_purging_loses_nothing(place, failing):
    with Disk(place()) as disk:
        async with Life(disk) as life:
            await life.append_often(5)
            disk.fail_syncs(failing)
            await life.tend_often(4)
            assert life.journal.mended == 1
            for seed in range(5):
                life.check_power_loss(place, seed)


@pytest.mark.usefixtures("short_log")
@pytest.mark.parametrize("room", range(0, 60, 3))
async def test_on_a_full_disk_packing_and_purging_leave_things_as_they_were(place, room):
    with Disk(place()) as disk:
        async with Life(disk) as life:
            await life.append_often(10)
            disk.fill(room)
            with pytest.raises(JournalFull, match="no space left"):
                await life.tend_often(10)
            assert look(disk.directory) == life.witness.state
            life.check_power_loss(place, seed=room)
            disk.heal()
            await life.tend(0.3)
            await life.append_often(5)
            life.check_power_loss(place, seed=room)


@pytest.mark.usefixtures("short_log")
@pytest.mark.parametrize("failing", range(1, 12))
async def test_a_disk_that_stays_broken_ends_the_journal_and_loses_nothing(place, failing):
    with Disk(place()) as disk:
        async with Life(disk) as life:
            disk.fail_syncs(failing, FOR_EVER)
            with pytest.raises(JournalFailed, match="cannot be written"):
                await life.append_often(25)
            for seed in range(5):
                life.check_power_loss(place, seed)
        disk.heal()
        async with Life(disk, life.witness) as life:
            await life.append()
            for seed in range(5):
                life.check_power_loss(place, seed)


@pytest.mark.parametrize("seed", range(20))
async def test_what_a_failed_sync_dropped_is_not_built_upon_after_a_restart(place, seed):
    """The page cache still shows the commit that never reached the disk.

    A process that dies between the failed sync and the mending leaves such a commit in the log.
    The next process sees it; whatever it appends behind it must not be lost together with it.
    """
    await check_restart_after_failed_sync(place, seed)


async def test_the_check_finds_a_journal_that_trusts_the_page_cache(place, monkeypatch):
    monkeypatch.setattr(store_module, "rewrite_log", lambda _path, _vfs: None)
    caught = 0
    for seed in range(20):
        try:
            await check_restart_after_failed_sync(place, seed)
        except AssertionError:
            caught += 1
    assert caught >= 5


async def check_restart_after_failed_sync(place: Place, seed: int) -> None:
    with Disk(place()) as disk:
        store, witness = Store(disk.directory / FILE_NAME, 0, disk.name), Witness()
        witness.ask(len(disk.log), witness.state.with_commit([frame(1.0)]))
        witness.took(len(disk.log), store.commit([frame(1.0)]))
        disk.fail_syncs()
        witness.ask(len(disk.log), witness.state.with_commit([frame(2.0)]))
        with pytest.raises(apsw.IOError):
            store.commit([frame(2.0)])
        with disk.kill(place()) as same_boot:
            async with Life(same_boot, witness) as life:
                life.check_power_loss(place, seed)
                await life.append()
                life.check_power_loss(place, seed)
        store.close()


@pytest.mark.parametrize("failing", range(1, 10))
async def test_a_journal_whose_making_failed_is_made_by_the_next_start(place, failing):
    with Disk(place()) as disk:
        disk.fail_syncs(failing)
        with contextlib.suppress(JournalFailed):
            journal = await Journal.open(disk.directory, ManualClock(), vfs=disk.name)
            await journal.close()
        with disk.kill(place()) as same_boot:
            async with Life(same_boot) as life:
                await life.append()
                for seed in range(10):
                    life.check_power_loss(place, seed)


# -- a disk that is full -----------------------------------------------------------------------


@pytest.mark.usefixtures("short_log")
@pytest.mark.parametrize("room", range(0, 120, 5))
async def test_on_a_full_disk_nothing_is_half_written_and_the_same_records_come_later(place, room):
    with Disk(place()) as disk:
        async with Life(disk) as life:
            disk.fill(room)
            with pytest.raises(JournalFull, match="no space left"):
                await life.append_often(60)
            assert look(disk.directory) == life.witness.state
            life.check_power_loss(place, seed=room)
            with pytest.raises(JournalFull):
                await life.append()
            disk.heal()
            await life.append_often(10)
            life.check_power_loss(place, seed=room)


@pytest.mark.parametrize("room", range(8, 26))
async def test_a_sync_that_fails_on_a_full_disk(place, room):
    """Both at once: *full* can be tried again, *failed* cannot be mended.

    What was written before the sync failed may be found after a power loss, as a whole.
    """
    with Disk(place()) as disk:
        async with Life(disk) as life:
            disk.fail_syncs(3)
            disk.fill(room)
            with pytest.raises((JournalFull, JournalFailed), match="disk is full") as caught:
                await life.append_often(25)
            if caught.type is JournalFailed:
                life.check_power_loss(place, seed=room)
                return
            witness = life.witness
            assert remains(disk, place, seed=room) in (witness.state, witness.tried)
            disk.heal()
            await life.append_often(3)
            life.check_power_loss(place, seed=room)


async def test_the_recorder_waits_for_space_and_says_so_afterwards(place, monkeypatch):
    """Through the recorder: nothing is dropped, new records wait, an event tells of it."""
    monkeypatch.setattr(recorder_module, "RETRY_WHEN_FULL_S", 0.0)
    clock = ManualClock()
    since = clock.utc_ns()
    with Disk(place()) as disk:
        async with recording(disk, clock, held_bytes_max=100) as recorder:
            disk.fill()
            recorder.put(frame(1.0))
            await until(lambda: recorder.full_since_ns is not None)
            clock.advance(60)
            recorder.put(frame(2.0))
            assert not recorder.accepting
            disk.heal()
            await recorder.flush()  # what waited
            await recorder.flush()  # what is said of it
            assert recorder.accepting
            assert recorder.full_since_ns is None
            found = remains(disk, place, seed=0)
    assert found.bodies[0, Lane.DATA] == (frame(1.0).body(1), frame(2.0).body(2))
    (told,) = found.bodies[0, Lane.EVENT]
    assert decode_json(told)[5:] == [
        "journal.resumed",
        {"severity": "alarm", "text": "the disk was full", "since_utc_ns": since},
    ]


@pytest.mark.parametrize("room", range(0, 24, 2))
async def test_a_new_epoch_waits_for_space_too(place, monkeypatch, room):
    monkeypatch.setattr(recorder_module, "RETRY_WHEN_FULL_S", 0.0)
    with Disk(place()) as disk:
        async with recording(disk, ManualClock(), held_bytes_max=1 << 20) as recorder:
            recorder.schema_number({"instrument": "incubator"})
            await recorder.flush()
            disk.fill(room)
            opening = asyncio.create_task(recorder.new_epoch("test"))
            await until(lambda: opening.done() or recorder.full_since_ns is not None)
            disk.heal()
            await opening
            found = remains(disk, place, seed=room)
    assert found.epochs == 2
    assert len(found.bodies[1, Lane.DATA]) == 1


# -- everything together -----------------------------------------------------------------------


@pytest.mark.usefixtures("short_log")
@pytest.mark.parametrize("seed", range(20))
async def test_a_journal_survives_many_bad_lives(place, seed):
    """Lives of one journal, one after the other, each with a fault and a sudden end."""
    random = Random(seed)
    disk, witness = Disk(place()), Witness()
    for _ in range(6):
        with disk:
            async with Life(disk, witness) as life:
                bring_about_a_fault(disk, random)
                await live(life, random)
                disk = end(life, place(), random)
    disk.unregister()


def bring_about_a_fault(disk: Disk, random: Random) -> None:
    match random.choice(["none", "sync", "syncs", "full"]):
        case "sync":
            disk.fail_syncs(random.randint(1, 15))
        case "syncs":
            disk.fail_syncs(random.randint(1, 15), random.choice([2, 5, FOR_EVER]))
        case "full":
            disk.fill(random.randint(0, 150))


async def live(life: Life, random: Random) -> None:
    """Append, pack and forget until it is enough or the journal is at its end."""
    for _ in range(random.randint(1, 30)):
        try:
            if random.random() < 0.2:
                await life.tend(random.random())
            await life.append(random.choice([0, 1, 3, 40]))
        except JournalFull:
            life.disk.heal()
        except JournalFailed:
            return


def end(life: Life, target: Path, random: Random) -> Disk:
    """End a life by a power loss at any of its moments, or by a kill; return what is left."""
    if random.random() < 0.3:
        return life.disk.kill(target)
    moment = random.randint(life.began, len(life.disk.log))
    found = life.disk.power_loss(target, random.getrandbits(32), moment)
    life.witness.found(look(found), moment)
    return Disk(found)

"""A reader of a lane: every record once and in order, from memory or disk, whatever is damaged.

Method: properties, on real journals; the tail alone against a plain list of commits.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.journal import Committed, Journal
from edgeagent.journal import store as store_module
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import Cursor
from edgeagent.model.record import Batch, Lane, Record, extend_chain, genesis
from edgeagent.publish import stream as stream_module
from edgeagent.publish.stream import Stream, Tail, provable
from tests.unit.publish.site import HandClock

EPOCH = "0192"

commits = st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=6), min_size=1, max_size=8)
"""Lengths of the records of each commit."""


def committed(epoch: str, first: int, sizes: Sequence[int]) -> Committed:
    bodies = [b"x" * size for size in sizes]
    return Committed(epoch, Lane.DATA, first, bodies, b"", b"")


# -- the tail -----------------------------------------------------------------------------------


@given(commits=commits, seq=st.integers(0, 60), bytes_max=st.integers(1, 200))
def test_a_tail_returns_whole_commits_right_behind_a_place(
    commits: list[list[int]], seq: int, bytes_max: int
) -> None:
    tail, all_of_them, first = Tail(), [], 1
    for sizes in commits:
        each = committed(EPOCH, first, sizes)
        tail.add(each)
        all_of_them.append(each)
        first = each.last + 1
    found = tail.after(EPOCH, seq, bytes_max)
    next_ones = [each for each in all_of_them if each.last > seq]
    if seq >= first - 1:
        assert found == []
    elif next_ones[0].first != seq + 1:
        assert found is None, "a place within a commit is on the disk"
    elif found is None:
        assert len(next_ones[0].bodies) > 1
        assert sum(map(len, next_ones[0].bodies)) > bytes_max
    else:
        assert found == next_ones[: len(found)]
        size = sum(len(body) for each in found for body in each.bodies)
        assert size <= bytes_max or [len(each.bodies) for each in found] == [1]
        assert tail.after("another", seq, bytes_max) is None


def test_a_tail_forgets_what_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: memory is bounded; what is gone is said to be gone, not skipped."""
    monkeypatch.setattr(stream_module, "TAIL_BYTES_MAX", 100)
    tail = Tail()
    for first in range(1, 11):
        tail.add(committed(EPOCH, first, [30]))
    assert tail.after(EPOCH, 5, 1000) is None
    found = tail.after(EPOCH, 7, 1000)
    assert found is not None
    assert [each.first for each in found] == [8, 9, 10]
    tail.add(committed("new", 1, [200]))
    assert tail.after(EPOCH, 7, 1000) is None
    found = tail.after("new", 0, 1000)
    assert found is not None
    assert [each.first for each in found] == [1]


def test_an_empty_tail_knows_nothing() -> None:
    assert Tail().after(EPOCH, 0, 1000) is None


# -- the stream ---------------------------------------------------------------------------------


class Shelf:
    """A journal with commits of records of given lengths, and what it held before any damage."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bodies: list[bytes] = []
        self.chains = [b""]

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Journal]:
        journal = await Journal.open(self.directory, HandClock())
        self.chains[0] = genesis(journal.epoch.uuid, Lane.DATA)
        try:
            yield journal
        finally:
            await journal.close()

    async def append(self, journal: Journal, sizes: Sequence[int]) -> Committed:
        records = [Record(Lane.DATA, "G", b'"%s"]' % (b"x" * size)) for size in sizes]
        (part,) = await journal.append(records)
        for body in part.bodies:
            self.bodies.append(body)
            self.chains.append(extend_chain(self.chains[-1], [body]))
        return part

    def by_hand(self, *statements: str) -> None:
        with contextlib.closing(apsw.Connection(str(self.directory / FILE_NAME))) as database:
            for statement in statements:
                database.execute(statement)

    def check(self, batch: Batch, bytes_max: int) -> None:
        """Prove a batch against what was put in."""
        assert batch.prev == self.chains[batch.first - 1]
        assert batch.chain == self.chains[batch.last]
        whole = [n for n in range(batch.first, batch.last + 1) if n not in batch.missing]
        assert list(batch.bodies) == [self.bodies[n - 1] for n in whole]
        if len(batch.bodies) > 1 and not batch.missing:
            assert sum(map(len, batch.bodies)) <= bytes_max


async def drain(stream: Stream, shelf: Shelf, bytes_max: int) -> list[int]:
    """Take everything; return the numbers that are missing."""
    missing: list[int] = []
    while batch := await stream.next_batch(bytes_max):
        shelf.check(batch, bytes_max)
        assert batch.last == stream.after
        missing += batch.missing
    return missing


@settings(max_examples=40)
@given(data=st.data(), commits=commits, bytes_max=st.integers(20, 300))
def test_a_stream_goes_round_any_damage(
    data: st.DataObject, commits: list[list[int]], bytes_max: int
) -> None:
    """Goal: from any place, with any records damaged or gone, everything else comes in order, and
    the chain continues. What is destroyed is named.
    """
    total = sum(map(len, commits))
    numbers = st.sets(st.integers(1, total), max_size=5)
    damaged, gone = data.draw(numbers, "damaged"), data.draw(numbers, "gone") - {total}
    after = data.draw(st.integers(0, total), "after")
    end = data.draw(st.none() | st.integers(after, total), "end")

    async def story(shelf: Shelf) -> None:
        async with shelf.opened() as journal:
            for sizes in commits:
                await shelf.append(journal, sizes)
        flips = [f"UPDATE data SET crc = crc + 1 WHERE key = {n}" for n in damaged]
        shelf.by_hand(*flips, *(f"DELETE FROM data WHERE key = {n}" for n in gone))
        async with shelf.opened() as journal:
            place = after, shelf.chains[after]
            stream = Stream(journal, "site", journal.epoch, Lane.DATA, *place, end=end)
            missing = await drain(stream, shelf, bytes_max)
            assert stream.after >= (total if end is None else end)
            destroyed = damaged | gone
            assert missing == [n for n in sorted(destroyed) if after < n <= stream.after]

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(story(Shelf(Path(directory))))


@settings(max_examples=25)
@given(data=st.data(), commits=commits, bytes_max=st.integers(20, 300))
def test_memory_and_disk_take_turns(
    data: st.DataObject, commits: list[list[int]], bytes_max: int
) -> None:
    """Goal: a live stream that falls behind its tail, and comes back to it, leaves nothing out."""

    async def story(shelf: Shelf) -> None:
        async with shelf.opened() as journal:
            tail = Tail()
            stream = Stream(journal, "s", journal.epoch, Lane.DATA, 0, shelf.chains[0], tail=tail)
            for sizes in commits:
                tail.add(await shelf.append(journal, sizes))
                for _ in range(data.draw(st.integers(0, 3), "batches")):
                    batch = await stream.next_batch(bytes_max)
                    if batch is not None:
                        shelf.check(batch, bytes_max)
            assert await drain(stream, shelf, bytes_max) == []
            assert stream.after == len(shelf.bodies)

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        patch.setattr(stream_module, "TAIL_BYTES_MAX", 150)
        asyncio.run(story(Shelf(Path(directory))))


async def test_a_stream_goes_on_behind_a_cursor(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    async with shelf.opened() as journal:
        await shelf.append(journal, [10] * 9)
        stream = Stream(journal, "s", journal.epoch, Lane.DATA, 0, shelf.chains[0], end=8)
        stream.go_on_behind(Cursor(5, shelf.chains[5]))
        stream.go_on_behind(Cursor(3, shelf.chains[3]))
        batch = await stream.next_batch(1000)
        assert batch is not None
        assert (batch.first, batch.last) == (6, 8)
        assert stream.finished
        assert await stream.next_batch(1000) is None


@pytest.mark.parametrize("purged", [7, 20, 60])
async def test_behind_a_purged_prefix_delivery_begins_at_the_oldest_record(
    tmp_path: Path, purged: int
) -> None:
    """Goal: for every place a true chain value; from within what was purged, that of its end."""
    shelf = Shelf(tmp_path)
    async with shelf.opened() as journal:
        for _ in range(3):
            await shelf.append(journal, [10] * 20)
        assert await journal.purge(journal.epoch, Lane.DATA, purged) == purged
        for seq in range(61):
            place = await provable(journal, journal.epoch, Lane.DATA, seq)
            expected = max(seq, purged)
            assert place == Cursor(expected, shelf.chains[expected])
        assert await provable(journal, journal.epoch, Lane.DATA, 61) is None
        stream = Stream(journal, "s", journal.epoch, Lane.DATA, 2, shelf.chains[2], end=60)
        batch = await stream.next_batch(30)
        assert batch is None if purged == 60 else (batch is not None and batch.first == purged + 1)
        assert await drain(stream, shelf, 1000) == []
        assert stream.after == 60


async def test_behind_a_purge_that_damage_made_unprovable_delivery_begins_at_an_anchor(
    tmp_path: Path,
) -> None:
    shelf = Shelf(tmp_path)
    async with shelf.opened() as journal:
        for _ in range(3):
            await shelf.append(journal, [10] * 20)
    shelf.by_hand("UPDATE data SET crc = crc + 1 WHERE key = 3")
    async with shelf.opened() as journal:
        assert await journal.purge(journal.epoch, Lane.DATA, 7) == 7
        for seq in range(8):
            place = await provable(journal, journal.epoch, Lane.DATA, seq)
            assert place == Cursor(20, shelf.chains[20])
        stream = Stream(journal, "s", journal.epoch, Lane.DATA, 2, shelf.chains[2])
        assert await drain(stream, shelf, 1000) == []
        assert stream.after == 60


async def test_a_stream_whose_next_records_are_purged_goes_on_behind_them(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    async with shelf.opened() as journal:
        await shelf.append(journal, [10] * 60)
        stream = Stream(journal, "s", journal.epoch, Lane.DATA, 0, shelf.chains[0])
        first = await stream.next_batch(100)
        assert first is not None
        shelf.check(first, 100)
        await journal.purge(journal.epoch, Lane.DATA, 30)
        second = await stream.next_batch(100)
        assert second is not None
        assert second.first == 31
        assert await drain(stream, shelf, 100) == []


@pytest.mark.parametrize("damage", ["crc = crc + 1", "content = zeroblob(9)"])
@pytest.mark.parametrize("which", [0, 3])
async def test_a_damaged_block_costs_its_records_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, which: int
) -> None:
    """Goal: delivery goes round a block of packed records as round damaged rows."""
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 150)
    shelf = Shelf(tmp_path)
    async with shelf.opened() as journal:
        for _ in range(20):
            await shelf.append(journal, [10] * 3)
        while await journal.pack(Lane.DATA, keep_newest=7):
            pass
        with contextlib.closing(apsw.Connection(str(tmp_path / FILE_NAME))) as database:
            blocks = list(database.execute("SELECT first, key FROM data_block ORDER BY key"))
        first, last = blocks[which]
        assert len(blocks) > 4
        assert last > first + 3
        shelf.by_hand(f"UPDATE data_block SET {damage} WHERE key = {last}")
        for after in (0, first - 1):
            start = await provable(journal, journal.epoch, Lane.DATA, after)
            assert start is not None
            stream = Stream(journal, "s", journal.epoch, Lane.DATA, *start, end=60)
            assert await drain(stream, shelf, 200) == list(range(first, last + 1))
            assert stream.after == 60


async def test_an_empty_lane_can_be_proved_at_its_beginning(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    async with shelf.opened() as journal:
        place = await provable(journal, journal.epoch, Lane.EVENT, 0)
        assert place == Cursor(0, genesis(journal.epoch.uuid, Lane.EVENT))
        assert await provable(journal, journal.epoch, Lane.EVENT, 1) is None

"""Packing, purging and shrinking: whatever is done to old records, those that are held stay the
same to who reads them.

Method: a plain model of a journal (``witness.py``) that knows nothing of blocks says what must be
read; damage is done by hand, to the stored bytes.
"""

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeagent.journal import store as store_module
from edgeagent.journal.block import DamagedBlock, Row, crc_of, pack_rows, unpack_rows
from edgeagent.journal.inspect import batches, export
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import Consumer, CorruptRecord, Cursor, Reader, Store
from edgeagent.model.record import Entry, Lane, decode_batch, extend_chain, received_utc_ns
from tests.unit.journal.witness import (
    AT,
    State,
    chain_from,
    context,
    event,
    frame,
    proved,
    schema,
    seen,
)

ALL = 1 << 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store(path, 0)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of four or five frames; chain values at every fourth."""
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 400)
    monkeypatch.setattr(store_module, "ANCHOR_EVERY", 4)


def raw(path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    db = apsw.Connection(str(path))
    try:
        return list(db.execute(sql, values))
    finally:
        db.close()


def fill(store: Store, count: int) -> list[bytes]:
    """Write frames with raw replies, two in a commit; return all bodies that must be there."""
    last = store.head(Lane.DATA)[0]
    records = [frame(n + 0.5, n.to_bytes(40, "big")) for n in range(1, last + count + 1)]
    for at in range(last, last + count, 2):
        store.commit(records[at : at + 2])
    return [record.body(n) for n, record in enumerate(records, 1)]


def pack_all(store: Store, keep_newest: int = 0) -> int:
    packed = 0
    while count := store.pack(Lane.DATA, keep_newest=keep_newest):
        packed += count
    return packed


# -- the block ---------------------------------------------------------------------------------


@given(
    gaps=st.lists(st.integers(1, 3), min_size=1, max_size=20),
    data=st.data(),
)
def test_a_block_gives_back_what_was_packed(gaps, data):
    """Also rows that are damaged, and numbers with holes between them."""
    body, chain = st.binary(max_size=300), st.none() | st.binary(min_size=32, max_size=32)
    crc = st.integers(-(1 << 31), (1 << 31) - 1)
    numbers = itertools.accumulate(gaps, initial=1 << 40)
    rows = [Row(n, data.draw(crc), data.draw(body), data.draw(chain)) for n in numbers]
    assert list(unpack_rows(rows[0].seq, pack_rows(rows))) == rows


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zstd",
        pack_rows([Row(1, 0, b"abc")])[:-1],
        *(
            zstandard.compress(plain)
            for plain in (
                b"",
                struct.pack("<II", 1 << 30, 0),
                struct.pack("<IIIiI", 1, 0, 0, 0, 7) + b"short",
                struct.pack("<IIIiI", 1, 0, 0, 0, 3) + b"long",
            )
        ),
    ],
)
def test_what_is_no_block_is_refused(content):
    with pytest.raises(DamagedBlock):
        unpack_rows(1, content)


# -- the same to who reads ---------------------------------------------------------------------

LANES = st.sampled_from(list(Lane))
STEP = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 12), st.booleans()),
    st.tuples(st.just("append"), st.integers(1, 12), st.booleans()),
    st.tuples(st.just("pack"), LANES, st.integers(0, 6)),
    st.tuples(st.just("pack"), LANES, st.integers(0, 6)),
    st.tuples(st.just("purge"), LANES, st.integers(0, 40)),
    st.tuples(st.just("evidence"), st.just(None), st.integers(0, 40)),
    st.tuples(st.sampled_from(["reopen", "epoch", "shrink", "move"])),
)


class Life:
    """A store, a reader beside it that is never closed, and the model of both."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(path, 0)
        self.reader = Reader(path)
        self.state = State()
        self.number = 0

    def step(self, what: str, *how: Any) -> None:
        store = self.store
        oldest = next((e for e in store.epochs() if store.lane_range(e, Lane.DATA)[1]), store.epoch)
        match what, *how:
            case "append", count, with_reply:
                records = [schema(1), context(Lane.EVENT, 1)][: count % 3]
                for _ in range(count):
                    self.number += 1
                    reply = self.number.to_bytes(50, "big") if with_reply else None
                    records += [frame(self.number / 8, reply), event(f"event {self.number}")]
                store.commit(records)
                self.state = self.state.with_commit(records)
            case "pack", lane, keep_newest:
                rows = self.rows(lane)
                packed = store.pack(lane, keep_newest=keep_newest)
                assert len(rows) - len(self.rows(lane)) == packed
                if packed:
                    kept = self.rows(lane)
                    assert not kept or min(kept) > max(set(rows) - set(kept))
                    newest = store.epoch.number << 48 | store.head(lane)[0] + 1 - keep_newest
                    assert {key for key in rows if key >= newest} <= set(kept)
            case "purge", lane, upto:
                after = self.state.with_purge(oldest, lane, upto)
                went = 0
                while piece := store.purge(oldest, lane, upto):
                    went += piece
                lowest = self.state.lowest(oldest.number, lane)
                assert went == after.lowest(oldest.number, lane) - lowest
                self.state = after
            case "evidence", None, upto:
                while store.purge_evidence(oldest, upto):
                    pass
                self.state = self.state.with_evidence_purge(oldest, upto)
            case ("reopen",):
                store.close()
                self.store = Store(self.path, 0)
            case ("epoch",):
                store.open_epoch(0, "test")
                self.state = self.state.with_epoch()
            case ("shrink",):
                while store.shrink():
                    pass
                assert store.usage().free_bytes == 0
            case ("move",):
                store.move_log()
        assert seen(self.reader) == self.state

    def rows(self, lane: Lane) -> list[int]:
        return [key for (key,) in self.store._db.execute(f"SELECT key FROM {lane}")]

    def close(self) -> None:
        self.reader.close()
        self.store.close()


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=1, max_size=20), bytes_max=st.integers(1, 1000))
def test_whatever_is_packed_and_purged_reads_are_those_of_a_plain_list(
    tmp_path_factory, monkeypatch, steps, bytes_max
):
    monkeypatch.setattr(store_module, "PURGED_ROWS_MAX", 7)
    monkeypatch.setattr(store_module, "PURGED_BLOCKS_MAX", 2)
    life = Life(tmp_path_factory.mktemp("life") / FILE_NAME)
    for step in steps:
        life.step(*step)
    for epoch in life.store.epochs():
        for lane in Lane:
            check_reads(life, epoch, lane, bytes_max)
    life.close()


def check_reads(life: Life, epoch: Any, lane: Lane, bytes_max: int) -> None:
    """Every way of reading, from every place."""
    reader, low = life.reader, life.state.lowest(epoch.number, lane)
    bodies = life.state.bodies.get((epoch.number, lane), ())
    high = low + len(bodies) - 1
    chains = {low - 1: life.state.chain_before(epoch, lane)}
    for seq, body in enumerate(bodies, low):
        chains[seq] = chain_from(chains[seq - 1], [body])
    entries = [Entry(*each) for each in enumerate(bodies, low)]
    for seq in range(high + 2):
        assert reader.chain_at(epoch, lane, seq) == chains.get(seq)
        anchor = reader.anchor_after(epoch, lane, seq)
        assert anchor is None if seq > high else anchor == (anchor[0], chains[anchor[0]])
        left = [entry for entry in entries if entry.seq > seq]
        found = reader.read(epoch, lane, seq, bytes_max=bytes_max)
        assert found == left[: len(found)]
        assert bool(found) == bool(left)
        size = sum(len(entry.body) for entry in found)
        assert len(found) <= 1 or size <= bytes_max
        assert len(found) == len(left) or size + len(left[len(found)].body) > bytes_max
        upto = seq + 3
        found = reader.read(epoch, lane, seq, bytes_max=ALL, upto=upto)
        assert found == [entry for entry in left if entry.seq <= upto]
    sent = list(batches(reader, "site", epoch, lane, None, None))
    assert [body for batch in sent for body in batch.bodies] == list(bodies)
    for batch in sent:
        assert (batch.prev, batch.chain) == (chains[batch.first - 1], chains[batch.last])
    payload = b"".join(export(reader, "site", epoch, lane, high, high))
    if bodies:
        assert decode_batch(payload.rstrip(b"\n")).bodies == [bodies[-1]]
    replies = {n: reply for (e, n), reply in life.state.evidence.items() if e == epoch.number}
    for after in range(0, high + 1, 3) if lane is Lane.DATA else ():
        found = dict(reader.evidence(epoch, after, after + 4))
        assert found == {n: reply for n, reply in replies.items() if after < n <= after + 4}


def test_only_full_blocks_are_packed_of_the_epoch_that_goes_on(store):
    fill(store, 30)
    assert store.pack(Lane.DATA, keep_newest=28) == 0, "two rows make no block"
    packed = pack_all(store, keep_newest=10)
    assert 15 < packed <= 20
    store.open_epoch(0, "test")
    assert packed + pack_all(store, keep_newest=10) == 30, "an old epoch is packed to its end"
    assert store.pack(Lane.EVENT, keep_newest=0) == 0


def test_packed_records_take_less_room(store, monkeypatch):
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 128 << 10)
    records = [frame(n / 8, bytes(50)) for n in range(4000)]
    bodies = [record.body(n) for n, record in enumerate(records, 1)]
    for first in range(0, 4000, 500):
        store.commit(records[first : first + 500])
    before = store.usage()
    assert pack_all(store) > 3000
    while store.shrink():
        pass
    after = store.usage()
    assert after.file_bytes < before.file_bytes / 2
    assert after.used_bytes == after.file_bytes + after.log_bytes
    found = store.read(store.epoch, Lane.DATA, 0, bytes_max=ALL)
    assert [entry.body for entry in found] == bodies


def test_the_oldest_record_is_told_with_its_time(store, path):
    assert store.oldest(Lane.DATA) is None
    fill(store, 30)
    assert store.oldest(Lane.DATA) == (store.epoch, 1, AT.utc_ns)
    pack_all(store)
    store.purge(store.epoch, Lane.DATA, 7)
    assert store.oldest(Lane.DATA) == (store.epoch, 8, AT.utc_ns)
    raw(path, "UPDATE data_block SET crc = crc + 1 WHERE key = (SELECT min(key) FROM data_block)")
    ((first,),) = raw(path, "SELECT first FROM data_block ORDER BY key LIMIT 1 OFFSET 1")
    assert store.oldest(Lane.DATA) == (store.epoch, first, AT.utc_ns)
    old = store.epoch
    store.open_epoch(0, "test")
    store.commit([frame(1.0)])
    store.purge(old, Lane.DATA, 30)
    assert store.oldest(Lane.DATA) == (store.epoch, 1, AT.utc_ns)
    assert store.oldest(Lane.EVENT) is None


@pytest.mark.parametrize(
    ("record", "place"),
    [(frame(1.0), 4), (schema(1), 3), (context(Lane.DATA, 1), 3), (event("a,b"), 3)],
)
def test_each_kind_of_record_tells_its_time(record, place):
    assert received_utc_ns(record.body(4711)) == AT.utc_ns
    with pytest.raises(ValueError, match="record"):
        received_utc_ns(b",".join(record.body(4711).split(b",")[:place]))


# -- who has not receipted ---------------------------------------------------------------------


@pytest.mark.parametrize("state", ["enrolled", "suspended"])
def test_what_a_consumer_has_not_receipted_is_not_purged(store, state):
    """The last line of defence: whoever asks for it."""
    fill(store, 10)
    before = seen(store)
    store.save_consumer(Consumer("central", state, None))
    with pytest.raises(ValueError, match=r"up to 1: not receipted by central \(0\)"):
        store.purge(store.epoch, Lane.DATA, 1)
    at = {("central", 0, Lane.DATA): Cursor(6, bytes(32)), ("central", 1, Lane.DATA): (10, b"")}
    store.commit([], cursors=at)
    with pytest.raises(ValueError, match=r"not receipted by central \(6\)"):
        store.purge(store.epoch, Lane.DATA, 7)
    assert seen(store).bodies == before.bodies
    assert store.purge_evidence(store.epoch, 9) == 9, "raw replies are not sent, nor receipted"
    assert store.purge(store.epoch, Lane.DATA, 6) == 6
    store.save_consumer(Consumer("central", "retired", None))
    assert store.purge(store.epoch, Lane.DATA, 7) == 1


def test_a_cursor_is_written_with_the_purge_that_it_allows(store):
    fill(store, 10)
    store.save_consumer(Consumer("central", "enrolled", None))
    at = {("central", 0, Lane.DATA): Cursor(6, bytes(32))}
    with pytest.raises(ValueError, match="not receipted"):
        store.purge(store.epoch, Lane.DATA, 7, cursors=at)
    assert store.cursors() == {}
    assert store.purge(store.epoch, Lane.DATA, 6, cursors=at) == 6
    assert store.cursors() == at


# -- damage ------------------------------------------------------------------------------------


def blocks(path: Path) -> list[tuple[int, int]]:
    """First and last number of each block."""
    return [(f, k) for f, k in raw(path, "SELECT first, key FROM data_block ORDER BY key")]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE data_block SET content = zeroblob(length(content)) WHERE key = ?",
        "UPDATE data_block SET content = 'text' WHERE key = ?",
        "UPDATE data_block SET crc = crc + 1 WHERE key = ?",
        "UPDATE data_block SET first = first - 1 WHERE key = ?",
        "DELETE FROM data_block WHERE key = ?",
    ],
)
@pytest.mark.parametrize("which", [0, 2])
def test_a_damaged_block_costs_its_records_and_no_more(store, path, damage, which):
    """It is known which they are, and the chain goes on behind them."""
    bodies = fill(store, 40)
    pack_all(store, keep_newest=5)
    first, last = blocks(path)[which]
    raw(path, damage, last)
    with pytest.raises(CorruptRecord) as caught:
        store.read(store.epoch, Lane.DATA, first - 1, bytes_max=ALL)
    assert (caught.value.seq, caught.value.last) == (first, last)
    with pytest.raises(CorruptRecord) as caught:
        store.read(store.epoch, Lane.DATA, first + 1, bytes_max=ALL)
    assert (caught.value.seq, caught.value.last) == (first + 2, last)
    rest = store.read(store.epoch, Lane.DATA, last, bytes_max=ALL)
    assert [entry.body for entry in rest] == bodies[last:]
    count, faults = proved(store, store.epoch, Lane.DATA)
    assert count == 40 - (last - first + 1)
    assert faults == [
        f"{store.epoch.uuid} records {first} to {last} of lane data are damaged on disk"
    ]
    sent = list(batches(store, "site", store.epoch, Lane.DATA, None, None))
    missing = [n for batch in sent for n in batch.missing]
    assert missing[: last - first + 1] == list(range(first, last + 1))
    for one, following in itertools.pairwise(sent):
        assert (following.first, following.prev) == (one.last + 1, one.chain)
    assert sent[-1].chain == store.head(Lane.DATA)[1]


@pytest.mark.parametrize("damaged", [{1}, {7}, {8}, {3, 4, 5}, {20}, {17, 40}, {40}])
@pytest.mark.parametrize("way", ["rot", "gone", "forged"])
def test_what_was_damaged_as_a_row_is_as_damaged_in_a_block(store, path, damaged, way):
    """Packing hides no damage and adds none: the same is read, proved and sent as before."""
    bodies = fill(store, 48)
    for seq in damaged:
        forged = bodies[seq - 1].replace(b".5]", b".6]")
        if way == "gone":
            raw(path, "DELETE FROM data WHERE key = ?", seq)
        elif way == "rot":
            raw(path, "UPDATE data SET body = ? WHERE key = ?", forged, seq)
        else:
            raw(
                path, "UPDATE data SET body = ?, crc = ? WHERE key = ?", forged, crc_of(forged), seq
            )

    def readable() -> list[Any]:
        found: list[Any] = []
        at = 0
        while at < 48:
            try:
                entries = store.read(store.epoch, Lane.DATA, at, bytes_max=1)
                found += entries
                at = entries[0].seq
            except CorruptRecord as damage:
                found.append((damage.seq, damage.last))
                at = damage.last
        return found

    def sent() -> tuple[list[Any], ...]:
        found = list(batches(store, "site", store.epoch, Lane.DATA, None, None))
        missing = [n for batch in found for n in batch.missing]
        return missing, [body for batch in found for body in batch.bodies], [found[-1].chain]

    before = readable(), sent(), sorted(proved(store, store.epoch, Lane.DATA)[1])
    assert pack_all(store, keep_newest=2) > 40 - len(damaged)
    assert (readable(), sent()) == before[:2]
    faults = sorted(proved(store, store.epoch, Lane.DATA)[1])
    if way == "forged":  # an anchor that only a forgery contradicts stands where it stood
        assert faults == before[2]
    assert len(faults) == len(before[2])


def test_an_error_that_somebody_keeps_does_not_keep_an_old_view(store, path):
    """A reader whose view stood still would hold the log, and miss what is committed."""
    fill(store, 10)
    raw(path, "UPDATE data SET crc = crc + 1 WHERE key = 1")
    reader = Reader(path)
    with pytest.raises(CorruptRecord) as kept:
        reader.read(store.epoch, Lane.DATA, 0, bytes_max=ALL)
    fill(store, 1)
    assert reader.bounds(store.epoch, Lane.DATA) == (1, 11)
    assert kept.value.seq == 1
    reader.close()


def test_a_purge_goes_through_damage(store, path):
    """Where the chain value at its end cannot be proved, the next anchor is where proof begins."""
    bodies = fill(store, 20)
    raw(path, "UPDATE data SET crc = crc + 1 WHERE key = 6")
    assert store.purge(store.epoch, Lane.DATA, 7) == 7
    assert store.purged(store.epoch, Lane.DATA) == (7, None)
    assert store.chain_at(store.epoch, Lane.DATA, 7) is None
    end, chain = store.anchor_after(store.epoch, Lane.DATA, 7)
    assert 7 < end <= 12
    assert extend_chain(chain, bodies[end:]) == store.head(Lane.DATA)[1]
    assert proved(store, store.epoch, Lane.DATA) == (13, [])
    assert next(iter(batches(store, "site", store.epoch, Lane.DATA, 1, None))).first == end + 1
    assert store.purge(store.epoch, Lane.DATA, end) == end - 7
    assert store.purged(store.epoch, Lane.DATA) == (end, chain)


def test_a_forged_chain_value_where_a_purge_ended_is_found(store, path):
    fill(store, 20)
    pack_all(store, keep_newest=2)
    store.purge(store.epoch, Lane.DATA, 7)
    assert proved(store, store.epoch, Lane.DATA) == (13, [])
    raw(path, "UPDATE purged SET chain = zeroblob(32) WHERE what = 'data'")
    _, (fault,) = proved(store, store.epoch, Lane.DATA)
    assert "the chain breaks at or before record" in fault


def test_a_damaged_block_of_evidence_is_found(store, path):
    fill(store, 20)
    pack_all(store, keep_newest=2)
    raw(path, "UPDATE evidence_block SET crc = crc + 1 WHERE key <= 4")
    count, (fault,) = proved(store, store.epoch, Lane.DATA)
    assert count == 20
    assert fault.endswith("the evidence of 4 is lost")

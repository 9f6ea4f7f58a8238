"""The store: layout, numbers, chains, epochs, side tables, and damage that is located.

The truth about bodies and chains comes from ``witness.py``, which asks the store nothing.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.journal import store as store_module
from edgeagent.journal.block import crc_of, pack_evidence, unpack_evidence
from edgeagent.journal.inspect import batches
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.layout import UnfixedSQLite, UnknownLayout, require_fixed_sqlite
from edgeagent.journal.store import (
    CorruptRecord,
    Cursor,
    Epoch,
    Reader,
    Store,
    description_content,
)
from edgeagent.model.record import Entry, Lane, Record, decode_batch, extend_chain
from tests.unit.journal.witness import (
    State,
    chain_of,
    context,
    event,
    frame,
    look,
    proved,
    schema,
)

ALL = 1 << 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store(path, 1_795_403_350_000_000_000)
    yield opened
    opened.close()


def raw(path: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    """What a person with the sqlite3 shell can do."""
    db = apsw.Connection(str(path))
    try:
        return list(db.execute(sql, values))
    finally:
        db.close()


def fill(store: Store, commits: Sequence[int]) -> list[bytes]:
    """Write commits of so many frames each; return the bodies that must be there."""
    at = store.head(Lane.DATA)[0]
    for count in commits:
        store.commit([frame(at + i + 0.5) for i in range(count)])
        at += count
    return [frame(seq - 0.5).body(seq) for seq in range(1, at + 1)]


# -- opening -----------------------------------------------------------------------------------


def test_a_new_journal_says_what_it_is(store, path):
    assert raw(path, "PRAGMA journal_mode") == [("wal",)]
    assert raw(path, "PRAGMA application_id") == [(0x65644147,)]
    assert raw(path, "PRAGMA user_version") == [(2,)]
    assert raw(path, "PRAGMA auto_vacuum") == [(2,)], "incremental: it can shrink"
    assert (path.read_bytes()[:15], path.read_bytes()[68:72]) == (b"SQLite format 3", b"edAG")
    assert store._db.pragma("synchronous") == 2, "FULL: without it a returned commit may be lost"
    assert store._db.pragma("mmap_size") == 0
    (epoch,) = store.epochs()
    assert (epoch.number, epoch.cause) == (0, "created")
    assert epoch.opened_utc_ns == 1_795_403_350_000_000_000


@pytest.mark.parametrize(
    ("alter", "words"),
    [
        ("PRAGMA user_version = 3", "has layout 3; .*, which reads layouts 1 to 2"),
        ("PRAGMA application_id = 4711", "is no edgeagent journal"),
    ],
)
@pytest.mark.parametrize("make", [Reader, lambda path: Store(path, 0)])
def test_another_layout_or_application_is_refused_in_words(path, alter, words, make):
    Store(path, 0).close()
    raw(path, alter)
    with pytest.raises(UnknownLayout, match=words):
        make(path)


@pytest.mark.parametrize("make", [Reader, lambda path: Store(path, 0)])
def test_somebody_elses_database_is_refused_and_left_alone(path, make):
    raw(path, "CREATE TABLE accounts (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(UnknownLayout, match="is no edgeagent journal"):
        make(path)
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_journal(path):
    path.touch()
    Store(path, 0).close()
    assert look(path.parent) == State()


@pytest.mark.parametrize("version", ["3.51.3", "3.51.10", "3.54.1", "4.0.0", "3.50.7", "3.44.6"])
def test_a_mended_sqlite_is_taken(version):
    require_fixed_sqlite(version)


@pytest.mark.parametrize(
    "version", ["3.51.2", "3.51.0", "3.50.6", "3.49.9", "3.45.3", "3.44.5", "3.40.1", "3.7.0"]
)
def test_a_sqlite_with_the_wal_reset_bug_is_refused_by_name(path, monkeypatch, version):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)
    with pytest.raises(UnfixedSQLite, match=rf"SQLite {version} can corrupt"):
        Store(path, 0)
    assert not path.exists()


# -- commits -----------------------------------------------------------------------------------


def test_each_lane_has_its_own_numbers_and_its_own_chain(store):
    epoch = store.epoch.uuid
    first = store.commit([frame(1.0), event("a"), frame(2.0)])
    second = store.commit([event("b")])
    data = [frame(1.0).body(1), frame(2.0).body(2)]
    events = [event("a").body(1), event("b").body(2)]
    assert [(part.lane, part.first, part.last, part.bodies) for part in first] == [
        (Lane.DATA, 1, 2, data),
        (Lane.EVENT, 1, 1, events[:1]),
    ]
    assert [(part.lane, part.first, part.last) for part in second] == [(Lane.EVENT, 2, 2)]
    assert first[0].prev == chain_of(epoch, Lane.DATA, [])
    assert first[0].chain == chain_of(epoch, Lane.DATA, data)
    assert (second[0].prev, second[0].chain) == (
        first[1].chain,
        chain_of(epoch, Lane.EVENT, events),
    )
    assert store.head(Lane.EVENT) == (2, second[0].chain)
    assert store.commit([]) == []


def test_numbers_go_on_where_the_journal_ended(store, path):
    fill(store, [3])
    store.close()
    again = Store(path, 0)
    bodies = fill(again, [2])
    assert [entry.body for entry in again.read(again.epoch, Lane.DATA, 0, bytes_max=ALL)] == bodies
    assert again.head(Lane.DATA) == (5, chain_of(again.epoch.uuid, Lane.DATA, bodies))
    again.close()


def test_a_commit_that_fails_has_not_happened(store, path):
    fill(store, [2])
    before, head = look(path.parent), store.head(Lane.DATA)
    with pytest.raises(TypeError):
        store.commit([frame(9.0), schema(1), event("a")], checkpoint=object())
    assert store.head(Lane.DATA) == head
    assert look(path.parent) == before
    fill(store, [1])
    assert look(path.parent) == before.with_commit([frame(2.5)])


def test_reading_stops_near_the_limit_but_gives_at_least_one(store):
    bodies = fill(store, [10])
    size = len(bodies[0])
    read = store.read
    assert [e.seq for e in read(store.epoch, Lane.DATA, 0, bytes_max=1)] == [1]
    assert [e.seq for e in read(store.epoch, Lane.DATA, 0, bytes_max=3 * size)] == [1, 2, 3]
    assert [e.seq for e in read(store.epoch, Lane.DATA, 4, bytes_max=ALL, upto=6)] == [5, 6]
    assert read(store.epoch, Lane.DATA, 10, bytes_max=ALL) == []
    assert read(store.epoch, Lane.EVENT, 0, bytes_max=ALL) == []


@given(st.lists(st.tuples(st.integers(0, (1 << 64) - 1), st.binary(max_size=300))))
def test_evidence_comes_out_as_it_was_packed(replies):
    assert list(unpack_evidence(pack_evidence(replies))) == replies


@given(has=st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=1, max_size=6))
def test_evidence_of_any_range_is_found(tmp_path_factory, has):
    """However the range cuts through commits."""
    store = Store(tmp_path_factory.mktemp("evidence") / FILE_NAME, 0)
    expected, seq = [], 0
    for commit in has:
        records = []
        for with_evidence in commit:
            seq += 1
            reply = bytes([seq]) * 40 if with_evidence else None
            records.append(frame(float(seq), reply))
            expected += [(seq, reply)] if reply else []
        store.commit(records)
    for after in range(seq + 1):
        for upto in range(after, seq + 2):
            found = store.evidence(store.epoch, after, upto)
            assert found == [(n, reply) for n, reply in expected if after < n <= upto]
    store.close()


# -- chains ------------------------------------------------------------------------------------


@given(
    lives=st.lists(
        st.lists(st.one_of(st.integers(1, 3), st.integers(1, 40)), max_size=15), max_size=4
    )
)
def test_the_chain_is_known_at_every_record(tmp_path_factory, lives):
    """However records were cut into commits, and wherever the journal was opened again."""
    path = tmp_path_factory.mktemp("chain") / FILE_NAME
    bodies: list[bytes] = []
    for commits in lives:
        store = Store(path, 0)
        bodies = fill(store, commits)
        store.close()
    store = Store(path, 0)
    last = len(bodies)
    chains = [chain_of(store.epoch.uuid, Lane.DATA, [])]
    for body in bodies:
        chains.append(extend_chain(chains[-1], [body]))
    assert chains[-1] == chain_of(store.epoch.uuid, Lane.DATA, bodies)
    assert store.head(Lane.DATA) == (last, chains[last])
    assert [store.chain_at(store.epoch, Lane.DATA, seq) for seq in range(last + 1)] == chains
    assert store.chain_at(store.epoch, Lane.DATA, last + 1) is None
    assert store.chain_at(store.epoch, Lane.DATA, -1) is None
    anchors = store.anchors(store.epoch, Lane.DATA)
    assert anchors == [(seq, chains[seq]) for seq, _ in anchors]
    places = [0, *(seq for seq, _ in anchors)]
    assert places[-1] == last
    largest = max(itertools.chain([1], *lives))
    assert all(b - a < 16 + largest for a, b in itertools.pairwise(places))
    assert len(anchors) <= last / 16 + len(lives) + 1
    for seq in range(1, last + 1):
        assert store.anchor_after(store.epoch, Lane.DATA, seq) == next(
            anchor for anchor in anchors if anchor[0] >= seq
        )
    assert store.anchor_after(store.epoch, Lane.DATA, last + 1) is None
    assert proved(store, store.epoch, Lane.DATA) == (last, [])
    store.close()


def test_a_commit_that_fails_leaves_the_last_row_its_chain_value(store, path):
    bodies = fill(store, [1, 1])
    with pytest.raises(TypeError):
        store.commit([frame(9.0)], checkpoint=object())
    uuid = store.epoch.uuid
    assert store.anchors(store.epoch, Lane.DATA) == [(2, chain_of(uuid, Lane.DATA, bodies))]
    bodies = fill(store, [1])
    assert store.anchors(store.epoch, Lane.DATA) == [(3, chain_of(uuid, Lane.DATA, bodies))]


def test_who_reads_beside_the_writer_is_not_misled_by_an_end_that_moves(store, path, monkeypatch):
    """A commit between two looks takes back the chain value at what was the end."""
    bodies = fill(store, [1] * 5)
    raw(path, "UPDATE data SET crc = crc + 1 WHERE key = 2")
    reader, bounds = Reader(path), Reader.bounds

    def commit_behind(reader: Reader, epoch: Epoch, lane: Lane) -> tuple[int, int]:
        found = bounds(reader, epoch, lane)
        fill(store, [1])
        return found

    monkeypatch.setattr(Reader, "bounds", commit_behind)
    held = reader.lane_range(store.epoch, Lane.DATA)
    _, faults = proved(reader, store.epoch, Lane.DATA)
    reader.close()
    assert held == (1, 5, chain_of(store.epoch.uuid, Lane.DATA, bodies))
    assert faults == [f"{store.epoch.uuid} record 2 of lane data is damaged on disk"]


def test_a_look_at_a_lane_does_not_read_the_lane(store):
    """Heads are told every ten seconds, of journals of many gigabytes."""
    fill(store, [10] * 500)
    steps: list[int] = []
    store._db.set_progress_handler(lambda: bool(steps.append(1)), 1)
    held = store.lane_range(store.epoch, Lane.DATA)
    store.chain_at(store.epoch, Lane.DATA, 2503)
    store._db.set_progress_handler(None)
    assert (held.lowest, held.highest) == (1, 5000)
    assert len(steps) < 500


# -- epochs, descriptions, checkpoint ----------------------------------------------------------


def test_a_new_epoch_begins_with_what_is_in_force(store):
    store.commit([schema(1), schema(2), context(Lane.DATA, 1), context(Lane.EVENT, 1)])
    store.commit([frame(1.0), context(Lane.DATA, 2), event("a")])
    old = store.epoch
    committed = store.open_epoch(77, "rolled back")
    assert [e.cause for e in store.epochs()] == ["created", "rolled back"]
    assert (store.epoch.number, store.epoch.opened_utc_ns) == (1, 77)
    assert store.epoch.uuid != old.uuid
    first = {part.lane: part for part in committed}
    in_force = [context(Lane.DATA, 2), schema(1), schema(2)]
    assert first[Lane.DATA].bodies == [r.body(n) for n, r in enumerate(in_force, 1)]
    assert first[Lane.EVENT].bodies == [context(Lane.EVENT, 1).body(1)]
    assert {part.epoch for part in committed} == {store.epoch.uuid}
    assert first[Lane.DATA].prev == chain_of(store.epoch.uuid, Lane.DATA, [])
    store.commit([frame(2.0)])
    assert store.head(Lane.DATA)[0] == 4
    held = store.lane_range(old, Lane.DATA)
    assert (held.lowest, held.highest) == (1, 5)
    assert len(store.read(old, Lane.DATA, 0, bytes_max=ALL)) == 5
    assert all(proved(store, epoch, lane)[1] == [] for epoch in store.epochs() for lane in Lane)


def test_an_epoch_that_cannot_be_opened_has_not_been_opened(store, monkeypatch):
    fill(store, [2])
    epoch, head = store.epoch, store.head(Lane.DATA)
    monkeypatch.setattr(Store, "_in_force", lambda _: [Record(Lane.DATA, "S", b"no schema")])
    with pytest.raises(IndexError):
        store.open_epoch(0, "test")
    assert (store.epoch, store.head(Lane.DATA), store.epochs()) == (epoch, head, (epoch,))
    monkeypatch.undo()
    fill(store, [1])
    assert look(Path(store._db.filename).parent).epochs == 1


def test_descriptions_are_found_by_lane_and_kind_and_the_newest_text_counts(store):
    store.commit([schema(2), schema(1), context(Lane.EVENT, 1)])
    store.commit([context(Lane.DATA, 1), context(Lane.DATA, 2)])
    described = store.descriptions(Lane.DATA, "S")
    assert [d.number for d in described] == [1, 2]
    assert described[0].content == description_content({"instrument": "incubator", "group": "g1"})
    assert [d.number for d in store.descriptions(Lane.DATA, "C")] == [1, 2]
    assert [d.number for d in store.descriptions(Lane.EVENT, "C")] == [1]
    assert store.descriptions(Lane.EVENT, "S") == []


def test_a_checkpoint_comes_back_with_the_place_behind_which_it_is_true(store):
    assert store.checkpoint() is None
    store.commit([event("a")], checkpoint=b"none yet")
    assert store.checkpoint() == (0, 0, b"none yet")
    fill(store, [3])
    store.commit([event("b")], checkpoint=b"events only")
    assert store.checkpoint() == (0, 3, b"events only")
    store.commit([], checkpoint=b"no record")
    assert store.checkpoint() == (0, 3, b"no record")
    store.commit([frame(4.0)], checkpoint=b"with a frame")
    assert store.checkpoint() == (0, 4, b"with a frame")
    store.open_epoch(0, "test")
    store.commit([frame(1.0)], checkpoint=bytes(range(256)))
    assert store.checkpoint() == (1, 1, bytes(range(256)))


# -- damage ------------------------------------------------------------------------------------


@pytest.fixture(params=[[4, 4, 2], [2] * 5, [1] * 10], ids=str)
def damaged(request, store, path, monkeypatch):
    """Ten frames, chain values at 4, 8 and 10, to be damaged with a statement."""
    monkeypatch.setattr(store_module, "ANCHOR_EVERY", 4)

    def damage(sql: str, *values: object) -> list[bytes]:
        bodies = fill(store, request.param)
        raw(path, sql, *values)
        return bodies

    return damage


def flipped(body: bytes, at: int = 60) -> bytes:
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


@pytest.mark.parametrize(
    ("way", "seq"),
    [("flipped", seq) for seq in range(1, 11)] + [("gone", seq) for seq in (1, 2, 3, 5, 6, 7, 9)],
)
def test_a_damaged_record_is_located_and_there_is_a_way_round(store, damaged, way, seq):
    """One byte on the disk, or one row: exactly that record is lost, and it is known which."""
    if way == "flipped":
        bodies = damaged(
            "UPDATE data SET body = ? WHERE key = ?", flipped(frame(seq - 0.5).body(seq)), seq
        )
    else:  # not one with a chain value: that is a test of its own
        bodies = damaged("DELETE FROM data WHERE key = ?", seq)
    if seq > 1:  # what is before it is still returned
        entries = store.read(store.epoch, Lane.DATA, 0, bytes_max=ALL)
        assert entries == [Entry(n, bodies[n - 1]) for n in range(1, seq)]
    with pytest.raises(CorruptRecord) as caught:
        store.read(store.epoch, Lane.DATA, seq - 1, bytes_max=ALL)
    assert (caught.value.lane, caught.value.seq) == (Lane.DATA, seq)
    assert f"record {seq} of lane data" in str(caught.value)
    count, faults = proved(store, store.epoch, Lane.DATA)
    assert (count, faults) == (9, [f"{store.epoch.uuid} {caught.value}"])
    end, chain = store.anchor_after(store.epoch, Lane.DATA, seq)
    assert chain == chain_of(store.epoch.uuid, Lane.DATA, bodies[:end])
    rest = store.read(store.epoch, Lane.DATA, end, bytes_max=ALL)
    assert extend_chain(chain, (e.body for e in rest)) == store.head(Lane.DATA)[1]
    assert proved(store, store.epoch, Lane.EVENT) == (0, [])


@pytest.mark.parametrize("seq", range(1, 11))
def test_a_rewritten_record_breaks_the_chain(store, damaged, path, seq):
    """A forger who knows of the CRC, but cannot rewrite the chain values that left the house."""
    bodies = damaged("SELECT 1")
    forged = bodies[seq - 1].replace(b".5]", b".6]")
    raw(path, "UPDATE data SET body = ?, crc = ? WHERE key = ?", forged, crc_of(forged), seq)
    count, (fault,) = proved(store, store.epoch, Lane.DATA)
    end = 4 if seq <= 4 else 8 if seq <= 8 else 10
    assert (count, fault) == (
        10,
        f"{store.epoch.uuid} lane data: the chain breaks at or before record {end}",
    )


def test_a_record_in_anothers_place_is_found(store, damaged, path):
    bodies = damaged("SELECT 1")
    raw(path, "UPDATE data SET body = ?, crc = ? WHERE key = 3", bodies[1], crc_of(bodies[1]))
    _, faults = proved(store, store.epoch, Lane.DATA)
    assert [fault.split("lane data")[1] for fault in faults] == [
        " record 3: calls itself 2",
        ": the chain breaks at or before record 4",
    ]


@pytest.mark.parametrize("body", [b"{}", b"1", b'["F",3]', b"\xff", b""])
def test_a_body_that_is_no_record_is_found(store, damaged, body):
    damaged("UPDATE data SET body = ?, crc = ? WHERE key = 3", body, crc_of(body))
    _, faults = proved(store, store.epoch, Lane.DATA)
    assert faults[0].endswith("lane data record 3: is no record")


def test_a_lost_end_of_a_commit_is_found_and_the_journal_still_opens(store, damaged, path):
    """The last row, with the chain value, is gone: the tail is there but proved by nothing."""
    bodies = damaged("DELETE FROM data WHERE key = 10")
    _, (fault,) = proved(store, store.epoch, Lane.DATA)
    assert fault.endswith("lane data: ends with record 9 inside a commit")
    store.close()
    again = Store(path, 0)
    assert again.head(Lane.DATA) == (9, chain_of(again.epoch.uuid, Lane.DATA, bodies[:9]))
    assert fill(again, [1]) == bodies
    assert proved(again, again.epoch, Lane.DATA) == (10, [])
    again.close()


@pytest.mark.parametrize("seq", [9, 10])
def test_behind_a_chain_value_that_nobody_can_compute_the_journal_goes_on(
    store, damaged, path, seq
):
    """The end is lost and a record before it damaged: it goes on from what can be proved."""
    bodies = damaged("SELECT 1") + fill(store, [2])[10:]
    raw(path, "DELETE FROM data WHERE key = 12")
    raw(path, "UPDATE data SET body = 'x', chain = NULL WHERE key = ?", seq)
    raw(path, "UPDATE data SET chain = NULL WHERE key > 8")
    store.close()
    again = Store(path, 0)
    provable = chain_of(again.epoch.uuid, Lane.DATA, bodies[: seq - 1])
    assert again.head(Lane.DATA) == (11, provable)
    named = f"{again.epoch.uuid} record {seq} of lane data is damaged on disk"
    end = f"{again.epoch.uuid} lane data: ends with record 11 inside a commit"
    assert proved(again, again.epoch, Lane.DATA) == (10, [named, end])
    (part,) = again.commit([frame(11.5), frame(12.5)])
    assert proved(again, again.epoch, Lane.DATA) == (12, [named])
    *_, round_it = batches(again, "berlin-1", again.epoch, Lane.DATA, None, None)
    assert (list(round_it.missing), round_it.last) == ([seq], 13)
    assert (round_it.prev, round_it.chain) == (provable, part.chain)
    assert part.chain == extend_chain(provable, part.bodies)
    again.close()


def test_altered_evidence_does_not_fit_its_digest(store, path):
    replies = [bytes([n]) * 50 for n in range(3)]
    store.commit([frame(float(n), reply) for n, reply in enumerate(replies)])
    assert proved(store, store.epoch, Lane.DATA) == (3, [])
    altered = pack_evidence([(1, replies[0]), (2, flipped(replies[1], 7)), (3, replies[2])])
    raw(path, "UPDATE evidence SET replies = ?", altered)
    _, (fault,) = proved(store, store.epoch, Lane.DATA)
    assert fault.endswith("lane data record 2: the evidence does not fit its digest")
    raw(path, "DELETE FROM evidence")
    _, (fault,) = proved(store, store.epoch, Lane.DATA)
    assert fault.endswith("lane data records 1 to 3: the evidence of 3 is lost")
    store.purge_evidence(store.epoch, 2)
    _, (fault,) = proved(store, store.epoch, Lane.DATA)
    assert fault.endswith("lane data record 3: its evidence is lost")
    store.purge_evidence(store.epoch, 3)
    assert proved(store, store.epoch, Lane.DATA) == (3, []), "it may be let go earlier"


def test_small_reads_verify_the_same(store, monkeypatch):
    """However the walk is cut: in the middle of commits, of evidence, at each record."""
    replies = [bytes([n]) * 50 for n in range(12)]
    for start in range(0, 12, 4):
        store.commit([frame(float(n), replies[n]) for n in range(start, start + 4)])
    for size in (1, 150, 300, 450, 1 << 20):
        monkeypatch.setattr("edgeagent.journal.inspect.READ_BYTES", size)
        assert proved(store, store.epoch, Lane.DATA) == (12, [])


def test_a_damaged_journal_is_exported_as_it_would_be_sent(store, damaged):
    """Around the damage the chain goes on; the batch says which numbers are missing."""
    bodies = damaged("DELETE FROM data WHERE key IN (2, 6, 7)")
    sent = [
        decode_batch(batch.encode())
        for batch in batches(store, "berlin-1", store.epoch, Lane.DATA, None, None)
    ]
    assert [list(batch.missing) for batch in sent if batch.missing] == [[2], [6, 7]]
    assert sent[0].prev == chain_of(store.epoch.uuid, Lane.DATA, [])
    for one, following in itertools.pairwise(sent):
        assert (following.first, following.prev) == (one.last + 1, one.chain)
    assert sent[-1].chain == store.head(Lane.DATA)[1]
    found = [body for batch in sent for body in batch.bodies]
    assert found == [body for n, body in enumerate(bodies, 1) if n not in (2, 6, 7)]


# -- consumers and cursors ---------------------------------------------------------------------


def test_cursors_are_written_with_a_commit(store):
    at = {("central", 0, Lane.DATA): Cursor(1, bytes(32))}
    store.commit([frame(1.0)], cursors=at)
    assert store.cursors() == at
    store.commit([], cursors={("central", 0, Lane.DATA): Cursor(2, b"\1" * 32)})
    assert store.cursors() == {("central", 0, Lane.DATA): Cursor(2, b"\1" * 32)}


def test_the_log_is_moved_when_it_is_long(store, monkeypatch):
    monkeypatch.setattr(store_module, "LOG_PAGES_MAX", 20)
    commits = 0
    while not store.log_is_long:
        fill(store, [1])
        commits += 1
    assert 2 < commits <= 20
    store.move_log()
    fill(store, [1])
    assert not store.log_is_long

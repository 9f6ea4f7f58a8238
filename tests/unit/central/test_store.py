"""The receiver's database, SQLite and PostgreSQL alike: what is committed, and what stays so."""

import itertools
import sqlite3
import threading
from contextlib import closing
from hashlib import sha256
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from edgeagent.central.store import (
    DatabaseFailed,
    LaneKey,
    Note,
    Outcome,
    Store,
    Unavailable,
    Work,
)
from edgeagent.model.record import Batch, Lane, Record, schema_record
from tests.unit.central.life import AT, EPOCH, KEY, Life, fork, frame, life


class FixedClock:
    """Time stands still."""

    boot_id = "boot"

    def utc_ns(self) -> int:
        return AT.utc_ns

    def boot_ns(self) -> int:
        return 1


def take(url: str, *batches: tuple[Batch, bytes]) -> Outcome:
    """One transaction of a receiver that starts, commits and is gone."""
    return do(url, Work(batches=list(batches)))


def do(url: str, work: Work) -> Outcome:
    with closing(Store(url, FixedClock())) as store:
        return store.do(work)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]
    finally:
        engine.dispose()


def held(url: str, branch: int = 0) -> list[bytes]:
    found = rows(url, f"SELECT body FROM record WHERE branch = {branch} ORDER BY seq")
    return [bytes(body) for (body,) in found]


def test_records_are_kept_and_receipted(database):
    told = life(10)
    outcome = take(database, told.batch(1, 4), told.batch(5, 6))
    assert outcome.counts["records"] == 6
    (standing,) = outcome.standings
    assert standing == (KEY, 6, told.chains[6], (), None)
    assert take(database, told.batch(3, 10)).standings[0].chain == told.chains[10]
    assert held(database) == told.bodies
    first = rows(
        database, "SELECT site, epoch, lane, seq, branch, kind, utc_ns, schema FROM record"
    )
    assert first[0] == ("berlin-1", EPOCH, "data", 1, 0, "F", AT.utc_ns, 1)
    outcome = take(database, told.batch(2, 9))
    assert outcome.counts == {"duplicate": 1, "records": 0, "quarantined": 0}
    assert outcome.standings[0].upto == 10


def test_the_incarnation_is_the_database_and_nothing_else(database, tmp_path):
    with (
        closing(Store(database, FixedClock())) as first,
        closing(Store(f"sqlite:///{tmp_path / 'other'}", FixedClock())) as other,
    ):
        incarnation = first.incarnation
        assert other.incarnation != incarnation
    with closing(Store(database, FixedClock())) as again:
        assert again.incarnation == incarnation


def test_a_hole_waits_on_disk(database):
    told = life(20)
    take(database, told.batch(1, 4))
    outcome = take(database, told.batch(9, 12), told.batch(15, 20))
    assert outcome.counts["waiting"] == 2
    assert outcome.standings[0] == (KEY, 4, told.chains[4], (), (5, 8))
    assert len(held(database)) == 4
    assert take(database, told.batch(5, 8)).standings[0][1:] == (12, told.chains[12], (), (13, 14))
    assert take(database, told.batch(11, 15)).standings[0].upto == 20
    assert held(database) == told.bodies
    assert rows(database, "SELECT count(*) FROM waiting") == [(0,)]


def test_lanes_and_sites_stand_alone(database):
    lives = [
        life(5, key=LaneKey(site, epoch, lane))
        for site, epoch, lane in itertools.product(("a", "b"), ("e-1", "e-2"), Lane)
    ]
    outcome = take(database, *(each.batch(1, 5) for each in lives))
    assert [standing.key for standing in outcome.standings] == [each.key for each in lives]
    assert {standing.upto for standing in outcome.standings} == {5}
    opened = [note.facts["earlier_epochs"] for note in outcome.notes if note.type == "epoch.opened"]
    assert opened == [0, 1, 0, 1]
    with closing(Store(database, FixedClock())) as store:
        found = store.newest_lanes(None)
        assert {key.site for key in found} == {"a", "b"}
        assert len(store.newest_lanes("a")) == 2
        assert store.newest_lanes("c") == set()


def test_a_conflict_keeps_both_and_is_told_until_it_is_answered(database):
    """The agent's disk went back to 8; the receiver restarts between all steps."""
    old = life(10)
    new = fork(old, 8, 14)
    take(database, old.batch(1, 10))
    outcome = take(database, new.batch(7, 12))
    (conflict,) = outcome.conflicts
    digests = [sha256(each.bodies[8]).hexdigest() for each in (old, new)]
    assert conflict[1:] == (KEY, 9, *digests)
    assert outcome.counts["conflicts"] == 1
    assert [note.type for note in outcome.notes] == ["record.conflict"]
    assert outcome.standings[0][1:3] == (12, new.chains[12])
    assert held(database) == old.bodies
    assert held(database, 1) == new.bodies[8:12]
    again = take(database, new.batch(7, 12))
    assert (again.conflicts, again.notes) == ([], [])
    assert again.standings[0][1:3] == (12, new.chains[12])
    assert do(database, Work(sites={"berlin-1"})).conflicts == [conflict]
    answered = do(database, Work(answered={conflict.id: "new", 99: "x"}, sites={"berlin-1"}))
    assert answered.conflicts == []
    assert [note.type for note in answered.notes] == ["conflict.answered"]
    assert take(database, new.batch(13, 14)).standings[0].upto == 14
    assert held(database, 1) == new.bodies[8:14]
    assert rows(database, "SELECT seq, branch, new_epoch FROM conflict") == [(9, 1, "new")]
    history = rows(
        database, "SELECT kept_in, last_seq FROM history WHERE branch = 1 ORDER BY last_seq"
    )
    assert history == [(0, 8), (1, 14)]
    assert do(database, Work(asked={KEY})).standings[0][1:3] == (14, new.chains[14])


def test_a_poison_record_is_kept_counted_and_told(database):
    sound = life(4).bodies
    told = Life([*sound[:2], b"no\xff\0record", sound[3], sound[3]])
    outcome = take(database, told.batch(1, 5))
    assert outcome.standings[0] == (KEY, 5, told.chains[5], (3, 5), None)
    assert outcome.counts["quarantined"] == 2
    assert held(database) == told.bodies
    assert [note.type for note in outcome.notes] == ["epoch.opened", "record.quarantined"]
    assert [seq for (seq,) in rows(database, "SELECT seq FROM quarantine ORDER BY seq")] == [3, 5]
    assert rows(database, "SELECT seq FROM record WHERE kind = '?' ORDER BY seq") == [(3,), (5,)]
    assert do(database, Work(asked={KEY})).standings[0].quarantined == (3, 5)
    forked = Life([*told.bodies[:3], b"other", b"other"])
    assert take(database, forked.batch(4, 5)).standings[0].quarantined == (3, 4, 5)


def test_a_receipt_lists_the_newest_hundred_only(database):
    told = Life([b"poison"] * 150)
    assert take(database, told.batch(1, 150)).standings[0].quarantined == tuple(range(51, 151))


def test_missing_records(database):
    told = life(12)
    outcome = take(database, told.batch(1, 8, [3, 4, 7]), told.batch(9, 12))
    assert outcome.standings[0][1:3] == (12, told.chains[12])
    found = rows(database, "SELECT first_seq, last_seq, cause FROM hole ORDER BY first_seq")
    assert found == [(3, 4, "missing"), (7, 7, "missing")]
    assert take(database, told.batch(1, 8)).counts["records"] == 3
    assert held(database) == told.bodies


def test_what_the_agent_says_is_gone_is_gone_over(database):
    told = life(20)
    take(database, told.batch(11, 15))
    outcome = do(database, Work(unavailable=[Unavailable(KEY, 1, 10)]))
    assert outcome.standings[0][1:3] == (15, told.chains[15])
    assert [note.type for note in outcome.notes] == ["record.unavailable"]
    assert do(database, Work(unavailable=[Unavailable(KEY, 1, 10)])).notes == []
    assert take(database, told.batch(16, 20)).standings[0].chain == told.chains[20]
    assert rows(database, "SELECT first_seq, last_seq, cause FROM hole") == [(1, 10, "unavailable")]


def test_a_lane_that_is_asked_for_but_unknown_stands_at_its_beginning(database):
    outcome = do(database, Work(asked={KEY}))
    assert outcome.standings == [(KEY, 0, life(0).chains[0], (), None)]
    assert rows(database, "SELECT count(*) FROM lane") == [(0,)]


def test_events_are_rows(database):
    note = Note(None, "?", "batch.rejected", "warning", "with a \0 in it", {"bytes": 1})
    do(database, Work(notes=[note]))
    found = rows(database, "SELECT utc_ns, site, epoch, type, severity, text, facts FROM event")
    assert found == [
        (AT.utc_ns, "?", "", "batch.rejected", "warning", "with a  in it", '{"bytes":1}')
    ]


def test_repetitions_far_back_are_checked_against_stored_chain_values(database):
    told = life(1500)
    cuts = range(0, 1500, 50)
    for start in cuts:
        take_all = [told.batch(start + 1, start + 50)]
        do(database, Work(batches=take_all))
    assert [seq for seq, in rows(database, "SELECT seq FROM mark ORDER BY seq")] == [
        300, 600, 900, 1200, 1500,
    ]  # fmt: skip
    assert take(database, told.batch(701, 740)).counts["duplicate"] == 1
    other = Life([*told.bodies[:720], *life(1500, 1).bodies[720:]])
    assert take(database, other.batch(701, 740)).counts["conflicts"] == 1


SCHEMA = {
    "instrument": "bioreactor-1",
    "group": "fast",
    "tags": [
        {"name": "ph", "type": "FLOAT64", "unit": "[pH]"},
        {"name": "temperature", "type": "FLOAT64", "unit": "Cel"},
        {"name": "count", "type": "UINT64", "unit": "1"},
    ],
}


def test_values_can_be_read(database):
    """One row per value, exact; statuses by tag; absent tags and poison have no row."""
    records = [
        schema_record(1, AT, SCHEMA),
        Record(Lane.DATA, "F", frame(b"[7.21,-0.0,18446744073709551615]")),
        Record(Lane.DATA, "F", frame(b"[null,37.5]", b"[[1,2151416832],[2,1]]", b"[1,2]")),
        Record(Lane.DATA, "F", frame(b"[1,2,3]", b"1073741824")),
        Record(Lane.DATA, "F", b"1,1]"),
    ]
    told = Life([record.body(seq) for seq, record in enumerate(records, 1)])
    take(database, told.batch(1, 5))
    found = rows(
        database,
        "SELECT seq, instrument, group_name, tag, unit, value, number, status FROM value "
        "WHERE branch = 0 ORDER BY seq, tag",
    )
    place = ("bioreactor-1", "fast")
    assert found == [
        (2, *place, "count", "1", "18446744073709551615", 2.0**64, 0),
        (2, *place, "ph", "[pH]", "7.21", 7.21, 0),
        (2, *place, "temperature", "Cel", "-0.0", 0.0, 0),
        (3, *place, "count", "1", "37.5", 37.5, 1),
        (3, *place, "temperature", "Cel", "null", None, 2151416832),
        (4, *place, "count", "1", "3", 3.0, 1073741824),
        (4, *place, "ph", "[pH]", "1", 1.0, 1073741824),
        (4, *place, "temperature", "Cel", "2", 2.0, 1073741824),
    ]


def test_values_of_a_second_history_use_its_own_schemas(database):
    other = {**SCHEMA, "instrument": "other"}
    frames = [Record(Lane.DATA, "F", frame(b"[1,2,3]")), Record(Lane.DATA, "F", frame(b"[1,2,4]"))]
    first = [schema_record(1, AT, SCHEMA), *frames]
    second = [schema_record(1, AT, other), *frames]
    for records in (first, second):
        told = Life([record.body(seq) for seq, record in enumerate(records, 1)])
        take(database, told.batch(1, 3))
    found = rows(database, "SELECT DISTINCT branch, instrument FROM value ORDER BY branch")
    assert found == [(0, "bioreactor-1"), (1, "other")]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_order_any_cut_two_lives(data):
    """The same property as for the intake alone, through real tables and restarts."""
    old = life(9)
    shared = data.draw(st.integers(0, 8))
    new = fork(old, shared, 12)
    batches = []
    for told in (old, new):
        edges = sorted(data.draw(st.sets(st.integers(1, len(told.bodies)))) | {0, len(told.bodies)})
        batches += [told.batch(start + 1, end) for start, end in itertools.pairwise(edges)]
    with closing(Store("sqlite://", FixedClock())) as store:
        for each in data.draw(st.permutations(batches * 2)):
            store.do(Work(batches=[each]))
        found = store._connection.exec_driver_sql(
            "SELECT h.branch, r.body FROM history h JOIN record r ON r.branch = h.kept_in "
            "AND r.seq <= h.last_seq ORDER BY h.branch, r.seq"
        ).all()
        held = {b: [row.body for row in found if row.branch == b] for b in (0, 1)}
        assert sorted(held.values()) == sorted([old.bodies, new.bodies])
        assert store._connection.exec_driver_sql("SELECT count(*) FROM waiting").scalar() == 0


def test_receivers_that_share_a_database_do_not_tread_on_each_other(database):
    """Batches dealt out at random, some twice; receipts are true, all is there once."""
    told = life(400)
    batches = [told.batch(start + 1, start + 5) for start in range(0, 400, 5)]
    rng = Random(4711)
    failures: list[BaseException] = []

    def serve(share: list[tuple[Batch, bytes]]) -> None:
        try:
            with closing(Store(database, FixedClock())) as store:
                while share:
                    taken = [share.pop() for _ in range(min(len(share), 3))]
                    for standing in store.do(Work(batches=taken)).standings:
                        assert standing.chain == told.chains[standing.upto]
        except BaseException as error:
            failures.append(error)
            raise

    dealt: list[list[tuple[Batch, bytes]]] = [[] for _ in range(4)]
    for each in batches:
        for share in rng.sample(dealt, rng.choice([1, 1, 2])):
            share.append(each)
    for share in dealt:
        rng.shuffle(share)
    threads = [threading.Thread(target=serve, args=(share,)) for share in dealt]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert held(database) == told.bodies
    assert do(database, Work(asked={KEY})).standings[0][1:3] == (400, told.chains[400])


def test_nothing_of_a_failed_transaction_stays(database, monkeypatch):
    told = life(10)
    take(database, told.batch(1, 5))
    with closing(Store(database, FixedClock())) as store:
        monkeypatch.setattr(
            "edgeagent.central.store.encode_json",
            lambda _: (_ for _ in ()).throw(ZeroDivisionError),
        )
        note = Note(None, "?", "x", "info", "x", {})
        with pytest.raises(ZeroDivisionError):
            store.do(Work(batches=[told.batch(6, 10)], notes=[note]))
        monkeypatch.undo()
        assert store.do(Work(asked={KEY})).standings[0].upto == 5


# What cannot be used


def test_a_commit_is_durable(tmp_path, cluster):
    url = f"sqlite:///{tmp_path / 'central.sqlite'}"
    with closing(Store(url, FixedClock())) as store:
        pragma = store._connection.exec_driver_sql
        assert pragma("PRAGMA journal_mode").scalar() == "persist"
        assert pragma("PRAGMA synchronous").scalar() == 2
        store._connection.rollback()
    url = cluster.new_database()
    rows(url.replace("?", "?options=-csynchronous_commit%3Doff&"), "SELECT 1")
    careless = url.replace("?", "?options=-csynchronous_commit%3Doff&")
    assert rows(careless, "SHOW synchronous_commit") == [("off",)]
    with closing(Store(careless, FixedClock())) as store:
        shown = store._connection.exec_driver_sql("SHOW synchronous_commit").scalar()
        assert shown == "on"


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mysql://host/name",
        "sqlite:////no/such/directory/x",
        "postgresql://postgres@/x?host=/no/such/directory",
    ],
)
def test_a_database_that_cannot_be_used_is_one_clear_line(url):
    with pytest.raises(DatabaseFailed) as caught:
        Store(url, FixedClock())
    assert "\n" not in str(caught.value)


def test_passwords_are_not_told():
    with pytest.raises(DatabaseFailed) as caught:
        Store("postgresql://u:secret@/x?host=/no/such/directory", FixedClock())
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "central.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(DatabaseFailed, match="not a database"):
        Store(f"sqlite:///{path}", FixedClock())


def test_tables_of_another_version(tmp_path):
    url = f"sqlite:///{tmp_path / 'central.sqlite'}"
    Store(url, FixedClock()).close()
    with sqlite3.connect(tmp_path / "central.sqlite") as connection:
        connection.execute("UPDATE receiver SET schema_version = 99")
    connection.close()
    with pytest.raises(DatabaseFailed, match="version 99"):
        Store(url, FixedClock())

"""Layouts: a file of an older one is brought up to date whatever ends the process, with every
record as it was; one of a newer version is refused with what to do.

Method: the file of layout 1 is made here, with the statements of its time. The moments at which a
process can end are everything that is done to the disk; each of them is tried.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import apsw
import pytest

import edgeagent
from edgeagent.journal import Journal, layout
from edgeagent.journal import store as store_module
from edgeagent.journal.block import crc_of, pack_evidence
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.layout import UnknownLayout
from edgeagent.journal.reader import Reader
from edgeagent.journal.store import Consumer, Cursor, Store
from edgeagent.model.errors import JournalFailed
from edgeagent.model.record import Lane, Record
from tests.clocks import ManualClock
from tests.storage import Disk
from tests.unit.journal.witness import State, chain_of, context, event, frame, look, schema

ROOT = Path(__file__).parents[3]

LAYOUT_1 = """
CREATE TABLE epoch (
  number INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE,
  opened_utc_ns INTEGER NOT NULL, cause TEXT NOT NULL);
CREATE TABLE data (
  key INTEGER PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL, chain BLOB);
CREATE TABLE event (
  key INTEGER PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL, chain BLOB);
CREATE TABLE evidence (
  key INTEGER PRIMARY KEY, replies BLOB NOT NULL);
CREATE TABLE description (
  lane TEXT NOT NULL, kind TEXT NOT NULL, number INTEGER NOT NULL,
  content BLOB NOT NULL, tail BLOB NOT NULL, PRIMARY KEY (lane, kind, number)) WITHOUT ROWID;
CREATE TABLE checkpoint (
  id INTEGER PRIMARY KEY CHECK (id = 1), key INTEGER NOT NULL, state BLOB NOT NULL);
CREATE TABLE consumer (
  name TEXT PRIMARY KEY, state TEXT NOT NULL, incarnation TEXT) WITHOUT ROWID;
CREATE TABLE cursor (
  consumer TEXT NOT NULL REFERENCES consumer, epoch INTEGER NOT NULL, lane TEXT NOT NULL,
  upto INTEGER NOT NULL, chain BLOB NOT NULL,
  PRIMARY KEY (consumer, epoch, lane)) WITHOUT ROWID;
"""

CONTENT = [
    schema(1),
    context(Lane.DATA, 1),
    context(Lane.EVENT, 1),
    *(frame(n / 8, bytes([n]) * 40) for n in range(1, 30)),
    *(event(f"event {n}") for n in range(1, 10)),
]
CURSORS = {("central", 0, Lane.DATA): Cursor(7, bytes(32))}
STATE = State().with_commit(CONTENT, b"state", CURSORS)


def make_layout_1(directory: Path) -> Path:
    """A journal as the first version wrote it, with everything in it."""
    directory.mkdir(exist_ok=True)
    db = apsw.Connection(str(directory / FILE_NAME))
    db.execute("PRAGMA journal_mode = wal")
    uuid = str(uuid4())
    with db:
        db.execute(LAYOUT_1)
        db.execute("INSERT INTO epoch VALUES (0, ?, 4711, 'created')", (uuid,))
        for lane in Lane:
            _insert_lane(db, uuid, lane, [record for record in CONTENT if record.lane is lane])
        replies = list(STATE.evidence.items())
        db.execute(
            "INSERT INTO evidence VALUES (?, ?)",
            (replies[-1][0][1], pack_evidence([(seq, reply) for (_, seq), reply in replies])),
        )
        db.execute("INSERT INTO checkpoint VALUES (1, ?, ?)", STATE.checkpoint[1:])
        db.execute("INSERT INTO consumer VALUES ('central', 'enrolled', NULL)")
        db.execute("INSERT INTO cursor VALUES ('central', 0, 'data', 7, zeroblob(32))")
        db.execute("PRAGMA application_id = 0x65644147")
        db.execute("PRAGMA user_version = 1")
    db.close()
    return directory


def _insert_lane(db: apsw.Connection, uuid: str, lane: Lane, records: list[Record]) -> None:
    bodies = [record.body(seq) for seq, record in enumerate(records, 1)]
    for seq, body in enumerate(bodies, 1):
        chain = chain_of(uuid, lane, bodies) if seq == len(bodies) else None
        db.execute(f"INSERT INTO {lane} VALUES (?, ?, ?, ?)", (seq, crc_of(body), body, chain))
    for record in records:
        if record.kind in ("S", "C"):
            content = record.tail.split(b",", 3)[3][:-1]
            row = (lane.value, record.kind, record.number, content, record.tail)
            db.execute("INSERT INTO description VALUES (?, ?, ?, ?, ?)", row)


def raw(directory: Path, sql: str) -> list[tuple[Any, ...]]:
    db = apsw.Connection(str(directory / FILE_NAME))
    try:
        return list(db.execute(sql))
    finally:
        db.close()


def version_of(directory: Path) -> int:
    ((version,),) = raw(directory, "PRAGMA user_version")
    return int(version)


def check_goes_on(directory: Path, vfs: str | None = None) -> None:
    """The next start has the newest layout, every record, and takes new ones."""
    assert look(directory, vfs) == STATE
    store = Store(directory / FILE_NAME, 0, vfs)
    assert store.layout == layout.LAYOUT_VERSION
    store.commit([frame(99.0)])
    store.pack(Lane.DATA, keep_newest=5)
    store.close()
    assert look(directory, vfs) == STATE.with_commit([frame(99.0)])


def shape(directory: Path) -> set[tuple[Any, ...]]:
    return set(raw(directory, "SELECT type, name, sql FROM sqlite_schema"))


# -- the way up --------------------------------------------------------------------------------


def test_an_older_file_is_brought_up_to_date(tmp_path):
    """The same tables as a new file, every record as it was, and a note of who did it and when."""
    directory = make_layout_1(tmp_path / "old")
    Store(directory / FILE_NAME, 1_795_403_350_000_000_000).close()
    assert version_of(directory) == layout.LAYOUT_VERSION == 2
    Store(tmp_path / FILE_NAME, 0).close()
    assert shape(directory) == shape(tmp_path)
    assert raw(directory, "SELECT * FROM layout") == [
        (2, edgeagent.__version__, 1_795_403_350_000_000_000)
    ]
    check_goes_on(directory)


def test_an_older_file_is_read_without_being_touched(tmp_path):
    """Who verifies before the first start of a new version looks at the old one's file."""
    directory = make_layout_1(tmp_path)
    before = (directory / FILE_NAME).read_bytes()
    assert look(directory) == STATE
    assert (directory / FILE_NAME).read_bytes() == before
    assert version_of(directory) == 1


def test_an_older_file_is_not_shrunk_but_its_free_pages_are_used_again(tmp_path):
    directory = make_layout_1(tmp_path)
    store = Store(directory / FILE_NAME, 0)
    store.commit([frame(float(n), bytes(100)) for n in range(500)])
    store.save_consumer(Consumer("central", "retired", None))
    store.purge(store.epoch, Lane.DATA, 400)
    usage = store.usage()
    assert usage.free_bytes > 0
    assert not store.shrink()
    store.commit([frame(float(n), bytes(100)) for n in range(200)])
    assert store.usage().file_bytes == usage.file_bytes
    store.close()


def test_a_kill_at_any_moment_leaves_the_old_layout_or_the_new_one(tmp_path):
    """A real process, killed behind each thing that it does to the disk."""
    found = []
    for moment in range(1, 200):
        directory = make_layout_1(tmp_path / str(moment))
        command = [sys.executable, "-m", "tests.unit.journal.migrator", str(directory), str(moment)]
        ended = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=60)
        if ended.returncode == 0:
            assert ended.stdout == b"done\n"
            break
        assert ended.returncode == -9, ended.stderr
        found.append(version_of(directory))
        check_goes_on(directory)
    assert found == sorted(found)
    assert set(found) == {1, 2}
    assert len(found) > 5


THIRD = ("CREATE TABLE third (number INTEGER PRIMARY KEY); CREATE TABLE fourth (name TEXT);",)


@pytest.fixture
def three_layouts(monkeypatch):
    """One step more, so that there is a layout between."""
    monkeypatch.setattr(layout, "STEPS", layout.STEPS + THIRD)
    monkeypatch.setattr(layout, "LAYOUT_VERSION", 3)


def check_power_loss(tmp_path: Path) -> list[int]:
    """Cut the power at every moment of a migration; return the layouts that were found."""
    found = []
    with Disk(make_layout_1(tmp_path / "live")) as disk:
        began = len(disk.log)
        Store(disk.directory / FILE_NAME, 0, disk.name).close()
        for moment in range(began, len(disk.log) + 1):
            for seed in range(5):
                left = disk.power_loss(tmp_path / f"{moment}-{seed}", seed, moment)
                found.append(version_of(left))
                with Disk(left) as next_start:
                    check_goes_on(left, next_start.name)
                shutil.rmtree(left)
    return found


@pytest.mark.usefixtures("three_layouts")
def test_a_power_loss_at_any_moment_leaves_a_whole_layout(tmp_path):
    assert set(check_power_loss(tmp_path)) == {1, 2, 3}


@pytest.mark.usefixtures("three_layouts")
def test_the_check_finds_a_step_that_is_not_one_transaction(tmp_path, monkeypatch):
    def hasty(path: Path, _utc_ns: int, vfs: str | None) -> None:
        db = apsw.Connection(str(path), vfs=vfs)
        for step in layout.STEPS[db.pragma("user_version") :]:
            for statement in step.split(";"):
                db.execute(statement)
            db.pragma("user_version", db.pragma("user_version") + 1)
        db.close()

    monkeypatch.setattr(store_module, "bring_up_to_date", hasty)
    with pytest.raises(apsw.SQLError, match="already exists"):
        check_power_loss(tmp_path)


# -- the way down ------------------------------------------------------------------------------


def newer(directory: Path, agent: str | None) -> Path:
    """A journal of a version that is to come."""
    Store(directory / FILE_NAME, 0).close()
    raw(directory, "PRAGMA user_version = 5")
    if agent is None:
        raw(directory, "DROP TABLE layout")
    else:
        raw(directory, f"INSERT INTO layout VALUES (5, '{agent}', 0)")
    return directory / FILE_NAME


@pytest.mark.parametrize("make", [Reader, lambda path: Store(path, 0)])
@pytest.mark.parametrize(
    ("agent", "found", "mend"),
    [
        ("2.7.0", "made by edgeagent 2.7.0", "Install edgeagent 2.7.0 or newer"),
        (None, "layout 5;", "Install the version that made it, or newer"),
    ],
)
def test_a_newer_layout_is_refused_with_what_to_do(tmp_path, make, agent, found, mend):
    path = newer(tmp_path, agent)
    before = path.read_bytes()
    with pytest.raises(UnknownLayout) as caught:
        make(path)
    said = str(caught.value)
    assert said.startswith(f"{path} has layout 5")
    for words in (
        found,
        f"this is edgeagent {edgeagent.__version__}, which reads layouts 1 to 2",
        mend,
        f"or move {tmp_path} aside",
        "a new epoch",
        "have not receipted",
    ):
        assert words in said
    assert path.read_bytes() == before


async def test_the_journal_passes_the_words_on(tmp_path):
    newer(tmp_path, "2.7.0")
    with pytest.raises(JournalFailed, match=r"Install edgeagent 2\.7\.0 or newer"):
        await Journal.open(tmp_path, ManualClock())

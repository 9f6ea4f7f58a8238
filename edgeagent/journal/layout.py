"""The layout of the journal's file: how it is made, recognised and brought up to date.

A layout is the one before and a step; a new file takes every step. A step only adds, in one
transaction: stored bodies are never touched, and a kill leaves the layout before or the one after.
"""

from pathlib import Path
from uuid import uuid4

import apsw

import edgeagent
from edgeagent.model.errors import EdgeAgentError

APPLICATION_ID = 0x65644147  # "edAG", shown by file(1)
LOG_CHUNK_BYTES = 1 << 16  # SQLite's own file layer takes less than 128 KiB at a time

_FIRST = """
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

# A block has the key of its last row. A note is a state that an agent takes up again, by name.
# `layout` says which agent took which step, and when.
_BLOCKS_PURGE_NOTES = """
CREATE TABLE data_block (
  key INTEGER PRIMARY KEY, first INTEGER NOT NULL, crc INTEGER NOT NULL, chain BLOB,
  content BLOB NOT NULL);
CREATE TABLE event_block (
  key INTEGER PRIMARY KEY, first INTEGER NOT NULL, crc INTEGER NOT NULL, chain BLOB,
  content BLOB NOT NULL);
CREATE TABLE evidence_block (
  key INTEGER PRIMARY KEY, first INTEGER NOT NULL, crc INTEGER NOT NULL, chain BLOB,
  content BLOB NOT NULL);
CREATE TABLE purged (
  epoch INTEGER NOT NULL, what TEXT NOT NULL, upto INTEGER NOT NULL, chain BLOB,
  PRIMARY KEY (epoch, what)) WITHOUT ROWID;
CREATE TABLE note (
  name TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE layout (
  version INTEGER PRIMARY KEY, agent TEXT NOT NULL, utc_ns INTEGER NOT NULL);
"""

STEPS: tuple[str, ...] = (_FIRST, _BLOCKS_PURGE_NOTES)
"""Step *n* leads from layout *n* to layout *n* + 1; layout 0 is an empty file."""

LAYOUT_VERSION = len(STEPS)
_LAYOUT_TABLE_SINCE = 2


class UnfixedSQLite(EdgeAgentError):
    """The SQLite library has the WAL-reset bug."""


class UnknownLayout(EdgeAgentError):
    """The file is no journal, or one of a newer version."""


def require_fixed_sqlite(version: str) -> None:
    """Refuse a library with the WAL-reset bug (sqlite.org, fixed in 3.51.3, 3.50.7, 3.44.6).

    :raises UnfixedSQLite: naming the version
    """
    parts = tuple(int(part) for part in version.split("."))
    fixed = parts >= (3, 51, 3) or (parts[:2] == (3, 50) and parts >= (3, 50, 7))
    if not fixed and not (parts[:2] == (3, 44) and parts >= (3, 44, 6)):
        raise UnfixedSQLite(
            f"SQLite {version} can corrupt a database in WAL mode; use 3.51.3 or newer"
        )


def require_known(db: apsw.Connection, path: Path) -> int:
    """Return the layout of a file.

    :raises UnknownLayout: in words, when it is none of those that this version reads
    """
    application, version = db.pragma("application_id"), int(db.pragma("user_version"))
    if application != APPLICATION_ID:
        raise UnknownLayout(f"{path} is no edgeagent journal")
    if not 1 <= version <= LAYOUT_VERSION:
        writer = _writer_of(db, version)
        raise UnknownLayout(
            f"{path} has layout {version}"
            + (f", made by edgeagent {writer}" if writer else "")
            + f"; this is edgeagent {edgeagent.__version__}, which reads layouts 1 to"
            f" {LAYOUT_VERSION}. Install "
            + (f"edgeagent {writer} or newer" if writer else "the version that made it, or newer")
            + f"; or move {path.parent} aside: the agent then begins an empty journal with a new"
            " epoch, and what consumers have not receipted of the old one is delivered only when"
            " a version that reads it runs on that directory"
        )
    return version


def _writer_of(db: apsw.Connection, version: int) -> str | None:
    try:
        rows = db.execute("SELECT agent FROM layout WHERE version = ?", (version,)).fetchall()
    except apsw.SQLError:
        return None
    return str(rows[0][0]) if rows else None


def bring_up_to_date(path: Path, utc_ns: int, vfs: str | None) -> None:
    """Make the file if there is none, else take the steps that its layout lacks.

    :raises UnknownLayout: when it is another application's file, or of a newer version
    """
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    db = apsw.Connection(str(path), flags=flags, vfs=vfs)
    try:
        version = 0
        if db.pragma("user_version") or db.pragma("application_id") or _has_tables(db):
            version = require_known(db, path)
        else:
            db.pragma("auto_vacuum", "incremental")  # cannot be changed later without a copy
            db.pragma("journal_mode", "wal")
        if version == LAYOUT_VERSION:
            return
        db.execute("PRAGMA synchronous = FULL")
        if version == 0:
            with db:
                for step in range(LAYOUT_VERSION):
                    _take_step(db, step, utc_ns)
                db.execute("INSERT INTO epoch VALUES (0, ?, ?, 'created')", (str(uuid4()), utc_ns))
                db.pragma("application_id", APPLICATION_ID)
            return
        for step in range(version, LAYOUT_VERSION):
            with db:
                _take_step(db, step, utc_ns)
    finally:
        db.close()


def _has_tables(db: apsw.Connection) -> bool:
    return bool(db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall())


def _take_step(db: apsw.Connection, step: int, utc_ns: int) -> None:
    db.execute(STEPS[step])
    if step + 1 >= _LAYOUT_TABLE_SINCE:
        db.execute("INSERT INTO layout VALUES (?, ?, ?)", (step + 1, edgeagent.__version__, utc_ns))
    db.pragma("user_version", step + 1)


def read_as_if_up_to_date(db: apsw.Connection, version: int) -> None:
    """Lay the tables that an older layout lacks, empty, beside a connection that only reads."""
    if version < LAYOUT_VERSION:
        db.execute("PRAGMA temp_store = MEMORY")
    for step in STEPS[version:]:
        db.execute(step.replace("CREATE TABLE", "CREATE TEMP TABLE"))


def rewrite_log(path: Path, vfs: str | None) -> None:
    """Write the bytes of the write-ahead log once more, and sync them.

    After a failed fsync, ours or that of the process before us, the kernel shows pages that never
    reached the disk and never will: to it they are clean. What is built upon them would be lost
    with them.
    """
    log = Path(f"{path}-wal")
    if not log.exists():
        return
    flags = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    file = apsw.VFSFile(vfs or "", str(log), [flags, 0])
    try:
        size = file.xFileSize()
        for at in range(0, size, LOG_CHUNK_BYTES):
            file.xWrite(file.xRead(min(LOG_CHUNK_BYTES, size - at), at), at)
        file.xSync(apsw.SQLITE_SYNC_FULL)
    finally:
        file.xClose()

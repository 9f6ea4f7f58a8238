"""The journal's database: one SQLite file in WAL mode, synchronous=FULL.

Rows are keyed by ``epoch number << 48 | seq``. Each row carries a CRC-32 of its body, so that
bit rot is located. Some rows carry the lane's chain value, so that altered history is proved: they
are its anchors. The last row of a lane always is one. Nothing here knows what a body says.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import apsw

from edgeagent.model.errors import EdgeAgentError
from edgeagent.model.record import Entry, Lane, Record, encode_json, extend_chain, genesis

APPLICATION_ID = 0x65644147  # "edAG", shown by file(1)
LAYOUT_VERSION = 1
EPOCH_SHIFT = 48
SEQ_MASK = (1 << EPOCH_SHIFT) - 1
ANCHOR_EVERY = 16  # records: 2 bytes for each, and few to hash from one anchor to the next
LOG_PAGES_MAX = 1000
LOG_CHUNK_BYTES = 1 << 16  # SQLite's own file layer takes less than 128 KiB at a time

_LAYOUT = """
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


class UnfixedSQLite(EdgeAgentError):
    """The SQLite library has the WAL-reset bug."""


class UnknownLayout(EdgeAgentError):
    """The file is no journal, or one of a newer version."""


class CorruptRecord(EdgeAgentError):
    """A stored body no longer fits its CRC, or is gone."""

    def __init__(self, lane: Lane, seq: int) -> None:
        super().__init__(f"record {seq} of lane {lane} is damaged on disk")
        self.lane = lane
        self.seq = seq


class Epoch(NamedTuple):
    """One life of the journal."""

    number: int
    uuid: str
    opened_utc_ns: int
    cause: str


class LaneRange(NamedTuple):
    """Records that the journal holds of one lane of one epoch; ``highest`` 0 means none."""

    lowest: int
    highest: int
    chain: bytes

    def stated(self) -> dict[str, int | str]:
        """Return it as a head and a person state it."""
        return {"lowest": self.lowest, "highest": self.highest, "chain": self.chain.hex()}


class Committed(NamedTuple):
    """One lane's part of a commit, now durable."""

    epoch: str
    lane: Lane
    first: int
    bodies: Sequence[bytes]
    prev: bytes
    chain: bytes

    @property
    def last(self) -> int:
        """Sequence number of the last record."""
        return self.first + len(self.bodies) - 1


class Description(NamedTuple):
    """A schema or context in force: its number and the JSON that it describes."""

    number: int
    content: bytes


class Cursor(NamedTuple):
    """How far a consumer has receipted one lane of one epoch."""

    upto: int
    chain: bytes


class Consumer(NamedTuple):
    """An enrolled receiver. ``state`` is ``enrolled``, ``suspended`` or ``retired``."""

    name: str
    state: str
    incarnation: str | None


@dataclass(slots=True)
class _LaneState:
    """The end of a lane. ``anchor`` is its newest row that stays an anchor when rows follow."""

    seq: int
    chain: bytes
    anchor: int

    @property
    def gives_way(self) -> bool:
        """Whether the last row is no anchor any more when rows follow."""
        return self.anchor < self.seq < self.anchor + ANCHOR_EVERY

    def followed_by(self, part: Committed) -> "_LaneState":
        """Return the end of the lane when this part of a commit has been written."""
        return _LaneState(part.last, part.chain, self.anchor if self.gives_way else self.seq)


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


def crc_of(body: bytes) -> int:
    """Return the CRC-32 of a body as SQLite stores it: signed, in four bytes."""
    crc = zlib.crc32(body)
    return crc - (1 << 32) if crc >> 31 else crc


class Reader:
    """Reads a journal. Safe beside a writer; used from one thread."""

    def __init__(self, path: Path, vfs: str | None = None, *, read_only: bool = True) -> None:
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
        self._db = apsw.Connection(str(path), flags=flags, vfs=vfs)
        self._db.set_busy_timeout(5000)
        self._db.execute("PRAGMA mmap_size = 0")
        found = self._db.pragma("application_id"), self._db.pragma("user_version")
        if found != (APPLICATION_ID, LAYOUT_VERSION):
            self._db.close()
            raise UnknownLayout(
                f"{path} has layout {found[1]}; this version reads layout {LAYOUT_VERSION}"
                if found[0] == APPLICATION_ID
                else f"{path} is no edgeagent journal"
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def epochs(self) -> tuple[Epoch, ...]:
        """Return every epoch, oldest first."""
        rows = self._db.execute("SELECT number, uuid, opened_utc_ns, cause FROM epoch ORDER BY 1")
        return tuple(Epoch(*row) for row in rows)

    def bounds(self, epoch: Epoch, lane: Lane) -> tuple[int, int]:
        """Return the lowest and the highest number held of one lane of one epoch, or (1, 0)."""
        base = epoch.number << EPOCH_SHIFT
        # One aggregate a query: with two, SQLite reads every row between them.
        ((low, high),) = self._db.execute(
            f"SELECT (SELECT min(key) FROM {lane} WHERE key BETWEEN ?1 AND ?2),"  # noqa: S608
            f" (SELECT max(key) FROM {lane} WHERE key BETWEEN ?1 AND ?2)",
            (base, base | SEQ_MASK),
        )
        return (1, 0) if high is None else (low & SEQ_MASK, high & SEQ_MASK)

    def lane_range(self, epoch: Epoch, lane: Lane) -> LaneRange:
        """Return what is held of one lane of one epoch."""
        with self._db:  # one view: the anchor at the end moves with every commit
            low, high = self.bounds(epoch, lane)
            chain = self._chain(epoch, lane, high)
        return LaneRange(low, high, chain)

    def read(
        self, epoch: Epoch, lane: Lane, after: int, *, bytes_max: int, upto: int = SEQ_MASK
    ) -> list[Entry]:
        """Return records in order, at least one if there is one, about ``bytes_max`` in all.

        :raises CorruptRecord: if the first record asked for is damaged; records before a
            damaged one are returned first
        """
        base = epoch.number << EPOCH_SHIFT
        entries: list[Entry] = []
        size, seq = 0, after
        for key, crc, body in self._db.execute(
            # Text in place of bytes is damage, too: somebody used the sqlite3 shell.
            f"SELECT key, crc, CAST(body AS BLOB) FROM {lane}"  # noqa: S608
            " WHERE key > ? AND key <= ? ORDER BY key",
            (base | after, base | upto),
        ):
            size += len(body)
            if entries and size > bytes_max:
                break
            seq += 1
            if key != base | seq or crc_of(body) != crc:
                if entries:
                    break
                raise CorruptRecord(lane, seq)
            entries.append(Entry(seq, body))
        return entries

    def chain_at(self, epoch: Epoch, lane: Lane, seq: int) -> bytes | None:
        """Return h(seq), computed from the nearest anchor before; ``None`` if not held."""
        low, high = self.bounds(epoch, lane)
        if not (0 if low == 1 else low) <= seq <= high:
            return None
        return self._chain(epoch, lane, seq)

    def _chain(self, epoch: Epoch, lane: Lane, seq: int) -> bytes:
        point, chain = self._anchor_before(epoch, lane, seq)
        while point < seq:
            entries = self.read(epoch, lane, point, bytes_max=1 << 20, upto=seq)
            chain = extend_chain(chain, (entry.body for entry in entries))
            point = entries[-1].seq
        return chain

    def anchor_after(self, epoch: Epoch, lane: Lane, seq: int) -> tuple[int, bytes] | None:
        """Return the first anchor at or after ``seq``: its number and chain value."""
        base = epoch.number << EPOCH_SHIFT
        for key, chain in self._db.execute(
            f"SELECT key, chain FROM {lane} WHERE key BETWEEN ? AND ? AND chain IS NOT NULL"  # noqa: S608
            " ORDER BY key LIMIT 1",
            (base | seq, base | SEQ_MASK),
        ):
            return key & SEQ_MASK, chain
        return None

    def _anchor_before(self, epoch: Epoch, lane: Lane, seq: int) -> tuple[int, bytes]:
        base = epoch.number << EPOCH_SHIFT
        for key, chain in self._db.execute(
            f"SELECT key, chain FROM {lane} WHERE key BETWEEN ? AND ? AND chain IS NOT NULL"  # noqa: S608
            " ORDER BY key DESC LIMIT 1",
            (base, base | seq),
        ):
            return key & SEQ_MASK, chain
        return 0, genesis(epoch.uuid, lane)

    def anchors(
        self, epoch: Epoch, lane: Lane, after: int = 0, upto: int = SEQ_MASK
    ) -> list[tuple[int, bytes]]:
        """Return the anchors in ``(after, upto]``: their numbers and chain values."""
        base = epoch.number << EPOCH_SHIFT
        rows = self._db.execute(
            f"SELECT key, chain FROM {lane} WHERE key > ? AND key <= ? AND chain IS NOT NULL"  # noqa: S608
            " ORDER BY key",
            (base | after, base | upto),
        )
        return [(key & SEQ_MASK, chain) for key, chain in rows]

    def evidence(self, epoch: Epoch, after: int, upto: int) -> list[tuple[int, bytes]]:
        """Return ``(seq, raw reply)`` of data records in ``(after, upto]`` that have some."""
        base = epoch.number << EPOCH_SHIFT
        # A row holds the replies of a commit, under the number of the last of them.
        rows = self._db.execute(
            "SELECT replies FROM evidence WHERE key > ?1 AND key <= coalesce("
            " (SELECT min(key) FROM evidence WHERE key BETWEEN ?2 AND ?3), ?2) ORDER BY key",
            (base | after, base | upto, base | SEQ_MASK),
        )
        return [
            (seq, raw)
            for (replies,) in rows
            for seq, raw in unpack_evidence(replies)
            if after < seq <= upto
        ]

    def descriptions(self, lane: Lane, kind: str) -> list[Description]:
        """Return the schemas (``S``) or contexts (``C``) of a lane, by number."""
        rows = self._db.execute(
            "SELECT number, content FROM description WHERE lane = ? AND kind = ? ORDER BY number",
            (lane.value, kind),
        )
        return [Description(*row) for row in rows]

    def checkpoint(self) -> tuple[int, int, bytes] | None:
        """Return ``(epoch number, data seq, state)`` of the last checkpoint."""
        for key, state in self._db.execute("SELECT key, state FROM checkpoint"):
            return key >> EPOCH_SHIFT, key & SEQ_MASK, state
        return None

    def consumers(self) -> dict[str, Consumer]:
        """Return every consumer that was ever enrolled, by name."""
        rows = self._db.execute("SELECT name, state, incarnation FROM consumer ORDER BY name")
        return {row[0]: Consumer(*row) for row in rows}

    def cursors(self) -> dict[tuple[str, int, Lane], Cursor]:
        """Return every cursor by (consumer, epoch number, lane)."""
        rows = self._db.execute("SELECT consumer, epoch, lane, upto, chain FROM cursor")
        return {
            (name, epoch, Lane(lane)): Cursor(upto, chain)
            for name, epoch, lane, upto, chain in rows
        }

    def file_bytes(self) -> int:
        """Return the size of the database in bytes, write-ahead log apart."""
        return int(self._db.pragma("page_count")) * int(self._db.pragma("page_size"))


def pack_evidence(replies: Iterable[tuple[int, bytes]]) -> bytes:
    """Pack raw replies: per reply its seq (8 bytes), its length (4 bytes), its bytes."""
    return b"".join(
        seq.to_bytes(8, "big") + len(raw).to_bytes(4, "big") + raw for seq, raw in replies
    )


def unpack_evidence(packed: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield ``(seq, raw reply)``."""
    at = 0
    while at < len(packed):
        seq = int.from_bytes(packed[at : at + 8], "big")
        end = at + 12 + int.from_bytes(packed[at + 8 : at + 12], "big")
        yield seq, packed[at + 12 : end]
        at = end


class Store(Reader):
    """The one writer."""

    def __init__(self, path: Path, utc_ns: int, vfs: str | None = None) -> None:
        require_fixed_sqlite(apsw.sqlite_lib_version())
        _rewrite_log(path, vfs)
        _create_if_missing(path, utc_ns, vfs)
        super().__init__(path, vfs, read_only=False)
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.wal_autocheckpoint(0)
        self._wal_pages = 0
        self._db.set_wal_hook(self._note_wal)
        self.epoch = self.epochs()[-1]
        self._lanes = self._lane_states()

    def _note_wal(self, _db: apsw.Connection, _schema: str, pages: int) -> int:
        self._wal_pages = pages
        return 0

    def _lane_states(self) -> dict[Lane, _LaneState]:
        return {lane: self._lane_state(lane) for lane in Lane}

    def _lane_state(self, lane: Lane) -> _LaneState:
        _, high = self.bounds(self.epoch, lane)
        try:
            chain = self._chain(self.epoch, lane, high)
        except CorruptRecord as damage:
            # The last anchor is lost, and a record before it: go on from what can be proved.
            chain = self._chain(self.epoch, lane, damage.seq - 1)
        return _LaneState(high, chain, high)

    def head(self, lane: Lane) -> tuple[int, bytes]:
        """Return the last sequence number of a lane and its chain value."""
        return self._lanes[lane].seq, self._lanes[lane].chain

    def commit(
        self,
        records: Sequence[Record],
        *,
        checkpoint: bytes | None = None,
        cursors: Mapping[tuple[str, int, Lane], Cursor] | None = None,
    ) -> list[Committed]:
        """Give the records their numbers and write them, with cursors, in one transaction.

        On disk when it returns; when it raises, nothing has happened.

        :param checkpoint: an opaque state that is true after these records
        """
        parts = [self._prepare(lane, records) for lane in Lane]
        done = [part for part in parts if part is not None]
        with self._db:
            for part in done:
                self._insert(part)
            self._insert_side(records, parts[0])
            if checkpoint is not None:
                last = parts[0].last if parts[0] else self._lanes[Lane.DATA].seq
                key = self.epoch.number << EPOCH_SHIFT | last
                self._db.execute("REPLACE INTO checkpoint VALUES (1, ?, ?)", (key, checkpoint))
            if cursors:
                self._db.executemany(
                    "REPLACE INTO cursor VALUES (?, ?, ?, ?, ?)",
                    [(name, epoch, lane.value, *at) for (name, epoch, lane), at in cursors.items()],
                )
        for part in done:
            self._lanes[part.lane] = self._lanes[part.lane].followed_by(part)
        return done

    def _prepare(self, lane: Lane, records: Sequence[Record]) -> Committed | None:
        state = self._lanes[lane]
        mine = [record for record in records if record.lane is lane]
        if not mine:
            return None
        first = state.seq + 1
        bodies = [record.body(seq) for seq, record in enumerate(mine, first)]
        chain = extend_chain(state.chain, bodies)
        return Committed(self.epoch.uuid, lane, first, bodies, state.chain, chain)

    def _insert(self, part: Committed) -> None:
        key = self.epoch.number << EPOCH_SHIFT | part.first
        rows: list[tuple[int, int, bytes, bytes | None]] = [
            (key + index, crc_of(body), body, None) for index, body in enumerate(part.bodies)
        ]
        rows[-1] = (*rows[-1][:3], part.chain)
        if self._lanes[part.lane].gives_way:
            self._db.execute(f"UPDATE {part.lane} SET chain = NULL WHERE key = ?", (key - 1,))  # noqa: S608
        self._db.executemany(f"INSERT INTO {part.lane} VALUES (?, ?, ?, ?)", rows)  # noqa: S608

    def _insert_side(self, records: Sequence[Record], data: Committed | None) -> None:
        for record in records:
            if record.kind in ("S", "C"):
                content = record.tail.split(b",", 3)[3][:-1]
                self._db.execute(
                    "REPLACE INTO description VALUES (?, ?, ?, ?, ?)",
                    (record.lane.value, record.kind, record.number, content, record.tail),
                )
        if data is None:
            return
        mine = (record for record in records if record.lane is Lane.DATA)
        replies = [
            (seq, record.evidence)
            for seq, record in enumerate(mine, data.first)
            if record.evidence is not None
        ]
        if replies:
            key = self.epoch.number << EPOCH_SHIFT | replies[-1][0]
            self._db.execute("INSERT INTO evidence VALUES (?, ?)", (key, pack_evidence(replies)))

    def open_epoch(self, utc_ns: int, cause: str) -> list[Committed]:
        """Start a new epoch; the schemas and contexts in force are its first records.

        On disk when it returns; when it raises, nothing has happened.
        """
        epoch = Epoch(self.epoch.number + 1, str(uuid4()), utc_ns, cause)
        before = self.epoch, self._lanes
        try:
            with self._db:
                self._db.execute("INSERT INTO epoch VALUES (?, ?, ?, ?)", epoch)
                self.epoch = epoch
                self._lanes = self._lane_states()
                committed = self.commit(self._in_force())
        except BaseException:
            self.epoch, self._lanes = before
            raise
        return committed

    def _in_force(self) -> list[Record]:
        rows = self._db.execute(
            "SELECT lane, kind, number, tail FROM description WHERE kind = 'S' OR number IN"
            " (SELECT max(number) FROM description AS d WHERE d.lane = description.lane"
            "  AND d.kind = 'C') ORDER BY kind, number"
        )
        return [Record(Lane(lane), kind, tail, number=number) for lane, kind, number, tail in rows]

    def save_consumer(self, consumer: Consumer) -> None:
        """Write a consumer's state at once."""
        self._db.execute("REPLACE INTO consumer VALUES (?, ?, ?)", consumer)

    @property
    def log_is_long(self) -> bool:
        """Whether the write-ahead log has grown enough to be moved into the database."""
        return self._wal_pages >= LOG_PAGES_MAX

    def move_log(self) -> None:
        """Move the write-ahead log into the database, as far as no reader holds it."""
        self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


def _rewrite_log(path: Path, vfs: str | None) -> None:
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


def _create_if_missing(path: Path, utc_ns: int, vfs: str | None) -> None:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    db = apsw.Connection(str(path), flags=flags, vfs=vfs)
    try:
        marks = db.pragma("user_version"), db.pragma("application_id")
        if any(marks) or db.execute("SELECT 1 FROM sqlite_schema").fetchall():
            return
        db.pragma("journal_mode", "wal")
        db.execute("PRAGMA synchronous = FULL")
        with db:
            db.execute(_LAYOUT)
            db.execute("INSERT INTO epoch VALUES (0, ?, ?, 'created')", (str(uuid4()), utc_ns))
            db.pragma("application_id", APPLICATION_ID)
            db.pragma("user_version", LAYOUT_VERSION)
    finally:
        db.close()


def description_content(description: Mapping[str, object]) -> bytes:
    """Return the bytes under which a schema or context is recognised as the same."""
    return encode_json(description)

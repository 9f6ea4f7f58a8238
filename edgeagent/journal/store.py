"""The journal's one writer: numbers and chains records, commits them, packs and forgets them.

One SQLite file in WAL mode, synchronous=FULL; :mod:`~edgeagent.journal.layout` says how it is made
and :mod:`~edgeagent.journal.reader` how it is read.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from uuid import uuid4

import apsw

from edgeagent.journal.block import Row, crc_of, pack_evidence, pack_rows, unpack_evidence
from edgeagent.journal.held import (
    EPOCH_SHIFT,
    EVIDENCE,
    SEQ_MASK,
    Committed,
    Consumer,
    CorruptRecord,
    Cursor,
    Description,
    Epoch,
    LaneRange,
    Usage,
)
from edgeagent.journal.layout import (
    UnknownLayout,
    bring_up_to_date,
    require_fixed_sqlite,
    rewrite_log,
)
from edgeagent.journal.reader import Reader
from edgeagent.model.record import Lane, Record, encode_json, extend_chain

__all__ = [
    "SEQ_MASK",
    "Committed",
    "Consumer",
    "CorruptRecord",
    "Cursor",
    "Description",
    "Epoch",
    "LaneRange",
    "Reader",
    "Store",
    "UnknownLayout",
    "Usage",
    "description_content",
]

ANCHOR_EVERY = 16  # records: 2 bytes for each, and few to hash from one anchor to the next
LOG_PAGES_MAX = 1000
BLOCK_BYTES = 128 << 10
PURGED_ROWS_MAX = 2000
PURGED_BLOCKS_MAX = 16
SHRUNK_PAGES = 256


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


class Store(Reader):
    """The one writer."""

    def __init__(self, path: Path, utc_ns: int, vfs: str | None = None) -> None:
        require_fixed_sqlite(apsw.sqlite_lib_version())
        rewrite_log(path, vfs)
        bring_up_to_date(path, utc_ns, vfs)
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
        consumers: Iterable[Consumer] = (),
        notes: Mapping[str, bytes | None] | None = None,
    ) -> list[Committed]:
        """Give the records their numbers and write them, in one transaction with the rest.

        On disk when it returns; when it raises, nothing has happened.

        :param checkpoint: an opaque state that is true after these records
        :param notes: contents by name; ``None`` lets one go
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
            self._save_cursors(cursors or {})
            for consumer in consumers:
                self.save_consumer(consumer)
            self._save_notes(notes or {})
        for part in done:
            self._lanes[part.lane] = self._lanes[part.lane].followed_by(part)
        return done

    def _save_cursors(self, cursors: Mapping[tuple[str, int, Lane], Cursor]) -> None:
        self._db.executemany(
            "REPLACE INTO cursor VALUES (?, ?, ?, ?, ?)",
            [(name, epoch, lane.value, *at) for (name, epoch, lane), at in cursors.items()],
        )

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

    def _save_notes(self, notes: Mapping[str, bytes | None]) -> None:
        for name, content in notes.items():
            if content is None:
                self._db.execute("DELETE FROM note WHERE name = ?", (name,))
            else:
                self._db.execute("REPLACE INTO note VALUES (?, ?)", (name, content))

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

    # -- packing, purging, shrinking -----------------------------------------------------------

    def pack(self, lane: Lane, *, keep_newest: int) -> int:
        """Pack one block of the oldest rows of a lane, and the raw replies with them.

        The newest ``keep_newest`` records of the current epoch stay rows, and what would not fill
        a block. On disk when it returns; when it raises, nothing has happened.

        :returns: how many records went into the block; 0 when there is nothing to do
        """
        oldest = self._db.execute(f"SELECT min(key) FROM {lane}").get  # noqa: S608
        if oldest is None:
            return 0
        epoch = next((e for e in self.epochs() if e.number == oldest >> EPOCH_SHIFT), None)
        if epoch is None:
            return 0
        current = epoch == self.epoch
        end = self._lanes[lane].seq - keep_newest if current else SEQ_MASK
        base = epoch.number << EPOCH_SHIFT
        rows, full = self._rows_to_pack(lane, oldest, base | max(0, end))
        if not rows or (current and not full):
            return 0
        slim, chain = self._without_derivable(epoch, lane, rows)
        with self._db:
            self._insert_block(lane, base, slim, chain)
            self._db.execute(
                f"DELETE FROM {lane} WHERE key BETWEEN ? AND ?",  # noqa: S608
                (oldest, base | rows[-1].seq),
            )
            if lane is Lane.DATA:
                self._pack_evidence(base, base | rows[-1].seq)
        return len(rows)

    def _rows_to_pack(self, lane: Lane, first: int, last: int) -> tuple[list[Row], bool]:
        """Return rows for one block, and whether they fill it."""
        rows: list[Row] = []
        size = 0
        for key, crc, body, chain in self._db.execute(
            f"SELECT key, crc, CAST(body AS BLOB), chain FROM {lane}"  # noqa: S608
            " WHERE key BETWEEN ? AND ? ORDER BY key",
            (first, min(last, first | SEQ_MASK)),
        ):
            rows.append(Row(key & SEQ_MASK, crc, body, chain))
            size += len(body)
            if size >= BLOCK_BYTES:
                return rows, True
        return rows, False

    def _without_derivable(
        self, epoch: Epoch, lane: Lane, rows: Sequence[Row]
    ) -> tuple[list[Row], bytes | None]:
        """Leave out chain values that follow from the ones before; return the last one apart."""
        seq = rows[0].seq - 1
        chain = self._chain_or_none(epoch, lane, seq)
        slim: list[Row] = []
        for row in rows:
            seq += 1
            sound = row.seq == seq and row.crc == crc_of(row.body)
            chain = extend_chain(chain, [row.body]) if sound and chain is not None else None
            derivable = row.chain == chain
            chain, seq = row.chain or chain, row.seq
            slim.append(row._replace(chain=None) if derivable else row)
        return [*slim[:-1], slim[-1]._replace(chain=None)], chain

    def _insert_block(self, what: str, base: int, rows: Sequence[Row], chain: bytes | None) -> None:
        content = pack_rows(rows)
        self._db.execute(
            f"INSERT INTO {what}_block VALUES (?, ?, ?, ?, ?)",  # noqa: S608
            (base | rows[-1].seq, base | rows[0].seq, crc_of(content), chain, content),
        )

    def _pack_evidence(self, base: int, last: int) -> None:
        stored = self._db.execute(
            "SELECT replies FROM evidence WHERE key BETWEEN ? AND ? ORDER BY key", (base, last)
        )
        replies = [reply for (packed,) in stored for reply in unpack_evidence(packed)]
        if replies:
            rows = [Row(seq, crc_of(raw), raw) for seq, raw in replies]
            self._insert_block(EVIDENCE, base, rows, None)
            self._db.execute("DELETE FROM evidence WHERE key BETWEEN ? AND ?", (base, last))

    def purge(
        self,
        epoch: Epoch,
        lane: Lane,
        upto: int,
        *,
        cursors: Mapping[tuple[str, int, Lane], Cursor] | None = None,
    ) -> int:
        """Forget a bounded piece of the records up to ``upto``, and their raw replies.

        The number and the chain value of the last one that went stay. On disk when it returns;
        when it raises, nothing has happened.

        :param cursors: written before it is looked who has receipted what
        :returns: how many records went; 0 when none up to ``upto`` is left
        :raises ValueError: when a consumer that is not retired has not receipted up to ``upto``
        """
        with self._db:
            self._save_cursors(cursors or {})
            low, high = self.bounds(epoch, lane)
            upto = min(upto, high)
            if upto < low:
                return 0
            self._require_receipted(epoch, lane, upto)
            end = min(upto, self._piece(epoch, lane, low))
            chain = self._chain_or_none(epoch, lane, end)
            if chain is None and self.anchor_after(epoch, lane, end) is None:
                return 0  # nothing behind it could be proved any more
            self._forget(epoch, lane, end, chain)
            if lane is Lane.DATA and self.purged(epoch, EVIDENCE)[0] < end:
                self._forget(epoch, EVIDENCE, end, None)
        return end - low + 1

    def purge_evidence(self, epoch: Epoch, upto: int) -> int:
        """Forget a bounded piece of the raw replies of records up to ``upto``.

        On disk when it returns; when it raises, nothing has happened.

        :returns: of how many records; 0 when none up to ``upto`` is left
        """
        with self._db:
            low = self.purged(epoch, EVIDENCE)[0] + 1
            upto = min(upto, self.bounds(epoch, Lane.DATA)[1])
            end = min(upto, self._piece(epoch, EVIDENCE, low))
            if end < low:
                return 0
            self._forget(epoch, EVIDENCE, end, None)
        return end - low + 1

    def _require_receipted(self, epoch: Epoch, lane: Lane, upto: int) -> None:
        cursors = self.cursors()
        behind = [
            f"{name} ({cursor.upto if cursor else 0})"
            for name, consumer in self.consumers().items()
            if consumer.state != "retired"
            and ((cursor := cursors.get((name, epoch.number, lane))) is None or cursor.upto < upto)
        ]
        if behind:
            raise ValueError(
                f"lane {lane} of epoch {epoch.uuid} cannot be purged up to {upto}:"
                f" not receipted by {', '.join(behind)}"
            )

    def _piece(self, epoch: Epoch, what: str, low: int) -> int:
        """Return the end of a piece that is forgotten in a few milliseconds."""
        heads = islice(self._heads(epoch, what, low - 1), PURGED_BLOCKS_MAX - 1, None)
        if (last := next(heads, None)) is not None:
            return last.last
        base = epoch.number << EPOCH_SHIFT
        keys = self._db.execute(
            f"SELECT key FROM {what} WHERE key BETWEEN ? AND ? ORDER BY key LIMIT 1 OFFSET ?",  # noqa: S608
            (base | low, base | SEQ_MASK, PURGED_ROWS_MAX - 1),
        ).get
        return SEQ_MASK if keys is None else keys & SEQ_MASK

    def _chain_or_none(self, epoch: Epoch, lane: Lane, seq: int) -> bytes | None:
        try:
            return self.chain_at(epoch, lane, seq)
        except CorruptRecord:
            return None

    def _forget(self, epoch: Epoch, what: str, upto: int, chain: bytes | None) -> None:
        base = epoch.number << EPOCH_SHIFT
        for table in (what, f"{what}_block"):
            self._db.execute(
                f"DELETE FROM {table} WHERE key BETWEEN ? AND ?",  # noqa: S608
                (base, base | upto),
            )
        row = (epoch.number, str(what), upto, chain)
        self._db.execute("REPLACE INTO purged VALUES (?, ?, ?, ?)", row)

    def shrink(self) -> bool:
        """Give some free pages back to the file system; false when there is nothing to give.

        A file of an agent before layout 2 does not shrink: its free pages are used again.
        """
        if not self._db.pragma("auto_vacuum") or not self._db.pragma("freelist_count"):
            return False
        self._db.execute(f"PRAGMA incremental_vacuum({SHRUNK_PAGES})").fetchall()
        return True


def description_content(description: Mapping[str, object]) -> bytes:
    """Return the bytes under which a schema or context is recognised as the same."""
    return encode_json(description)

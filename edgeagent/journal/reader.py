"""Reading a journal: records, chain values, ranges, side tables; the same from rows and blocks.

Rows are keyed by ``epoch number << 48 | seq``. Each row carries a CRC-32 of its body, so that
bit rot is located. Some rows carry the lane's chain value, so that altered history is proved: they
are its anchors, and so are the ends of blocks. The last row of a lane always is one. Nothing here
knows what a body says.
"""

from bisect import bisect_right
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing
from itertools import chain as chained
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple

import apsw

from edgeagent.journal.block import DamagedBlock, Row, crc_of, unpack_evidence, unpack_rows
from edgeagent.journal.held import (
    EPOCH_SHIFT,
    EVIDENCE,
    SEQ_MASK,
    Consumer,
    CorruptRecord,
    Cursor,
    Description,
    Epoch,
    LaneRange,
    Usage,
)
from edgeagent.journal.layout import read_as_if_up_to_date, require_known
from edgeagent.model.record import Entry, Lane, extend_chain, genesis, received_utc_ns

BLOCKS_KEPT = 4
HASHED_BYTES = 1 << 20


class _Head(NamedTuple):
    """What is known of a block without its content."""

    key: int
    first: int
    crc: int
    chain: bytes | None

    @property
    def last(self) -> int:
        return self.key & SEQ_MASK


class _Block(NamedTuple):
    rows: tuple[Row, ...]
    anchors: list[tuple[int, bytes]]


def _number_of(row: Row) -> int:
    return row.seq


class Reader:
    """Reads a journal. Safe beside a writer; used from one thread."""

    def __init__(self, path: Path, vfs: str | None = None, *, read_only: bool = True) -> None:
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
        self._path = path
        self._db = apsw.Connection(str(path), flags=flags, vfs=vfs)
        self._blocks: dict[tuple[str, int, int], _Block | None] = {}
        try:
            self._db.set_busy_timeout(5000)
            self._db.execute("PRAGMA mmap_size = 0")
            self.layout = require_known(self._db, path)
            read_as_if_up_to_date(self._db, self.layout)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def snapshot(self) -> AbstractContextManager[object]:
        """Return a context in which everything is read from one moment."""
        return self._db

    # -- epochs and ranges -----------------------------------------------------------------------

    def epochs(self) -> tuple[Epoch, ...]:
        """Return every epoch, oldest first, also those of which nothing is held any more."""
        rows = self._db.execute("SELECT number, uuid, opened_utc_ns, cause FROM epoch ORDER BY 1")
        return tuple(Epoch(*row) for row in rows)

    def purged(self, epoch: Epoch, what: str) -> tuple[int, bytes | None]:
        """Return up to where a lane, or ``evidence``, was purged, and the chain value there.

        The chain value is ``None`` for evidence, and where damage had made it unprovable.
        """
        for upto, chain in self._db.execute(
            "SELECT upto, chain FROM purged WHERE epoch = ? AND what = ?", (epoch.number, what)
        ):
            return upto, chain
        return (0, None) if what == EVIDENCE else (0, genesis(epoch.uuid, Lane(what)))

    def bounds(self, epoch: Epoch, lane: Lane) -> tuple[int, int]:
        """Return the lowest and the highest number held of one lane of one epoch.

        When nothing is held, the lowest is one above the highest.
        """
        base = epoch.number << EPOCH_SHIFT
        ((row, block),) = self._db.execute(
            f"SELECT (SELECT max(key) FROM {lane} WHERE key BETWEEN ?1 AND ?2),"  # noqa: S608
            f" (SELECT max(key) FROM {lane}_block WHERE key BETWEEN ?1 AND ?2)",
            (base, base | SEQ_MASK),
        )
        upto, _ = self.purged(epoch, lane)
        return upto + 1, max(upto, (row or 0) & SEQ_MASK, (block or 0) & SEQ_MASK)

    def packed(self, epoch: Epoch, lane: Lane) -> int:
        """Return up to where the records of a lane are packed; 0 when none is."""
        head = next(self._heads(epoch, lane, SEQ_MASK, back=True), None)
        return 0 if head is None else head.last

    def lane_range(self, epoch: Epoch, lane: Lane) -> LaneRange:
        """Return what is held of one lane of one epoch."""
        with self.snapshot():  # one view: the anchor at the end moves with every commit
            low, high = self.bounds(epoch, lane)
            chain = self._chain(epoch, lane, high)
        return LaneRange(low, high, chain)

    def oldest(self, lane: Lane) -> tuple[Epoch, int, int] | None:
        """Return epoch, number and UTC nanoseconds of reception of the oldest readable record."""
        with self.snapshot():
            for epoch in self.epochs():
                after, high = self.bounds(epoch, lane)[0] - 1, self.bounds(epoch, lane)[1]
                while after < high:
                    try:
                        entries = self.read(epoch, lane, after, bytes_max=1, upto=high)
                    except CorruptRecord as damage:
                        after = damage.last
                        continue
                    if not entries:
                        break
                    return epoch, entries[0].seq, received_utc_ns(entries[0].body)
        return None

    # -- records ---------------------------------------------------------------------------------

    def read(
        self, epoch: Epoch, lane: Lane, after: int, *, bytes_max: int, upto: int = SEQ_MASK
    ) -> list[Entry]:
        """Return records in order, at least one if there is one, about ``bytes_max`` in all.

        They begin right behind ``after``, or behind the prefix that was purged.

        :raises CorruptRecord: if the first record asked for is damaged; records before a
            damaged one are returned first
        """
        entries: list[Entry] = []
        with self.snapshot():
            seq = max(after, self.purged(epoch, lane)[0])
            size = 0
            # Closed here: an error that somebody keeps must not keep the snapshot.
            with closing(self._rows(epoch, lane, seq, upto)) as rows:
                for row in rows:
                    size += len(row.body)
                    if entries and size > bytes_max:
                        break
                    seq += 1
                    if row.seq != seq or row.crc != crc_of(row.body):
                        if entries:
                            break
                        last = row.seq if row.crc is None else max(seq, row.seq - 1)
                        raise CorruptRecord(lane, seq, last)
                    entries.append(Entry(seq, row.body))
        return entries

    def _rows(self, epoch: Epoch, lane: Lane, after: int, upto: int) -> Generator[Row]:
        """Yield what is stored in ``(after, upto]``: blocks stand before rows.

        For a block that cannot be read its last number comes, with no CRC.
        """
        for head in self._heads(epoch, lane, after):
            if head.first > upto:
                return
            block = self._block(lane, head)
            if block is None:
                yield Row(min(head.last, upto), None, b"")
            else:
                start = bisect_right(block.rows, after, key=_number_of)
                yield from takewhile(lambda row: row.seq <= upto, islice(block.rows, start, None))
        base = epoch.number << EPOCH_SHIFT
        # Text in place of bytes is damage, too: somebody used the sqlite3 shell.
        rows = self._db.execute(
            f"SELECT key, crc, CAST(body AS BLOB) FROM {lane}"  # noqa: S608
            " WHERE key > ? AND key <= ? ORDER BY key",
            (base | after, base | upto),
        )
        for key, crc, body in rows:
            yield Row(key & SEQ_MASK, crc, body)

    def _heads(self, epoch: Epoch, what: str, after: int, *, back: bool = False) -> Iterator[_Head]:
        """Yield the heads of blocks that end behind ``after``; or, back, of those up to it."""
        base = epoch.number << EPOCH_SHIFT
        ends = (base - 1, base | after) if back else (base | after, base | SEQ_MASK)
        rows = self._db.execute(
            f"SELECT key, first, crc, chain FROM {what}_block"  # noqa: S608
            f" WHERE key > ? AND key <= ? ORDER BY key {'DESC' if back else ''}",
            ends,
        )
        for key, first, crc, chain in rows:
            yield _Head(key, first & SEQ_MASK, crc, chain)

    def _block(self, what: str, head: _Head) -> _Block | None:
        """Return the content of a block, ``None`` when it is damaged."""
        place = (what, head.key, head.crc)
        if place not in self._blocks:
            if len(self._blocks) >= BLOCKS_KEPT:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[place] = self._load(what, head)
        return self._blocks[place]

    def _load(self, what: str, head: _Head) -> _Block | None:
        sql = f"SELECT CAST(content AS BLOB) FROM {what}_block WHERE key = ?"  # noqa: S608
        content = self._db.execute(sql, (head.key,)).get
        if crc_of(content) != head.crc:
            return None
        try:
            rows = unpack_rows(head.first, content)
        except DamagedBlock:
            return None
        if not rows or rows[-1].seq != head.last:
            return None
        return _Block(rows, [(row.seq, row.chain) for row in rows if row.chain is not None])

    # -- chain values ----------------------------------------------------------------------------

    def chain_at(self, epoch: Epoch, lane: Lane, seq: int) -> bytes | None:
        """Return h(seq), computed from the nearest anchor before; ``None`` if not held.

        :raises CorruptRecord: if a damaged record stands between
        """
        with self.snapshot():
            low, high = self.bounds(epoch, lane)
            upto, chain = self.purged(epoch, lane)
            if seq == upto:
                return chain
            return self._chain(epoch, lane, seq) if low <= seq <= high else None

    def _chain(self, epoch: Epoch, lane: Lane, seq: int) -> bytes:
        point, chain = self._anchor_before(epoch, lane, seq)
        while point < seq:
            entries = self.read(epoch, lane, point, bytes_max=HASHED_BYTES, upto=seq)
            if not entries:
                raise CorruptRecord(lane, point + 1, seq)
            chain = extend_chain(chain, (entry.body for entry in entries))
            point = entries[-1].seq
        return chain

    def anchor_after(self, epoch: Epoch, lane: Lane, seq: int) -> tuple[int, bytes] | None:
        """Return the first anchor at or after ``seq``: its number and chain value."""
        with self.snapshot():
            upto, chain = self.purged(epoch, lane)
            if seq <= upto and chain is not None:
                return upto, chain
            return next(self._anchors(epoch, lane, max(upto, seq - 1), SEQ_MASK), None)

    def anchors(
        self, epoch: Epoch, lane: Lane, after: int = 0, upto: int = SEQ_MASK
    ) -> list[tuple[int, bytes]]:
        """Return the anchors in ``(after, upto]``: their numbers and chain values."""
        with self.snapshot():
            after = max(after, self.purged(epoch, lane)[0])
            return list(self._anchors(epoch, lane, after, upto))

    def _anchors(
        self, epoch: Epoch, lane: Lane, after: int, upto: int
    ) -> Iterator[tuple[int, bytes]]:
        for head in self._heads(epoch, lane, after):
            if head.first > upto:
                return
            yield from (each for each in self._anchors_of(lane, head) if after < each[0] <= upto)
        base = epoch.number << EPOCH_SHIFT
        for key, chain in self._db.execute(
            f"SELECT key, chain FROM {lane} WHERE key > ? AND key <= ? AND chain IS NOT NULL"  # noqa: S608
            " ORDER BY key",
            (base | after, base | upto),
        ):
            yield key & SEQ_MASK, chain

    def _anchors_of(self, lane: Lane, head: _Head) -> list[tuple[int, bytes]]:
        block = self._block(lane, head)
        end = [] if head.chain is None else [(head.last, head.chain)]
        return end if block is None else block.anchors + end

    def _anchor_before(self, epoch: Epoch, lane: Lane, seq: int) -> tuple[int, bytes]:
        upto, start = self.purged(epoch, lane)
        base = epoch.number << EPOCH_SHIFT
        for key, chain in self._db.execute(
            f"SELECT key, chain FROM {lane} WHERE key > ? AND key <= ? AND chain IS NOT NULL"  # noqa: S608
            " ORDER BY key DESC LIMIT 1",
            (base | upto, base | seq),
        ):
            return key & SEQ_MASK, chain
        around = islice(self._heads(epoch, lane, seq), 1)
        for head in chained(around, self._heads(epoch, lane, seq, back=True)):
            if head.last <= upto:
                break
            if head.last <= seq and head.chain is not None:
                return head.last, head.chain
            for anchor in reversed(self._anchors_of(lane, head)):
                if upto < anchor[0] <= seq:
                    return anchor
        if start is None:
            raise CorruptRecord(lane, upto)
        return upto, start

    # -- beside the records ----------------------------------------------------------------------

    def oldest_evidence(self, epoch: Epoch) -> int | None:
        """Return the first data record whose raw reply is held, ``None`` if there is none."""
        base = epoch.number << EPOCH_SHIFT
        with self.snapshot():
            bounds, low = (base, base | SEQ_MASK), self.purged(epoch, EVIDENCE)[0] + 1
            row = self._db.execute(
                "SELECT substr(replies, 1, 8) FROM evidence WHERE key BETWEEN ? AND ?"
                " ORDER BY key LIMIT 1",
                bounds,
            ).get
            block = self._db.execute(
                "SELECT first FROM evidence_block WHERE key BETWEEN ? AND ? ORDER BY key LIMIT 1",
                bounds,
            ).get
        found = [] if row is None else [int.from_bytes(row, "big")]
        found += [] if block is None else [block & SEQ_MASK]
        return max(low, min(found)) if found else None

    def evidence(self, epoch: Epoch, after: int, upto: int) -> list[tuple[int, bytes]]:
        """Return ``(seq, raw reply)`` of data records in ``(after, upto]`` that have some."""
        base = epoch.number << EPOCH_SHIFT
        found: list[tuple[int, bytes]] = []
        with self.snapshot():
            after = max(after, self.purged(epoch, EVIDENCE)[0])
            for head in self._heads(epoch, EVIDENCE, after):
                if head.first > upto:
                    break
                block = self._block(EVIDENCE, head)
                found += [(row.seq, row.body) for row in block.rows] if block else []
            # A row holds the replies of a commit, under the number of the last of them.
            rows = self._db.execute(
                "SELECT replies FROM evidence WHERE key > ?1 AND key <= coalesce("
                " (SELECT min(key) FROM evidence WHERE key BETWEEN ?2 AND ?3), ?2) ORDER BY key",
                (base | after, base | upto, base | SEQ_MASK),
            )
            for (replies,) in rows:
                found += unpack_evidence(replies)
        return [(seq, raw) for seq, raw in found if after < seq <= upto]

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

    def notes(self) -> dict[str, bytes]:
        """Return every note by name."""
        return {name: content for name, content in self._db.execute("SELECT * FROM note")}

    def cursors(self) -> dict[tuple[str, int, Lane], Cursor]:
        """Return every cursor by (consumer, epoch number, lane)."""
        rows = self._db.execute("SELECT consumer, epoch, lane, upto, chain FROM cursor")
        return {
            (name, epoch, Lane(lane)): Cursor(upto, chain)
            for name, epoch, lane, upto, chain in rows
        }

    def usage(self) -> Usage:
        """Return how much disk the journal takes."""
        page, log = int(self._db.pragma("page_size")), Path(f"{self._path}-wal")
        with self.snapshot():
            pages, free = self._db.pragma("page_count"), self._db.pragma("freelist_count")
        try:
            log_bytes = log.stat().st_size
        except FileNotFoundError:
            log_bytes = 0
        return Usage(int(pages) * page, int(free) * page, log_bytes)

    def file_bytes(self) -> int:
        """Return the size of the database in bytes, write-ahead log apart."""
        return self.usage().file_bytes

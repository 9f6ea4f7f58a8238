"""The journal as the event loop sees it: a writer thread, a reader thread, mended on failure."""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import apsw
import structlog

from edgeagent.journal.reserve import make_room_to_open
from edgeagent.journal.store import (
    Committed,
    Consumer,
    Cursor,
    Description,
    Epoch,
    LaneRange,
    Reader,
    Store,
    Usage,
)
from edgeagent.model.clock import Clock
from edgeagent.model.errors import EdgeAgentError, JournalFailed, JournalFull, StartRefused
from edgeagent.model.record import Entry, Lane, Record, extend_chain

FILE_NAME = "journal.sqlite"
MEND_ATTEMPTS_MAX = 3
EXIT_ALREADY_RUNNING = 75
EXIT_CANNOT_CREATE = 73

T = TypeVar("T")
log = structlog.get_logger()


class StateDirectory:
    """The directory that belongs to one running agent.

    :raises StartRefused: when it cannot be written, or another agent holds it
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartRefused(
                f"{path}: state_dir cannot be written ({error.strerror}); "
                "give it to the service's user or choose another state_dir",
                EXIT_CANNOT_CREATE,
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StartRefused(
                f"{path}: another agent is running on this state_dir; stop it first "
                "(systemctl stop edgeagent), or give this one its own state_dir",
                EXIT_ALREADY_RUNNING,
            ) from None

    def release(self) -> None:
        """Let another agent have it."""
        os.close(self._lock)


class Journal:
    """What :meth:`append` accepted is never lost, reordered or altered unseen.

    Open it with :meth:`open`. Calls of :meth:`append` must not overlap: the
    :class:`~edgeagent.journal.recorder.Recorder` is its one caller.
    """

    def __init__(self, path: Path, clock: Clock, vfs: str | None) -> None:
        self._path = path
        self._clock = clock
        self._vfs = vfs
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal-writer")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="journal-reader")
        self._store: Store | None = None
        self._view: Reader | None = None
        self._moved: dict[tuple[str, int, Lane], Cursor] = {}
        self.epochs: tuple[Epoch, ...] = ()
        self.consumers: dict[str, Consumer] = {}
        self.cursors: dict[tuple[str, int, Lane], Cursor] = {}
        self.notes: dict[str, bytes] = {}
        self.heads: dict[Lane, tuple[int, bytes]] = {}
        self.mended = 0

    @classmethod
    async def open(cls, state_dir: Path, clock: Clock, *, vfs: str | None = None) -> "Journal":
        """Open or create the journal in a directory.

        :param vfs: name of a registered ``apsw.VFS`` to use instead of the system's
        :raises JournalFailed: if it cannot be opened
        """
        journal = cls(state_dir / FILE_NAME, clock, vfs)
        try:
            await journal._in_writer(lambda: make_room_to_open(state_dir))
            await journal._in_writer(journal._open_store)
            journal._view = await journal._in_reader(lambda: Reader(journal._path, vfs))
            await journal._load()
        except (apsw.Error, EdgeAgentError) as error:
            await journal.close()
            raise JournalFailed(f"{journal._path}: cannot be opened: {error}") from error
        return journal

    def _open_store(self) -> None:
        self._store = Store(self._path, self._clock.utc_ns(), self._vfs)

    async def _load(self) -> None:
        view = self._reading()
        self.epochs, self.consumers, cursors, self.notes = await self._in_reader(
            lambda: (view.epochs(), view.consumers(), view.cursors(), view.notes())
        )
        self.cursors = {**cursors, **self._moved}
        self.heads = {lane: self._writing().head(lane) for lane in Lane}

    def _writing(self) -> Store:
        if self._store is None:
            raise JournalFailed("the journal is closed")
        return self._store

    def _reading(self) -> Reader:
        if self._view is None:
            raise JournalFailed("the journal is closed")
        return self._view

    async def _in_writer(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def _in_reader(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    @property
    def epoch(self) -> Epoch:
        """The epoch into which records go now."""
        return self.epochs[-1]

    async def close(self) -> None:
        """Write outstanding cursors and close; safe to call twice."""
        if self._store is not None:
            await self._in_writer(self._close_store)
        if self._view is not None:
            await self._in_reader(self._view.close)
            self._view = None
        self._writer.shutdown(wait=True)
        self._reader.shutdown(wait=True)

    def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is None:
            return
        try:
            if self._moved:
                store.commit([], cursors=self._moved)
            store.move_log()
        except apsw.Error as error:
            log.error("journal.close_failed", error=str(error))
        finally:
            store.close()

    async def append(
        self,
        records: Sequence[Record],
        *,
        checkpoint: bytes | None = None,
        consumers: Mapping[str, Consumer] = MappingProxyType({}),
        notes: Mapping[str, bytes | None] = MappingProxyType({}),
    ) -> list[Committed]:
        """Write records and the states that they tell of; they are on disk when it returns.

        A failed write or sync closes the file, opens it again, proves what is there and writes
        what is missing.

        :param checkpoint: an opaque state that is true after these records
        :param consumers: by name; they hold from now on
        :param notes: contents by name; ``None`` lets one go
        :raises JournalFull: the disk is full; the same records can be appended again
        :raises JournalFailed: it could not be mended
        """
        moved, self._moved = self._moved, {}
        try:
            committed = await self._in_writer(
                lambda: self._write_all(
                    records,
                    lambda store: store.commit(
                        records,
                        checkpoint=checkpoint,
                        cursors=moved,
                        consumers=consumers.values(),
                        notes=notes,
                    ),
                )
            )
        except BaseException:
            self._moved = {**moved, **self._moved}
            raise
        self.consumers.update(consumers)
        self._take_note(notes)
        for part in committed:
            self.heads[part.lane] = (part.last, part.chain)
        return committed

    def _write_all(
        self, records: Sequence[Record], commit: Callable[[Store], list[Committed]]
    ) -> list[Committed]:
        before = {lane: self._writing().head(lane) for lane in Lane}
        return self._write(commit, lambda store: self._already_there(store, records, before))

    def _take_note(self, noted: Mapping[str, bytes | None]) -> None:
        for name, content in noted.items():
            if content is None:
                self.notes.pop(name, None)
            else:
                self.notes[name] = content

    def _write(
        self, work: Callable[[Store], T], find: Callable[[Store], T | None] = lambda _: None
    ) -> T:
        """Let the store do some work; if it fails, mend the journal and let it do it again.

        :param find: returns the result if the work turns out to be on disk after all
        """
        try:
            return work(self._writing())
        except apsw.FullError as error:
            raise self._full(error) from error
        except (apsw.Error, OSError) as error:
            log.error("journal.write_failed", error=f"{type(error).__name__}: {error}")
            return self._mend(work, find, error)

    def _mend(
        self, work: Callable[[Store], T], find: Callable[[Store], T | None], cause: Exception
    ) -> T:
        for _ in range(MEND_ATTEMPTS_MAX):
            try:
                store = self._reopen()
                result = find(store)
                if result is None:
                    result = work(store)
            except (apsw.Error, OSError) as error:
                # Full can be waited out only with a store at hand to ask again.
                if isinstance(error, apsw.FullError) and self._store is not None:
                    raise self._full(error) from error
                cause = error
                continue
            self.mended += 1
            log.warning("journal.mended")
            return result
        raise JournalFailed(f"{self._path}: cannot be written: {cause}") from cause

    def _full(self, error: Exception) -> JournalFull:
        return JournalFull(f"{self._path}: no space left: {error}")

    def _reopen(self) -> Store:
        if self._store is not None:
            store, self._store = self._store, None
            store.close()
        self._open_store()
        return self._writing()

    def _already_there(
        self, store: Store, records: Sequence[Record], before: Mapping[Lane, tuple[int, bytes]]
    ) -> list[Committed] | None:
        """Return the commit if it turns out to be on disk, ``None`` if the state is as before.

        :raises JournalFailed: if what is on disk is neither
        """
        if all(store.head(lane) == before[lane] for lane in Lane):
            return None
        found: list[Committed] = []
        for lane in Lane:
            seq, chain = before[lane]
            bodies = [
                r.body(n) for n, r in enumerate((r for r in records if r.lane is lane), seq + 1)
            ]
            after = extend_chain(chain, bodies)
            if store.head(lane) != (seq + len(bodies), after):
                raise JournalFailed(f"{self._path}: lane {lane} is not what was written last")
            if bodies:
                found.append(Committed(store.epoch.uuid, lane, seq + 1, bodies, chain, after))
        return found

    async def move_log(self, *, at_once: bool = False) -> None:
        """Move the write-ahead log into the database if it has grown; waits for the disk.

        :param at_once: also if it has not

        :raises JournalFailed: a write failed, and the journal could not be mended
        """
        if at_once or self._writing().log_is_long:
            with suppress(JournalFull):  # the log stays as it is until there is space again
                await self._in_writer(lambda: self._write(Store.move_log))

    async def open_epoch(self, cause: str) -> list[Committed]:
        """Start a new epoch.

        :raises JournalFull: the disk is full; the epoch was not opened
        :raises JournalFailed: it could not be mended
        """
        utc_ns = self._clock.utc_ns()
        committed = await self._in_writer(
            lambda: self._write(lambda store: store.open_epoch(utc_ns, cause))
        )
        await self._load()
        return committed

    async def read(
        self, epoch: Epoch, lane: Lane, after: int, *, bytes_max: int, upto: int | None = None
    ) -> list[Entry]:
        """Return records in order from behind ``after``; see :meth:`Reader.read`."""
        end = {} if upto is None else {"upto": upto}
        return await self._in_reader(
            lambda: self._reading().read(epoch, lane, after, bytes_max=bytes_max, **end)
        )

    async def chain_at(self, epoch: Epoch, lane: Lane, seq: int) -> bytes | None:
        """Return h(seq), or ``None`` if the journal does not hold it."""
        return await self._in_reader(lambda: self._reading().chain_at(epoch, lane, seq))

    async def anchor_after(self, epoch: Epoch, lane: Lane, seq: int) -> tuple[int, bytes] | None:
        """Return the first anchor at or after ``seq``: its number and chain value."""
        return await self._in_reader(lambda: self._reading().anchor_after(epoch, lane, seq))

    async def lane_range(self, epoch: Epoch, lane: Lane) -> LaneRange:
        """Return what is held of one lane of one epoch."""
        return await self._in_reader(lambda: self._reading().lane_range(epoch, lane))

    async def descriptions(self, lane: Lane, kind: str) -> list[Description]:
        """Return the schemas or contexts in force."""
        return await self._in_reader(lambda: self._reading().descriptions(lane, kind))

    async def checkpoint(self) -> tuple[int, int, bytes] | None:
        """Return ``(epoch number, data seq, state)`` of the last checkpoint."""
        return await self._in_reader(lambda: self._reading().checkpoint())

    async def file_bytes(self) -> int:
        """Return the size of the database in bytes."""
        return await self._in_reader(lambda: self._reading().file_bytes())

    async def usage(self) -> Usage:
        """Return how much disk the journal takes."""
        return await self._in_reader(lambda: self._reading().usage())

    async def oldest_evidence(self, epoch: Epoch) -> int | None:
        """Return the first data record whose raw reply is held, ``None`` if there is none."""
        return await self._in_reader(lambda: self._reading().oldest_evidence(epoch))

    async def oldest(self, lane: Lane) -> tuple[Epoch, int, int] | None:
        """Return epoch, number and UTC nanoseconds of reception of the oldest record held."""
        return await self._in_reader(lambda: self._reading().oldest(lane))

    async def pack(self, lane: Lane, *, keep_newest: int) -> int:
        """Pack one block of the oldest rows of a lane; see :meth:`Store.pack`.

        :returns: how many records went into the block; 0 when there is nothing to do
        :raises JournalFull: the disk is full; nothing was written
        :raises JournalFailed: it could not be mended
        """
        return await self._in_writer(
            lambda: self._write(lambda store: store.pack(lane, keep_newest=keep_newest))
        )

    async def purge(self, epoch: Epoch, lane: Lane, upto: int) -> int:
        """Forget a bounded piece of a prefix; see :meth:`Store.purge`.

        The cursors that allow it are written with it.

        :returns: how many records went; 0 when none up to ``upto`` is left
        :raises ValueError: when a consumer that is not retired has not receipted up to ``upto``
        :raises JournalFull: the disk is full; nothing was written
        :raises JournalFailed: it could not be mended
        """
        moved, self._moved = self._moved, {}
        try:
            return await self._in_writer(
                lambda: self._write(lambda store: store.purge(epoch, lane, upto, cursors=moved))
            )
        except BaseException:
            self._moved = {**moved, **self._moved}
            raise

    async def purge_evidence(self, epoch: Epoch, upto: int) -> int:
        """Forget a bounded piece of the raw replies; see :meth:`Store.purge_evidence`.

        :returns: of how many records; 0 when none up to ``upto`` is left
        :raises JournalFull: the disk is full; nothing was written
        :raises JournalFailed: it could not be mended
        """
        return await self._in_writer(
            lambda: self._write(lambda store: store.purge_evidence(epoch, upto))
        )

    async def shrink(self) -> bool:
        """Give some free pages back to the file system; false when there is nothing to give.

        :raises JournalFull: the disk is full; nothing was written
        :raises JournalFailed: it could not be mended
        """
        return await self._in_writer(lambda: self._write(Store.shrink))

    def find_epoch(self, uuid: str) -> Epoch | None:
        """Return the epoch of that UUID, if it is one of this journal."""
        return next((epoch for epoch in self.epochs if epoch.uuid == uuid), None)

    def cursor(self, consumer: str, epoch: Epoch, lane: Lane) -> Cursor | None:
        """Return how far a consumer has receipted, ``None`` if it has not."""
        return self.cursors.get((consumer, epoch.number, lane))

    def set_cursor(self, consumer: str, epoch: Epoch, lane: Lane, cursor: Cursor) -> None:
        """Move a cursor; written with the next commit (a lost move only repeats a delivery)."""
        key = (consumer, epoch.number, lane)
        self.cursors[key] = self._moved[key] = cursor

    async def save_consumer(self, consumer: Consumer) -> None:
        """Write a consumer's state.

        :raises JournalFull: the disk is full; nothing was written
        :raises JournalFailed: it could not be mended
        """
        await self._in_writer(lambda: self._write(lambda store: store.save_consumer(consumer)))
        self.consumers[consumer.name] = consumer

    def active_consumers(self) -> Iterable[Consumer]:
        """Return those that are enrolled and not suspended."""
        return [consumer for consumer in self.consumers.values() if consumer.state == "enrolled"]

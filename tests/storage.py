"""A disk that can lose power, fail a sync or be full: an ``apsw.VFS`` with a memory.

One idea: a disk is the log of what was done to it. The files in the directory are what the
running system sees (its page cache). What would be found after a power loss at any moment is
computed from the log: a synced write is there; one that was not may be there, or not, or in part.

    with Disk(tmp_path / "live") as disk:
        store = Store(disk.directory / FILE_NAME, 0, vfs=disk.name)
        ...
        disk.power_loss(tmp_path / "after", seed=4711)

SQLite's ``-shm`` file is memory that it maps past the VFS; it does not outlive the machine.
"""

import itertools
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import apsw

SECTOR_BYTES = 512
HELD_TIMEOUT_S = 20.0
FOR_EVER = 1 << 62

_names = (f"disk-{number}" for number in itertools.count(1))


class Write(NamedTuple):
    """Bytes at a place of a file. Files are numbered: a name may be given to another file."""

    file: int
    offset: int
    data: bytes


class Truncate(NamedTuple):
    file: int
    size: int


class Sync(NamedTuple):
    """The end of a sync.

    As Linux does it: after one that failed, what was dirty counts as clean. Some of it has
    reached the disk, the rest never will, and the next sync succeeds.
    """

    file: int
    failed: bool


class Create(NamedTuple):
    name: str
    file: int


class Delete(NamedTuple):
    name: str


class SyncDirectory(NamedTuple):
    """From here on the names are safe."""


Op = Write | Truncate | Sync | Create | Delete | SyncDirectory


def after_power_loss(log: Sequence[Op], random: Random) -> dict[str, bytes]:
    """Return the files that are found after a power loss behind the last entry of this log."""
    platters: dict[int, bytearray] = defaultdict(bytearray)
    dirty: dict[int, list[Write | Truncate]] = defaultdict(list)
    names: dict[str, int] = {}
    renamed: list[Create | Delete] = []
    for op in log:
        match op:
            case Write() | Truncate():
                dirty[op.file].append(op)
            case Sync():
                ops = dirty.pop(op.file, [])
                for kept in _some(ops, random) if op.failed else ops:
                    _apply(platters[op.file], kept)
            case Create() | Delete():
                renamed.append(op)
            case SyncDirectory():
                for change in renamed:
                    _rename(names, change)
                renamed.clear()
    for file, ops in dirty.items():
        for kept in _some(ops, random):
            _apply(platters[file], kept)
    for change in renamed[: random.randint(0, len(renamed))]:  # file systems keep their order
        _rename(names, change)
    return {name: bytes(platters[file]) for name, file in names.items()}


def _some(ops: Sequence[Write | Truncate], random: Random) -> Iterator[Write | Truncate]:
    """Yield what a disk keeps of operations that it was not asked to keep.

    Any subset may survive, in whole or in single sectors: that covers every order of writing.
    """
    kept = random.choice([0.0, 0.5, 0.9, 1.0])
    for op in ops:
        if random.random() < kept:
            yield op
        elif isinstance(op, Write) and kept and random.random() < 0.5:
            yield from (sector for sector in _sectors(op) if random.random() < 0.5)


def _sectors(write: Write) -> Iterator[Write]:
    at, end = write.offset, write.offset + len(write.data)
    while at < end:
        until = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield Write(write.file, at, write.data[at - write.offset : until - write.offset])
        at = until


def _apply(content: bytearray, op: Write | Truncate) -> None:
    end = op.offset + len(op.data) if isinstance(op, Write) else op.size
    content.extend(bytes(max(0, end - len(content))))
    if isinstance(op, Write):
        content[op.offset : end] = op.data
    else:
        del content[end:]


def _rename(names: dict[str, int], change: Create | Delete) -> None:
    if isinstance(change, Create):
        names[change.name] = change.file
    else:
        names.pop(change.name, None)


class Disk(apsw.VFS):
    """The disk of one directory. Files that are there already are safe on it.

    :ivar log: everything that was done, in order; ``len(disk.log)`` is a moment
    :ivar syncs: how many syncs were asked for
    :ivar holding: set while a sync waits for :meth:`let_sync`
    """

    def __init__(self, directory: Path, log: Sequence[Op] = ()) -> None:
        self.name = next(_names)
        self.directory = directory
        self.log: list[Op] = list(log)
        self.files: dict[str, int] = {}
        self.syncs = 0
        self.holding = threading.Event()
        self._failing = range(0)
        self._room: int | None = None
        self._may_sync = threading.Event()
        self._may_sync.set()
        self._numbers = itertools.count(1 + sum(isinstance(op, Create) for op in self.log))
        directory.mkdir(parents=True, exist_ok=True)
        for op in self.log:
            if isinstance(op, Create | Delete):
                _rename(self.files, op)
        for path in sorted(directory.iterdir()):
            if path.name not in self.files:
                file = self.create(path.name)
                self.log += [Write(file, 0, path.read_bytes()), Sync(file, failed=False)]
        if not log:
            self.log.append(SyncDirectory())
        super().__init__(self.name, "")

    def __enter__(self) -> "Disk":
        return self

    def __exit__(self, *_: object) -> None:
        self.let_sync()
        self.unregister()

    # -- what happens to it --------------------------------------------------------------------

    def power_loss(self, target: Path, seed: int, at: int | None = None) -> Path:
        """Write into a new directory what is found after a power loss at a moment (now)."""
        target.mkdir(parents=True)
        for name, content in after_power_loss(self.log[:at], Random(seed)).items():
            (target / name).write_bytes(content)
        return target

    def kill(self, target: Path) -> "Disk":
        """Return the disk as another process finds it after a ``kill -9`` now.

        The page cache survives, and with it what the disk does not have.
        """
        target.mkdir(parents=True)
        for name in self.files:
            (target / name).write_bytes((self.directory / name).read_bytes())
        return Disk(target, self.log)

    def fail_syncs(self, first: int = 1, count: int = 1) -> None:
        """Let syncs fail with EIO from the ``first`` from now on, ``count`` of them."""
        self._failing = range(self.syncs + first, self.syncs + first + count)

    def fill(self, writes: int = 0) -> None:
        """Have room for so many writes more."""
        self._room = writes

    def heal(self) -> None:
        """Be a good disk again, with room."""
        self._failing, self._room = range(0), None

    def hold_syncs(self) -> None:
        """Let syncs wait for :meth:`let_sync`."""
        self._may_sync.clear()

    def let_sync(self) -> None:
        """Let waiting syncs go on."""
        self._may_sync.set()

    # -- what files tell it --------------------------------------------------------------------

    def create(self, name: str) -> int:
        """Take note of a new file; return its number."""
        self.files[name] = next(self._numbers)
        self.log.append(Create(name, self.files[name]))
        return self.files[name]

    def takes(self, data: bytes) -> bytes:
        """Return the part of a write for which there is room."""
        if self._room is None:
            return data
        self._room -= 1
        return data if self._room >= 0 else data[: len(data) // 2]

    def sync(self, file: int) -> None:
        """End a sync, well or with EIO."""
        self.syncs += 1
        failed = self.syncs in self._failing
        if not self._may_sync.is_set():
            self.holding.set()
            assert self._may_sync.wait(HELD_TIMEOUT_S), "nobody let the sync go on"
            self.holding.clear()
        self.log.append(Sync(file, failed))
        if failed:
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)

    # -- what SQLite asks of it ----------------------------------------------------------------

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        if name is None:
            return apsw.VFSFile("", None, flags)
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, False)
        name = Path(filename).name
        del self.files[name]
        self.log.append(Delete(name))
        if syncdir:
            self.log.append(SyncDirectory())


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename, flags: list[int]) -> None:
        path = Path(name if isinstance(name, str) else name.filename())
        self._disk = disk
        # SQLite syncs the directory with the first sync of a journal that it may have created.
        journal = not flags[0] & apsw.SQLITE_OPEN_MAIN_DB
        self._syncs_name = journal and bool(flags[0] & apsw.SQLITE_OPEN_CREATE)
        super().__init__("", name, flags)
        known = disk.files.get(path.name)
        self._file = disk.create(path.name) if known is None else known

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        taken = self._disk.takes(bytes(data))
        if taken:
            super().xWrite(taken, offset)
            self._disk.log.append(Write(self._file, offset, taken))
        if len(taken) < len(data):
            raise apsw.FullError("database or disk is full")

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._disk.log.append(Truncate(self._file, newsize))

    def xLock(self, level: int) -> None:  # noqa: N802
        # A file that is open for reading only cannot be locked for writing. SQLite tries it when
        # the last reader leaves, and leaves then without tidying up; apsw would raise.
        try:
            super().xLock(level)
        except apsw.IOError as error:
            raise apsw.BusyError from error

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.sync(self._file)
        if self._syncs_name:
            self._disk.log.append(SyncDirectory())
            self._syncs_name = False

"""Disk space set aside in a file, so that there is some when the disk is full."""

import os
from contextlib import suppress
from pathlib import Path

FILE_NAME = "reserve"
OPENING_BYTES = 1 << 20
_BLOCK_BYTES = 512  # unit of st_blocks, stat(2)


def make_room_to_open(directory: Path) -> None:
    """Give up the reserve where the disk has no room even to open a journal."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return  # whoever opens the journal says so
    if disk.f_bavail * disk.f_frsize < OPENING_BYTES:
        reserve = Reserve(directory)
        reserve.look()
        reserve.resize(0)
        reserve.close()


class Reserve:
    """A file of the state directory whose blocks are allocated (posix_fallocate(3)).

    It stays when it is given up, empty: a file system without free inodes can still fill it again.

    :ivar held: bytes that it holds
    """

    def __init__(self, directory: Path) -> None:
        self._file: int | None = None
        self._path = directory / FILE_NAME
        self.held = 0

    def resize(self, size: int) -> bool:
        """Hold so many bytes; return whether it does. If not, it holds what it held before."""
        try:
            file = self._opened()
            if size > self.held:
                os.posix_fallocate(file, 0, size)
            os.ftruncate(file, size)
        except OSError:
            self._keep()
            return False
        self.held = size
        return True

    def _keep(self) -> None:
        """Give back what was allocated in vain."""
        if self._file is not None:
            with suppress(OSError):
                os.ftruncate(self._file, self.held)

    def _opened(self) -> int:
        if self._file is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o600)
            found = os.fstat(self._file)
            # A copy of the directory may have left holes; they reserve nothing.
            self.held = min(found.st_size, found.st_blocks * _BLOCK_BYTES)
        return self._file

    def look(self) -> None:
        """Take note of what the file of an earlier process holds."""
        with suppress(OSError):
            self._opened()

    def close(self) -> None:
        """Close the file; it keeps what it holds."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

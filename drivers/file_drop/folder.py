"""The folder, as the file system shows it; nothing in it is ever changed.

Every call may hang for ever, on a network that is away. So each runs in a thread of its own, with a
time limit; one that hangs is left behind, and none is begun before it has come back.
"""

import asyncio
import errno
import os
import stat
import threading
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from drivers.file_drop.values import Unreadable
from edgeagent.driver import LinkLost

_T = TypeVar("_T")
_CHUNK_BYTES = 1 << 20
_OF_THE_FILE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.EISDIR)
_GONE = (errno.ENOENT, errno.ESTALE)


class Seen(NamedTuple):
    """A file as it was seen; equal as long as nobody has touched it."""

    mtime_ns: int
    name: str
    inode: int
    size: int
    ctime_ns: int


def matches(seen: Seen, pattern: str) -> bool:
    """Return whether the name of a file matches a pattern; case counts."""
    return fnmatchcase(seen.name, pattern)


def look(folder: Path, patterns: Sequence[str], files_max: int) -> list[Seen]:
    """Return the files that match any pattern, the oldest first.

    :raises LinkLost: if the folder cannot be read, or holds too much
    """
    found: list[Seen] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not any(fnmatchcase(entry.name, pattern) for pattern in patterns):
                    continue
                seen = _seen(entry)
                if seen is not None:
                    found.append(seen)
                if len(found) > files_max:
                    raise LinkLost(
                        f"{folder} holds more than {files_max} reports; move old ones to another "
                        "folder, or raise files_max"
                    )
    except OSError as error:
        mend = "let the agent's account read it, or have it mounted; it is tried again"
        raise LinkLost(f"{folder}: {error.strerror}; {mend}") from None
    return sorted(found)


def _seen(entry: os.DirEntry[str]) -> Seen | None:
    try:
        facts = entry.stat(follow_symlinks=False)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    if not stat.S_ISREG(facts.st_mode):
        return None
    return Seen(facts.st_mtime_ns, entry.name, facts.st_ino, facts.st_size, facts.st_ctime_ns)


def read(folder: Path, seen: Seen, bytes_max: int) -> bytes | None:
    """Return the content of a file, ``None`` if it is no longer as it was seen.

    :raises Unreadable: if this file cannot be read
    :raises LinkLost: if the file system does not give it
    """
    if seen.size > bytes_max:
        raise Unreadable(f"has {seen.size} bytes, more than file_bytes_max {bytes_max}")
    try:
        handle = _open(folder / seen.name)
    except OSError as error:
        if error.errno in _GONE:
            return None
        if error.errno in _OF_THE_FILE:
            raise Unreadable(f"cannot be opened: {error.strerror}") from None
        raise LinkLost(f"{folder}: {error.strerror}") from None
    try:
        content = bytearray()
        while len(content) <= seen.size and (chunk := os.read(handle, _CHUNK_BYTES)):
            content += chunk
        facts = os.fstat(handle)
    except OSError as error:
        raise LinkLost(f"{folder}: {error.strerror}") from None
    finally:
        os.close(handle)
    now = (facts.st_mtime_ns, facts.st_ino, facts.st_size, len(content))
    return bytes(content) if now == (seen.mtime_ns, seen.inode, seen.size, seen.size) else None


def _open(path: Path) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:  # the account does not own the file (open(2))
        return os.open(path, flags)


class Aside:
    """Work beside the event loop, one piece at a time."""

    def __init__(self, what: str, timeout_s: float) -> None:
        self._what = what
        self._timeout_s = timeout_s
        self._idle = asyncio.Event()
        self._idle.set()

    async def do(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Return what a piece of work returns, or raise what it raises.

        :raises LinkLost: if it takes too long
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            self._idle.set()
            if done.cancelled():
                return
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        def run() -> None:
            result, failure = None, None
            try:
                result = work(*arguments)
            except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
                failure = error
            try:
                loop.call_soon_threadsafe(settle, result, failure)
            except RuntimeError:
                return  # the loop has ended, and nobody waits

        try:
            async with asyncio.timeout(self._timeout_s):
                await self._idle.wait()
                self._idle.clear()
                # A daemon: one that hangs must not keep the agent from ending.
                threading.Thread(target=run, name=self._what, daemon=True).start()
                return await done
        except TimeoutError:
            raise LinkLost(
                f"{self._what} does not answer within {self._timeout_s:g} s; see whether its file "
                "system is there"
            ) from None

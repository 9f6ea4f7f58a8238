"""The places where a serial line can be heard: a pseudo-terminal, or TCP as a device server has it.

Both carry the same characters. A port may vanish, as an adapter whose plug is pulled, and return.
"""

import asyncio
import contextlib
import os
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

_READ_BYTES = 4096


class SerialPort(Protocol):
    """One end of a serial line."""

    @property
    def endpoint(self) -> dict[str, Any]:
        """Where the other end is to be found."""
        ...

    async def open(self, heard: Callable[[bytes], None]) -> None:
        """Begin to hear.

        :raises OSError: if the port cannot be had
        """

    def write(self, raw: bytes) -> None:
        """Say something; it is lost when nobody listens."""

    async def close(self) -> None:
        """Vanish. Any number of times; :meth:`open` brings the port back at the same place."""


class PtyPort:
    """A pseudo-terminal behind a symbolic link, which stays the same when the terminal changes.

    It has neither bit rate nor parity; a client must ask for 8 data bits and no parity.
    """

    def __init__(self, link: Path) -> None:
        self._link = link
        self._ends: tuple[int, int] | None = None

    @property
    def endpoint(self) -> dict[str, Any]:
        return {"device": str(self._link)}

    async def open(self, heard: Callable[[bytes], None]) -> None:
        """:raises OSError: if something that is no link stands at the link's place"""
        ours, theirs = os.openpty()
        self._ends = ours, theirs  # theirs too: else each close at the other side ends the port
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        try:
            if self._link.is_symlink():  # of a run that was killed
                self._link.unlink()
            self._link.symlink_to(os.ttyname(theirs))
        except OSError:
            self._close_ends()
            raise
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, lambda: heard(os.read(ours, _READ_BYTES)))

    def write(self, raw: bytes) -> None:
        if self._ends is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._ends[0], raw)

    async def close(self) -> None:
        if self._ends is not None:
            asyncio.get_running_loop().remove_reader(self._ends[0])
            self._link.unlink(missing_ok=True)
            self._close_ends()

    def _close_ends(self) -> None:
        for end in self._ends or ():
            os.close(end)
        self._ends = None


class DeviceServerPort:
    """A listening TCP port whose clients all hear the line and may all speak on it."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        """0 lets the system choose; the true one after :meth:`open`."""
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    @property
    def endpoint(self) -> dict[str, Any]:
        return {"host": self.host, "port": self.port}

    async def open(self, heard: Callable[[bytes], None]) -> None:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(_hear(reader, heard), name=f"device server {self.port}")
            self._clients[writer] = task
            task.add_done_callback(lambda _: self._leave(writer))

        self._server = await asyncio.start_server(connected, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def write(self, raw: bytes) -> None:
        for client in self._clients:
            client.write(raw)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        clients = dict(self._clients)
        for writer, task in clients.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*clients.values(), return_exceptions=True)

    def _leave(self, writer: asyncio.StreamWriter) -> None:
        self._clients.pop(writer, None)
        writer.close()


async def _hear(reader: asyncio.StreamReader, heard: Callable[[bytes], None]) -> None:
    with contextlib.suppress(ConnectionError, TimeoutError):
        while data := await reader.read(_READ_BYTES):
            heard(data)

"""The units at the other end of a serial line: a pseudo-terminal, or TCP as a device server has it.

It shares no code with the driver and none with pymodbus.
"""

import asyncio
import os
import tty
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.unit.drivers.modbus import slaves

REQUEST_BYTES = {"rtu": 8, "ascii": 17}


@dataclass
class SerialPeer:
    """Units that answer; each register holds a value of its own.

    :ivar said: unit and PDU of each request that came
    :ivar silent: units that do not answer
    """

    framing: str
    directory: Path | None = None
    said: list[tuple[int, bytes]] = field(default_factory=list)
    silent: set[int] = field(default_factory=set)
    trouble: list[Exception] = field(default_factory=list)
    port: int = 0
    _master: int | None = None
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def link(self) -> dict[str, object]:
        """What a link must state to get here; a pseudo-terminal has neither parity nor 7 bits."""
        stated = {"framing": self.framing}
        if self.directory is None:
            return stated | {"host": "127.0.0.1", "port": self.port}
        return stated | {"device": str(self.device), "parity": "none", "data_bits": 8}

    @property
    def device(self) -> Path:
        assert self.directory is not None
        return self.directory / "line"

    async def start(self) -> None:
        if self.directory is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]
            return
        self._master, port = os.openpty()
        tty.setraw(port)
        os.set_blocking(self._master, False)
        self.device.symlink_to(os.ttyname(port))
        os.close(port)
        heard = bytearray()
        asyncio.get_running_loop().add_reader(self._master, self._read, self._master, heard)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None
        if self._master is not None:
            self.device.unlink()
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)
            self._master = None

    def _read(self, master: int, heard: bytearray) -> None:
        try:
            heard += os.read(master, 4096)
        except BlockingIOError:
            return
        except OSError:  # nobody has the port open: the master hears of it without pause
            loop = asyncio.get_running_loop()
            loop.remove_reader(master)
            loop.call_later(0.01, self._listen_again, master, heard)
            return
        self._take(heard, lambda data: os.write(master, data))

    def _listen_again(self, master: int, heard: bytearray) -> None:
        if self._master == master:
            asyncio.get_running_loop().add_reader(master, self._read, master, heard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        heard = bytearray()
        try:
            while data := await reader.read(4096):
                heard += data
                self._take(heard, writer.write)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    def _take(self, heard: bytearray, say: Callable[[bytes], object]) -> None:
        """Answer the requests that are complete; all have one length."""
        length = REQUEST_BYTES[self.framing]
        opened, framed = {
            "rtu": (slaves.opened_rtu, slaves.rtu),
            "ascii": (slaves.opened_ascii, slaves.in_ascii),
        }[self.framing]
        while len(heard) >= length:
            frame = bytes(heard[:length])
            del heard[:length]
            try:
                unit, request = opened(frame)
            except (AssertionError, ValueError) as error:
                self.trouble.append(error)
                return
            self.said.append((unit, request))
            if unit not in self.silent:
                say(framed(unit, slaves.answer(unit, request)))

"""A TCP relay between a client and a server, with a hand on the cable.

A test lets its client connect to :attr:`Link.port` and then treats the link badly: it cuts it,
stalls it, refuses new connections, slows it down or garbles what passes.
"""

import asyncio
import contextlib
import socket
import struct
from random import Random

_CHUNK_BYTES = 4096
_THROTTLE_SLICE_S = 0.01


class Link:
    """A relay to `target_host:target_port` on a port of its own, for any number of connections.

    `delay_s`, `bytes_per_s_max` and `garbled_share` may be set at any time and hold for what
    passes from then on.
    """

    def __init__(
        self, target_host: str, target_port: int, *, host: str = "127.0.0.1", seed: int = 0
    ) -> None:
        self.host = host
        self.port = 0
        """Chosen by the system; known after :meth:`start`."""
        self.delay_s = 0.0
        """Added on the way, in each direction."""
        self.bytes_per_s_max: float | None = None
        """Speed limit per connection and direction; None for none."""
        self.garbled_share = 0.0
        """Share of bytes that get one bit flipped."""
        self.forwarded_bytes = 0
        """In both directions, since the start."""
        self._target = (target_host, target_port)
        self._rng = Random(seed)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. The port stays the same when refusing ends."""
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and cut everything. Any number of times."""
        self.refuse()
        await self.cut()

    @property
    def connections(self) -> int:
        """How many clients hold a connection now."""
        return len(self._connections)

    async def cut(self) -> None:
        """Reset every connection in both directions. New ones are accepted."""
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def refuse(self) -> None:
        """Refuse new connections until :meth:`start`. Those that stand go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def stall(self) -> None:
        """Keep every socket open and forward nothing, as when a cable is pulled."""
        self._flowing.clear()

    def resume(self) -> None:
        """Forward again, beginning with what waited."""
        self._flowing.set()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._relay(reader, writer), name=f"link {self.port}")
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        connection.add_done_callback(lambda _: writer.close())

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sides = [writer]
        try:
            with contextlib.suppress(OSError):
                await self._flowing.wait()
                far_reader, far_writer = await asyncio.open_connection(*self._target)
                sides.append(far_writer)
                await self._both_ways((reader, writer), (far_reader, far_writer))
        except asyncio.CancelledError:
            for side in sides:
                _reset(side)
            raise
        finally:
            for side in sides:
                side.close()

    async def _both_ways(
        self,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Forward until either side ends; while stalled, its end is not passed on."""
        pumps = [
            asyncio.create_task(self._pump(near[0], far[1])),
            asyncio.create_task(self._pump(far[0], near[1])),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            await self._flowing.wait()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            if self.delay_s > 0.0:
                await asyncio.sleep(self.delay_s)
            for piece in self._slices(data):
                await self._flowing.wait()
                self.forwarded_bytes += len(piece)
                writer.write(self._garbled(piece))
                await writer.drain()
                if self.bytes_per_s_max is not None:
                    await asyncio.sleep(len(piece) / self.bytes_per_s_max)

    def _slices(self, data: bytes) -> list[bytes]:
        if self.bytes_per_s_max is None:
            return [data]
        size = max(1, int(self.bytes_per_s_max * _THROTTLE_SLICE_S))
        return [data[start : start + size] for start in range(0, len(data), size)]

    def _garbled(self, data: bytes) -> bytes:
        if self.garbled_share <= 0.0:
            return data
        damaged = bytearray(data)
        for index in range(len(damaged)):
            if self._rng.random() < self.garbled_share:
                damaged[index] ^= 1 << self._rng.randrange(8)
        return bytes(damaged)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Drop a connection so that the other end sees a reset, not an orderly end."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

"""The other end of a Modbus TCP connection, byte for byte.

It shares no code with the driver and none with pymodbus: what a test wants on the wire it writes
itself.
"""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came."""

    transaction: int
    unit: int
    pdu: bytes

    @property
    def function(self) -> int:
        return self.pdu[0]

    @property
    def address(self) -> int:
        return struct.unpack_from(">H", self.pdu, 1)[0]

    @property
    def count(self) -> int:
        return struct.unpack_from(">H", self.pdu, 3)[0]

    def reply(self, pdu: bytes, *, transaction=None, unit=None, protocol=0, length=None) -> bytes:
        """The reply with this PDU; every field of its header can be made wrong."""
        return (
            struct.pack(
                ">HHHB",
                self.transaction if transaction is None else transaction,
                protocol,
                len(pdu) + 1 if length is None else length,
                self.unit if unit is None else unit,
            )
            + pdu
        )

    def refusal(self, code: int) -> bytes:
        return self.reply(bytes((self.function | 0x80, code)))

    def registers(self, *values: int) -> bytes:
        """The PDU that brings these registers."""
        return struct.pack(f">BB{len(values)}H", self.function, 2 * len(values), *values)


class Connection:
    """What a script may do to the client."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def send_bytewise(self, data: bytes) -> None:
        for byte in data:
            self._writer.write(bytes((byte,)))
            await self._writer.drain()
            await asyncio.sleep(0)

    def hang_up(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Close so that the client gets a reset instead of an end."""
        self._writer.transport.abort()


Script = Callable[[Request, Connection], object]


def serve(request: Request, connection: Connection) -> None:
    """An honest device: each register holds its own address, each bit is its address's parity."""
    addresses = range(request.address, request.address + request.count)
    if request.function in (3, 4):
        connection.send(request.reply(request.registers(*addresses)))
        return
    bits = [address % 2 for address in addresses]
    rows = [bits[n : n + 8] for n in range(0, len(bits), 8)]
    data = bytes(sum(bit << n for n, bit in enumerate(row)) for row in rows)
    connection.send(request.reply(bytes((request.function, len(data))) + data))


@dataclass
class Peer:
    """A device or gateway that does what ``script`` says; it keeps every request."""

    script: Script = serve
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    trouble: list[Exception] = field(default_factory=list)
    _served: dict[asyncio.StreamWriter, asyncio.Task] = field(default_factory=dict)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._served:
            writer.transport.abort()
        await asyncio.gather(*self._served.values())
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._served[writer] = asyncio.current_task()
        connection = Connection(writer)
        try:
            while True:
                header = await reader.readexactly(7)
                transaction, protocol, length, unit = struct.unpack(">HHHB", header)
                assert protocol == 0
                request = Request(transaction, unit, await reader.readexactly(length - 1))
                self.requests.append(request)
                done = self.script(request, connection)
                if asyncio.iscoroutine(done):
                    await done
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Exception as error:  # noqa: BLE001 (the fixture shows it; here nobody would)
            self.trouble.append(error)
        finally:
            writer.transport.abort()

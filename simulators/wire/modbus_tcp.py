"""Modbus TCP: instruments behind a gateway, or one instrument with a port of its own.

Source: Modbus Messaging on TCP/IP Implementation Guide V1.0b, sections 3.1.2 and 3.1.3 (header).
The unit identifier chooses the instrument; one that is not there, or is switched off, gives
exception 0x0B as a gateway does. Requests of one connection are answered in the order they came;
the instruments hang on one line, so the wire answers one request at a time for all clients. A
header with another protocol identifier or an impossible length closes the connection.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simulators.faults import Dice, Fault
from simulators.ledger import Ledger
from simulators.wire.line import Line, Unit, pause

_HEADER = struct.Struct(">HHHB")
_PROTOCOL_ID = 0
_LENGTH_MIN = 2  # unit identifier and function
_LENGTH_MAX = 254  # unit identifier and the largest protocol data unit


@dataclass(frozen=True, slots=True)
class Message:
    """One message without its protocol identifier and length, which follow from the rest."""

    transaction_id: int
    unit_id: int
    pdu: bytes

    def encoded(self) -> bytes:
        header = _HEADER.pack(self.transaction_id, _PROTOCOL_ID, len(self.pdu) + 1, self.unit_id)
        return header + self.pdu


class ModbusTcpServer:
    """One listening wire; the parameters that are not here are those of :class:`Line`."""

    def __init__(
        self,
        name: str,
        units: Mapping[int, Unit],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        dice: Dice | None = None,
        ledger: Ledger | None = None,
        before_read: Callable[[], None] = lambda: None,
    ) -> None:
        self.host = host
        self.port = port
        """0 lets the system choose; the true one after :meth:`start`."""
        self._line = Line(
            name, units, gateway=True, dice=dice, ledger=ledger, before_read=before_read
        )
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> dict[str, Any]:
        """Where the wire is to be found."""
        return {"host": self.host, "port": self.port}

    async def start(self) -> None:
        """:raises OSError: if the port cannot be had"""
        self._server = await asyncio.start_server(self._connected, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection. Any number of times."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = f"modbus {self._line.name}"
        connection = asyncio.create_task(self._serve(reader, writer), name=name)
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        connection.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, TimeoutError):
                while (request := await _read_message(reader)) is not None:
                    if not await self._answer(request, writer):
                        break
        except asyncio.CancelledError:
            writer.transport.abort()
            raise

    async def _answer(self, request: Message, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is to be closed."""
        dice = self._line.dice
        said = await self._line.ask(request.unit_id, request.pdu)
        transaction_id = request.transaction_id
        if said.fault is Fault.WRONG_TRANSACTION_ID:
            transaction_id = (transaction_id + 1) & 0xFFFF
        raw = Message(transaction_id, said.unit_id, said.pdu).encoded()
        match said.fault:
            case Fault.NO_ANSWER:
                return True
            case Fault.LATE_ANSWER:
                await pause(dice.late_answer_s())
                writer.write(raw)
            case Fault.GARBAGE_BEFORE:
                writer.write(dice.garbage() + raw)
            case Fault.DUPLICATE_REPLY:
                writer.write(raw * 2)
            case Fault.CLOSE_MID_REPLY:
                writer.write(raw[: len(raw) // 2])
                await writer.drain()
                return False
            case Fault.BYTE_BY_BYTE:
                for byte in raw:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(dice.faults.byte_gap_s)
            case _:
                writer.write(raw)
        await writer.drain()
        return True


async def _read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next message, however its bytes are cut; None at its end or at nonsense."""
    try:
        header = await reader.readexactly(_HEADER.size)
        transaction_id, protocol_id, length, unit_id = _HEADER.unpack(header)
        if protocol_id != _PROTOCOL_ID or not _LENGTH_MIN <= length <= _LENGTH_MAX:
            return None
        return Message(transaction_id, unit_id, await reader.readexactly(length - 1))
    except asyncio.IncompleteReadError:
        return None

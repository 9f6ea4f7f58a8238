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

from simulators.devices.contract import ModbusDevice, ModbusException
from simulators.faults import NO_FAULTS, Dice, Fault
from simulators.ledger import Exchange, Ledger
from simulators.wire.modbus_pdu import asked, exception_reply, reply_to

_HEADER = struct.Struct(">HHHB")
_PROTOCOL_ID = 0
_LENGTH_MIN = 2  # unit identifier and function
_LENGTH_MAX = 254  # unit identifier and the largest protocol data unit


@dataclass(frozen=True, slots=True)
class Unit:
    """An instrument at its place on a wire."""

    device_id: str
    device: ModbusDevice


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
    """One listening wire.

    `before_read` is called before an instrument is read, to bring simulated time up to date.
    """

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
        self.name = name
        self.host = host
        self.port = port
        """0 lets the system choose; the true one after :meth:`start`."""
        self._units = units
        self._dice = dice or Dice(NO_FAULTS, name)
        self._ledger = ledger
        self._before_read = before_read
        self._line = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

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
        connection = asyncio.create_task(self._serve(reader, writer), name=f"modbus {self.name}")
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
        async with self._line:
            await _pause(self._dice.reply_delay_s())
            fault = self._dice.throw()
            reply = Message(request.transaction_id, request.unit_id, self._reply_pdu(request))
            self._record(request, reply, fault)
        if fault is Fault.LATE_ANSWER:
            await _pause(self._dice.late_answer_s())
        return await self._send(request, reply, fault, writer)

    def _reply_pdu(self, request: Message) -> bytes:
        self._before_read()
        unit = self._units.get(request.unit_id)
        if unit is None or unit.device.silent:
            return exception_reply(request.pdu[0], ModbusException.GATEWAY_TARGET_SILENT)
        return reply_to(request.pdu, unit.device)

    def _record(self, request: Message, reply: Message, fault: Fault | None) -> None:
        if self._ledger is None:
            return
        what = asked(request.pdu)
        unit = self._units.get(request.unit_id)
        self._ledger.write(
            Exchange(
                wire=self.name,
                device=unit.device_id if unit else None,
                unit=request.unit_id,
                function=what.function,
                address=what.address,
                count=what.count,
                reply=reply.pdu,
                fault=fault,
            )
        )

    async def _send(
        self, request: Message, reply: Message, fault: Fault | None, writer: asyncio.StreamWriter
    ) -> bool:
        raw = _struck(reply, fault, self._dice).encoded()
        match fault:
            case Fault.NO_ANSWER:
                return True
            case Fault.GARBAGE_BEFORE:
                writer.write(self._dice.garbage() + raw)
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
                    await asyncio.sleep(self._dice.faults.byte_gap_s)
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


def _struck(reply: Message, fault: Fault | None, dice: Dice) -> Message:
    """The reply with what the fault makes of its content."""
    transaction_id, unit_id, pdu = reply.transaction_id, reply.unit_id, reply.pdu
    carries_data = len(pdu) > 2
    match fault:
        case Fault.WRONG_TRANSACTION_ID:
            transaction_id = (transaction_id + 1) & 0xFFFF
        case Fault.WRONG_UNIT_ID:
            unit_id = (unit_id + 1) & 0xFF
        case Fault.WRONG_FUNCTION:
            pdu = bytes([pdu[0] ^ 0x07]) + pdu[1:]
        case Fault.EXCEPTION:
            pdu = exception_reply(pdu[0], dice.faults.exception_code)
        case Fault.SHORT_REPLY if carries_data:
            cut = 2 if pdu[0] in (3, 4) else 1
            pdu = bytes([pdu[0], pdu[1] - cut]) + pdu[2:-cut]
        case Fault.WRONG_BYTE_COUNT if carries_data:
            pdu = bytes([pdu[0], (pdu[1] + 2) & 0xFF]) + pdu[2:]
    return Message(transaction_id, unit_id, pdu)


async def _pause(duration_s: float) -> None:
    if duration_s > 0.0:
        await asyncio.sleep(duration_s)

"""One Modbus TCP connection: a request PDU goes out, its reply PDU comes back.

The only file that touches pymodbus. What it uses of pymodbus 3.16 is its transport layer,
:class:`pymodbus.transport.ModbusProtocol`, by subclassing:

- the constructor with :class:`CommParams` (``comm_type``, ``host``, ``port``, ``reconnect_delay``)
- the callbacks that the class leaves abstract: ``callback_connected``, ``callback_disconnected``,
  ``callback_data`` (is given what has come in, returns how much of it is used up)
- the methods ``send``, ``close`` and ``is_active``, the attributes ``transport`` and ``loop``
- ``call_create``, the coroutine function that opens the connection (``connect`` would hide why
  it failed), ``recv_buffer`` (``send`` empties it, and with it the first half of a late reply),
  ``max_buffer_size`` (beyond which it would silently drop what has come in)

``tests/unit/drivers/modbus/test_client_adapter.py`` fails when one of these changes.

The layers above, transaction manager and response classes, are not used. They forgive too much:
transaction id 0, the wrong function, half the registers. They end the connection over an unknown
function, wait out the timeout on a foreign protocol id, and leave the request pending when the
connection closes. And they cost: of the CPU time of a request for 100 registers 31 of 45 us, with a
response class of one's own 10 of 23 us (Python 3.11, 20 connections).

Serial transports are the same subclassing with ``CommType.SERIAL`` and pymodbus's RTU and ASCII
framers; only what concerns the MBAP header is TCP's own.

Framing: MODBUS Messaging on TCP/IP Implementation Guide V1.0b, section 3.1.3.
"""

import asyncio
import logging
import socket
import struct
import sys
from typing import Protocol, cast

from pymodbus.transport import CommParams, CommType, ModbusProtocol

from edgeagent.model.errors import BadReply, EdgeAgentError, LinkLost

_HEADER = struct.Struct(">HHHB")  # transaction, protocol (0), bytes from the unit on, unit
_COUNTED_FROM = 6
_LENGTH_MIN = 3  # unit, function, one byte
_LENGTH_MAX = 254
_TRANSACTIONS = 0xFFFF

# A failure is a result too: an exception that is set but, after a cancellation, never fetched would
# be logged by asyncio.
_Answer = asyncio.Future[bytes | EdgeAgentError]

# Its errors reach acquisition as exceptions; as log lines they would come with a dump of frames.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)


class Wire(Protocol):
    """A link on which one request at a time is asked."""

    async def open(self) -> None:
        """Open the link.

        :raises LinkLost: if that fails
        """

    async def ask(self, unit: int, request: bytes) -> bytes:
        """Send a request PDU to a unit and return the PDU of its reply, at least two bytes.

        Safe to cancel: what comes late is not taken for the reply to a later request.

        :raises BadReply: if the unit does not answer, or another one does
        :raises LinkLost: if the link is gone
        """

    def close(self) -> None:
        """Close at any time, any number of times."""


class TcpWire(ModbusProtocol):
    """See :class:`Wire`."""

    def __init__(self, host: str, port: int, timeout_ns: int) -> None:
        parameters = CommParams(comm_type=CommType.TCP, host=host, port=port, reconnect_delay=0.0)
        super().__init__(parameters, is_server=False)
        self.max_buffer_size = sys.maxsize  # a frame is taken out as soon as it is complete
        self._peer = f"{host}:{port}"
        self._timeout_s = timeout_ns / 10**9
        self._gone = f"{self._peer}: not connected"
        self._reply: _Answer | None = None
        self._transaction = 0
        self._unit = 0
        self._dropped = ""

    async def open(self) -> None:
        """See :class:`Wire`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self.call_create()
        except TimeoutError:
            raise LinkLost(f"{self._peer}: no connection within {self._timeout_s:g} s") from None
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
            raise LinkLost(f"{self._peer}: {error}") from None

    async def ask(self, unit: int, request: bytes) -> bytes:
        """See :class:`Wire`."""
        if not self.is_active():
            raise LinkLost(self._gone)
        assert self._reply is None, "requests on a link never overlap"
        self._transaction = self._transaction % _TRANSACTIONS + 1
        self._unit = unit
        reply: _Answer = self.loop.create_future()
        self._reply = reply
        begun = self.recv_buffer
        self.send(_HEADER.pack(self._transaction, 0, 1 + len(request), unit) + request)
        self.recv_buffer = begun
        timer = self.loop.call_later(self._timeout_s, self._expire, reply)
        try:
            answer = await reply
        finally:
            timer.cancel()
            self._reply = None
        if isinstance(answer, bytes):
            return answer
        raise answer

    def close(self, reconnect: bool = False) -> None:
        """See :class:`Wire`."""
        self._lose(f"{self._peer}: closed")

    def callback_new_connection(self) -> ModbusProtocol:
        """Part of servers only."""
        raise AssertionError("a client accepts no connections")

    def callback_connected(self) -> None:
        """Set up what asyncio does not promise for every kind of event loop."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def callback_disconnected(self, exc: Exception | None) -> None:
        """Fail what waits for a reply: none will come."""
        self._lose(f"{self._peer}: {exc or 'the other end closed the connection'}")

    def callback_data(self, data: bytes, addr: tuple[str, int] | None = None) -> int:
        """Take out the complete frames and return their length."""
        used = 0
        while len(data) - used >= _HEADER.size:
            transaction, protocol, length, unit = _HEADER.unpack_from(data, used)
            if protocol or not _LENGTH_MIN <= length <= _LENGTH_MAX:
                header = data[used : used + _HEADER.size].hex(" ")
                self._lose(f"{self._peer}: out of step, or no Modbus: header {header}")
                return len(data)
            end = used + _COUNTED_FROM + length
            if end > len(data):
                break
            self._take(transaction, unit, data[used + _HEADER.size : end])
            used = end
        return used

    def _take(self, transaction: int, unit: int, pdu: bytes) -> None:
        """Give a reply to the request that waits for it, and drop what nobody waits for."""
        reply = self._reply
        if reply is None or reply.done() or transaction != self._transaction:
            self._dropped = f"; a reply with transaction id {transaction} was dropped"
        elif unit != self._unit:
            detail = f"{self._peer}: unit {unit} answered for unit {self._unit}"
            reply.set_result(BadReply("bad_reply", detail))
        else:
            self._dropped = ""
            reply.set_result(pdu)

    def _expire(self, reply: _Answer) -> None:
        """End the wait for a reply."""
        if not reply.done():
            detail = f"{self._peer}: unit {self._unit} did not answer within {self._timeout_s:g} s"
            reply.set_result(BadReply("timeout", detail + self._dropped))
        self._dropped = ""

    def _lose(self, why: str) -> None:
        """End the connection for good, and the wait for a reply with it."""
        if not self.is_closing:
            self._gone = why
        transport = cast(asyncio.Transport | None, self.transport)
        super().close()
        if transport is not None:
            transport.abort()  # close() would wait for a dead peer to take what was written
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(LinkLost(why))

"""Modbus TCP: frames with the MBAP header, whose transaction id tells a late reply from the next.

MODBUS Messaging on TCP/IP Implementation Guide V1.0b, section 3.1.3.
"""

import struct

from drivers.connection import Answer, Connection
from drivers.modbus.settings import ModbusLinkSettings
from edgeagent.model.errors import BadReply, LinkLost

_HEADER = struct.Struct(">HHHB")  # transaction, protocol (0), bytes from the unit on, unit
_COUNTED_FROM = 6
_LENGTH_MIN = 3  # unit, function, one byte
_LENGTH_MAX = 254
_TRANSACTIONS = 0xFFFF


class TcpWire(Connection):
    """See :class:`~drivers.modbus.wire.Wire`."""

    def __init__(self, settings: ModbusLinkSettings) -> None:
        super().__init__(settings)
        self._reply: Answer | None = None
        self._transaction = 0
        self._unit = 0
        self._dropped = ""

    async def ask(self, unit: int, request: bytes) -> bytes:
        """See :class:`~drivers.modbus.wire.Wire`."""
        if not self.is_active():
            raise LinkLost(self._gone)
        assert self._reply is None, "requests on a link never overlap"
        self._transaction = self._transaction % _TRANSACTIONS + 1
        self._unit = unit
        reply: Answer = self.loop.create_future()
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

    def forget(self, unit: int) -> None:
        """Nothing is known of a unit here."""

    def callback_data(self, data: bytes, addr: tuple[str, int] | None = None) -> int:
        """Take out the complete frames and return their length."""
        used = 0
        while len(data) - used >= _HEADER.size:
            transaction, protocol, length, unit = _HEADER.unpack_from(data, used)
            if protocol or not _LENGTH_MIN <= length <= _LENGTH_MAX:
                header = data[used : used + _HEADER.size].hex(" ")
                self._lose(f"{self.peer}: out of step, or no Modbus: header {header}")
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
            detail = f"{self.peer}: unit {unit} answered for unit {self._unit}"
            reply.set_result(BadReply("bad_reply", detail))
        else:
            self._dropped = ""
            reply.set_result(pdu)

    def _expire(self, reply: Answer) -> None:
        """End the wait for a reply."""
        if not reply.done():
            detail = f"{self.peer}: unit {self._unit} did not answer within {self._timeout_s:g} s"
            reply.set_result(BadReply("timeout", detail + self._dropped))
        self._dropped = ""

    def _lose(self, why: str) -> None:
        """End the connection for good, and the wait for a reply with it."""
        super()._lose(why)
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(LinkLost(why))

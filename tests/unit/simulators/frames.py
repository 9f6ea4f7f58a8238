"""Whole frames as they stand in a manual: what comes back for one, byte for byte."""

from simulators.wire.modbus_ascii import ASCII
from simulators.wire.modbus_pdu import reply_to
from simulators.wire.modbus_rtu import RTU


def rtu(request: str, device) -> str:
    """The reply to an RTU frame; both in hexadecimal."""
    return _answered(RTU, bytes.fromhex(request), device).hex(" ").upper()


def ascii_frame(request: str, device) -> str:
    """The reply to an ASCII frame; both without carriage return and line feed."""
    return _answered(ASCII, f"{request}\r\n".encode(), device).decode().removesuffix("\r\n")


def _answered(framing, raw, device):
    request = framing.taken(bytearray(raw), True)
    assert request is not None, "the frame is not whole: its checksum is wrong"
    return framing.encoded(request.unit_id, reply_to(request.pdu, device))

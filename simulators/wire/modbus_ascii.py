"""Modbus ASCII: a colon, each byte as two hexadecimal digits, an LRC, carriage return, line feed.

Source: MODBUS over Serial Line Specification and Implementation Guide V1.02, sections 2.5.2
(framing) and 6.2.1 (LRC).
"""

from simulators.wire.framing import Framing, Request

_START, _END = b":", b"\r\n"
_LENGTH_MIN = 3  # unit identifier, function, LRC


def lrc(raw: bytes) -> int:
    """The two's complement of the sum of all bytes."""
    return -sum(raw) & 0xFF


def encoded(unit_id: int, pdu: bytes) -> bytes:
    """One frame."""
    raw = bytes([unit_id]) + pdu
    return _START + (raw + bytes([lrc(raw)])).hex().upper().encode() + _END


def taken(heard: bytearray, silent: bool) -> Request | None:
    """Take the first request off what was heard; a colon begins afresh."""
    while (end := heard.find(_END)) >= 0:
        line = bytes(heard[:end])
        del heard[: end + len(_END)]
        request = _request(line[line.rfind(_START) :])
        if request is not None:
            return request
    if silent:
        heard.clear()
    return None


def _request(line: bytes) -> Request | None:
    try:
        raw = bytes.fromhex(line[1:].decode("ascii")) if line.startswith(_START) else b""
    except ValueError:
        return None
    if len(raw) < _LENGTH_MIN or sum(raw) & 0xFF:
        return None
    return Request(raw[0], raw[1:-1], line + _END)


ASCII = Framing(encoded, taken, bits_per_character=10, silence_s=1.0)

"""RTU and ASCII frames: pure functions, no I/O.

Of a reply everything is checked that can be: unit, function, byte count, length, CRC or LRC. Bytes
before or behind it spoil it. Only read requests (functions 1 to 4) have a reply whose length is
known from the request; there are no others.

MODBUS over Serial Line Specification and Implementation Guide V1.02, sections 2.5.1 (RTU) and 2.5.2
(ASCII), 6.2.1 (LRC), 6.2.2 (CRC).
"""

from binascii import Error as NoHexadecimal
from binascii import unhexlify
from collections.abc import Callable
from typing import NamedTuple

from pymodbus.framer import FramerAscii, FramerRTU


class BadFrame(Exception):
    """What came is not, and cannot become, the reply to the request."""


class Framing(NamedTuple):
    """How a line frames.

    :ivar encode: (unit, request PDU) to the bytes of the frame
    :ivar decode: (what came, unit, request PDU) to the reply PDU, ``None`` while it is incomplete;
        raises :class:`BadFrame`
    """

    encode: Callable[[int, bytes], bytes]
    decode: Callable[[bytes, int, bytes], bytes | None]


def reply_bytes(request: bytes) -> int:
    """Return how many data bytes the reply to a read request PDU has."""
    count = int.from_bytes(request[3:5], "big")
    return 2 * count if request[0] in (3, 4) else (count + 7) // 8


def _length(head: bytes, unit: int, request: bytes) -> int | None:
    """Return the length of a reply from unit to data, by its first bytes; ``None``: not yet known.

    :raises BadFrame: if it is another reply
    """
    if head and head[0] != unit:
        raise BadFrame(f"unit {head[0]} answered for unit {unit}")
    if len(head) < 2:
        return None
    function = request[0]
    if head[1] == function | 0x80:
        return 3
    if head[1] != function:
        raise BadFrame(f"reply to function {head[1]} instead of {function}")
    if len(head) < 3:
        return None
    expected = reply_bytes(request)
    if head[2] != expected:
        raise BadFrame(f"reply states {head[2]} bytes instead of {expected}")
    return 3 + expected


def _encode_rtu(unit: int, request: bytes) -> bytes:
    frame = bytes((unit,)) + request
    return frame + FramerRTU.compute_CRC(frame).to_bytes(2, "big")


def _decode_rtu(received: bytes, unit: int, request: bytes) -> bytes | None:
    length = _length(received[:3], unit, request)
    if length is None or len(received) < length + 2:
        return None
    if len(received) > length + 2:
        raise BadFrame(f"{len(received) - length - 2} bytes behind the reply")
    frame, crc = received[:length], received[length:]
    if FramerRTU.compute_CRC(frame).to_bytes(2, "big") != crc:
        raise BadFrame("the CRC is wrong")
    return frame[1:]


def _encode_ascii(unit: int, request: bytes) -> bytes:
    frame = bytes((unit,)) + request
    lrc = bytes((FramerAscii.compute_LRC(frame),))
    return b":" + (frame + lrc).hex().upper().encode() + b"\r\n"


def _decode_ascii(received: bytes, unit: int, request: bytes) -> bytes | None:
    if received[:1] != b":":
        raise BadFrame("the reply does not begin with ':'")
    head = received[1:7]
    length = _length(_from_hex(head[: len(head) // 2 * 2]), unit, request)
    if length is None:
        return None
    end = 1 + 2 * (length + 1)
    if len(received) < end + 2:
        return None
    if received[end:] != b"\r\n":
        raise BadFrame("the reply does not end with CR LF where it should")
    frame = _from_hex(received[1:end])
    if FramerAscii.compute_LRC(frame[:-1]) != frame[-1]:
        raise BadFrame("the LRC is wrong")
    return frame[1:-1]


def _from_hex(text: bytes) -> bytes:
    try:
        return unhexlify(text)
    except NoHexadecimal:
        raise BadFrame("the reply has other characters than hexadecimal digits") from None


RTU = Framing(_encode_rtu, _decode_rtu)
ASCII = Framing(_encode_ascii, _decode_ascii)

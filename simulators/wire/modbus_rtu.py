"""Modbus RTU: unit identifier, protocol data unit, CRC; frames end in silence.

Source: MODBUS over Serial Line Specification and Implementation Guide V1.02, sections 2.5.1
(framing, CRC) and 6.2.2 (how the CRC is made; its low byte goes first).
"""

from simulators.wire.framing import Framing, Request

_LENGTH_MIN = 4  # unit identifier, function, CRC
_FIXED_REQUESTS = {function: 8 for function in range(1, 7)}
_COUNTED_REQUESTS = (15, 16)
_BYTE_COUNT_AT = 6
_AROUND_DATA = 9  # everything of a counted request but its data


def crc16(raw: bytes) -> int:
    """Polynomial 0xA001 (reflected 0x8005), start value 0xFFFF."""
    crc = 0xFFFF
    for byte in raw:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def encoded(unit_id: int, pdu: bytes) -> bytes:
    """One frame."""
    raw = bytes([unit_id]) + pdu
    return raw + crc16(raw).to_bytes(2, "little")


def taken(heard: bytearray, silent: bool) -> Request | None:
    """Take the first request off what was heard.

    A request whose function says how long it is needs no silence behind it, because an operating
    system does not tell silence from its own slowness. Everything else ends where silence begins.
    """
    length = len(heard) if silent else _expected_length(heard)
    raw = bytes(heard[:length])
    valid = length >= _LENGTH_MIN and len(raw) == length and _is_sealed(raw)
    if silent:
        heard.clear()
    elif valid:
        del heard[:length]
    return Request(raw[0], raw[1:-2], raw) if valid else None


def _expected_length(heard: bytearray) -> int:
    """How long the request at the beginning will be; 0 where that cannot be told."""
    if len(heard) < _LENGTH_MIN:
        return 0
    if heard[1] in _COUNTED_REQUESTS:
        return _AROUND_DATA + heard[_BYTE_COUNT_AT] if len(heard) > _BYTE_COUNT_AT else 0
    return _FIXED_REQUESTS.get(heard[1], 0)


def _is_sealed(raw: bytes) -> bool:
    return crc16(raw[:-2]) == int.from_bytes(raw[-2:], "little")


# Longer than the 3.5 characters of the standard, because a scheduler comes between.
RTU = Framing(encoded, taken, bits_per_character=11, silence_s=0.02)

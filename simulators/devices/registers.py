"""How numbers and text become 16-bit registers."""

import struct


def u32_high_first(value: int) -> list[int]:
    """An unsigned 32-bit integer, the high word in the lower register."""
    return [value >> 16, value & 0xFFFF]


def u32_low_first(value: int) -> list[int]:
    """An unsigned 32-bit integer, the low word in the lower register."""
    return [value & 0xFFFF, value >> 16]


def f32_low_first(value: float) -> list[int]:
    """An IEEE 754 single, the low word in the lower register."""
    (bits,) = struct.unpack(">I", struct.pack(">f", value))
    return u32_low_first(bits)


def f32_high_first(value: float) -> list[int]:
    """An IEEE 754 single, the high word in the lower register."""
    (bits,) = struct.unpack(">I", struct.pack(">f", value))
    return u32_high_first(bits)


def i32_high_first(value: int) -> list[int]:
    """A signed 32-bit integer, the high word in the lower register."""
    return u32_high_first(value & 0xFFFF_FFFF)


def i16(value: int) -> int:
    """A signed 16-bit integer as its register, held at the ends of its range."""
    return max(-0x8000, min(value, 0x7FFF)) & 0xFFFF


def span16(value: float, low: float, high: float) -> int:
    """A value as its share of a span in 65536 steps: truncated, held at 0 and 65535."""
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return min(int(share * 65_536.0), 0xFFFF)


def ascii_text(text: str, registers: int) -> list[int]:
    """Two characters per register, the first in the upper byte; zeros behind the text."""
    return _packed(text.encode("ascii"), registers)


def utf16_text(text: str, registers: int) -> list[int]:
    """One character per register; zeros behind the text."""
    return _packed(text.encode("utf-16-be"), registers)


def _packed(raw: bytes, registers: int) -> list[int]:
    assert len(raw) <= 2 * registers, (raw, registers)
    return list(struct.unpack(f">{registers}H", raw.ljust(2 * registers, b"\0")))

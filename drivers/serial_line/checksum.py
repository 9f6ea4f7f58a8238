"""Checksums of ASCII protocols, by the names under which they are catalogued.

The CRCs are those of the "Catalogue of parametrised CRC algorithms" (G. Cook), which also gives
their values over the digits 1 to 9.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import xor
from typing import Literal, NamedTuple, get_args

Kind = Literal[
    "sum-8",
    "lrc-8",
    "xor-8",
    "xor-8-inverted",
    "crc-8-smbus",
    "crc-8-maxim",
    "crc-16-arc",
    "crc-16-modbus",
    "crc-16-xmodem",
    "crc-16-ibm-3740",
    "crc-16-kermit",
]
"""``sum-8``: modulo 256; ``lrc-8``: two's complement of that; ``xor-8-inverted``: its complement;
``crc-8-smbus``: polynomial 0x07; ``crc-16-ibm-3740``: also known as CCITT with 0xFFFF."""

Written = Literal["hex-upper", "hex-lower", "decimal", "raw"]


class Crc(NamedTuple):
    """Parameters of a CRC; all of these read and write in the same bit order."""

    bits: int
    polynomial: int
    start: int
    reflected: bool


_CRCS = {
    "crc-8-smbus": Crc(8, 0x07, 0x00, False),
    "crc-8-maxim": Crc(8, 0x31, 0x00, True),
    "crc-16-arc": Crc(16, 0x8005, 0x0000, True),
    "crc-16-modbus": Crc(16, 0x8005, 0xFFFF, True),
    "crc-16-xmodem": Crc(16, 0x1021, 0x0000, False),
    "crc-16-ibm-3740": Crc(16, 0x1021, 0xFFFF, False),
    "crc-16-kermit": Crc(16, 0x1021, 0x0000, True),
}

_SIMPLE: dict[str, Callable[[bytes], int]] = {
    "sum-8": lambda data: sum(data) & 0xFF,
    "lrc-8": lambda data: -sum(data) & 0xFF,
    "xor-8": lambda data: reduce(xor, data, 0),
    "xor-8-inverted": lambda data: reduce(xor, data, 0xFF),
}

assert set(get_args(Kind)) == {*_CRCS, *_SIMPLE}


def checksum(kind: Kind, data: bytes) -> int:
    """Return the checksum of these bytes."""
    simple = _SIMPLE.get(kind)
    return simple(data) if simple else _crc(_CRCS[kind], data)


def bytes_of(kind: Kind) -> int:
    """Return how many bytes a checksum has."""
    return 2 if kind.startswith("crc-16") else 1


def _crc(crc: Crc, data: bytes) -> int:
    table, value, mask = _table(crc), crc.start, (1 << crc.bits) - 1
    for byte in data:
        if crc.reflected:
            value = value >> 8 ^ table[(value ^ byte) & 0xFF]
        else:
            value = (value << 8 ^ table[value >> crc.bits - 8 ^ byte]) & mask
    return value


@lru_cache
def _table(crc: Crc) -> tuple[int, ...]:
    return tuple(_of_byte(crc, byte) for byte in range(256))


def _of_byte(crc: Crc, byte: int) -> int:
    if crc.reflected:
        polynomial = int(f"{crc.polynomial:0{crc.bits}b}"[::-1], 2)
        for _ in range(8):
            byte = byte >> 1 ^ (polynomial if byte & 1 else 0)
        return byte
    value, top = byte << crc.bits - 8, 1 << crc.bits - 1
    for _ in range(8):
        value = value << 1 ^ (crc.polynomial if value & top else 0)
    return value & (1 << crc.bits) - 1


@dataclass(frozen=True, slots=True)
class Checksum:
    """A checksum at the end of a line, before its terminator.

    :ivar skip_first: characters at the start that it does not cover
    :ivar skip_last: characters right before it that it does not cover
    """

    kind: Kind
    written: Written = "hex-upper"
    skip_first: int = 0
    skip_last: int = 0
    low_byte_first: bool = False

    @property
    def length(self) -> int:
        """Characters that it takes."""
        count = bytes_of(self.kind)
        per_byte = {"raw": 1, "decimal": 0}.get(self.written, 2)
        return count * per_byte or len(str((1 << 8 * count) - 1))

    def of(self, text: bytes) -> bytes:
        """Return the checksum of a line as it is written behind it."""
        value = checksum(self.kind, text[self.skip_first : len(text) - self.skip_last])
        if self.written == "decimal":
            return b"%0*d" % (self.length, value)
        raw = value.to_bytes(bytes_of(self.kind), "little" if self.low_byte_first else "big")
        if self.written == "raw":
            return raw
        written = raw.hex().encode()
        return written.upper() if self.written == "hex-upper" else written

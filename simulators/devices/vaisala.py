"""What Vaisala probes that speak Modbus have in common.

Sources: user guides of HMP110 (M211060EN), HMP series (M212022EN), GMP252 (M211897EN) and HPP272
(M211972EN), appendix "Modbus reference": register numbers from 1; singles with the least
significant word first; inside the ranges a value that is not there reads as a quiet NaN, or 8000
hexadecimal as an integer, and no exception comes; 7FFF stands for that much or more, 8001 for
that little or less; registers with known content to try the master with.
"""

import math
from collections.abc import Mapping

from simulators.devices.register_map import placed
from simulators.devices.registers import ascii_text, f32_low_first

NOT_AVAILABLE = 0x8000

TEST_REGISTERS = (
    placed(7936, [-12_345 & 0xFFFF])
    | placed(7937, f32_low_first(-123.45))
    | placed(7939, ascii_text("-123.45", 4))
)
"""7937 an integer, 7938 a single, 7940 a text."""


def singles(values: Mapping[int, float], last: int) -> dict[int, int]:
    """Registers 1 to `last`, in pairs; `values` by the number of their first register."""
    registers: dict[int, int] = {}
    for number in range(1, last, 2):
        registers |= placed(number - 1, f32_low_first(values.get(number, math.nan)))
    return registers


def integers(values: Mapping[int, float], first: int, last: int) -> dict[int, int]:
    """Registers `first` to `last`; `values` by number, already scaled."""
    return {number - 1: _integer(values.get(number, math.nan)) for number in range(first, last + 1)}


def _integer(value: float) -> int:
    if math.isnan(value):
        return NOT_AVAILABLE
    return max(-0x7FFF, min(round(value), 0x7FFF)) & 0xFFFF

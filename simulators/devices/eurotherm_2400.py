"""Eurotherm 2404 and 2408 controller and programmer, Modbus RTU.

Sources: the vendor's map of the 2400 series as the library star.ke.st quotes it (addresses as on
the wire: 1 process value, 2 target set-point, 3 output power, 5 working set-point, 13, 14, 81
and 82 alarm set-points, 74 to 77 status, 273 automatic or manual; functions 3, 4 and 16). The
value at address n stands again as a single, high word first, at 0x8000 + 2 n.

Assumed: numbers have one decimal; the bits of 75 are those that an independent driver has for a
sister series (0 to 3 alarms, 5 sensor break); a broken sensor reads as not a number in the
single and as the greatest number in the register; 273 reads 0 in automatic; a read must not
leave the listed registers; no write is offered.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, Table
from simulators.devices.register_map import placed, read_map, require_registers
from simulators.devices.registers import f32_high_first, i16
from simulators.process.controlled_rate_freezer import ControlledRateFreezer

SENSOR_BREAK = "sensor_break"
MANUAL = "manual"

_DECIMALS = 10.0
_ALARM_1, _SENSOR_BREAK = 1 << 0, 1 << 5
_BROKEN = 0x7FFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Eurotherm2400Settings:
    """One controller; alarm 1 is the upper limit of the process value."""

    high_alarm_c: float = 30.0


class Eurotherm2400(ModbusDevice):
    """The controller of a controlled-rate freezer: it sees the chamber and moves the valve."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, SENSOR_BREAK, MANUAL)

    def __init__(self, settings: Eurotherm2400Settings, process: ControlledRateFreezer) -> None:
        super().__init__()
        self._settings = settings
        self._process = process

    def read(self, table: Table, address: int, count: int) -> list[int]:
        require_registers(table)
        registers: dict[int, int] = {}
        for at, value in self._values().items():
            registers[at] = _BROKEN if math.isnan(value) else i16(round(value * _DECIMALS))
            registers |= placed(float_address(at), f32_high_first(value))
        manual = self.disturbances.active(MANUAL)
        registers |= {74: 0, 75: self._summary, 76: 0, 77: 0, 273: int(manual)}
        return read_map(registers, address, count)

    def _values(self) -> dict[int, float]:
        process = self._process
        broken = self.disturbances.active(SENSOR_BREAK)
        return {
            1: math.nan if broken else process.chamber_c,
            2: process.target_c,
            3: process.valve_pct,
            5: process.set_point_c,
            13: self._settings.high_alarm_c,
            14: 0.0,
            81: 0.0,
            82: 0.0,
        }

    @property
    def _summary(self) -> int:
        broken = self.disturbances.active(SENSOR_BREAK)
        high = not broken and self._process.chamber_c > self._settings.high_alarm_c
        return broken * _SENSOR_BREAK | high * _ALARM_1


def float_address(address: int) -> int:
    """Where the single of a value stands."""
    return 0x8000 + 2 * address

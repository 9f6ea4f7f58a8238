"""Dwyer MS2-M Magnesense differential pressure transmitter, Modbus RTU.

Source: Dwyer MS2-M manual, pages 4 and 5: registers from 0001; pressure as an integer in
thousandths of an inch of water at 1 and in pascal at 2, as singles from 3 on in inches of water,
pascal, millimetres of water and kilopascal, then velocity and flow; sensor type at 19,
operational at 20, errors at 21; versions and serial numbers as text of 6 registers from 8001 on,
first character in the upper byte; address by DIP switches, 127 from the factory; coil 1 is the
zero function.

Assumed: numbers from 1 are addresses from 0; measured values are input registers, read with
function 4 only; the high word of a single comes first; velocity with the factory's K of 1 is
4005 feet per minute at one inch of water; a transmitter without trouble is operational 1; no
write is offered.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, Table
from simulators.devices.register_map import placed, read_map, require_table
from simulators.devices.registers import ascii_text, f32_high_first, i16, u32_high_first
from simulators.process.clean_room import CleanRoom
from simulators.settings import require

SENSOR_FAILED = "sensor_failed"

PA_PER_INCH = 249.089
"""One inch of water at 4 C."""
_PA_PER_MM = 9.80665
_FPM_AT_ONE_INCH = 4_005.0
_M_PER_FOOT = 0.3048
_SENSOR_TYPE = 1
_ERROR = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DwyerMs2Settings:
    """One transmitter; texts are made up."""

    serial_number: str = "MS2-0004711"
    modbus_serial_number: str = "MB-0004711"
    firmware: str = "2.04"

    def __post_init__(self) -> None:
        for key in ("serial_number", "modbus_serial_number", "firmware"):
            text: str = getattr(self, key)
            require(text.isascii() and len(text) <= 12, key, "needs at most 12 ASCII characters")


class DwyerMs2(ModbusDevice):
    """The transmitter between a clean room and its corridor."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, SENSOR_FAILED)

    def __init__(self, settings: DwyerMs2Settings, room: CleanRoom) -> None:
        super().__init__()
        self._room = room
        self._fixed = (
            placed(8000, ascii_text(settings.firmware, 6))
            | placed(8006, ascii_text(settings.firmware, 6))
            | placed(8012, ascii_text(settings.modbus_serial_number, 6))
            | placed(8018, ascii_text(settings.serial_number, 6))
        )

    def read(self, table: Table, address: int, count: int) -> list[int]:
        require_table(table, Table.INPUT_REGISTERS)
        return read_map(self._fixed | self._measured(), address, count)

    def _measured(self) -> dict[int, int]:
        failed = self.disturbances.active(SENSOR_FAILED)
        pressure_pa = 0.0 if failed else self._room.differential_pressure_pa
        inches = pressure_pa / PA_PER_INCH
        feet_per_min = _FPM_AT_ONE_INCH * math.sqrt(max(inches, 0.0))
        metres_per_s = feet_per_min * _M_PER_FOOT / 60.0
        singles = (
            inches,
            pressure_pa,
            pressure_pa / _PA_PER_MM,
            pressure_pa / 1_000.0,
            feet_per_min,
            metres_per_s,
            feet_per_min,  # through the factory's area of 1 square foot
            metres_per_s * _M_PER_FOOT**2,
        )
        registers = [i16(round(inches * 1_000.0)), i16(round(pressure_pa))]
        for value in singles:
            registers += f32_high_first(value)
        registers += [_SENSOR_TYPE, int(not failed), *u32_high_first(failed * _ERROR)]
        return placed(0, registers)

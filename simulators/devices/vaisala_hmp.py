"""Vaisala HMP probe for humidity and temperature, Modbus RTU.

Sources: HMP series user guide M212022EN, tables 75 (measured values) and 79 (error codes at
516), test registers; HMP110 user guide M211060EN, table 43 (513 is 1 without errors); what
probes have in common is in :mod:`simulators.devices.vaisala`. RS-485, 19200 8N2, address 240.

Assumed: the ranges end at 64 and at 288; functions 3 and 4 read the same; the security hash; no
write is offered.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, Table
from simulators.devices.register_map import placed, read_map, require_registers
from simulators.devices.registers import u32_low_first
from simulators.devices.vaisala import TEST_REGISTERS, integers, singles
from simulators.process import humid_air
from simulators.process.clean_room import CleanRoom

HUMIDITY_SENSOR_FAILED = "humidity_sensor_failed"
HEATER_FAILED = "heater_failed"

_HUMIDITY_ERROR, _SENSOR_FAILURE, _HEATER_FAILURE = 0x0002, 0x0004, 0x80_0000


@dataclass(frozen=True, slots=True, kw_only=True)
class VaisalaHmpSettings:
    """One probe."""

    security_hash: int = 0x1234_5678


class VaisalaHmp(ModbusDevice):
    """The probe in a clean room."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, HUMIDITY_SENSOR_FAILED, HEATER_FAILED)

    def __init__(self, settings: VaisalaHmpSettings, room: CleanRoom) -> None:
        super().__init__()
        self._settings = settings
        self._room = room

    def read(self, table: Table, address: int, count: int) -> list[int]:
        require_registers(table)
        errors, values = self._errors, self._values()
        hundredths = {257: 100.0 * values[1], 258: 100.0 * values[3]}
        registers = (
            singles(values, 64)
            | integers(hundredths, 257, 288)
            | placed(512, [0 if errors else 1, 0, 0, *u32_low_first(errors)])
            | placed(517, u32_low_first(self._settings.security_hash))
            | TEST_REGISTERS
        )
        return read_map(registers, address, count)

    @property
    def _errors(self) -> int:
        failed = self.disturbances.active(HUMIDITY_SENSOR_FAILED)
        sensor = failed * (_HUMIDITY_ERROR | _SENSOR_FAILURE)
        return sensor | self.disturbances.active(HEATER_FAILED) * _HEATER_FAILURE

    def _values(self) -> dict[int, float]:
        temperature_c, humidity_pct = self._room.temperature_c, self._room.relative_humidity_pct
        if self.disturbances.active(HUMIDITY_SENSOR_FAILED):
            return {1: math.nan, 3: temperature_c}
        dew_point_c = humid_air.dew_point_c(temperature_c, humidity_pct)
        return {
            1: humidity_pct,
            3: temperature_c,
            7: dew_point_c,
            9: dew_point_c,  # above zero both are the same
            11: dew_point_c,
            13: dew_point_c,
            15: humid_air.absolute_humidity_g_per_m3(temperature_c, humidity_pct),
            17: humid_air.mixing_ratio_g_per_kg(temperature_c, humidity_pct),
            19: humid_air.wet_bulb_c(temperature_c, humidity_pct),
            27: humid_air.enthalpy_kj_per_kg(temperature_c, humidity_pct),
        }

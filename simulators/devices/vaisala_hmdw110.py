"""Vaisala HMDW110 transmitters for humidity and temperature on a wall or in a duct, Modbus RTU.

Sources: HMDW110 quick guide M211692EN-D, table 1 (measured values: 1 humidity, 3 temperature, 9
dew or frost point, 19 wet bulb, 27 enthalpy); user guide M211726EN-D, tables 52 and 53 (513 is 1
without errors, 516 error code, 518 hash of the settings). What Vaisala's devices have in common is
in :mod:`simulators.devices.vaisala`.

Assumed: 19200 8N2 and address 240 as for the probes; the range ends at 64; functions 3 and 4 read
the same; the hash counts the changes of settings; no write is offered.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, Table
from simulators.devices.register_map import placed, read_map, require_registers
from simulators.devices.registers import u32_low_first
from simulators.devices.vaisala import singles
from simulators.process import humid_air
from simulators.process.clean_room import CleanRoom

HUMIDITY_SENSOR_FAILED = "humidity_sensor_failed"
SUPPLY_VOLTAGE_OUT_OF_RANGE = "supply_voltage_out_of_range"
SETTINGS_CHANGED = "settings_changed"

_HUMIDITY_ERROR, _SENSOR_FAILURE, _SUPPLY_VOLTAGE = 2, 4, 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class VaisalaHmdw110Settings:
    """One transmitter."""

    security_hash: int = 0x2468_1357


class VaisalaHmdw110(ModbusDevice):
    """The transmitter in a clean room."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (
        POWERED_OFF,
        HUMIDITY_SENSOR_FAILED,
        SUPPLY_VOLTAGE_OUT_OF_RANGE,
        SETTINGS_CHANGED,
    )

    def __init__(self, settings: VaisalaHmdw110Settings, room: CleanRoom) -> None:
        super().__init__()
        self._settings = settings
        self._room = room

    def read(self, table: Table, address: int, count: int) -> list[int]:
        require_registers(table)
        errors = self._errors
        changes = self.disturbances.count(SETTINGS_CHANGED)
        registers = (
            singles(self._values(), 64)
            | placed(512, [0 if errors else 1, 0, 0, *u32_low_first(errors)])
            | placed(517, u32_low_first(self._settings.security_hash + changes))
        )
        return read_map(registers, address, count)

    @property
    def _errors(self) -> int:
        failed = self.disturbances.active(HUMIDITY_SENSOR_FAILED)
        voltage = self.disturbances.active(SUPPLY_VOLTAGE_OUT_OF_RANGE)
        return failed * (_HUMIDITY_ERROR | _SENSOR_FAILURE) | voltage * _SUPPLY_VOLTAGE

    def _values(self) -> dict[int, float]:
        temperature_c, humidity_pct = self._room.temperature_c, self._room.relative_humidity_pct
        if self.disturbances.active(HUMIDITY_SENSOR_FAILED):
            return {1: math.nan, 3: temperature_c}
        return {
            1: humidity_pct,
            3: temperature_c,
            9: humid_air.dew_point_c(temperature_c, humidity_pct),
            19: humid_air.wet_bulb_c(temperature_c, humidity_pct),
            27: humid_air.enthalpy_kj_per_kg(temperature_c, humidity_pct),
        }

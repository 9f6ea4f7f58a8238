"""Vaisala HPP272 probe for vapour of hydrogen peroxide, Modbus RTU.

Sources: HPP272 user guide M211972EN, appendix A: the printed exchange reads the concentration in
ppm as a single at register 1; 513 device status, 514 and 516 status codes, 529 to 542 status of
each measurement (2 not reliable, 32 locked during purge, 128 sensor failure, 256 not ready), 547
vitality of the sensor; 777 purge interval, 779 filter, 781 clipping limit, 1283 purge (1 to 100
per cent done, 0 completed, negative failed), 1285 pressure compensation; test registers. The
registers of the other measurements were not seen: they read as not available here.

Assumed: 19200 8N2 and address 240 as for the other probes; the single range ends at 32; a purge
takes three minutes and holds the reading; functions 3 and 4 read the same; no write is offered.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, Table
from simulators.devices.register_map import placed, read_map, require_registers
from simulators.devices.registers import f32_low_first, u32_low_first
from simulators.devices.vaisala import TEST_REGISTERS, singles
from simulators.process.isolator import Isolator
from simulators.settings import require

PURGING = "purging"
SENSOR_FAILED = "sensor_failed"

_ERROR = 2
_LOCKED, _SENSOR_FAILURE = 32, 128
_HUMIDITY_SENSOR_OPEN = 64
_PURGE_S = 180.0
_MEASUREMENTS = (529, 530, 531, 532, 533, 534, 536, 537, 538, 539, 540, 541, 542)


@dataclass(frozen=True, slots=True, kw_only=True)
class VaisalaHpp272Settings:
    """One probe."""

    vitality_pct: float = 92.0
    purge_interval_min: int = 1_440

    def __post_init__(self) -> None:
        require(1.0 <= self.vitality_pct <= 100.0, "vitality_pct", "must be 1 to 100")
        require(
            60 <= self.purge_interval_min <= 10_080, "purge_interval_min", "must be 60 to 10080"
        )


class VaisalaHpp272(ModbusDevice):
    """The probe in an isolator."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, PURGING, SENSOR_FAILED)

    def __init__(self, settings: VaisalaHpp272Settings, isolator: Isolator) -> None:
        super().__init__()
        self._isolator = isolator
        self._purged_s = 0.0
        self._held_ppm = isolator.h2o2_ppm
        self._fixed = (
            placed(546, f32_low_first(settings.vitality_pct))
            | placed(776, [settings.purge_interval_min, 0, *f32_low_first(1.0)])
            | placed(780, f32_low_first(0.0))
            | {1284: 0}
            | TEST_REGISTERS
        )

    def step(self, dt_s: float) -> None:
        if self.disturbances.active(PURGING):
            self._purged_s += dt_s
        else:
            self._purged_s = 0.0
            self._held_ppm = self._isolator.h2o2_ppm

    def read(self, table: Table, address: int, count: int) -> list[int]:
        require_registers(table)
        purging = self.disturbances.active(PURGING)
        failed = self.disturbances.active(SENSOR_FAILED)
        ppm = math.nan if failed else self._held_ppm if purging else self._isolator.h2o2_ppm
        status = purging * _LOCKED | failed * _SENSOR_FAILURE
        code = u32_low_first(failed * _HUMIDITY_SENSOR_OPEN)
        registers = (
            self._fixed
            | singles({1: ppm}, 32)
            | placed(512, [failed * _ERROR, *code, 0, 0])
            | {number - 1: status for number in _MEASUREMENTS}
            | {1282: self._purge_pct if purging else 0}
        )
        return read_map(registers, address, count)

    @property
    def _purge_pct(self) -> int:
        return 1 + min(99, int(99.0 * self._purged_s / _PURGE_S))

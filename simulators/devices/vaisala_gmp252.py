"""Vaisala GMP252 carbon dioxide probe, Modbus RTU.

Sources: GMP252 user guide M211897EN, appendix A: CO2 in ppm as a single at register 1 and as an
integer at 257, in tens of ppm at 258; compensations at 513 to 527 (GMP251 user guide M211799EN
for 525 and 527); device status at 2049 (1 critical error, 2 error, 4 warning), CO2 status at
2050 (2 not reliable, 256 not ready); A.3 prints an exchange (465.66 ppm). 19200 8N2, address
240.

Assumed: the single range ends at 8; functions 3 and 4 read the same; while the probe starts CO2
is not available; a failed infrared source is an error; no write is offered.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, Table
from simulators.devices.register_map import placed, read_map, require_registers
from simulators.devices.registers import f32_low_first
from simulators.devices.vaisala import integers, singles
from simulators.process.incubator import Incubator

STARTING = "starting"
SOURCE_FAILED = "source_failed"

_ERROR = 2
_NOT_RELIABLE, _NOT_READY = 2, 256
_PPM_PER_PCT = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VaisalaGmp252Settings:
    """One probe and what it compensates for."""

    pressure_hpa: float = 1013.25
    temperature_c: float = 37.0
    humidity_pct: float = 93.0
    oxygen_pct: float = 20.9


class VaisalaGmp252(ModbusDevice):
    """The probe in the chamber of an incubator."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, STARTING, SOURCE_FAILED)

    def __init__(self, settings: VaisalaGmp252Settings, incubator: Incubator) -> None:
        super().__init__()
        self._incubator = incubator
        compensation = [
            *f32_low_first(settings.pressure_hpa),
            *f32_low_first(settings.temperature_c),
            *f32_low_first(settings.humidity_pct),
            *f32_low_first(settings.oxygen_pct),
        ]
        self._fixed = placed(512, compensation * 2) | {776: 100}

    def read(self, table: Table, address: int, count: int) -> list[int]:
        require_registers(table)
        starting = self.disturbances.active(STARTING)
        failed = self.disturbances.active(SOURCE_FAILED)
        ppm = math.nan if starting or failed else self._incubator.co2_pct * _PPM_PER_PCT
        registers = (
            self._fixed
            | singles({1: ppm}, 8)
            | integers({257: ppm, 258: ppm / 10.0}, 257, 258)
            | {2048: failed * _ERROR}
            | {2049: starting * (_NOT_RELIABLE | _NOT_READY) | failed * _NOT_RELIABLE}
        )
        return read_map(registers, address, count)

"""Alicat mass flow controller, Modbus RTU.

Sources: operating manual of the standard devices, January 2023, pages 34 and 35 (functions 3 and
4 read; numbers from 1: 1000 and 1001 command and result, 1010 set-point, 1200 gas, 1201 status
bits, 1203 pressure, 1205 flow temperature, 1207 volumetric flow, 1209 mass flow). From
independent drivers, not from that manual: number 1 is address 0; the high word of a 32-bit value
comes first; a block of eight values at address 1349; codes of units at 1649, 1673, 1709, 1721
and 1733 (12 = SCCM, 10 = PSI).

Assumed: the code of degree Celsius; the barometer; the second pressure, which is not fitted,
reads zero; the fields of a gas mix read zero; a function that writes is refused.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, Table
from simulators.devices.register_map import placed, read_map, require_registers
from simulators.devices.registers import f32_high_first, u32_high_first
from simulators.process.gas_supply import GasSupply
from simulators.settings import require

VALVE_HELD = "valve_held"
ADC_ERROR = "adc_error"

UNIT_SCCM, UNIT_SLPM, UNIT_PSI = 12, 7, 10
_UNIT_CELSIUS = 2  # assumed

_MASS_OVER = 1 << 4
_HOLD = 1 << 8
_ADC = 1 << 9

_PSIA_PER_ATMOSPHERE = 14.696
_STANDARD_K = 298.15
_BAROMETER_PSIA = 14.7  # assumed


@dataclass(frozen=True, slots=True, kw_only=True)
class AlicatMcModbusSettings:
    """One controller."""

    gas: int = 8
    """0 air, 4 carbon dioxide, 8 nitrogen, and so on."""
    flow_unit: int = UNIT_SCCM
    """12 = standard cubic centimetres per minute; 7 = standard litres per minute."""

    def __post_init__(self) -> None:
        require(0 <= self.gas <= 255, "gas", "must be 0 to 255")
        require(self.flow_unit in (UNIT_SCCM, UNIT_SLPM), "flow_unit", "must be 12 or 7")


class AlicatMcModbus(ModbusDevice):
    """The controller in a gas line."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, VALVE_HELD, ADC_ERROR)

    def __init__(self, settings: AlicatMcModbusSettings, process: GasSupply) -> None:
        super().__init__()
        self._settings = settings
        self._process = process

    def read(self, table: Table, address: int, count: int) -> list[int]:
        require_registers(table)
        process, stated = self._process, self._process.settings
        divisor = 1_000.0 if self._settings.flow_unit == UNIT_SLPM else 1.0
        set_point = f32_high_first(process.set_point_sccm / divisor)
        mass = f32_high_first(process.flow_sccm / divisor)
        volume = f32_high_first(self._volume_ccm / divisor)
        pressure = f32_high_first(stated.pressure_psia)
        temperature = f32_high_first(process.temperature_c)
        flow_unit = u32_high_first(self._settings.flow_unit)
        measured = [*u32_high_first(self._status), *pressure, *temperature, *volume, *mass]
        registers = (
            placed(999, [0, 0])
            | placed(1009, set_point)
            | placed(1049, [0] * 10)
            | placed(1199, [self._settings.gas, *measured])
            | placed(1349, [*set_point, *f32_high_first(process.valve_pct), *pressure, 0, 0])
            | placed(1357, [*f32_high_first(_BAROMETER_PSIA), *temperature, *volume, *mass])
            | placed(1649, flow_unit)
            | placed(1673, u32_high_first(UNIT_PSI))
            | placed(1709, u32_high_first(_UNIT_CELSIUS))
            | placed(1721, flow_unit)
            | placed(1733, flow_unit)
        )
        return read_map(registers, address, count)

    @property
    def _volume_ccm(self) -> float:
        """The flow as it is at this pressure and temperature."""
        process, pressure_psia = self._process, self._process.settings.pressure_psia
        expansion = (process.temperature_c + 273.15) / _STANDARD_K
        return process.flow_sccm * _PSIA_PER_ATMOSPHERE / pressure_psia * expansion

    @property
    def _status(self) -> int:
        over = self._process.flow_sccm > self._process.settings.full_scale_sccm
        held = self.disturbances.active(VALVE_HELD)
        return over * _MASS_OVER | held * _HOLD | self.disturbances.active(ADC_ERROR) * _ADC

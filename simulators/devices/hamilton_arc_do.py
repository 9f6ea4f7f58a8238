"""Hamilton VisiFerm DO Arc, dissolved oxygen, Modbus RTU.

Sources: register layout of the Arc family as in the pH sensor's manual (EPHUM011, 624300/01,
sections 2.5.1 to 2.9); independent drivers (Open Reactor Control System, Mycodo) read oxygen as
primary channel 1 at register 2090 and temperature as channel 6 at 2410, the low word first, ten
registers each. The oxygen sensor's own manual (624179/01) was not seen.

Assumed: firmware and name of the channel; the unit is per cent of saturation (20 hexadecimal)
unless the settings say milligrams per litre (80); the measuring range; the conversion between
them at 37 C; as for the pH sensor, a read that is no whole block is refused with exception 02
and nothing is written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, ModbusException, Table
from simulators.devices.hamilton_arc_ph import UNIT_CELSIUS, UNIT_KELVIN, primary_channel
from simulators.devices.register_map import require_registers
from simulators.devices.registers import ascii_text, f32_low_first, u32_low_first
from simulators.process.bioreactor import Bioreactor
from simulators.settings import require

CAP_WORN = "cap_worn"
CAP_MISSING = "cap_missing"

UNIT_PERCENT_SATURATION = 0x0000_0020
UNIT_MG_PER_L = 0x0000_0080

_WARNING_PRESENT, _ERROR_PRESENT = 0x08, 0x10
_CALIBRATION_RECOMMENDED = 0x0001
_SENSOR_FAILURE = 0x0002
_MG_PER_L_SATURATED = 6.73  # assumed: fresh water at 37 C and one atmosphere
_SATURATION_MAX_PCT = 300.0
_QUALITY_PCT, _QUALITY_WORN_PCT = 100.0, 35.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HamiltonArcDoSettings:
    """One sensor. Texts are made up in the form of the family."""

    serial_number: str = "2000001"
    part_number: str = "242450/00"
    software_version: str = "ODOUM043"
    in_mg_per_l: bool = False

    def __post_init__(self) -> None:
        for key in ("serial_number", "part_number", "software_version"):
            text: str = getattr(self, key)
            require(text.isascii() and len(text) <= 16, key, "needs at most 16 ASCII characters")


class HamiltonArcDo(ModbusDevice):
    """The sensor in a bioreactor."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, CAP_WORN, CAP_MISSING)

    def __init__(self, settings: HamiltonArcDoSettings, bioreactor: Bioreactor) -> None:
        super().__init__()
        self._settings = settings
        self._bioreactor = bioreactor

    def read(self, table: Table, address: int, count: int) -> list[int]:
        require_registers(table)
        content = self._blocks().get(address + 1)
        registers = [] if content is None else content()
        if len(registers) != count:
            raise ModbusException(ModbusException.ILLEGAL_DATA_ADDRESS)
        return registers

    def _blocks(self) -> dict[int, Callable[[], list[int]]]:
        settings = self._settings
        return {
            1032: lambda: ascii_text(settings.software_version, 8),
            1280: lambda: ascii_text(settings.part_number, 8),
            1312: lambda: ascii_text(settings.serial_number, 8),
            2080: lambda: ascii_text("DO", 8),
            2088: lambda: u32_low_first(UNIT_PERCENT_SATURATION | UNIT_MG_PER_L),
            2090: self._oxygen,
            2408: lambda: u32_low_first(UNIT_CELSIUS | UNIT_KELVIN),
            2410: self._temperature,
            4736: lambda: [0, 0, *u32_low_first(self._calibration_warning), 0, 0, 0, 0],
            4800: lambda: [0, 0, *u32_low_first(self._calibration_error), 0, 0, 0, 0],
            4872: self._quality,
        }

    @property
    def _calibration_warning(self) -> int:
        return self.disturbances.active(CAP_WORN) * _CALIBRATION_RECOMMENDED

    @property
    def _calibration_error(self) -> int:
        return self.disturbances.active(CAP_MISSING) * _SENSOR_FAILURE

    @property
    def _status(self) -> int:
        warning = self.disturbances.active(CAP_WORN) * _WARNING_PRESENT
        return warning | self.disturbances.active(CAP_MISSING) * _ERROR_PRESENT

    def _oxygen(self) -> list[int]:
        missing = self.disturbances.active(CAP_MISSING)
        saturation_pct = 0.0 if missing else self._bioreactor.dissolved_oxygen_pct
        if not self._settings.in_mg_per_l:
            unit, factor = UNIT_PERCENT_SATURATION, 1.0
        else:
            unit, factor = UNIT_MG_PER_L, _MG_PER_L_SATURATED / 100.0
        high = _SATURATION_MAX_PCT * factor
        return primary_channel(unit, saturation_pct * factor, self._status, 0.0, high)

    def _temperature(self) -> list[int]:
        temperature_c = self._bioreactor.temperature_c
        return primary_channel(UNIT_CELSIUS, temperature_c, self._status, -10.0, 140.0)

    def _quality(self) -> list[int]:
        worn = self.disturbances.active(CAP_WORN)
        return f32_low_first(_QUALITY_WORN_PCT if worn else _QUALITY_PCT)

"""Hamilton Arc pH sensor, Modbus.

Source: "pH ARC Sensors Modbus RTU Programmer's Manual", EPHUM011, 624300/01: sections 2.5.1
(channels, units), 2.5.2 to 2.5.4 (primary channels), 2.5.5 (secondary channels), 2.8.2
(operating hours), 2.8.3 and 2.8.4 (warnings, errors), 2.8.6 (quality), 2.9 (identification).

From the manual: registers are numbered from 1, so register 2090 is address 2089 of the protocol
data unit. Functions 3 and 4 read the same registers. The ten registers of a primary channel are
read in one request: unit, value, status, least and greatest value, 32 bits each.

From independent drivers for these sensors, not from the manual: the low word of a 32-bit value
stands in the lower register.

Assumed: text has its first character in the upper byte of a register. A read that does not match
a register block from its first to its last register is refused with exception 02; the manual
says so for primary channels only and names no code. The name of channel 6 is "T". The values of
the secondary channels are left out. The sensor stays at operator level U and offers no write.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, ModbusException, Table
from simulators.devices.registers import ascii_text, f32_low_first, u32_low_first
from simulators.process.bioreactor import Bioreactor
from simulators.settings import require

CALIBRATION_DUE = "calibration_due"
GLASS_BROKEN = "glass_broken"
TEMPERATURE_SENSOR_DEFECTIVE = "temperature_sensor_defective"

UNIT_CELSIUS = 0x0000_0004
UNIT_PH = 0x0000_1000
UNIT_MILLIVOLT = 0x0020_0000
UNIT_KELVIN = 0x0000_0002
UNIT_FAHRENHEIT = 0x0000_0008

_UNIT_TEXTS = (
    "none", "K", "C", "F", "%-vol", "%-sat", "ug/l ppb", "mg/l ppm", "g/l", "uS/cm", "mS/cm",
    "1/cm", "pH", "mV/pH", "kOhm", "MOhm", "pA", "nA", "uA", "mA", "uV", "mV", "V", "mbar", "Pa",
    "Ohm",
)  # fmt: skip
"""Bits 0 to 25, eight ASCII characters from register 1920 + 4 * bit on. How the manual's degree
sign is encoded is not said, so the texts that need one stand without it (assumed)."""

_AVAILABLE_CHANNELS = 0x06E1  # PMC1, PMC6, SMC1, SMC2, SMC4, SMC5 at operator level U
_SECONDARY_TEXTS = {
    2464: "R glass",
    2496: "R reference",
    2560: "E pH vs. ref",
    2592: "E SG vs. ref",
}

_OUTSIDE_MEASURING_RANGE = 0x01
_WARNING_PRESENT = 0x08
_ERROR_PRESENT = 0x10

_WARNING_CALIBRATION_DUE = 0x0001
_ERROR_GLASS_RESISTANCE_LOW = 0x0000_0040
_ERROR_TEMPERATURE_SENSOR = 0x0200_0000

_PH_MIN, _PH_MAX = 0.0, 14.0
_TEMPERATURE_MIN_C, _TEMPERATURE_MAX_C = -20.0, 130.0
_PH_OF_BROKEN_GLASS = 7.0  # assumed: no membrane potential is left


@dataclass(frozen=True, slots=True, kw_only=True)
class HamiltonArcPhSettings:
    """One sensor. Defaults are the examples of the manual; the serial number is made up."""

    serial_number: str = "0000001"
    part_number: str = "242111/01"
    software_version: str = "EPHUM011"
    quality_pct: float = 100.0
    operating_hours: float = 168.0

    def __post_init__(self) -> None:
        for key in ("serial_number", "part_number", "software_version"):
            text: str = getattr(self, key)
            require(text.isascii() and len(text) <= 16, key, "needs at most 16 ASCII characters")
        require(0.0 <= self.quality_pct <= 100.0, "quality_pct", "must be 0 to 100")


class HamiltonArcPh(ModbusDevice):
    """The sensor in a bioreactor: pH as primary channel 1, temperature as primary channel 6."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (
        POWERED_OFF,
        CALIBRATION_DUE,
        GLASS_BROKEN,
        TEMPERATURE_SENSOR_DEFECTIVE,
    )

    def __init__(self, settings: HamiltonArcPhSettings, bioreactor: Bioreactor) -> None:
        super().__init__()
        self._settings = settings
        self._bioreactor = bioreactor
        self._operating_s = settings.operating_hours * 3600.0
        self._blocks = {register - 1: (count, content) for register, count, content in self._map()}

    def step(self, dt_s: float) -> None:
        self._operating_s += dt_s

    def read(self, table: Table, address: int, count: int) -> list[int]:
        if table not in (Table.HOLDING_REGISTERS, Table.INPUT_REGISTERS):
            raise ModbusException(ModbusException.ILLEGAL_FUNCTION)
        length, content = self._blocks.get(address, (0, None))
        if content is None or count != length:
            raise ModbusException(ModbusException.ILLEGAL_DATA_ADDRESS)
        return content()

    def _map(self) -> list[tuple[int, int, Callable[[], list[int]]]]:
        """Manual register, number of registers, what stands there."""
        settings = self._settings
        blocks = [
            (1024, 8, _text("2010-04-28")),
            (1032, 8, _text(settings.software_version)),
            (1280, 8, _text(settings.part_number)),
            (1312, 8, _text(settings.serial_number)),
            (2048, 2, _word(_AVAILABLE_CHANNELS)),
            (2080, 8, _text("pH")),
            (2088, 2, _word(UNIT_PH | UNIT_MILLIVOLT)),
            (2090, 10, self._ph_channel),
            (2400, 8, _text("T")),
            (2408, 2, _word(UNIT_KELVIN | UNIT_CELSIUS | UNIT_FAHRENHEIT)),
            (2410, 10, self._temperature_channel),
            (4676, 6, self._operating_hours),
            (4736, 8, self._warnings),
            (4800, 8, self._errors),
            (4872, 2, lambda: f32_low_first(settings.quality_pct)),
        ]
        blocks += [(register, 8, _text(text)) for register, text in _SECONDARY_TEXTS.items()]
        blocks += [
            (1920 + 4 * bit, 4, _text(text, registers=4)) for bit, text in enumerate(_UNIT_TEXTS)
        ]
        return blocks

    def _ph_channel(self) -> list[int]:
        broken = self.disturbances.active(GLASS_BROKEN)
        value = _PH_OF_BROKEN_GLASS if broken else self._bioreactor.ph
        return primary_channel(UNIT_PH, value, self._status(), _PH_MIN, _PH_MAX)

    def _temperature_channel(self) -> list[int]:
        return primary_channel(
            UNIT_CELSIUS,
            self._bioreactor.temperature_c,
            self._status(),
            _TEMPERATURE_MIN_C,
            _TEMPERATURE_MAX_C,
        )

    def _status(self) -> int:
        temperature_c = self._bioreactor.temperature_c
        status = 0
        if not _TEMPERATURE_MIN_C <= temperature_c <= _TEMPERATURE_MAX_C:
            status |= _OUTSIDE_MEASURING_RANGE
        if any(self._warnings()):
            status |= _WARNING_PRESENT
        if any(self._errors()):
            status |= _ERROR_PRESENT
        return status

    def _warnings(self) -> list[int]:
        """Measurement, calibration, interface, hardware."""
        calibration = self.disturbances.active(CALIBRATION_DUE) * _WARNING_CALIBRATION_DUE
        return [0, 0, *u32_low_first(calibration), 0, 0, 0, 0]

    def _errors(self) -> list[int]:
        """Measurement, calibration, interface, hardware."""
        measurement = self.disturbances.active(GLASS_BROKEN) * _ERROR_GLASS_RESISTANCE_LOW
        if self.disturbances.active(TEMPERATURE_SENSOR_DEFECTIVE):
            measurement |= _ERROR_TEMPERATURE_SENSOR
        return [*u32_low_first(measurement), 0, 0, 0, 0, 0, 0]

    def _operating_hours(self) -> list[int]:
        """In total, above the greatest measuring and above the greatest operating temperature."""
        return [*f32_low_first(self._operating_s / 3600.0), 0, 0, 0, 0]


def primary_channel(unit: int, value: float, status: int, low: float, high: float) -> list[int]:
    """The ten registers of a primary measurement channel (section 2.5.2)."""
    return [
        *u32_low_first(unit),
        *f32_low_first(value),
        *u32_low_first(status),
        *f32_low_first(low),
        *f32_low_first(high),
    ]


def _text(text: str, registers: int = 8) -> Callable[[], list[int]]:
    fixed = ascii_text(text, registers)
    return lambda: fixed


def _word(value: int) -> Callable[[], list[int]]:
    fixed = u32_low_first(value)
    return lambda: fixed

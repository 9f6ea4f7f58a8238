"""Hach (Beckman Coulter) MET ONE 6000 remote particle counter, Modbus RTU or TCP.

Source: MET ONE 6000 Series operator manual, appendix A "Modbus register maps", tables 16 to 24
(identity, configuration, labels, sample data, buffered record, sample mode, diagnostics).

From the manual: a register is 16 bits wide and larger values take successive registers. Text of
the identity block holds two characters per register, the first in the upper byte, and ends at a
zero. The location name holds one character per register. Temperature is in 0.1 C and humidity
in 0.1 %, both only with an external probe. Sample data at 300 follow the running sample; the
buffered record at 500 holds the last sample that is complete.

Assumed, because the pages seen do not say it:
- the addresses of the tables are those of the protocol data unit (the map starts at 0);
- 32-bit values have the high word in the lower register;
- registers are holding registers, read with function 3 only, and no write is offered;
- packed "month/day" and "minute/second" registers have the first part in the upper byte;
- channel counts include all larger sizes (register 144 says cumulative), grow during a sample
  and start again at zero with the next; 300-303 are the start of that sample;
- the sample volume is in millilitres, temperature is signed;
- in 309, 509 and 724 bit 0 stands for the laser and bit 1 for the flow (table 20 was not seen);
- status is one register at 309 (table 19: 2 bytes) and two at 509 (table 22: 4 bytes);
- manufacturer "Hach" and the calibration dates are made up;
- reserved registers read zero; 400-499 and everything from 750 on do not exist.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, ModbusException, Table
from simulators.devices.register_map import placed
from simulators.devices.registers import ascii_text, i16, u32_high_first, utf16_text
from simulators.devices.sampler import Sample, Sampler
from simulators.process.clean_room import CleanRoom
from simulators.settings import require

LASER_FAULT = "laser_fault"
FLOW_FAULT = "flow_fault"

_LASER_BIT = 0x0001  # assumed
_FLOW_BIT = 0x0002  # assumed

_EXISTING = (range(0, 400), range(500, 750))

_SIZES_UM = (0.5, 5.0)
_FLOW_L_PER_MIN = 28.3  # one cubic foot per minute
_FLOW_SHARE_IN_FAULT = 0.5  # assumed: a clogged inlet halves the flow
_VOLUME_UNITS_PER_L = 1_000  # assumed: the sample volume counts millilitres

_FLOW_SENSOR_MV = 2_500  # assumed: reading at nominal flow
_CALIBRATION_MV = 3_000  # assumed
_LASER_MA = 45  # assumed


@dataclass(frozen=True, slots=True, kw_only=True)
class MetOne6000Settings:
    """One counter. Identity texts are made up in the form that the manual gives."""

    model_number: str = "6015"
    serial_number: str = "0000000001"
    sensor_id: str = "SIM1"
    location: str = "Room 1"
    unit_address: int = 1
    """What register 100 says; over TCP it routes nothing."""
    sample_period_s: int = 60
    external_probe: bool = True
    """Whether a temperature and humidity probe is plugged in."""
    clock_offset_s: float = 0.0
    """How far the counter's clock is ahead of true UTC."""

    def __post_init__(self) -> None:
        for key, room in (("model_number", 20), ("serial_number", 10), ("sensor_id", 8)):
            text: str = getattr(self, key)
            require(
                text.isascii() and len(text) <= room, key, f"needs at most {room} ASCII characters"
            )
        require(len(self.location) <= 16, "location", "needs at most 16 characters")
        require(1 <= self.unit_address <= 247, "unit_address", "must be 1 to 247")
        require(1 <= self.sample_period_s < 86_400, "sample_period_s", "must be 1 to 86399")


class MetOne6000(ModbusDevice):
    """The counter over a clean room: two count bins, 0.5 and 5 um."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, LASER_FAULT, FLOW_FAULT)

    def __init__(
        self, settings: MetOne6000Settings, room: CleanRoom, rng: Random, start_utc_s: float
    ) -> None:
        super().__init__()
        self._settings = settings
        self._room = room
        self._rng = rng
        self._sampler = Sampler(
            room,
            _SIZES_UM,
            litres_per_min=_FLOW_L_PER_MIN,
            period_s=settings.sample_period_s,
            keep=1,
            rng=rng,
            utc_s=start_utc_s + settings.clock_offset_s,
        )
        self._fixed = _identity(settings) | _configuration(settings) | _labels() | _bins()

    def step(self, dt_s: float) -> None:
        self._sampler.step(
            dt_s,
            flow_share=self._flow_share,
            blind=self.disturbances.active(LASER_FAULT),
            faults=self._faults,
        )

    def read(self, table: Table, address: int, count: int) -> list[int]:
        if table is not Table.HOLDING_REGISTERS:
            raise ModbusException(ModbusException.ILLEGAL_FUNCTION)
        wanted = range(address, address + count)
        if not any(wanted[0] in block and wanted[-1] in block for block in _EXISTING):
            raise ModbusException(ModbusException.ILLEGAL_DATA_ADDRESS)
        registers = self._fixed | self._live()
        return [registers.get(register, 0) for register in wanted]

    @property
    def _flow_share(self) -> float:
        return _FLOW_SHARE_IN_FAULT if self.disturbances.active(FLOW_FAULT) else 1.0

    @property
    def _faults(self) -> int:
        laser = self.disturbances.active(LASER_FAULT) * _LASER_BIT
        return laser | self.disturbances.active(FLOW_FAULT) * _FLOW_BIT

    def _live(self) -> dict[int, int]:
        running = self._sampler.running
        registers = placed(112, _calendar(self._sampler.utc_s))
        registers |= self._sample_block(300, running) | {309: running.faults}
        for sample in self._sampler.complete:
            registers |= self._sample_block(500, sample)
            registers |= placed(509, u32_high_first(sample.faults))
        registers |= {706: 5_000, 707: 3_300, 708: 5_000, 715: _CALIBRATION_MV}
        registers |= {716: 0 if self.disturbances.active(LASER_FAULT) else _LASER_MA}
        registers |= {724: self._faults}
        return registers

    def _sample_block(self, base: int, sample: Sample) -> dict[int, int]:
        """Tables 19 and 22 without the status, which differs in size."""
        registers = placed(base, _calendar(sample.started_utc_s))
        registers |= placed(base + 4, _period(self._settings.sample_period_s))
        registers |= placed(base + 7, u32_high_first(round(sample.volume_l * _VOLUME_UNITS_PER_L)))
        registers |= placed(base + 11, u32_high_first(sample.counts[0]))
        registers |= placed(base + 13, u32_high_first(sample.counts[1]))
        registers |= {base + 43: round(_FLOW_SENSOR_MV * self._flow_share)}
        if self._settings.external_probe:
            registers |= {base + 44: i16(round(self._room.temperature_c * 10.0))}
            registers |= {base + 45: round(self._room.relative_humidity_pct * 10.0)}
        registers |= {base + 47: _CALIBRATION_MV}
        registers |= placed(base + 53, utf16_text(self._settings.location, 16))
        return registers


def _identity(settings: MetOne6000Settings) -> dict[int, int]:
    """Table 16, registers 0 to 39."""
    return (
        placed(0, ascii_text("Hach", 15))
        | placed(15, ascii_text(settings.model_number, 10))
        | placed(25, ascii_text(settings.serial_number, 5))
        | placed(30, ascii_text(settings.sensor_id, 4))
        | {34: 2026, 35: _pair(1, 15), 36: 2027, 37: _pair(1, 15)}
        | {38: 101, 39: 100}
    )


def _configuration(settings: MetOne6000Settings) -> dict[int, int]:
    """Table 17, registers 100 to 153, without the clock at 112."""
    return (
        {100: settings.unit_address, 103: 1, 104: 1, 105: 0}
        | placed(106, _period(settings.sample_period_s))
        | {120: 1}
        | placed(127, utf16_text(settings.location, 16))
        | {143: 0, 144: 0, 145: 0, 146: 60, 147: 1, 151: 1}
    )


def _labels() -> dict[int, int]:
    """Table 18, four characters each."""
    texts = {200: "0.5", 202: "5.0", 232: "CAL", 234: "TMP", 236: "RH", 238: "FLO"}
    registers: dict[int, int] = {}
    for address, text in texts.items():
        registers |= placed(address, ascii_text(text, 2))
    return registers


def _bins() -> dict[int, int]:
    """Table 23: two bins without an alarm limit."""
    unlimited = u32_high_first(0xFFFF_FFFF)
    return {600: 2} | placed(617, unlimited) | placed(619, unlimited)


def _pair(upper: int, lower: int) -> int:
    return upper << 8 | lower


def _calendar(utc_s: float) -> list[int]:
    """Year, month/day, hour, minute/second."""
    at = datetime.fromtimestamp(utc_s, UTC)
    return [at.year, _pair(at.month, at.day), at.hour, _pair(at.minute, at.second)]


def _period(period_s: int) -> list[int]:
    """Hours, minutes/seconds."""
    minutes, seconds = divmod(period_s, 60)
    hours, minutes = divmod(minutes, 60)
    return [hours, _pair(minutes, seconds)]

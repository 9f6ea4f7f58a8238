"""Particle Measuring Systems Airnet II particle counter, Modbus TCP.

Source: Airnet II manual, pages with the Modbus map (manualshive 1344041, 1344051): input
registers 30001 map version, 30002 firmware in hundredths, 30003 name, 30212 status, 30214 state,
30215 queue, 30216 time of the sample, 30218 its length in hundredths of a second, 30220 status
of the packet, 30222 flow and 30224 volume in tenths of cubic feet, 30226 location, 30227 number
of channels, 30229 to 30236 channels 1 to 4, cumulative.

Assumed: the high word comes first; the name has 8 registers, its first character in the upper
byte; the registers show the sample that was completed last, and zeros before; status and packet
status bit 0 a laser fault, bit 1 a flow fault; state 1 is sampling, the queue is empty; sizes
0.3, 0.5, 1 and 5 um; registers between the listed ones read zero; function 4 only, no write.
"""

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, Table
from simulators.devices.register_map import placed, read_map, require_table
from simulators.devices.registers import ascii_text, u32_high_first
from simulators.devices.sampler import LITRES_PER_CUBIC_FOOT, Sample, Sampler
from simulators.process.clean_room import CleanRoom
from simulators.settings import require

LASER_FAULT = "laser_fault"
FLOW_FAULT = "flow_fault"

SIZES_UM = (0.3, 0.5, 1.0, 5.0)
_LASER_BIT, _FLOW_BIT = 1, 2
_FLOW_SHARE_IN_FAULT = 0.5
_SAMPLING = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PmsAirnet2Settings:
    """One counter; the name is made up."""

    name: str = "AIRNET-II-1"
    location: int = 1
    sample_s: int = 60

    def __post_init__(self) -> None:
        require(self.name.isascii() and len(self.name) <= 16, "name", "needs at most 16 characters")
        require(1 <= self.location <= 65_535, "location", "must be 1 to 65535")
        require(1 <= self.sample_s <= 86_400, "sample_s", "must be 1 to 86400")


class PmsAirnet2(ModbusDevice):
    """The counter in a clean room, one cubic foot per minute."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, LASER_FAULT, FLOW_FAULT)

    def __init__(
        self, settings: PmsAirnet2Settings, room: CleanRoom, rng: Random, start_utc_s: float
    ) -> None:
        super().__init__()
        self._settings = settings
        self._sampler = Sampler(
            room,
            SIZES_UM,
            litres_per_min=LITRES_PER_CUBIC_FOOT,
            period_s=settings.sample_s,
            keep=1,
            rng=rng,
            utc_s=start_utc_s,
        )

    def step(self, dt_s: float) -> None:
        self._sampler.step(
            dt_s,
            flow_share=self._flow_share,
            blind=self.disturbances.active(LASER_FAULT),
            faults=self._faults,
        )

    def read(self, table: Table, address: int, count: int) -> list[int]:
        require_table(table, Table.INPUT_REGISTERS)
        return read_map(self._registers(), address, count)

    @property
    def _flow_share(self) -> float:
        return _FLOW_SHARE_IN_FAULT if self.disturbances.active(FLOW_FAULT) else 1.0

    @property
    def _faults(self) -> int:
        laser = self.disturbances.active(LASER_FAULT) * _LASER_BIT
        return laser | self.disturbances.active(FLOW_FAULT) * _FLOW_BIT

    def _registers(self) -> dict[int, int]:
        settings, complete = self._settings, self._sampler.complete
        sample = complete[-1] if complete else Sample(0.0, [0] * len(SIZES_UM))
        shown = [
            *u32_high_first(self._faults),
            _SAMPLING,
            0,
            *u32_high_first(int(sample.started_utc_s + sample.elapsed_s)),
            *u32_high_first(round(100.0 * sample.elapsed_s)),
            *u32_high_first(sample.faults),
            *u32_high_first(round(10.0 * self._flow_share)),
            *u32_high_first(round(10.0 * sample.volume_l / LITRES_PER_CUBIC_FOOT)),
            settings.location,
            len(SIZES_UM),
            0,
            *(word for particles in sample.counts for word in u32_high_first(particles)),
        ]
        return (
            dict.fromkeys(range(240), 0)
            | placed(0, [100, 205, *ascii_text(settings.name, 8)])
            | placed(211, shown)
        )

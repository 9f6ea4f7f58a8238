"""Lighthouse REMOTE particle counter, Modbus ASCII or TCP.

Sources: manuals of the REMOTE 3014 (pages 67, 70), 3104 (55) and 5014 (60) and of the handheld
counters (109, 112): holding registers 40001 to 40056 with 40003 status (bit 0 running, 1
sampling, 2 new data, 3 device error, 12 flow out of range), 40023 flow in hundredths of a cubic
foot per minute, 40024 number of records, 40025 which record is shown, 0-based, -1 for the
latest; input registers 30001 on: that record, channels 1 to 8 cumulative; big-endian words;
reading the record clears new data. An independent driver meets exceptions 6 and 11.

Assumed: index 0 is the oldest record; an index without a record is refused with exception 03; -1
before the first sample reads zeros; data status bit 0 a laser fault, bit 1 a flow fault; valid
channels is a mask; text has its first character in the upper byte; registers between the listed
ones read zero; of writes only that of 40025 with function 6 is offered; while busy all reads are
refused with exception 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, ModbusException, Table
from simulators.devices.register_map import placed, read_map, require_table
from simulators.devices.registers import ascii_text, u32_high_first
from simulators.devices.sampler import LITRES_PER_CUBIC_FOOT, Sample, Sampler
from simulators.process.clean_room import CleanRoom
from simulators.settings import require

LASER_FAULT = "laser_fault"
FLOW_FAULT = "flow_fault"
BUSY = "busy"

SIZES_UM = (0.5, 5.0)
LATEST = 0xFFFF
"""What register 40025 says for the latest record."""

_INDEX_AT = 24
_RECORDS_KEPT = 200
_CHANNELS = 8
_RUNNING, _SAMPLING, _NEW_DATA, _DEVICE_ERROR, _FLOW_OUT = 1, 2, 4, 8, 1 << 12
_LASER_BIT, _FLOW_BIT = 1, 2
_FLOW_SHARE_IN_FAULT = 0.5
_SLAVE_BUSY = 0x06


@dataclass(frozen=True, slots=True, kw_only=True)
class LighthouseRemoteSettings:
    """One counter. Identity texts are made up in the form that the manual gives."""

    product: str = "REMOTE"
    model: str = "R3014P"
    serial_number: int = 140_512_345
    location: int = 1
    sample_s: int = 60
    record_index: int = -1
    """The record that is shown; -1 is the latest."""

    def __post_init__(self) -> None:
        for key in ("product", "model"):
            text: str = getattr(self, key)
            require(text.isascii() and len(text) <= 16, key, "needs at most 16 ASCII characters")
        require(1 <= self.location <= 200, "location", "must be 1 to 200")
        require(1 <= self.sample_s <= 86_399, "sample_s", "must be 1 to 86399")
        require(-1 <= self.record_index < _RECORDS_KEPT, "record_index", "must be -1 to 199")


class LighthouseRemote(ModbusDevice):
    """The counter in a clean room, 0.5 and 5 um, one cubic foot per minute."""

    offers_writes = True
    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, LASER_FAULT, FLOW_FAULT, BUSY)

    def __init__(
        self, settings: LighthouseRemoteSettings, room: CleanRoom, rng: Random, start_utc_s: float
    ) -> None:
        super().__init__()
        self._settings = settings
        self._index = settings.record_index & 0xFFFF
        self._new_data = False
        self._sampler = Sampler(
            room,
            SIZES_UM,
            litres_per_min=LITRES_PER_CUBIC_FOOT,
            period_s=settings.sample_s,
            keep=_RECORDS_KEPT,
            rng=rng,
            utc_s=start_utc_s,
        )
        self._fixed = dict.fromkeys(range(199), 0) | (
            placed(0, [120, 0, 0, 105, *u32_high_first(settings.serial_number)])
            | placed(6, ascii_text(settings.product, 8))
            | placed(14, ascii_text(settings.model, 8))
            | {25: settings.location}
            | placed(32, u32_high_first(settings.sample_s))
            | {38: 3_000}
        )

    def step(self, dt_s: float) -> None:
        completed = self._sampler.step(
            dt_s,
            flow_share=self._flow_share,
            blind=self.disturbances.active(LASER_FAULT),
            faults=self._faults,
        )
        self._new_data |= completed > 0

    def read(self, table: Table, address: int, count: int) -> list[int]:
        require_table(table, Table.HOLDING_REGISTERS, Table.INPUT_REGISTERS)
        if self.disturbances.active(BUSY):
            raise ModbusException(_SLAVE_BUSY)
        if table is Table.HOLDING_REGISTERS:
            return read_map(self._holding(), address, count)
        shown = read_map(self._record(), address, count)
        self._new_data = False
        return shown

    def write(self, address: int, values: Sequence[int]) -> None:
        """Select the record that input registers show; nothing else can be written."""
        if address != _INDEX_AT or len(values) != 1:
            raise ModbusException(ModbusException.ILLEGAL_DATA_ADDRESS)
        if values[0] != LATEST and values[0] >= len(self._sampler.complete):
            raise ModbusException(ModbusException.ILLEGAL_DATA_VALUE)
        self._index = values[0]

    @property
    def _flow_share(self) -> float:
        return _FLOW_SHARE_IN_FAULT if self.disturbances.active(FLOW_FAULT) else 1.0

    @property
    def _faults(self) -> int:
        laser = self.disturbances.active(LASER_FAULT) * _LASER_BIT
        return laser | self.disturbances.active(FLOW_FAULT) * _FLOW_BIT

    @property
    def _status(self) -> int:
        return (
            _RUNNING
            | _SAMPLING
            | self._new_data * _NEW_DATA
            | self.disturbances.active(LASER_FAULT) * _DEVICE_ERROR
            | self.disturbances.active(FLOW_FAULT) * _FLOW_OUT
        )

    def _holding(self) -> dict[int, int]:
        sampler = self._sampler
        return self._fixed | (
            {2: self._status, 22: round(100.0 * self._flow_share)}
            | {23: len(sampler.complete), _INDEX_AT: self._index}
            | placed(26, u32_high_first(int(sampler.utc_s)))
        )

    def _record(self) -> dict[int, int]:
        empty = dict.fromkeys(range(80), 0)
        sample = self._selected()
        if sample is None:
            return empty
        counts = sample.counts + [0] * (_CHANNELS - len(sample.counts))
        registers = [
            *u32_high_first(int(sample.started_utc_s + sample.elapsed_s)),
            *u32_high_first(round(sample.elapsed_s)),
            *u32_high_first(self._settings.location),
            *u32_high_first(sample.faults),
            *(word for particles in counts for word in u32_high_first(particles)),
        ]
        return empty | placed(0, registers) | {73: (1 << len(SIZES_UM)) - 1}

    def _selected(self) -> Sample | None:
        records = self._sampler.complete
        if self._index == LATEST:
            return records[-1] if records else None
        return records[self._index] if self._index < len(records) else None

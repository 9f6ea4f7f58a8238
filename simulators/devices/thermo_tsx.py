"""Thermo Scientific TSX and TDE freezers for -80 C, Modbus ASCII.

Sources: TSX operation and service manual, pages 68 and 69, and TDE manual, pages 35, 36 and 41
(7 data bits, even parity; function 3; addresses in hexadecimal as on the wire; set-points in
tenths of a degree as 32-bit integers, the printed -80.0 being FF FF FC E0; probes TC2 to TC5 as
singles, big endian; bits of the system status at 671 and of the relay enclosure at 674). The
printed reply `:190304FFFFFCE002` bears a wrong check: its LRC is 06, which is what this freezer
sends.

Assumed: TC2 is the cabinet, TC3 the heat exchanger, TC4 the condenser, TC5 the room; the part
number has its first character in the upper byte; the values of product id and control model; of
674 the high word comes first, as in the printed set-point; a read must not leave the listed
registers (exception 02); function 4 and all writes are unknown.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, Table
from simulators.devices.register_map import placed, read_map, require_table
from simulators.devices.registers import (
    ascii_text,
    f32_high_first,
    i32_high_first,
    u32_high_first,
)
from simulators.process.ult_freezer import UltFreezer
from simulators.settings import require

SERVICE_MODE = "service_mode"
BUS_COMMUNICATION_FAILED = "bus_communication_failed"

_PULL_DOWN_REACHED, _POWER_FAILURE, _SERVICE, _BUS_FAILURE = 1 << 0, 1 << 1, 1 << 3, 1 << 7
_DOOR_1_OPEN = 1 << 9


@dataclass(frozen=True, slots=True, kw_only=True)
class ThermoTsxSettings:
    """One freezer."""

    part_number: str = "TSX60086A"
    product_id: int = 60_086
    control_model: int = 600
    warm_alarm_c: float = -70.0
    cold_alarm_c: float = -90.0

    def __post_init__(self) -> None:
        text = self.part_number
        require(text.isascii() and len(text) <= 20, "part_number", "needs at most 20 characters")
        require(self.cold_alarm_c < self.warm_alarm_c, "cold_alarm_c", "must be below warm_alarm_c")


class ThermoTsx(ModbusDevice):
    """The electronics of a freezer. On a power failure they run from their battery."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, SERVICE_MODE, BUS_COMMUNICATION_FAILED)

    def __init__(self, settings: ThermoTsxSettings, freezer: UltFreezer) -> None:
        super().__init__()
        self._freezer = freezer
        self._fixed = (
            placed(0x530, tenths(freezer.settings.set_point_c))
            | placed(0x538, tenths(settings.warm_alarm_c))
            | placed(0x53C, tenths(settings.cold_alarm_c))
            | placed(0x570, ascii_text(settings.part_number, 10))
            | placed(0x598, u32_high_first(settings.product_id))
            | {0x59C: settings.control_model}
        )

    def read(self, table: Table, address: int, count: int) -> list[int]:
        require_table(table, Table.HOLDING_REGISTERS)
        freezer = self._freezer
        registers = (
            self._fixed
            | placed(0x4CC, f32_high_first(freezer.cabinet_c))
            | placed(0x4D0, f32_high_first(freezer.heat_exchanger_c))
            | placed(0x4D4, f32_high_first(freezer.condenser_c))
            | placed(0x4D8, f32_high_first(freezer.ambient_c))
            | {0x671: self._system_status}
            | placed(0x674, u32_high_first(freezer.door_open * _DOOR_1_OPEN))
        )
        return read_map(registers, address, count)

    @property
    def _system_status(self) -> int:
        return (
            self._freezer.pulled_down * _PULL_DOWN_REACHED
            | self._freezer.mains_failed * _POWER_FAILURE
            | self.disturbances.active(SERVICE_MODE) * _SERVICE
            | self.disturbances.active(BUS_COMMUNICATION_FAILED) * _BUS_FAILURE
        )


def tenths(celsius: float) -> list[int]:
    """A temperature as a signed 32-bit number of tenths."""
    return i32_high_first(round(celsius * 10.0))

"""Bronkhorst mass flow controller, Modbus RTU.

Sources: Bronkhorst 9.17.035 "Modbus slave interface" as quoted by the map bronkhorst/mbc-modbus
of mbmap-library (addresses as on the wire, high word first, 19200 8E1, address 1); parameter
table of the vendor's package bronkhorst-propar 1.3.0. Every entry follows one rule, by which
others are found: 16 bits at process * 32 + parameter, 32 bits and text at 0x8000 + process * 256
+ parameter * 8. By it the text at 61704, which the map calls the model, is the device type
(process 113, parameter 1), and the model (parameter 2) stands at 61712.

From these: measure and set-point count 32000 for 100 %; a measure above 41942 is negative, less
65536. Assumed: the flow of the process is in normal millilitres per minute; text has its first
character in the upper byte and zeros behind it, 8 registers long (5 for the fluid, 4 for the
unit); the valve output counts 2^24 for fully open; functions 3 and 4 read the same; a write is
refused.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, Table
from simulators.devices.register_map import placed, read_map, require_registers
from simulators.devices.registers import ascii_text, f32_high_first, u32_high_first
from simulators.process.gas_supply import GasSupply
from simulators.settings import require

REVERSE_FLOW = "reverse_flow"

FULL_SCALE = 32_000
GREATEST = 41_942
"""Larger numbers stand for a flow backwards."""

_REVERSE_SHARE = -0.01
_VALVE_OPEN = (1 << 24) - 1


def address_16(process: int, parameter: int) -> int:
    """Where a value of 16 bits stands."""
    return process * 32 + parameter


def address_32(process: int, parameter: int) -> int:
    """Where a value of 32 bits, or a text, stands."""
    return 0x8000 + process * 256 + parameter * 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BronkhorstModbusSettings:
    """One instrument. Texts are made up in the form that the vendor uses."""

    device_type: str = "DMFC"
    model: str = "F-201CV-500RAD"
    serial_number: str = "M17200812B"
    firmware: str = "V1.12"
    fluid: str = "AIR"
    capacity_unit: str = "mln/min"

    def __post_init__(self) -> None:
        rooms = (("device_type", 6), ("model", 14), ("serial_number", 16), ("firmware", 16))
        for key, room in (*rooms, ("fluid", 10), ("capacity_unit", 7)):
            text: str = getattr(self, key)
            require(
                text.isascii() and len(text) <= room, key, f"needs at most {room} ASCII characters"
            )


class BronkhorstModbus(ModbusDevice):
    """The controller in a gas line."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, REVERSE_FLOW)

    def __init__(self, settings: BronkhorstModbusSettings, process: GasSupply) -> None:
        super().__init__()
        self._process = process
        self._counted_ml = 0.0
        self._fixed = (
            placed(address_32(113, 1), ascii_text(settings.device_type, 8))
            | placed(address_32(113, 2), ascii_text(settings.model, 8))
            | placed(address_32(113, 3), ascii_text(settings.serial_number, 8))
            | placed(address_32(113, 5), ascii_text(settings.firmware, 8))
            | placed(address_32(1, 17), ascii_text(settings.fluid, 5))
            | placed(address_32(1, 31), ascii_text(settings.capacity_unit, 4))
            | placed(address_32(1, 13), f32_high_first(process.settings.full_scale_sccm))
            | placed(address_32(104, 3), f32_high_first(0.0))
            | {address_16(1, 3): 0, address_16(1, 4): 0, address_16(1, 20): 0}
        )

    def step(self, dt_s: float) -> None:
        self._counted_ml += max(self._flow, 0.0) * dt_s / 60.0

    def read(self, table: Table, address: int, count: int) -> list[int]:
        require_registers(table)
        process = self._process
        share = self._flow / process.settings.full_scale_sccm
        set_point = process.set_point_sccm
        valve = round(process.valve_pct / 100.0 * _VALVE_OPEN)
        registers = (
            self._fixed
            | {address_16(1, 0): measure_of(share)}
            | {address_16(1, 1): measure_of(set_point / process.settings.full_scale_sccm)}
            | placed(address_32(33, 0), f32_high_first(self._flow))
            | placed(address_32(33, 3), f32_high_first(set_point))
            | placed(address_32(33, 7), f32_high_first(process.temperature_c))
            | placed(address_32(104, 1), f32_high_first(self._counted_ml))
            | placed(address_32(114, 1), u32_high_first(valve))
        )
        return read_map(registers, address, count)

    @property
    def _flow(self) -> float:
        if self.disturbances.active(REVERSE_FLOW):
            return _REVERSE_SHARE * self._process.settings.full_scale_sccm
        return self._process.flow_sccm


def measure_of(share: float) -> int:
    """The register for a share of the full scale, held at its ends."""
    return max(GREATEST - 0xFFFF, min(round(share * FULL_SCALE), GREATEST)) & 0xFFFF

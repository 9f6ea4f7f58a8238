"""Advantech ADAM-4018+, eight thermocouples, Modbus RTU.

Sources: ADAM-4000 series manual, chapter 5 (type codes 0E, 0F and 10: J 0 to 760 C, K 0 to 1370 C,
T -100 to 400 C; what a value outside its range becomes) and appendix G (Modbus mapping);
Advantech's answer 1-2C1EWF on scaling, whose example is type J: 26.43 C is 2279. Registers 40001 to
40008 hold channels 0 to 7 as unsigned numbers that span the range of the type code.

Assumed: as for the ADAM-4015, of the same series. 65535 stands for a value above the range, an
open wire and an unused channel, 0 for a value below it; each channel has a type code of its own
at 40201 on; the name is 0x4018 at 40211, the version follows at 40213; no write is offered.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, Table
from simulators.devices.register_map import placed, read_map, require_registers
from simulators.devices.registers import span16
from simulators.process.controlled_rate_freezer import ControlledRateFreezer
from simulators.settings import require

CHANNELS = 8
WIRES_OPEN = tuple(f"channel_{channel}_open" for channel in range(CHANNELS))

RANGE_C = {0x0E: (0.0, 760.0), 0x0F: (0.0, 1370.0), 0x10: (-100.0, 400.0)}
"""Type codes of thermocouples J, K and T and their ranges."""

_SOURCES: dict[str, Callable[[ControlledRateFreezer], float]] = {
    "chamber": lambda freezer: freezer.chamber_c,
    "sample": lambda freezer: freezer.sample_c,
    "ambient": lambda freezer: freezer.ambient_c,
    "unused": lambda freezer: math.nan,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adam4018Settings:
    """One module and what is wired to its channels, from channel 0 on."""

    channels: tuple[str, ...] = ("chamber", "sample", "ambient")
    type_code: int = 0x10

    def __post_init__(self) -> None:
        require(len(self.channels) <= CHANNELS, "channels", f"the module has {CHANNELS}")
        for source in self.channels:
            require(source in _SOURCES, "channels", f"{source!r} is none of {', '.join(_SOURCES)}")
        known = ", ".join(f"{code:#x}" for code in RANGE_C)
        require(self.type_code in RANGE_C, "type_code", f"must be one of {known}")


class Adam4018(ModbusDevice):
    """The module at a controlled-rate freezer. `channel_0_open` and so on break a wire."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, *WIRES_OPEN)

    def __init__(self, settings: Adam4018Settings, freezer: ControlledRateFreezer) -> None:
        super().__init__()
        self._type_code = settings.type_code
        self._freezer = freezer
        wired = [_SOURCES[source] for source in settings.channels]
        self._sources = wired + [_SOURCES["unused"]] * (CHANNELS - len(wired))

    def read(self, table: Table, address: int, count: int) -> list[int]:
        require_registers(table)
        registers = (
            placed(0, [self._raw(channel) for channel in range(CHANNELS)])
            | placed(200, [self._type_code] * CHANNELS)
            | placed(210, [0x4018, 0x0000, 0xA200, 0x0000])
            | {220: (1 << CHANNELS) - 1}
        )
        return read_map(registers, address, count)

    def _raw(self, channel: int) -> int:
        value_c = self._sources[channel](self._freezer)
        if math.isnan(value_c) or self.disturbances.active(WIRES_OPEN[channel]):
            return 0xFFFF
        return span16(value_c, *RANGE_C[self._type_code])

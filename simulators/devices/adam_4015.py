"""Advantech ADAM-4015, six resistance thermometers, Modbus RTU.

Sources: ADAM-4000 series manual, chapter 5 (type codes, what a value outside its range becomes)
and appendix G (Modbus mapping); Advantech's answer 1-2C1EWF on scaling. Registers 40001 to 40006
hold channels 0 to 5 as unsigned numbers that span the range of the type code:

    value = low + raw / 65536 * (high - low)

Only type code 24, Pt100 from -200 to 200 C, reaches the boiling point of nitrogen. One step is
0.006 C.

Assumed: register 4xxxx is address xxxx - 1 and function 4 reads the same registers as function
3; a value above its range, an open wire and an unused channel all read 65535, a value below it
reads 0 (the manual says FFFF and 0000 for the hexadecimal format of the ASCII protocol); the
type codes at 40201, the name at 40211 (0x4015, 0), the version at 40213 and the channel mask at
40221 follow what appendix G prints for the sister modules; no write is offered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF, ModbusDevice, Table
from simulators.devices.register_map import placed, read_map, require_registers
from simulators.devices.registers import span16
from simulators.process.ln2_freezer import Ln2Freezer
from simulators.settings import require

CHANNELS = 6
WIRES_OPEN = tuple(f"channel_{channel}_open" for channel in range(CHANNELS))

_RANGE_C = {
    0x20: (-50.0, 150.0),
    0x21: (0.0, 100.0),
    0x22: (0.0, 200.0),
    0x23: (0.0, 400.0),
    0x24: (-200.0, 200.0),
}
"""Type codes of Pt100 to IEC 60751 and their ranges."""

_SOURCES: dict[str, Callable[[Ln2Freezer], float]] = {
    "top": lambda freezer: freezer.top_c,
    "rack": lambda freezer: freezer.rack_c,
    "transfer_line": lambda freezer: freezer.transfer_line_c,
    "ambient": lambda freezer: freezer.ambient_c,
    "unused": lambda freezer: float("inf"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adam4015Settings:
    """One module and what is wired to its channels, from channel 0 on."""

    channels: tuple[str, ...] = ("top", "rack", "transfer_line", "ambient")
    type_code: int = 0x24

    def __post_init__(self) -> None:
        require(len(self.channels) <= CHANNELS, "channels", f"the module has {CHANNELS}")
        for source in self.channels:
            require(source in _SOURCES, "channels", f"{source!r} is none of {', '.join(_SOURCES)}")
        known = ", ".join(f"{code:#x}" for code in _RANGE_C)
        require(self.type_code in _RANGE_C, "type_code", f"must be one of {known}")


class Adam4015(ModbusDevice):
    """The module on a nitrogen freezer. `channel_0_open` to `channel_5_open` break a wire."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, *WIRES_OPEN)

    def __init__(self, settings: Adam4015Settings, freezer: Ln2Freezer) -> None:
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
            | placed(210, [0x4015, 0x0000, 0xA200, 0x0000])
            | {220: (1 << CHANNELS) - 1}
        )
        return read_map(registers, address, count)

    def _raw(self, channel: int) -> int:
        if self.disturbances.active(WIRES_OPEN[channel]):
            return 0xFFFF
        return raw_of(self._sources[channel](self._freezer), self._type_code)


def raw_of(value_c: float, type_code: int) -> int:
    """The register for a temperature: truncated to a step, held at 0 and 65535."""
    return span16(value_c, *_RANGE_C[type_code])

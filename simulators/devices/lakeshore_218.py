"""Lake Shore 218 temperature monitor, eight cryogenic channels.

Sources: Lake Shore Model 218 user's manual, chapter 6 (remote operation: line settings, terminator,
*IDN?, KRDG?, CRDG?, RDGST?, timing); the bits of RDGST? after the Model 332 manual of the same
family: 16 temperature under range, 32 over, 64 units zero, 128 units over range.

Assumed: an unknown command is not answered; a channel over its range reads +000.00 with its bit.
A unit takes 20 commands a second; it answers after 20 ms here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF
from simulators.devices.text_contract import TextDevice
from simulators.process.ln2_freezer import Ln2Freezer
from simulators.settings import require

CHANNELS = 8
WIRES_OPEN = tuple(f"channel_{channel}_open" for channel in range(1, CHANNELS + 1))

_KELVIN = 273.15
_UNITS_OVER = 128

_SOURCES: dict[str, Callable[[Ln2Freezer], float]] = {
    "top": lambda freezer: freezer.top_c,
    "rack": lambda freezer: freezer.rack_c,
    "transfer_line": lambda freezer: freezer.transfer_line_c,
    "ambient": lambda freezer: freezer.ambient_c,
    "unused": lambda freezer: float("inf"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeShore218Settings:
    """One monitor and what is wired to its inputs, from input 1 on."""

    channels: tuple[str, ...] = ("top", "rack", "transfer_line", "ambient")
    model: str = "MODEL218E"
    serial_number: str = "21EA4F"

    def __post_init__(self) -> None:
        require(len(self.channels) <= CHANNELS, "channels", f"the monitor has {CHANNELS}")
        for source in self.channels:
            require(source in _SOURCES, "channels", f"{source!r} is none of {', '.join(_SOURCES)}")


class LakeShore218(TextDevice):
    """The monitor on a nitrogen freezer."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, *WIRES_OPEN)
    REPLY_DELAY_S: ClassVar[float] = 0.02

    def __init__(self, settings: LakeShore218Settings, freezer: Ln2Freezer) -> None:
        super().__init__()
        self._settings = settings
        self._freezer = freezer
        wired = [_SOURCES[source] for source in settings.channels]
        self._sources = wired + [_SOURCES["unused"]] * (CHANNELS - len(wired))

    def answer(self, request: bytes) -> bytes:
        reply = self._reply(request.decode("latin-1"))
        return b"" if reply is None else reply.encode("ascii") + b"\r\n"

    def _reply(self, request: str) -> str | None:
        if request == "*IDN?":
            return f"LSCI,{self._settings.model},{self._settings.serial_number},042109"
        asked = re.fullmatch(r"(KRDG|CRDG|RDGST)\? ?([0-8])", request)
        if asked is None:
            return None
        channels = range(CHANNELS) if asked[2] == "0" else [int(asked[2]) - 1]
        say = {"KRDG": self._kelvin, "CRDG": self._celsius, "RDGST": self._status}[asked[1]]
        return ",".join(map(say, channels))

    def _value_c(self, channel: int) -> float:
        if self.disturbances.active(WIRES_OPEN[channel]):
            return float("inf")
        return self._sources[channel](self._freezer)

    def _kelvin(self, channel: int) -> str:
        value_c = self._value_c(channel)
        return f"{value_c + _KELVIN:+07.2f}" if value_c != float("inf") else "+000.00"

    def _celsius(self, channel: int) -> str:
        value_c = self._value_c(channel)
        return f"{value_c:+07.2f}" if value_c != float("inf") else "-273.15"

    def _status(self, channel: int) -> str:
        return f"{_UNITS_OVER if self._value_c(channel) == float('inf') else 0:03d}"

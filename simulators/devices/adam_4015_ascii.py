"""Advantech ADAM-4015, six resistance thermometers, ASCII protocol.

Sources: ADAM-4000 series manual, chapter 4 (`#AA`, engineering units: sign and seven characters
for each channel) and chapter 5 (+9999 above, -0000 below the range).

Assumed: `$AAM` states the module's name, `$AAF` its version, `?AA` refuses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF
from simulators.devices.text_contract import TextDevice
from simulators.process.ln2_freezer import Ln2Freezer
from simulators.settings import require

CHANNELS = 6
WIRES_OPEN = tuple(f"channel_{channel}_open" for channel in range(CHANNELS))

_LOW_C, _HIGH_C = -200.0, 200.0
_SOURCES: dict[str, Callable[[Ln2Freezer], float]] = {
    "top": lambda freezer: freezer.top_c,
    "rack": lambda freezer: freezer.rack_c,
    "transfer_line": lambda freezer: freezer.transfer_line_c,
    "ambient": lambda freezer: freezer.ambient_c,
    "unused": lambda freezer: float("inf"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adam4015AsciiSettings:
    """One module, in two hexadecimal digits of address, with Pt100 from -200 to 200 C."""

    address: str = "01"
    channels: tuple[str, ...] = ("top", "rack", "transfer_line", "ambient")

    def __post_init__(self) -> None:
        require(len(self.channels) <= CHANNELS, "channels", f"the module has {CHANNELS}")
        for source in self.channels:
            require(source in _SOURCES, "channels", f"{source!r} is none of {', '.join(_SOURCES)}")


class Adam4015Ascii(TextDevice):
    """The module on a nitrogen freezer."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, *WIRES_OPEN)
    REQUEST_END: ClassVar[bytes] = b"\r"

    def __init__(self, settings: Adam4015AsciiSettings, freezer: Ln2Freezer) -> None:
        super().__init__()
        self._address = settings.address
        self._freezer = freezer
        wired = [_SOURCES[source] for source in settings.channels]
        self._sources = wired + [_SOURCES["unused"]] * (CHANNELS - len(wired))

    def answer(self, request: bytes) -> bytes:
        text, address = request.decode("latin-1"), self._address
        if text[1:3] != address:
            return b""
        if text == f"#{address}":
            return f">{''.join(map(self._channel, range(CHANNELS)))}\r".encode("ascii")
        if text == f"${address}M":
            return f"!{address}4015\r".encode("ascii")
        if text == f"${address}F":
            return f"!{address}A2.00\r".encode("ascii")
        return f"?{address}\r".encode("ascii")

    def _channel(self, channel: int) -> str:
        value_c = self._sources[channel](self._freezer)
        if self.disturbances.active(WIRES_OPEN[channel]) or value_c > _HIGH_C:
            return "+9999"
        return "-0000" if value_c < _LOW_C else f"{value_c:+08.3f}"[:7]

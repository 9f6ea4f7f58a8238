"""Sartorius balance, SBI protocol.

Sources: Sartorius CP323S operating instructions, "Data interface" (commands of format 1 and 2,
output of 16 and 22 characters, a blank unit while the balance is not at rest, status and error
texts), and the same chapter of the MSE, Quintix and GC manuals.

Assumed: what the model and serial number are answered with (format 2, x1 and x2); the display is
refreshed, and printed where it prints by itself, five times a second.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF
from simulators.devices.text_contract import TextDevice
from simulators.process.formulation import Formulation

OVERLOAD = "overload"
SWITCHED_TO_POUNDS = "switched_to_pounds"

_GRAM_PER_POUND = 453.59237
_PRINT_EVERY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class SartoriusSbiSettings:
    """One balance; `long_lines` are those of 22 characters, `auto_print` needs no request."""

    model: str = "CP3202S"
    serial_number: str = "15804711"
    capacity_g: float = 3200.0
    long_lines: bool = True
    auto_print: bool = False


class SartoriusSbi(TextDevice):
    """The balance under a bag."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, OVERLOAD, SWITCHED_TO_POUNDS)

    def __init__(self, settings: SartoriusSbiSettings, process: Formulation) -> None:
        super().__init__()
        self._settings = settings
        self._process = process
        self._since_print_s = 0.0

    def step(self, dt_s: float) -> None:
        self._since_print_s += dt_s

    def answer(self, request: bytes) -> bytes:
        match request:
            case b"\x1bP" | b"\x1bkP_":
                return self._printed()
            case b"\x1bx1_":
                return f"{self._settings.model:<14}\r\n".encode("ascii")
            case b"\x1bx2_":
                return f"{self._settings.serial_number:<14}\r\n".encode("ascii")
        return b""

    def unprompted(self) -> bytes:
        if not self._settings.auto_print or self._since_print_s < _PRINT_EVERY_S:
            return b""
        self._since_print_s = 0.0
        return self._printed()

    def _printed(self) -> bytes:
        long_lines = self._settings.long_lines
        if self.disturbances.active(OVERLOAD) or self._process.mass_g > self._settings.capacity_g:
            text = "Stat      High" + " " * 6 if long_lines else "      High    "
            return f"{text}\r\n".encode("ascii")
        value, unit = f"{abs(self._process.mass_g):.2f}", "g"
        if self.disturbances.active(SWITCHED_TO_POUNDS):
            value, unit = f"{abs(self._process.mass_g) / _GRAM_PER_POUND:.4f}", "lb"
        sign = "-" if self._process.mass_g < 0 else "+"
        shown = unit if self._process.stable else ""
        line = f"{sign} {value:>8} {shown:<3}"
        return f"{'N     ' if long_lines else ''}{line}\r\n".encode("ascii")

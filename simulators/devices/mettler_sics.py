"""Mettler-Toledo balance, MT-SICS levels 0 and 1.

Sources: MT-SICS reference manual 11780711 and 11781363, levels 0 and 1 (reply grammar, status
letters, whole-line errors ES, ET, EL; the printed examples, in which the value is right-aligned in
ten characters). Here: I0 is left out; I1 to I5, S, SI, and the commands that change something,
which this balance refuses as not executable, for nobody may send them.

Assumed: what I3 and I5 look like in detail; S answers `S I` when the balance does not come to rest
within its time.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF
from simulators.devices.text_contract import TextDevice
from simulators.process.formulation import Formulation
from simulators.settings import require

OVERLOAD = "overload"
UNDERLOAD = "underload"
SWITCHED_TO_POUNDS = "switched_to_pounds"

_GRAM_PER_POUND = 453.59237
_CHANGES = re.compile(rb"(@|Z|ZI|T|TI|TA .*|TAC|D .*|DW|K .*|C|SIR|SR.*|SNR)")


@dataclass(frozen=True, slots=True, kw_only=True)
class MettlerSicsSettings:
    """One balance."""

    serial_number: str = "B021002593"
    balance_type: str = "MS4002S"
    capacity_g: float = 4200.0
    software: str = "2.10"

    def __post_init__(self) -> None:
        require(self.capacity_g > 0.0, "capacity_g", "must be positive")


class MettlerSics(TextDevice):
    """The balance under a bag. `switched_to_pounds` is what a finger on its key does."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, OVERLOAD, UNDERLOAD, SWITCHED_TO_POUNDS)

    def __init__(self, settings: MettlerSicsSettings, process: Formulation) -> None:
        super().__init__()
        self._settings = settings
        self._process = process

    def answer(self, request: bytes) -> bytes:
        return self._reply(request).encode("ascii") + b"\r\n"

    def _reply(self, request: bytes) -> str:
        settings = self._settings
        match request:
            case b"I1":
                return 'I1 A "01" "2.30" "2.22" "" ""'
            case b"I2":
                return f'I2 A "{settings.balance_type} {settings.capacity_g:.2f} g"'
            case b"I3":
                return f'I3 A "{settings.software} 11.58.21.1360.772"'
            case b"I4":
                return f'I4 A "{settings.serial_number}"'
            case b"I5":
                return 'I5 A "11587455C"'
            case b"SI":
                return self._weight("S" if self._process.stable else "D")
            case b"S":
                return self._weight("S") if self._process.stable else "S I"
        if _CHANGES.fullmatch(request):
            return f"{request.split()[0].decode('ascii')} I"
        return "ES"

    def _weight(self, status: str) -> str:
        if self.disturbances.active(OVERLOAD) or self._process.mass_g > self._settings.capacity_g:
            return "S +"
        if self.disturbances.active(UNDERLOAD):
            return "S -"
        if self.disturbances.active(SWITCHED_TO_POUNDS):
            return f"S {status} {self._process.mass_g / _GRAM_PER_POUND:10.4f} lb"
        return f"S {status} {self._process.mass_g:10.2f} g"

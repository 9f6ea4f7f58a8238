"""Watson-Marlow pump, RS-232: types 620, 505 and 323.

Sources: Watson-Marlow 620Du/620DuN, 505Du/505Di and 323Du manuals, RS-232 commands (address 1 to
16, carriage return, echo, at least 10 ms between commands, the status reply of each type, tacho
counts per revolution).

Assumed: a line feed does not follow the exclamation mark; a bad command is echoed and not answered.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.text_contract import TextDevice
from simulators.process.formulation import Formulation
from simulators.settings import require

_TACHO_PER_TURN = {"620Du": 10_982, "505Di": 1_280, "323Du": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class WatsonMarlowSettings:
    """One pump."""

    type: str = "620Du"
    address: int = 1
    head: str = "620R"
    tube: str = "9.6MM"

    def __post_init__(self) -> None:
        known = ", ".join(_TACHO_PER_TURN)
        require(self.type in _TACHO_PER_TURN, "type", f"must be one of {known}")
        require(1 <= self.address <= 16, "address", "must be 1 to 16")


class WatsonMarlow(TextDevice):
    """The pump that fills the bag."""

    REQUEST_END: ClassVar[bytes] = b"\r"
    ECHOES: ClassVar[bool] = True

    def __init__(self, settings: WatsonMarlowSettings, process: Formulation) -> None:
        super().__init__()
        self._settings = settings
        self._process = process

    def answer(self, request: bytes) -> bytes:
        found = re.fullmatch(rb"(\d{1,2})(RS|RT|ZY)", request)
        settings, process = self._settings, self._process
        if found is None or int(found[1]) != settings.address:
            return b""
        tacho = int(process.pump_turns * _TACHO_PER_TURN[settings.type])
        running = int(process.pump_running)
        if found[2] == b"RT":
            return f"{tacho}\r".encode("ascii")
        if found[2] == b"ZY":
            return f"{running}\r".encode("ascii")
        rpm = process.pump_rpm
        if settings.type == "323Du":
            return f"323Du {rpm:.0f} CW {running} !".encode("ascii")
        return (
            f"{settings.type} {process.ml_per_turn:g} {settings.head} {settings.tube} {rpm:.1f} CW "
            f"P/N {settings.address} {tacho} {running} !"
        ).encode("ascii")

"""Ismatec Reglo ICC, four channels; the questions that the pages seen name.

Source: Reglo ICC operating manual, serial commands (address 1 to 8, carriage return, `#` for a
command that is not understood, data end with carriage return and line feed).

Assumed: 9600 baud 8N1; what direction, mode and protocol version are answered with.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.text_contract import TextDevice
from simulators.process.formulation import Formulation
from simulators.settings import require


@dataclass(frozen=True, slots=True, kw_only=True)
class IsmatecRegloIccSettings:
    """One pump."""

    address: int = 1
    protocol_version: int = 2

    def __post_init__(self) -> None:
        require(1 <= self.address <= 8, "address", "must be 1 to 8")


class IsmatecRegloIcc(TextDevice):
    """The pump that fills the bag."""

    REQUEST_END: ClassVar[bytes] = b"\r"

    def __init__(self, settings: IsmatecRegloIccSettings, process: Formulation) -> None:
        super().__init__()
        self._settings = settings
        self._process = process

    def answer(self, request: bytes) -> bytes:
        address = str(self._settings.address).encode("ascii")
        if not request.startswith(address):
            return b""
        match request[len(address) :]:
            case b"xD":
                return b"J\r\n"
            case b"xM":
                return b"L\r\n"
            case b"x!":
                return b"%d\r\n" % self._settings.protocol_version
        return b"#\r\n"

"""Thermo CryoExtra CE8100 freezer controller, the part of its ASCII interface that is public.

Source: CryoExtra manual, appendix "Controller ASCII interface" (first page of its list): *IDN?,
ALMS?, CALVL?; a query has a question mark, whatever sets is not answered.

Assumed: carriage return and line feed, a number for the version, silence for what is not known.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF
from simulators.devices.text_contract import TextDevice
from simulators.process.ln2_freezer import Ln2Freezer

ALARM_MUTED = "alarm_muted"


@dataclass(frozen=True, slots=True, kw_only=True)
class CryoExtraSettings:
    """One controller."""

    version: str = "2.07"
    level_offset: float = -0.5


class CryoExtra(TextDevice):
    """The controller of a freezer."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, ALARM_MUTED)

    def __init__(self, settings: CryoExtraSettings, freezer: Ln2Freezer) -> None:
        super().__init__()
        self._settings = settings
        self._freezer = freezer

    def answer(self, request: bytes) -> bytes:
        match request:
            case b"*IDN?":
                return f"Controller, Software ver. {self._settings.version}\r\n".encode("ascii")
            case b"ALMS?":
                return b"0\r\n" if self.disturbances.active(ALARM_MUTED) else b"1\r\n"
            case b"CALVL?":
                return f"{self._settings.level_offset:+06.1f}\r\n".encode("ascii")
        return b""

"""American Magnetics 186 liquid nitrogen level instrument.

Source: AMI Model 185/186 manual, RS-232 command reference: commands in any case, every reply ends
with CR LF, a command without a value answers CR LF alone, a bad one a negative error code; units C,
I and %; HI, LO, A, B, INTERVAL, LENGTH.

Assumed: a bad command answers -8, as the older Models 135 and 136; A is the upper end of the band.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF
from simulators.devices.text_contract import TextDevice
from simulators.process.ln2_freezer import Ln2Freezer

SWITCHED_TO_INCHES = "switched_to_inches"

_CM_PER_INCH = 2.54


@dataclass(frozen=True, slots=True, kw_only=True)
class Ami186Settings:
    """One instrument; lengths in centimetres."""

    high_alarm_cm: float = 70.0
    low_alarm_cm: float = 20.0
    fill_stop_cm: float = 55.0
    fill_start_cm: float = 30.0
    interval_min: float = 60.0
    length_cm: float = 91.4


class Ami186(TextDevice):
    """The instrument on a freezer."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, SWITCHED_TO_INCHES)

    def __init__(self, settings: Ami186Settings, freezer: Ln2Freezer) -> None:
        super().__init__()
        self._settings = settings
        self._freezer = freezer

    def answer(self, request: bytes) -> bytes:
        return self._reply(request.decode("latin-1").upper()).encode("ascii") + b"\r\n"

    def _reply(self, request: str) -> str:
        settings = self._settings
        if request == "UNIT":
            return "I" if self.disturbances.active(SWITCHED_TO_INCHES) else "C"
        if request == "INTERVAL":
            return f"{settings.interval_min:.1f}"
        lengths_cm = {
            "LEVEL": self._freezer.level_cm,
            "HI": settings.high_alarm_cm,
            "LO": settings.low_alarm_cm,
            "A": settings.fill_stop_cm,
            "B": settings.fill_start_cm,
            "LENGTH": settings.length_cm,
        }
        if request not in lengths_cm:
            return "-8"
        in_inches = self.disturbances.active(SWITCHED_TO_INCHES)
        return f"{lengths_cm[request] / (_CM_PER_INCH if in_inches else 1.0):.1f}"

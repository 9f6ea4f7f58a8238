"""Huber thermostat, PB command set.

Source: Huber, "Data Communication PB" V1.2.0: `{M`, address of the variable in two hexadecimal
digits, four hexadecimal digits of a new value or `****`, CR LF; the reply `{S`, the same address,
the value. Temperatures in hundredths of a degree, 16 bits, two's complement; -151 C is no valid
value. A variable that the unit does not have is not answered.

Assumed: bit 1 of status 1 is the circulation, bit 8 an error (the order is that of a third-party
program); pump pressure and speed. No write is offered: such a request is not answered.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF
from simulators.devices.text_contract import TextDevice
from simulators.process.thermostat import Thermostat

PROBE_UNPLUGGED = "probe_unplugged"
FAULT = "fault"

_REQUEST = re.compile(rb"\{M([0-9A-F]{2})\*{4}")
_NO_VALUE = -15_100
_NO_PRESSURE = 64_536


@dataclass(frozen=True, slots=True, kw_only=True)
class HuberPbSettings:
    """One unit: whether it has a probe in the vessel and a cooling water sensor."""

    process_probe: bool = True
    minimum_c: float = -40.0
    maximum_c: float = 200.0


class HuberPb(TextDevice):
    """The unit. `probe_unplugged` concerns the probe in the vessel."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, PROBE_UNPLUGGED, FAULT)

    def __init__(self, settings: HuberPbSettings, process: Thermostat) -> None:
        super().__init__()
        self._settings = settings
        self._process = process

    def answer(self, request: bytes) -> bytes:
        found = _REQUEST.fullmatch(request)
        if found is None:
            return b""
        value = self._variable(int(found[1], 16))
        return b"" if value is None else b"{S%b%04X\r\n" % (found[1], value & 0xFFFF)

    def _variable(self, address: int) -> int | None:
        process, settings = self._process, self._settings
        match address:
            case 0x00:
                return _hundredths(process.set_point_c)
            case 0x01 | 0x02:
                return _hundredths(process.bath_c)
            case 0x03:
                return 450
            case 0x04:
                return -800 if process.controlling and process.bath_c > process.set_point_c else 0
            case 0x0A:
                return 2 | self.disturbances.active(FAULT) << 8 | process.controlling
            case 0x14 | 0x16:
                return int(process.controlling)
            case 0x26:
                return 3_200
            case 0x2D:
                return _NO_PRESSURE
            case 0x30:
                return _hundredths(settings.minimum_c)
            case 0x31:
                return _hundredths(settings.maximum_c)
            case 0x3A:
                if not settings.process_probe or self.disturbances.active(PROBE_UNPLUGGED):
                    return _NO_VALUE
                return _hundredths(process.vessel_c)
        return None


def _hundredths(value_c: float) -> int:
    return round(100.0 * value_c)

"""Bronkhorst mass flow controller, ProPar (FLOW-BUS) in ASCII.

Sources: Bronkhorst 9.17.027 "RS232 interface with FLOW-BUS protocol" (frames in hexadecimal after
a colon, request of a parameter, its answer, chained parameters); the parameter table of the
vendor's package bronkhorst-propar 1.3.0.

Assumed: the answer to a request of a text is its length (0: ended by a zero) and its characters;
the status message of a parameter that is not known. No write is offered.
"""

import re
import struct
from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF
from simulators.devices.text_contract import TextDevice
from simulators.process.gas_supply import GasSupply
from simulators.settings import require

REVERSE_FLOW = "reverse_flow"

_REQUEST = re.compile(rb":([0-9A-F]{2})([0-9A-F]{2})04([0-9A-F]{8,10})")
_INT16, _FLOAT, _TEXT = 0x20, 0x40, 0x60
_BAD_PARAMETER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BronkhorstProparSettings:
    """One instrument."""

    node: str = "03"
    model: str = "F-201CV-500-RAD"
    serial_number: str = "M17200812B"
    firmware: str = "V1.12"

    def __post_init__(self) -> None:
        require(re.fullmatch("[0-9A-F]{2}", self.node) is not None, "node", "needs two hex digits")


class BronkhorstPropar(TextDevice):
    """The controller in a gas line."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF, REVERSE_FLOW)

    def __init__(self, settings: BronkhorstProparSettings, process: GasSupply) -> None:
        super().__init__()
        self._settings = settings
        self._process = process

    def answer(self, request: bytes) -> bytes:
        found = _REQUEST.fullmatch(request)
        node = self._settings.node.encode("ascii")
        if found is None or found[2] not in (node, b"80"):
            return b""
        index = bytes.fromhex(found[3].decode("ascii"))
        value = self._value(index[2], index[3])
        if value is None or index[1] & 0x60 != index[3] & 0x60:
            return self._framed(bytes([0, _BAD_PARAMETER, 4]))
        return self._framed(b"\x02" + index[:2] + value)

    def _framed(self, content: bytes) -> bytes:
        body = bytes.fromhex(self._settings.node) + content
        return b":%02X%b\r\n" % (len(body), body.hex().upper().encode("ascii"))

    def _value(self, process: int, parameter: int) -> bytes | None:
        supply, settings = self._process, self._settings
        match process, parameter:
            case (1, 0x20):  # measure: 32000 is 100 %, above 41942 it is negative
                return (self._measure() & 0xFFFF).to_bytes(2, "big")
            case (1, 0x21):
                share = supply.set_point_sccm / supply.settings.full_scale_sccm
                return round(32_000 * share).to_bytes(2, "big")
            case (33, 0x40):
                return struct.pack(">f", supply.flow_sccm)
            case (33, 0x47):
                return struct.pack(">f", supply.temperature_c)
            case (113, 0x62):
                return _text(settings.model)
            case (113, 0x63):
                return _text(settings.serial_number)
            case (113, 0x65):
                return _text(settings.firmware)
            case (1, 0x7F):
                return _text("mln/min")
        return None

    def _measure(self) -> int:
        if self.disturbances.active(REVERSE_FLOW):
            return -320
        return round(32_000 * self._process.flow_sccm / self._process.settings.full_scale_sccm)


def _text(text: str) -> bytes:
    return b"\0" + text.encode("ascii") + b"\0"

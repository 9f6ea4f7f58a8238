"""Alicat mass flow controller, ASCII.

Sources: byte captures of controllers with firmware 10v20 and 5v (alicatlib, tests/fixtures):
`A` answers unit identifier, pressure, temperature, volumetric and mass flow, set-point, gas, then
flags; `A??M*` ten rows; `ADCU 5` the unit of mass flow; `?` for a command that is refused. Every
line ends with CR.

Assumed: a command to another identifier is not answered; the wording of rows M00 to M09 besides
maker, model, serial number and software.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF
from simulators.devices.text_contract import TextDevice
from simulators.process.gas_supply import GasSupply
from simulators.settings import require

ADC_ERROR = "adc_error"
FLOW_UNAVAILABLE = "flow_unavailable"
SWITCHED_TO_SLPM = "switched_to_slpm"

_PSIA_PER_ATMOSPHERE = 14.696


@dataclass(frozen=True, slots=True, kw_only=True)
class AlicatMcSettings:
    """One controller."""

    address: str = "A"
    gas: str = "N2"
    model: str = "MC-500SCCM-D"
    serial_number: str = "184533"
    software: str = "10v20.0-R24"

    def __post_init__(self) -> None:
        require(len(self.address) == 1 and self.address.isupper(), "address", "must be A to Z")


class AlicatMc(TextDevice):
    """The controller in a gas line."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (
        POWERED_OFF,
        ADC_ERROR,
        FLOW_UNAVAILABLE,
        SWITCHED_TO_SLPM,
    )
    REQUEST_END: ClassVar[bytes] = b"\r"

    def __init__(self, settings: AlicatMcSettings, process: GasSupply) -> None:
        super().__init__()
        self._settings = settings
        self._process = process

    def answer(self, request: bytes) -> bytes:
        unit = self._settings.address
        text = request.decode("latin-1")
        if not text.startswith(unit):
            return b""
        in_slpm = self.disturbances.active(SWITCHED_TO_SLPM)
        match text[1:]:
            case "":
                lines = [self._frame(in_slpm)]
            case "??M*":
                lines = self._rows()
            case "ADCU 5" | "DCU 5":
                lines = [f"{unit} 7 SLPM" if in_slpm else f"{unit} 12 SCCM"]
            case _:
                lines = ["?"]
        return "".join(f"{line}\r" for line in lines).encode("ascii")

    def _frame(self, in_slpm: bool) -> str:
        process, settings = self._process, self._process.settings
        divisor = 1000.0 if in_slpm else 1.0
        mass = process.flow_sccm / divisor
        volume = mass * _PSIA_PER_ATMOSPHERE / settings.pressure_psia
        flow = "---" if self.disturbances.active(FLOW_UNAVAILABLE) else f"{mass:+07.2f}"
        flags = " ADC" if self.disturbances.active(ADC_ERROR) else ""
        return (
            f"{self._settings.address} {settings.pressure_psia:+07.2f}"
            f" {process.temperature_c:+07.2f} {volume:+07.2f} {flow}"
            f" {process.set_point_sccm / divisor:+07.2f} {self._settings.gas:>6}{flags}"
        )

    def _rows(self) -> list[str]:
        settings = self._settings
        texts = (
            "ALICAT SCIENTIFIC",
            "www.AlicatScientific.com",
            "+1 888-290-6060",
            "info@alicat.com",
            f"Model Number {settings.model}",
            f"Serial Number {settings.serial_number}",
            "Date Manufactured 01/09/2025",
            "Date Calibrated 01/09/2025",
            "Calibrated By DL",
            f"Software Revision {settings.software}",
        )
        return [f"{settings.address}  M{row:02d} {text}" for row, text in enumerate(texts)]

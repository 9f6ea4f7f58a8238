"""A barcode scanner that sends each code with a carriage return.

Simulated interface, not vendor-documented: scanners of every make can be set up to send so.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.text_contract import TextDevice
from simulators.process.formulation import Formulation
from simulators.settings import require


@dataclass(frozen=True, slots=True, kw_only=True)
class BarcodeScannerSettings:
    """Which codes pass the scanner, in turn, and how often."""

    codes: tuple[str, ...] = ("=W000026000100", "=W000026000200")
    every_s: float = 30.0

    def __post_init__(self) -> None:
        require(bool(self.codes), "codes", "needs one code or more")
        require(self.every_s > 0.0, "every_s", "must be positive")


class BarcodeScanner(TextDevice):
    """The scanner beside a scale."""

    REQUEST_END: ClassVar[bytes] = b"\r"

    def __init__(self, settings: BarcodeScannerSettings, process: Formulation) -> None:
        super().__init__()
        self._settings = settings
        self._since_s = 0.0
        self._count = 0
        self._scanned: list[str] = []

    def step(self, dt_s: float) -> None:
        self._since_s += dt_s
        while self._since_s >= self._settings.every_s:
            self._since_s -= self._settings.every_s
            self.scan(self._settings.codes[self._count % len(self._settings.codes)])
            self._count += 1

    def scan(self, code: str) -> None:
        """Pass a code before the scanner."""
        self._scanned.append(code)

    def answer(self, request: bytes) -> bytes:
        return b""

    def unprompted(self) -> bytes:
        scanned, self._scanned = self._scanned, []
        return "".join(f"{code}\r" for code in scanned).encode("ascii")

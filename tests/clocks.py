"""A clock that moves when a test says so."""

from collections.abc import Callable
from dataclasses import dataclass

START_UTC_NS = 1_795_403_350_000_000_000
SECOND_NS = 10**9


@dataclass
class ManualClock:
    """An :class:`edgeagent.model.clock.Clock`. UTC may be stepped, the boot-time clock never."""

    utc: int = START_UTC_NS
    boot: int = 3600 * SECOND_NS
    boot_id: str = "00000000-0000-4000-8000-000000000001"

    def utc_ns(self) -> int:
        return self.utc

    def boot_ns(self) -> int:
        return self.boot

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        passed_ns = round(seconds * SECOND_NS)
        self.utc += passed_ns
        self.boot += passed_ns

    def step(self, seconds: float) -> None:
        """Set UTC, as a time service does."""
        self.utc += round(seconds * SECOND_NS)

    def reboot(self) -> None:
        """Begin a new boot of the machine."""
        self.boot = 0
        self.boot_id = f"{self.boot_id[:-1]}{int(self.boot_id[-1]) + 1}"


@dataclass
class MachineClock(ManualClock):
    """A machine whose clocks follow an event loop's, and which may boot again.

    :ivar now_s: returns the loop's time, in seconds
    :ivar drift: by how much UTC runs fast, in seconds per second
    """

    now_s: Callable[[], float] = lambda: 0.0
    drift: float = 0.0

    def utc_ns(self) -> int:
        return self.utc + round(self.now_s() * (1 + self.drift) * SECOND_NS)

    def boot_ns(self) -> int:
        return self.boot + round(self.now_s() * SECOND_NS)

    def reboot(self) -> None:
        super().reboot()
        self.boot -= round(self.now_s() * SECOND_NS)

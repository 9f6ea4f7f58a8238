"""Time, passed in.

Three clocks with one job each: UTC stamps records, the boot-time clock orders and measures
(it counts while the machine sleeps and never steps), and the event loop's monotonic clock
schedules. Nothing else in the agent may ask the operating system for the time.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

BOOT_ID_VARIABLE = "EDGEAGENT_BOOT_ID"


class Clock(Protocol):
    """Where every stamp in a record comes from."""

    @property
    def boot_id(self) -> str:
        """Identity of this boot of the machine: the boot-time clock compares only within it."""

    def utc_ns(self) -> int:
        """Nanoseconds since 1970-01-01T00:00:00Z, as the machine believes."""

    def boot_ns(self) -> int:
        """Nanoseconds since boot, suspended time included (Linux ``CLOCK_BOOTTIME``)."""


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self._boot_id = read_boot_id()

    @property
    def boot_id(self) -> str:
        """The kernel's boot id, or ``unknown`` where it is hidden."""
        return self._boot_id

    def utc_ns(self) -> int:
        """See :class:`Clock`."""
        return time.time_ns()

    def boot_ns(self) -> int:
        """See :class:`Clock`."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def read_boot_id() -> str:
    """Return the kernel's identity of this boot (proc_sys_kernel(5), ``random/boot_id``).

    Where the service's sandbox hides that file, the service manager says it in
    ``EDGEAGENT_BOOT_ID`` (``%b`` of systemd.unit(5): the same identity without its hyphens).
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        pass
    try:
        return str(UUID(os.environ.get(BOOT_ID_VARIABLE, "")))
    except ValueError:
        return "unknown"


@dataclass(frozen=True, slots=True)
class ClockState:
    """How far UTC can be trusted.

    ``state`` is ``synced``, ``holdover``, ``unsynced`` or ``unknown`` (nobody to ask);
    ``error_ns`` bounds the error of UTC where the time service states one, else ``None``.
    """

    state: str
    error_ns: int | None
    source: str


CLOCK_UNKNOWN = ClockState("unknown", None, "none")

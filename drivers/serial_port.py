"""Serial ports: which path a site may write, why a port cannot be had, and how to mend it."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from grp import getgrgid
from pathlib import Path
from typing import Protocol

_RENUMBERED = re.compile(r"/dev/tty(USB|ACM)\d+")
_IN_USE = (errno.EBUSY, errno.EAGAIN)
_GONE = (errno.ENXIO, errno.ENODEV, errno.EIO)


class PortSettings(Protocol):
    """A serial port as a link states it."""

    @property
    def device(self) -> str | None:
        """Path of the port."""

    @property
    def baud_rate(self) -> int:
        """Bits per second."""

    @property
    def parity(self) -> str:
        """``even``, ``odd`` or ``none``."""

    @property
    def data_bits(self) -> int:
        """Of each character."""

    @property
    def stop_bits(self) -> int:
        """Of each character."""


def device_faults(device: str) -> Iterator[str]:
    """Yield what is wrong with the path of a port, and the mend."""
    if not device.startswith("/"):
        yield f"{device!r} is no whole path; begin it with /dev/"
    if _RENUMBERED.fullmatch(os.path.normpath(device)):
        yield (
            f"{device} may be another port after the next start; write its name in "
            "/dev/serial/by-id/, or one that a udev rule gives it, as /dev/edgeagent/..."
        )


def refusal(settings: PortSettings, error: Exception) -> str:
    """Return what is wrong with a port that could not be opened, and the mend, in words."""
    device = settings.device or ""
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return (
            f"{device}: no such port; plug the adapter in, or correct the path (ls -l "
            "/dev/serial/by-id)"
        )
    if number in (errno.EACCES, errno.EPERM):
        return (
            f"{device}: no permission; add the agent's user to the group {_group(device)}, or let "
            "a udev rule give the port to a group of the agent"
        )
    if number in _IN_USE:
        holders = ", ".join(_holders(device)) or "another process"
        return f"{device}: in use by {holders}; end it, only one master may ask on a line"
    if number in _GONE:
        return f"{device}: the port is gone ({os.strerror(number)}); plug the adapter in again"
    if number == errno.ENOTTY or _is_no_terminal(device):
        return f"{device}: no serial port; correct the path"
    return (
        f"{device}: the port refuses {settings.baud_rate} baud, {settings.data_bits} data bits, "
        f"parity {settings.parity}, {settings.stop_bits} stop bits ({error}); correct the link"
    )


def _group(device: str) -> str:
    """Return the group that may use a port; on Debian that is dialout."""
    try:
        group = Path(device).stat().st_gid
        return getgrgid(group).gr_name if group else "dialout"
    except (OSError, KeyError):
        return "dialout"


def _is_no_terminal(device: str) -> bool:
    try:
        return not stat.S_ISCHR(Path(device).stat().st_mode)
    except OSError:
        return False


def _holders(device: str) -> Iterator[str]:
    """Yield the processes that have a port open, as far as this user may know."""
    port = Path(device).resolve()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(opened.resolve() == port for opened in (process / "fd").iterdir()):
                yield f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:  # it ended, or belongs to somebody else
            continue

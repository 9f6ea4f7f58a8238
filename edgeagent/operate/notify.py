"""What the service manager is told: readiness, reload, stop, and that the work makes progress.

The protocol of sd_notify(3) is one datagram to the socket that ``NOTIFY_SOCKET`` names. Without
that variable (a terminal, a test) nothing is sent.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

ALIVE_PER_WATCHDOG = 3
"""Signs of life per watchdog time: two may be late before the service manager acts."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Notifier:
    """The way to the service manager. No call waits, and none fails: nobody may listen.

    ``address`` is the socket's, as :mod:`socket` writes it, or ``None``; ``watchdog_s`` is the time
    in seconds after which the service manager restarts a silent agent, or ``None`` if it does not.
    """

    address: str | None = None
    watchdog_s: float | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Notifier":
        """Return what the service manager left in the environment (sd_notify(3))."""
        name = environ.get("NOTIFY_SOCKET", "")
        if not name.startswith(("/", "@")):  # neither a file nor an abstract name: not for us
            return cls()
        address = "\0" + name[1:] if name.startswith("@") else name
        return cls(address, _watchdog_s(environ))

    def ready(self, text: str) -> None:
        """Say that the service does its work, at the start or after a reload."""
        self._send("READY=1", _status(text))

    def reloading(self) -> None:
        """Say that a reload began; :meth:`ready` ends it. Called within the event loop."""
        now_us = int(asyncio.get_running_loop().time() * 1e6)
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the line that ``systemctl status`` shows."""
        self._send(_status(text))

    def alive(self) -> None:
        """Put the watchdog off."""
        self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if self.address is None:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(assignments).encode(), self.address)


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", "0"))
        pid = int(environ.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 and pid == os.getpid() else None


async def keep_alive(notifier: Notifier, progress: Callable[[], Awaitable[None]]) -> None:
    """Put the watchdog off as long as the work makes progress, for ever.

    Returns at once where there is no watchdog.

    :param progress: returns once every part of the work has answered; while it hangs, and whenever
        it raises, the watchdog comes nearer
    """
    if notifier.watchdog_s is None:
        return
    loop = asyncio.get_running_loop()
    every_s = notifier.watchdog_s / ALIVE_PER_WATCHDOG
    while True:
        next_at_s = loop.time() + every_s
        try:
            await progress()
        except Exception as error:  # noqa: BLE001 - whatever failed, it was not progress
            log.error("watchdog.no_progress", error=repr(error))
        else:
            notifier.alive()
        await asyncio.sleep(next_at_s - loop.time())

"""A serial adapter: a port of this machine whose line ends at a TCP device server."""

import fcntl
import os
import select
import socket
import termios
import threading
import tty
from contextlib import suppress
from pathlib import Path
from types import TracebackType

LOOK_EVERY_S = 0.05
READ_BYTES = 4096


class SerialAdapter:
    """Carries characters between a pseudo-terminal and a TCP port, in a thread, while entered.

    A real port forgets exclusive use (``TIOCEXCL``, ioctl_tty(2)) when the last process closes it;
    a pseudo-terminal keeps it as long as its other end is open. This one behaves as a real one.
    """

    def __init__(self, host: str, port: int) -> None:
        self._line = socket.create_connection((host, port))
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self.device = Path(os.ttyname(slave))
        os.close(slave)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="serial adapter")

    def __enter__(self) -> "SerialAdapter":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._line.close()
        os.close(self._master)

    def _carry(self) -> None:
        while not self._ended.is_set():
            readable, _, _ = select.select([self._master, self._line], [], [], LOOK_EVERY_S)
            if self._line in readable:
                os.write(self._master, self._line.recv(READ_BYTES))
            if self._master in readable:
                try:
                    self._line.sendall(os.read(self._master, READ_BYTES))
                except OSError:  # EIO: nobody has the port open
                    self._forget_exclusive_use()
                    self._ended.wait(LOOK_EVERY_S)

    def _forget_exclusive_use(self) -> None:
        with suppress(OSError):
            port = os.open(self.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                fcntl.ioctl(port, termios.TIOCNXCL)
            finally:
                os.close(port)

"""The connection below a wire, over TCP or a serial port: opened once, lost for good.

With ``modbus/framing.py`` the only file that touches pymodbus. What it uses of pymodbus 3.16 is its
transport layer, :class:`pymodbus.transport.ModbusProtocol`, by subclassing:

- the constructor with :class:`CommParams` (``comm_type``, ``host``, ``port``, ``reconnect_delay``)
- the callbacks that the class leaves abstract: ``callback_connected``, ``callback_disconnected``,
  ``callback_data`` (is given what has come in, returns how much of it is used up)
- the methods ``send``, ``close`` and ``is_active``, the attributes ``transport`` and ``loop``
- ``call_create``, the coroutine function that opens a TCP connection (``connect`` would hide why
  it failed), ``recv_buffer`` (``send`` empties it, and with it the first half of a late reply),
  ``max_buffer_size`` (beyond which it would silently drop what has come in)
- :class:`SerialTransport`, which opens a port exclusively (``flock``) when it is made, and its
  ``setup``, ``close`` and ``sync_serial`` (that of pyserial)

``tests/unit/drivers/modbus/test_pymodbus.py`` fails when one of these changes.

Its layers above, transaction manager and response classes, are not used. They forgive too much:
transaction id 0, the wrong function, half the registers; on a serial line they take a late reply
for the reply to the next request, and so for ever. They end the connection over an unknown
function, wait out the timeout on a foreign protocol id, and leave the request pending when the
connection closes. And they cost: of the CPU time of a request for 100 registers 31 of 45 us, with a
response class of one's own 10 of 23 us (Python 3.11, 20 connections).
"""

import asyncio
import fcntl
import logging
import socket
import sys
import termios
from contextlib import suppress
from typing import Protocol, cast

from pymodbus.transport import CommParams, CommType, ModbusProtocol
from pymodbus.transport.serialtransport import SerialTransport

from drivers.serial_port import PortSettings, refusal
from edgeagent.model.errors import EdgeAgentError, LinkLost

# A failure is a result too: an exception that is set but, after a cancellation, never fetched would
# be logged by asyncio.
Answer = asyncio.Future[bytes | EdgeAgentError]

# Its errors reach acquisition as exceptions; as log lines they would come with a dump of frames.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)


class End(PortSettings, Protocol):
    """Where a connection leads: a serial port where ``device`` is stated, else host and port."""

    @property
    def host(self) -> str | None:
        """Name or address of the other end."""

    @property
    def port(self) -> int:
        """Its TCP port."""

    @property
    def timeout(self) -> int:
        """Longest wait for a connection, in nanoseconds."""

    @property
    def endpoint(self) -> str:
        """The other end, for people."""


class Connection(ModbusProtocol):
    """One connection; a subclass frames what goes through it.

    :ivar peer: the other end, for people
    """

    def __init__(self, settings: End) -> None:
        parameters = CommParams(
            comm_type=CommType.TCP,
            host=settings.host or "",
            port=settings.port,
            reconnect_delay=0.0,
        )
        super().__init__(parameters, is_server=False)
        self.max_buffer_size = sys.maxsize  # a frame is taken out as soon as it is complete
        self.peer = settings.endpoint
        self._settings = settings
        self._timeout_s = settings.timeout / 10**9
        self._gone = f"{self.peer}: not connected"
        self._made: asyncio.Future[None] = self.loop.create_future()
        self._lost = asyncio.Event()

    async def open(self) -> None:
        """Open the connection.

        :raises LinkLost: if that fails
        """
        try:
            if self._settings.device is not None:
                await self._open_port(self._settings.device)
                return
            async with asyncio.timeout(self._timeout_s):
                await self.call_create()
        except TimeoutError:
            raise LinkLost(f"{self.peer}: no connection within {self._timeout_s:g} s") from None
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
            raise LinkLost(f"{self.peer}: {error}") from None

    async def _open_port(self, device: str) -> None:
        settings = self._settings
        try:
            transport = SerialTransport(
                self.loop,
                self,
                device,
                settings.baud_rate,
                settings.data_bits,
                settings.parity[0].upper(),
                settings.stop_bits,
                0,
            )
        except (OSError, ValueError, termios.error) as error:
            raise LinkLost(refusal(settings, error)) from None
        try:
            # flock keeps out who asks for it; this, everybody but root.
            fcntl.ioctl(transport.sync_serial.fileno(), termios.TIOCEXCL)
            transport.setup()
            await self._made
        except BaseException:
            _share(transport)
            transport.close()
            self.close()
            raise

    def close(self, reconnect: bool = False) -> None:
        """Close at any time, any number of times."""
        self._lose(f"{self.peer}: closed")

    def callback_new_connection(self) -> ModbusProtocol:
        """Part of servers only."""
        raise AssertionError("a client accepts no connections")

    def callback_connected(self) -> None:
        """Set up what asyncio does not promise for every kind of event loop."""
        if self.is_closing:  # given up before it was told
            self.transport = cast(asyncio.BaseTransport, None)
            return
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._made.done():
            self._made.set_result(None)

    def callback_disconnected(self, exc: Exception | None) -> None:
        """Fail what waits for a reply: none will come."""
        ended = (
            "the port is gone" if self._settings.device else "the other end closed the connection"
        )
        self._lose(f"{self.peer}: {exc or ended}")

    def _lose(self, why: str) -> None:
        """End the connection for good."""
        if not self.is_closing:
            self._gone = why
        transport = cast(asyncio.Transport | None, self.transport)
        if isinstance(transport, SerialTransport):
            _share(transport)
        super().close()
        if transport is not None:
            transport.abort()  # close() would wait for a dead peer to take what was written
        self._lost.set()


def _share(transport: SerialTransport) -> None:
    """End exclusive use; a port that is open elsewhere too, as a pseudo-terminal, would keep it."""
    if transport.sync_serial:
        with suppress(OSError):  # the port is gone
            fcntl.ioctl(transport.sync_serial.fileno(), termios.TIOCNXCL)

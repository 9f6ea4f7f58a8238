"""A wire with simulated instruments, and drivers on it."""

import pytest

from drivers.serial_line import DRIVER
from edgeagent.model.clock import SystemClock
from simulators.faults import NO_FAULTS, Dice
from simulators.wire.serial_port import DeviceServerPort, PtyPort
from simulators.wire.serial_text import SerialTextServer


class Bench:
    """Serves devices and opens drivers; everything is closed at the end."""

    def __init__(self, tmp_path) -> None:
        self._tmp_path = tmp_path
        self._opened = []
        self.server: SerialTextServer | None = None

    async def serve(self, devices, *, pty=False, faults=NO_FAULTS) -> None:
        port = PtyPort(self._tmp_path / "port") if pty else DeviceServerPort()
        dice = Dice(faults, "wire")
        self.server = SerialTextServer("wire", devices, port=port, baud_rate=921_600, dice=dice)
        await self.server.start()
        self._opened.append(self.server.stop)

    def driver(self, *instruments, clock=None):
        endpoint = self.server._port.endpoint
        made = DRIVER.open(DRIVER.link_settings(**endpoint), instruments, clock or SystemClock())
        self._opened.append(made.close)
        return made

    async def close(self) -> None:
        for close in reversed(self._opened):
            await close()


@pytest.fixture
async def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    await made.close()

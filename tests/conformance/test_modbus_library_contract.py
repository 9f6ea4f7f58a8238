"""Every Modbus profile of the library keeps the contract of a polled driver.

Method: the generic rules, with two simulated instruments of the profile behind one gateway. The
rules run over the other wires with a peer of their own. A profile without identity is left out: its
instrument is not asked on connect, so nobody can tell there that it is silent.
"""

import pytest

from drivers.modbus import DRIVER
from edgeagent.driver import Instrument
from edgeagent.model.clock import SystemClock
from simulators.devices.contract import POWERED_OFF
from simulators.wire.line import Unit
from simulators.wire.modbus_tcp import ModbusTcpServer
from tests.conformance import contract
from tests.conformance.modbus.library import CASES, built, load

UNITS = {"a": 1, "b": 2}
NAMES = [name for name in CASES if load(name).identity]


class LibraryStand:
    """Two instruments of one profile."""

    def __init__(self, name: str) -> None:
        self.clock = SystemClock()
        self._devices = {}
        for key in UNITS:
            process, self._devices[key] = built(name)
            process.step(5.0)
            self._devices[key].step(5.0)
        self.server = ModbusTcpServer(
            name, {unit: Unit(key, self._devices[key]) for key, unit in UNITS.items()}
        )
        profile = load(name)
        self.instruments = tuple(
            Instrument(
                key, profile, DRIVER.instrument_settings(unit_id=unit), profile.schemas(key, {})
            )
            for key, unit in UNITS.items()
        )

    def driver(self):
        link = DRIVER.link_settings(host="127.0.0.1", port=self.server.port, timeout="10 s")
        return DRIVER.open(link, self.instruments, self.clock)

    async def cut(self) -> None:
        await self.server.stop()

    async def mend(self) -> None:
        await self.server.start()

    async def silence(self, name: str) -> None:
        self._devices[name].disturbances.begin(POWERED_OFF)

    async def wake(self, name: str) -> None:
        self._devices[name].disturbances.end(POWERED_OFF)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", contract.POLLED, ids=contract.name)
async def test_every_profile_of_the_library_keeps_the_contract(rule, name):
    stand = LibraryStand(name)
    await stand.server.start()
    try:
        await rule(stand)
    finally:
        await stand.server.stop()

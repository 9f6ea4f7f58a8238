"""The Modbus driver keeps the contract of every polled driver.

Method: the generic rules, over TCP on loopback with a peer that writes its replies by hand.
"""

import pytest

from drivers.modbus import DRIVER
from edgeagent.model.clock import SystemClock
from tests.conformance import contract
from tests.conformance.modbus.conftest import instrument, profile, register
from tests.conformance.modbus.peer import Peer, serve

TIMEOUT = "300 ms"


class Stand:
    """A gateway with two units on loopback."""

    def __init__(self, peer: Peer) -> None:
        self.clock = SystemClock()
        of = profile(
            {"x": register(10), "y": register(11, scale=0.1)},
            identity={"serial_number": register(1)},
        )
        self.instruments = (instrument("a", 1, of=of), instrument("b", 2, of=of))
        self._peer = peer
        self._silent: set[str] = set()
        peer.script = self._answer

    def _answer(self, request, connection) -> None:
        if {1: "a", 2: "b"}[request.unit] not in self._silent:
            serve(request, connection)

    def driver(self):
        link = DRIVER.link_settings(host="127.0.0.1", port=self._peer.port, timeout=TIMEOUT)
        return DRIVER.open(link, self.instruments, self.clock)

    async def cut(self) -> None:
        await self._peer.stop()

    async def mend(self) -> None:
        await self._peer.start()

    async def silence(self, name: str) -> None:
        self._silent.add(name)

    async def wake(self, name: str) -> None:
        self._silent.discard(name)


@pytest.mark.parametrize("rule", contract.POLLED, ids=contract.name)
async def test_the_modbus_driver_keeps_the_contract(rule):
    peer = Peer()
    await peer.start()
    try:
        await rule(Stand(peer))
    finally:
        await peer.stop()
    assert not peer.trouble

"""The OPC UA driver keeps the contract of every subscribed driver.

Method: the generic rules, over TCP on loopback with asyncua's server; a relay is the cable.
"""

import pytest

from edgeagent.driver import Frame
from edgeagent.model.clock import SystemClock
from simulators.link import Link
from tests.conformance import contract
from tests.conformance.opcua.server import driver, instrument, profile, running


class Stand:
    """A server behind a cable, with one instrument."""

    def __init__(self, server, link: Link, node: str) -> None:
        self.clock = SystemClock()
        self.instruments = (instrument("a", profile({"x": {"type": "INT64", "s": node}})),)
        self._server = server
        self._link = link
        self._node = node

    def driver(self):
        return driver(f"opc.tcp://127.0.0.1:{self._link.port}", *self.instruments)

    async def cut(self) -> None:
        await self._link.stop()

    async def mend(self) -> None:
        await self._link.start()

    async def push(self, number: int) -> None:
        await self._server.write(self._node, number)

    def number_of(self, frame: Frame) -> int:
        return frame.values[0]


@pytest.fixture(scope="module")
def server():
    with running() as made:
        yield made


@pytest.mark.parametrize("rule", contract.SUBSCRIBED, ids=contract.name)
async def test_the_opc_ua_driver_keeps_the_contract(rule, server):
    link = Link("127.0.0.1", server.port)
    await link.start()
    node = await server.add(0)
    try:
        await rule(Stand(server, link, node))
    finally:
        await link.stop()

"""The Modbus driver keeps the contract of every polled driver, on each of its wires.

Method: the generic rules, with a peer that writes its replies by hand: Modbus TCP on loopback, RTU
and ASCII on a pseudo-terminal, RTU over TCP as through a device server.
"""

import pytest

from drivers.modbus import DRIVER
from edgeagent.model.clock import SystemClock
from tests.conformance import contract
from tests.conformance.modbus.conftest import instrument, profile, register
from tests.conformance.modbus.peer import Peer, serve
from tests.conformance.modbus.serial_peer import SerialPeer

UNITS = {"a": 1, "b": 2}
OF = profile(
    {"x": register(10), "y": register(11, scale=0.1)}, identity={"serial_number": register(1)}
)


class Stand:
    """A link with two units."""

    def __init__(self, peer: Peer | SerialPeer) -> None:
        self.clock = SystemClock()
        self.instruments = tuple(instrument(name, unit, of=OF) for name, unit in UNITS.items())
        self._peer = peer

    def link(self) -> dict[str, object]:
        """What the link states beside its timeout."""
        raise NotImplementedError

    def driver(self):
        link = DRIVER.link_settings.model_validate({"timeout": "300 ms", **self.link()})
        return DRIVER.open(link, self.instruments, self.clock)

    async def cut(self) -> None:
        await self._peer.stop()

    async def mend(self) -> None:
        await self._peer.start()


class TcpStand(Stand):
    """A gateway on loopback."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        self._silent: set[int] = set()
        peer.script = self._answer

    def _answer(self, request, connection) -> None:
        if request.unit not in self._silent:
            serve(request, connection)

    def link(self) -> dict[str, object]:
        return {"host": "127.0.0.1", "port": self._peer.port}

    async def silence(self, name: str) -> None:
        self._silent.add(UNITS[name])

    async def wake(self, name: str) -> None:
        self._silent.discard(UNITS[name])


class SerialStand(Stand):
    """A serial line."""

    def link(self) -> dict[str, object]:
        return {**self._peer.link, "slowest_reply": "300 ms"}

    async def silence(self, name: str) -> None:
        self._peer.silent.add(UNITS[name])

    async def wake(self, name: str) -> None:
        self._peer.silent.discard(UNITS[name])


WIRES = {
    "tcp": lambda directory: (TcpStand, Peer()),
    "rtu on a port": lambda directory: (SerialStand, SerialPeer("rtu", directory)),
    "ascii on a port": lambda directory: (SerialStand, SerialPeer("ascii", directory)),
    "rtu over tcp": lambda directory: (SerialStand, SerialPeer("rtu")),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("rule", contract.POLLED, ids=contract.name)
async def test_the_modbus_driver_keeps_the_contract(rule, wire, tmp_path):
    stand, peer = WIRES[wire](tmp_path)
    await peer.start()
    try:
        await rule(stand(peer))
    finally:
        await peer.stop()
    assert not peer.trouble

"""Modbus TCP, spoken by hand on a raw socket."""

import asyncio
from random import Random

import pytest

from simulators.devices.adam_4015 import Adam4015, Adam4015Settings
from simulators.devices.contract import POWERED_OFF
from simulators.devices.hamilton_arc_ph import HamiltonArcPh, HamiltonArcPhSettings
from simulators.process.bioreactor import Bioreactor, BioreactorSettings
from simulators.process.ln2_freezer import Ln2Freezer, Ln2FreezerSettings
from simulators.wire.line import Unit
from simulators.wire.modbus_tcp import ModbusTcpServer
from tests.unit.simulators.by_hand import connected, message, read_request, registers


@pytest.fixture
async def gateway():
    """A pH sensor as unit 1 and a temperature module as unit 7."""
    arc = HamiltonArcPh(HamiltonArcPhSettings(), Bioreactor(BioreactorSettings(), Random(1)))
    adam = Adam4015(Adam4015Settings(), Ln2Freezer(Ln2FreezerSettings(), Random(1)))
    server = ModbusTcpServer("gateway", {1: Unit("ph-1", arc), 7: Unit("adam-1", adam)})
    await server.start()
    yield server
    await server.stop()


async def test_a_request_on_the_wire(gateway):
    async with connected(gateway.port) as client:
        await client.send(bytes.fromhex("1234 0000 0006 01 03 07FF 0002"))
        assert await client.receive() == (0x1234, 0, 1, bytes.fromhex("03 04 06E1 0000"))


async def test_the_unit_identifier_chooses_the_instrument(gateway):
    async with connected(gateway.port) as client:
        assert len(registers(await client.ask(read_request(3, 0, 6), unit=7))) == 6
        assert await client.ask(read_request(3, 0, 6), unit=1) == b"\x83\x02"


async def test_an_unknown_or_switched_off_unit_is_a_silent_target(gateway):
    async with connected(gateway.port) as client:
        assert await client.ask(read_request(3, 0, 1), unit=2) == b"\x83\x0b"
        gateway._line.units[7].device.disturbances.begin(POWERED_OFF)
        assert await client.ask(read_request(4, 0, 1), unit=7) == b"\x84\x0b"


async def test_requests_sent_ahead_are_answered_in_their_order(gateway):
    async with connected(gateway.port) as client:
        sent = [
            message(read_request(3, 2047, 2), unit=1, transaction=number) for number in range(20)
        ]
        await client.send(b"".join(sent))
        answers = [await client.receive() for _ in range(20)]
        assert [transaction for transaction, *_ in answers] == list(range(20))


async def test_a_request_may_arrive_in_pieces(gateway):
    async with connected(gateway.port) as client:
        for byte in message(read_request(3, 2047, 2)):
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.receive())[3] == bytes.fromhex("03 04 06E1 0000")


@pytest.mark.parametrize(
    "raw",
    [
        message(read_request(3, 2047, 2), protocol=1),
        bytes.fromhex("0001 0000 0001 01"),  # no function
        bytes.fromhex("0001 0000 0000"),
        bytes.fromhex("0001 0000 00FF 01") + bytes(254),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_nonsense_closes_the_connection_and_harms_nobody_else(gateway, raw):
    async with connected(gateway.port) as stranger, connected(gateway.port) as client:
        await stranger.send(raw + bytes(7))
        assert await stranger.closed_by_peer()
        assert await client.ask(read_request(3, 2047, 2)) == bytes.fromhex("03 04 06E1 0000")


async def test_several_clients_are_served(gateway):
    async def ask_often(unit, function, address, count):
        async with connected(gateway.port) as client:
            return [
                await client.ask(read_request(function, address, count), unit=unit)
                for _ in range(20)
            ]

    arc, adam = await asyncio.gather(ask_often(1, 3, 2047, 2), ask_often(7, 3, 210, 1))
    assert set(arc) == {bytes.fromhex("03 04 06E1 0000")}
    assert set(adam) == {bytes.fromhex("03 02 4015")}


async def test_stopping_drops_connections_at_once_and_may_be_repeated(gateway):
    async with connected(gateway.port) as client:
        await client.ask(read_request(3, 2047, 2))
        async with asyncio.timeout(1):
            await gateway.stop()
            await gateway.stop()
        assert await client.closed_by_peer()
        with pytest.raises(ConnectionRefusedError):
            async with connected(gateway.port):
                pass


async def test_time_is_brought_up_to_date_before_every_reading():
    moments = []
    server = ModbusTcpServer("wire", {}, before_read=lambda: moments.append("now"))
    await server.start()
    async with connected(server.port) as client:
        await client.ask(read_request(3, 0, 1))
        await client.ask(read_request(3, 0, 1))
    await server.stop()
    assert moments == ["now", "now"]

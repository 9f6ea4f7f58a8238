"""Every fault does on the wire what its name says, and a seed replays them all."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from simulators.devices.contract import ModbusDevice
from simulators.faults import Dice, Fault, Faults
from simulators.settings import Range, Refused
from simulators.wire.line import Unit
from simulators.wire.modbus_tcp import ModbusTcpServer
from tests.unit.simulators.by_hand import connected, message, read_request

WHOLE = bytes.fromhex("03 06 0000 0001 0002")


class Numbers(ModbusDevice):
    def read(self, table, address, count):
        return list(range(address, address + count))


@asynccontextmanager
async def faulty(**faults):
    dice = Dice(Faults(**faults), "wire")
    server = ModbusTcpServer("wire", {1: Unit("numbers", Numbers())}, dice=dice)
    await server.start()
    try:
        async with connected(server.port) as client:
            yield client
    finally:
        await server.stop()


def test_the_same_seed_gives_the_same_faults_on_each_wire():
    faults = Faults(seed=4711, no_answer=0.1, garbage_before=0.2, late_answer=0.1)

    def thrown(wire, seed=4711):
        dice = Dice(Faults(seed=seed, no_answer=0.1, garbage_before=0.2, late_answer=0.1), wire)
        return [dice.throw() for _ in range(200)]

    assert thrown("a") == thrown("a")
    assert thrown("a") != thrown("b")
    assert thrown("a") != thrown("a", seed=4712)
    dice = Dice(faults, "a")
    assert [dice.throw() for _ in range(200)] == thrown("a")


def test_faults_strike_as_often_as_they_should():
    dice = Dice(Faults(no_answer=0.1, exception=0.3), "wire")
    thrown = [dice.throw() for _ in range(5000)]
    assert thrown.count(Fault.NO_ANSWER) / 5000 == pytest.approx(0.1, abs=0.02)
    assert thrown.count(Fault.EXCEPTION) / 5000 == pytest.approx(0.3, abs=0.03)
    assert set(thrown) == {None, Fault.NO_ANSWER, Fault.EXCEPTION}


def test_impossible_probabilities_are_refused():
    with pytest.raises(Refused, match="no_answer: must be 0 to 1"):
        Faults(no_answer=1.5)
    with pytest.raises(Refused, match=r"add up to 1\.2"):
        Faults(no_answer=0.6, exception=0.6)


async def test_without_faults_the_reply_is_whole():
    async with faulty() as client:
        assert await client.ask(read_request(3, 0, 3)) == WHOLE


async def test_no_answer():
    async with faulty(no_answer=1.0) as client:
        await client.send(message(read_request(3, 0, 3)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.reader.read(1)


async def test_late_answer_then_the_next_one_in_order():
    async with faulty(late_answer=1.0, late_answer_s=Range(0.05, 0.05)) as client:
        started_s = time.monotonic()
        await client.send(message(read_request(3, 0, 3), transaction=1))
        await client.send(message(read_request(3, 0, 3), transaction=2))
        assert (await client.receive())[0] == 1
        assert (await client.receive())[0] == 2
        assert time.monotonic() - started_s >= 0.1


async def test_reply_delay():
    async with faulty(reply_delay_s=Range(0.03, 0.04)) as client:
        started_s = time.monotonic()
        assert await client.ask(read_request(3, 0, 3)) == WHOLE
        assert time.monotonic() - started_s >= 0.03


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("wrong_transaction_id", (8, 0, 1, WHOLE)),
        ("wrong_unit_id", (7, 0, 2, WHOLE)),
        ("wrong_function", (7, 0, 1, b"\x04" + WHOLE[1:])),
        ("short_reply", (7, 0, 1, bytes.fromhex("03 04 0000 0001"))),
        ("wrong_byte_count", (7, 0, 1, bytes.fromhex("03 08 0000 0001 0002"))),
        ("exception", (7, 0, 1, b"\x83\x06")),
        ("byte_by_byte", (7, 0, 1, WHOLE)),
    ],
)
async def test_what_each_fault_makes_of_the_reply(fault, expected):
    async with faulty(**{fault: 1.0}, byte_gap_s=0.0) as client:
        await client.send(message(read_request(3, 0, 3), transaction=7))
        assert await client.receive() == expected


async def test_a_refusal_cannot_become_shorter():
    async with faulty(short_reply=1.0) as client:
        assert await client.ask(read_request(3, 0, 200)) == b"\x83\x03"


async def test_duplicate_reply():
    async with faulty(duplicate_reply=1.0) as client:
        assert await client.ask(read_request(3, 0, 3)) == WHOLE
        assert (await client.receive())[3] == WHOLE


async def test_garbage_before_the_reply():
    async with faulty(garbage_before=1.0) as client:
        await client.send(message(read_request(3, 0, 3)))
        await asyncio.sleep(0.05)
        received = await client.reader.read(100)
        assert received.endswith(message(WHOLE))
        assert 1 <= len(received) - len(message(WHOLE)) <= 16


async def test_close_mid_reply():
    async with faulty(close_mid_reply=1.0) as client:
        await client.send(message(read_request(3, 0, 3)))
        async with asyncio.timeout(1):
            assert await client.reader.read() == message(WHOLE)[:7]

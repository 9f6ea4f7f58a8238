"""The ledger holds the truth before anybody could hear it."""

import json

from simulators.devices.contract import ModbusDevice
from simulators.faults import Dice, Faults
from simulators.ledger import Ledger
from simulators.wire.line import Unit
from simulators.wire.modbus_tcp import ModbusTcpServer
from tests.unit.simulators.by_hand import connected, message, read_request


class Numbers(ModbusDevice):
    def read(self, table, address, count):
        return list(range(address, address + count))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


async def served(path, faults, talk):
    ledger = Ledger(path, clock_ns=lambda: 1_700_000_000_000_000_000)
    units = {3: Unit("numbers-1", Numbers())}
    server = ModbusTcpServer("wire-1", units, dice=Dice(faults, "wire-1"), ledger=ledger)
    await server.start()
    async with connected(server.port) as client:
        await talk(client)
    await server.stop()
    ledger.close()


async def test_a_line_says_who_was_asked_what_and_what_it_replied(tmp_path):
    path = tmp_path / "truth.jsonl"
    await served(path, Faults(), lambda client: client.ask(read_request(3, 16, 2), unit=3))
    assert lines(path) == [
        {
            "n": 1,
            "realtime_ns": 1_700_000_000_000_000_000,
            "wire": "wire-1",
            "device": "numbers-1",
            "unit": 3,
            "function": 3,
            "address": 16,
            "count": 2,
            "reply": "030400100011",
            "fault": None,
        }
    ]


async def test_the_line_is_there_when_the_reply_arrives(tmp_path):
    path = tmp_path / "truth.jsonl"

    async def talk(client):
        for number in range(1, 6):
            await client.ask(read_request(3, number, 1), unit=3)
            assert [line["n"] for line in lines(path)] == list(range(1, number + 1))

    await served(path, Faults(), talk)


async def test_what_the_wire_spoils_is_recorded_as_the_instrument_said_it(tmp_path):
    path = tmp_path / "truth.jsonl"

    async def talk(client):
        assert await client.ask(read_request(3, 16, 2), unit=3) == b"\x83\x06"

    await served(path, Faults(exception=1.0), talk)
    assert [(line["reply"], line["fault"]) for line in lines(path)] == [
        ("030400100011", "exception")
    ]


async def test_a_swallowed_reply_and_an_absent_unit_are_recorded_too(tmp_path):
    path = tmp_path / "truth.jsonl"

    async def talk(client):
        await client.send(message(read_request(3, 0, 1), unit=9) + bytes(7))
        assert await client.closed_by_peer()

    await served(path, Faults(no_answer=1.0), talk)
    (line,) = lines(path)
    assert (line["device"], line["reply"], line["fault"]) == (None, "830b", "no_answer")


def test_an_existing_file_is_continued(tmp_path):
    path = tmp_path / "truth.jsonl"
    path.write_text('{"n":1}\n{"n":2}\n')
    ledger = Ledger(path)
    assert ledger._written == 2
    ledger.close()
    assert path.read_text() == '{"n":1}\n{"n":2}\n'

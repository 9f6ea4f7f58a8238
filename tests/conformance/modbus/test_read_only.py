"""A tap on the wire: whatever happens, only the four read functions are ever sent."""

import itertools

import pytest

from drivers.modbus.codec import Table
from edgeagent.driver import BadReply
from tests.conformance.modbus.conftest import instrument, profile
from tests.conformance.modbus.peer import serve

READ_FUNCTIONS = {1, 2, 3, 4}
TAGS = {
    "coil": {"type": "BOOL", "address": 3, "table": "coil"},
    "input_bit": {"type": "BOOL", "address": 3, "table": "discrete_input"},
    "measured": {"type": "UINT16", "address": 3, "table": "input"},
    "kept": {"type": "UINT16", "address": 3},
    "word": {"type": "UINT32", "address": 4},
    "bit": {"type": "BOOL", "address": 6, "bit": 1},
    "text": {"type": "STRING", "address": 7, "length": 2, "privacy": "none"},
}
IDENTITY = {"model": {"type": "STRING", "address": 100, "length": 2, "expect": "x"}}

ANSWERS = {
    "good": serve,
    "illegal function": lambda r, c: c.send(r.refusal(1)),
    "illegal address": lambda r, c: c.send(r.refusal(2)),
    "busy": lambda r, c: c.send(r.refusal(6)),
    "no path": lambda r, c: c.send(r.refusal(0x0A)),
    "half": lambda r, c: c.send(r.reply(r.registers(1))),
    "another unit": lambda r, c: c.send(r.reply(r.registers(1), unit=77)),
}


def test_there_is_no_table_with_another_function():
    assert {table.function for table in Table} == READ_FUNCTIONS


async def test_each_table_is_read_by_its_own_function(peer, driver_of):
    device = instrument(of=profile(TAGS))
    driver = await driver_of(device)
    frame = await driver.poll(device.groups[0])
    assert frame.values == (True, True, 3, 3, 0x0004_0005, True, "")
    assert [request.function for request in peer.requests] == [1, 2, 3, 4]


@pytest.mark.parametrize("names", list(itertools.permutations(ANSWERS, 2)))
async def test_only_reads_are_sent(peer, driver_of, names):
    device = instrument(of=profile(TAGS, identity=IDENTITY))
    for name in names:
        peer.script = ANSWERS[name]
        driver = await driver_of(device)
        for _ in range(2):
            try:
                await driver.poll(device.groups[0])
            except BadReply:
                continue
    assert peer.requests
    for request in peer.requests:
        assert request.function in READ_FUNCTIONS
        assert len(request.pdu) == 5

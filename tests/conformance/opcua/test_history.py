"""What a server remembers comes back as it was live, while live values go on.

Method: asyncua's server keeps history of what a test writes; the driver is asked for it.
"""

import asyncio
import datetime

import pytest
from asyncua import ua

from drivers.opcua.stack import Channel
from edgeagent.driver import BadReply, Frame, Historian, LinkLost
from edgeagent.model.frame import Origin
from tests.conformance.opcua.server import driver, instrument, profile, running, taken

T0 = datetime.datetime(2026, 11, 23, 2, tzinfo=datetime.UTC)
T0_NS = int(T0.timestamp()) * 10**9
SECOND = 10**9
LATE = T0_NS + 10**6 * SECOND


@pytest.fixture(scope="module")
def server():
    with running() as made:
        yield made


def at(second: float) -> datetime.datetime:
    return T0 + datetime.timedelta(seconds=second)


async def held(server, name: str, count: int) -> None:
    """Wait until the server's history holds so many values of a variable."""
    storage = server.server.iserver.history_manager.storage
    node = ua.NodeId(name, server.index)
    async with asyncio.timeout(20):
        while len(storage._datachanges[node]) < count:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.01)


async def remembered(server, value, count: int, **facts) -> str:
    """Add a variable that has had so many values, one a second."""
    name = await server.add(value(0))
    await server.write(name, value(0), SourceTimestamp=at(0))
    await server.keep_history(name)
    for second in range(1, count):
        await server.write(name, value(second), SourceTimestamp=at(second), **facts)
        await held(server, name, second)
    return name


async def everything(made, group, after: int, before: int) -> list[Frame]:
    frames: list[Frame] = []
    while after < before:
        piece = await made.history(group, after, before)
        assert piece.upto_utc_ns > after
        frames += piece.frames
        after = piece.upto_utc_ns
    return frames


async def test_values_statuses_and_times_come_as_they_were(server):
    uncertain = ua.StatusCode(ua.StatusCodes.UncertainLastUsableValue)
    one = await remembered(server, float, 5, StatusCode=uncertain, ServerTimestamp=at(1000))
    two = await remembered(server, lambda second: [second, 2 * second], 5)
    tags = {
        "one": {"type": "FLOAT64", "s": one},
        "two": {"type": "INT64", "s": two, "element": 1},
        "none": {"type": "FLOAT64", "s": await server.add(1.0)},
    }
    device = instrument("device", profile(tags))
    made = driver(server.url, device)
    assert isinstance(made, Historian)
    group = device.groups[0]
    assert not made.remembers(group)
    with pytest.raises(LinkLost):
        await made.history(group, T0_NS, LATE)
    try:
        await made.connect()
        assert made.remembers(group)
        frames = await everything(made, group, T0_NS, T0_NS + 4 * SECOND)
        live = await taken(made)
    finally:
        await made.close()
    assert [frame.values for frame in frames] == [(float(s), 2 * s, None) for s in (1, 2, 3)]
    for second, frame in enumerate(frames, 1):
        assert frame.present == (0, 1)
        time = T0_NS + second * SECOND
        assert frame.source_utc_ns == time
        assert frame.status[0] == ua.StatusCodes.UncertainLastUsableValue
        assert frame.server_utc_ns[0] == T0_NS + 1000 * SECOND
        assert frame.origin is Origin.BACKFILL
    assert all(item.origin is Origin.LIVE for item in live if isinstance(item, Frame))


async def test_a_server_that_cuts_without_a_word_gives_everything_all_the_same(server):
    """asyncua has no continuation point for what is beyond the number that was asked for."""
    name = await remembered(server, float, 30)
    device = instrument("device", profile({"x": {"type": "FLOAT64", "s": name}}))
    made = driver(server.url, device)
    try:
        await made.connect()
        made._historian._values_max = 3
        frames = await everything(made, device.groups[0], T0_NS - 1, LATE)
    finally:
        await made.close()
    assert [frame.values[0] for frame in frames] == [float(second) for second in range(30)]


async def test_a_server_without_history_remembers_nothing_and_says_so(server):
    device = instrument("device", profile({"x": {"type": "INT64", "s": await server.add(1)}}))
    made = driver(server.url, device)
    try:
        await made.connect()
        assert not made.remembers(device.groups[0])
        with pytest.raises(BadReply, match="let it keep history"):
            await made.history(device.groups[0], T0_NS, LATE)
    finally:
        await made.close()


async def test_live_values_flow_while_history_takes_long(server, monkeypatch):
    name = await remembered(server, float, 3)
    device = instrument("device", profile({"x": {"type": "FLOAT64", "s": name}}))
    made = driver(server.url, device)
    go_on = asyncio.Event()

    async def slow(self, request, timeout_s=0):
        await go_on.wait()
        return await answer(self, request, timeout_s)

    answer = Channel.ask_bytes
    monkeypatch.setattr(Channel, "ask_bytes", slow)
    try:
        await made.connect()
        await taken(made)
        asked = asyncio.create_task(made.history(device.groups[0], T0_NS - 1, T0_NS + 3 * SECOND))
        for number in range(5):
            await server.write(name, 100.0 + number, SourceTimestamp=at(100 + number))
            await taken(made)
        assert not asked.done()
        go_on.set()
        assert len((await asked).frames) == 3
    finally:
        await made.close()


async def test_a_server_that_never_answers_for_history_costs_the_piece_not_the_link(
    server, monkeypatch
):
    name = await remembered(server, float, 3)
    device = instrument("device", profile({"x": {"type": "FLOAT64", "s": name}}))
    made = driver(server.url, device)
    manager = server.server.iserver.history_manager
    answer = manager.read_history

    async def late(params):
        await asyncio.sleep(0.5)
        return await answer(params)

    monkeypatch.setattr(manager, "read_history", late)
    monkeypatch.setattr("drivers.opcua.historian.ANSWER_WITHIN_S", 0.1)
    try:
        await made.connect()
        await taken(made)
        with pytest.raises(BadReply, match="no history within"):
            await made.history(device.groups[0], T0_NS - 1, LATE)
        await asyncio.sleep(0.6)  # what comes too late harms nothing
        await server.write(name, 7.0, SourceTimestamp=at(7))
        await taken(made)
        monkeypatch.setattr("drivers.opcua.historian.ANSWER_WITHIN_S", 30.0)
        assert len(await everything(made, device.groups[0], T0_NS - 1, T0_NS + 3 * SECOND)) == 3
    finally:
        await made.close()

"""Whatever befalls an OPC UA server or the way to it: data flow again, and nothing is lost unsaid.

Method: node-opcua as a process of its own writes every value of two counters to a ledger. The real
owner of the link takes them into a journal in memory while the server is frozen, killed, or drops
what it promised. In the end each value of the ledger is held exactly once and in order, or lies
inside a recorded gap.
"""

import asyncio

import pytest

from simulators.link import Link
from tests.conformance.opcua.server import driver, instrument, profile
from tests.fakes import SlowJournal
from tests.system.opcua_line import Killed, line_of
from tests.system.opcua_peer import NodeServer

COUNTERS = {"c0": {"type": "INT64", "s": "c0"}, "c1": {"type": "INT64", "s": "c1"}}
TAGS = COUNTERS | {"still": {"type": "FLOAT64", "s": "double"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with NodeServer(tmp_path_factory.mktemp("opcua")) as made:
        yield made


def now(server: NodeServer) -> int:
    """Return the value that the counters have now."""
    return server.ticks(0)[-1].value


async def frozen(server: NodeServer, _: Link, seconds: float) -> None:
    server.freeze()
    await asyncio.sleep(seconds)
    server.thaw()


async def killed(server: NodeServer, _: Link, seconds: float) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.start)


async def cut(_: NodeServer, link: Link, seconds: float) -> None:
    link.refuse()
    await link.cut()
    await asyncio.sleep(seconds)
    await link.start()


async def stalled(_: NodeServer, link: Link, seconds: float) -> None:
    link.stall()
    await asyncio.sleep(seconds)
    link.resume()


async def forgotten(server: NodeServer, *_: object) -> None:
    await asyncio.to_thread(server.order, "forget")


async def closed(server: NodeServer, *_: object) -> None:
    await asyncio.to_thread(server.order, "close")


async def set_back(server: NodeServer, link: Link, _: float) -> None:
    """The device's clock goes back by three days and, when the link was cut, ahead again."""
    await asyncio.to_thread(server.order, "back")
    await asyncio.sleep(0.5)
    await cut(server, link, 0.5)
    await asyncio.to_thread(server.order, "ahead")


MISHAPS = {
    "frozen 1 s": (frozen, 1.0),
    "frozen 4 s": (frozen, 4.0),
    "killed": (killed, 0.5),
    "cut 2 s": (cut, 2.0),
    "subscription deleted": (forgotten, 0.0),
    "session closed": (closed, 0.0),
    "clock set by three days": (set_back, 0.0),
}

RARE = {
    "frozen 8 s": (frozen, 8.0),
    "frozen 30 s": (frozen, 30.0),
    "stalled 5 s": (stalled, 5.0),
    "stalled 30 s": (stalled, 30.0),
    "cut 15 s": (cut, 15.0),
    "killed for 10 s": (killed, 10.0),
}


async def survive(server: NodeServer, mishap, seconds: float) -> int:
    """Let something happen to a link in good order; return how many values are in gaps."""
    link = Link("127.0.0.1", server.port)
    await link.start()
    begun = now(server)
    device = instrument("device", profile(TAGS, period="100 ms", group={"every_change": True}))
    made = driver(f"opc.tcp://127.0.0.1:{link.port}", device)
    try:
        async with line_of(made, device) as line:
            await line.flows(begun + 3, within_s=20)
            await mishap(server, link, seconds)
            for tag in (0, 1):
                await line.flows(now(server), tag)
            await line.flows(now(server) + 5)
            open_still = [gap for gap in line.gaps() if gap.until_ns == float("inf")]
            assert not open_still, "a tag that does not change is watched again"
    finally:
        await link.stop()
    ticks = server.ticks(0)
    return max(line.judge(ticks, 0), line.judge(server.ticks(1), 1))


@pytest.mark.parametrize("name", MISHAPS)
async def test_data_flow_again_and_each_value_is_held_or_in_a_gap(name, server):
    mishap, seconds = MISHAPS[name]
    lost = await survive(server, mishap, seconds)
    if mishap in (cut, set_back):
        assert lost == 0, "the server held the messages and its queues the samples"


@pytest.mark.parametrize("away_s", [pytest.param(0.0, marks=pytest.mark.long), 1.5])
async def test_an_agent_that_is_killed_goes_on_where_the_journal_ends(away_s, server):
    """The next one finds its subscription at the server and takes what is held there."""
    begun = now(server)
    device = instrument("device", profile(TAGS, period="100 ms", group={"every_change": True}))
    journal = SlowJournal()
    async with line_of(driver(server.url, device), device, journal=journal) as line:
        await line.flows(begun + 5, within_s=20)
        raise Killed
    held = line.values(0)[-1]
    await asyncio.sleep(away_s)
    async with line_of(driver(server.url, device), device, journal=journal) as line:
        await line.flows(now(server), within_s=20)
        await line.flows(now(server) + 5)
    for tag in (0, 1):
        assert line.judge(server.ticks(tag), tag) == 0, "the server had kept everything"
    assert held in line.values(0)
    assert {gap.cause for gap in line.gaps()} == {"first_value", "agent_killed"}
    assert not [gap for gap in line.gaps() if gap.until_ns == float("inf")]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [*MISHAPS, *RARE])
async def test_the_same_twenty_times(name, server):
    mishap, seconds = (MISHAPS | RARE)[name]
    for _ in range(20):
        await survive(server, mishap, seconds)

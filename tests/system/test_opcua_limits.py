"""A server that can do little, or has one tag that breaks everything: the others flow.

Method: node-opcua with tight operation limits and few monitored items; asyncua's server with one
value larger than any message that we take.
"""

import asyncio

import pytest
from asyncua.ua import Variant, VariantType

from edgeagent.driver import Frame, Loss
from tests.conformance.opcua.server import driver, instrument, profile, running
from tests.system.opcua_line import line_of
from tests.system.opcua_peer import NodeServer

LIMITS = {
    "maxNodesPerRead": 2,
    "maxMonitoredItemsPerCall": 2,
    "maxNodesPerTranslateBrowsePathsToNodeIds": 2,
}
BIG = 20 * 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("opcua")
    with NodeServer(directory, limits=LIMITS, counters=8, maxItems=9) as made:
        yield made


def counters(count: int, **more):
    """Return tags of counters, every other one by its browse path."""
    tags = {
        f"c{i}": {"type": "INT64", "node": f"/t:Device/t:c{i}" if i % 2 else f"nsu=t;s=c{i}"}
        for i in range(count)
    }
    return tags | more


async def brought(made, wanted: set[int], within_s: float = 20.0) -> list[Frame | Loss]:
    """Return what comes until each of these tags has had a value."""
    items: list[Frame | Loss] = []
    have: set[int] = set()
    async with asyncio.timeout(within_s):
        while not wanted <= have:
            for item in await made.next():
                items.append(item)
                if isinstance(item, Frame):
                    whole = range(len(item.values))
                    have.update(whole if item.present is None else item.present)
                    await made.committed(item)
    return items


async def test_requests_are_as_small_as_the_server_wants_them(server):
    device = instrument("device", profile(counters(8), period="100 ms"))
    made = driver(server.url, device)
    try:
        await made.connect()
        items = await brought(made, set(range(8)))
        assert not [item for item in items if isinstance(item, Loss)]
    finally:
        await made.close()


async def test_a_tag_that_is_one_too_many_is_reported_and_the_others_flow(server):
    more = {f"again{i}": {"type": "INT64", "s": "c0"} for i in range(4)}
    device = instrument("device", profile(counters(8, **more), period="100 ms"))
    made = driver(server.url, device)
    try:
        await made.connect()
        items = await brought(made, set(range(9)))
        losses = [item for item in items if isinstance(item, Loss)]
        assert [(loss.cause, loss.tags) for loss in losses] == [
            ("refused", (index,)) for index in (9, 10, 11)
        ]
        assert losses[0].detail == (
            "tag device/all/again1: the server monitors no more; monitor less, or raise its limit "
            "(BadTooManyMonitoredItems)"
        )
        first = next(item for item in items if isinstance(item, Frame))
        assert [first.status[index] >> 31 for index in (9, 10, 11)] == [1, 1, 1]
    finally:
        await made.close()


async def test_a_tag_that_breaks_the_connection_is_found_and_left_out():
    """asyncua's server sends the large value whatever we said; we end the connection."""
    with running() as small:
        small_tags = {
            f"c{i}": {"type": "INT64", "s": await small.add(i, VariantType.Int64)} for i in range(5)
        }
        large = {"type": "STRING", "privacy": "none", "s": await small.add(b"x" * BIG)}
        tags = {"c": small_tags.pop("c0"), "large": large} | small_tags
        device = instrument("device", profile(tags, period="100 ms"))
        made = driver(small.url, device, timeout="10 s")
        async with line_of(made, device) as line:
            for tag in (0, 2, 3, 4, 5):
                await line.flows(-1, tag, within_s=60)
            await small.write(tags["c"]["s"], Variant(77, VariantType.Int64))
            await line.flows(76)
            assert line.values(1) == []
            details = [gap.detail for gap in line.gaps() if gap.tags == (1,)]
            assert "0x80b90000" in details
    assert made._points[1].fault == (
        "tag device/all/large: its value breaks the connection (what the server sent was not "
        "taken: BadRequestTooLarge); it is left out for an hour; raise the server's message size, "
        "or remove the tag"
    )

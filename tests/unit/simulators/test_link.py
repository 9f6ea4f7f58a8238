"""The relay lets a test pull, cut and damage the cable."""

import asyncio
import time

import pytest

from simulators.link import Link
from tests.unit.simulators.by_hand import connected


@pytest.fixture
async def echo():
    """A server that sends back whatever comes."""
    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            while data := await reader.read(100):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def link(echo):
    relay = Link("127.0.0.1", echo, seed=1)
    await relay.start()
    yield relay
    await relay.stop()


async def received(client, count, timeout_s=1.0):
    async with asyncio.timeout(timeout_s):
        return await client.reader.readexactly(count)


async def test_it_forwards(link):
    async with connected(link.port) as client:
        await client.send(b"hello")
        assert await received(client, 5) == b"hello"
        assert link.connections == 1
        assert link.forwarded_bytes == 10


async def test_stalled_it_keeps_the_socket_and_forwards_nothing_until_it_resumes(link):
    async with connected(link.port) as client:
        await client.send(b"a")
        assert await received(client, 1) == b"a"
        link.stall()
        await client.send(b"b")
        with pytest.raises(TimeoutError):
            await received(client, 1, timeout_s=0.05)
        assert link.connections == 1
        link.resume()
        assert await received(client, 1) == b"b"


async def test_stalled_it_hides_that_the_server_went_away():
    leave, left = asyncio.Event(), asyncio.Event()

    async def serve(reader, writer):
        writer.write(await reader.read(1))
        await leave.wait()
        writer.close()
        left.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    relay = Link("127.0.0.1", server.sockets[0].getsockname()[1])
    await relay.start()
    async with connected(relay.port) as client:
        await client.send(b"a")
        await received(client, 1)
        relay.stall()
        leave.set()
        await left.wait()
        with pytest.raises(TimeoutError):
            await received(client, 1, timeout_s=0.05)
        relay.resume()
        assert await client.closed_by_peer()
    await relay.stop()
    server.close()


async def test_cut_resets_the_connection_and_a_new_one_works(link):
    async with connected(link.port) as client:
        await client.send(b"a")
        await received(client, 1)
        await link.cut()
        with pytest.raises(ConnectionResetError):
            await received(client, 1)
    async with connected(link.port) as client:
        await client.send(b"b")
        assert await received(client, 1) == b"b"


async def test_refusing_leaves_standing_connections_and_keeps_its_port(link):
    port = link.port
    async with connected(port) as client:
        await client.send(b"a")
        await received(client, 1)
        link.refuse()
        with pytest.raises(ConnectionRefusedError):
            async with connected(port):
                pass
        await client.send(b"b")
        assert await received(client, 1) == b"b"
    await link.start()
    assert link.port == port
    async with connected(port) as client:
        await client.send(b"c")
        assert await received(client, 1) == b"c"


async def test_it_garbles_a_share_of_the_bytes(link):
    link.garbled_share = 0.2
    sent = bytes(50)
    async with connected(link.port) as client:
        await client.send(sent)
        damaged = await received(client, 50)
    assert damaged != sent
    assert sum(byte != 0 for byte in damaged) < 40


async def test_it_delays_each_way(link):
    link.delay_s = 0.03
    async with connected(link.port) as client:
        started_s = time.monotonic()
        await client.send(b"a")
        await received(client, 1)
        assert time.monotonic() - started_s >= 0.06


async def test_it_throttles(link):
    link.bytes_per_s_max = 1_000
    async with connected(link.port) as client:
        started_s = time.monotonic()
        await client.send(bytes(80))
        await received(client, 80)
        assert time.monotonic() - started_s >= 0.07


async def test_an_absent_server_ends_the_connection():
    relay = Link("127.0.0.1", 1)
    await relay.start()
    async with connected(relay.port) as client:
        assert await client.closed_by_peer()
    await relay.stop()

"""The broker: killed, narrow, refusing. Nothing is lost, what is wrong is said, nothing hangs.

Method: as in test_delivery_live.py, with a mosquitto of its own for each test, without persistence:
a killed one has forgotten everything that it had acknowledged.
"""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from edgeagent.mqtt import Session, connect
from tests import brokers
from tests.brokers import Mosquitto
from tests.consumers import Consumer, until
from tests.unit.publish.site import Site

BOTH_VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


@BOTH_VERSIONS
async def test_a_broker_that_is_killed_again_and_again(tmp_path: Path, version: str) -> None:
    """Goal: whatever the broker had acknowledged and forgotten is sent again.

    Method: kill -9 in mid-stream, three times, once with a pause; records come all the while.
    At the end the consumer holds the journal, byte for byte, and the cursor says so.
    """
    with Mosquitto(tmp_path) as broker:
        site = Site(tmp_path, broker, version=version, batch_bytes=4096)
        async with Consumer(broker.port, site.name, version=version) as central, site:

            async def write() -> None:
                while True:
                    site.put(3, 200)
                    site.put_event()
                    await asyncio.sleep(0.002)

            writing = asyncio.create_task(write())
            try:
                for pause_s in (0, 0.1, 0):
                    before = central.upto(site.epoch, "data")
                    await until(
                        "the stream flows",
                        lambda n=before: central.upto(site.epoch, "data") > n + 20,
                        20,
                    )
                    broker.kill()
                    await asyncio.sleep(pause_s)
                    broker.start()
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
            await site.flush()
            for lane in ("data", "event"):
                highest = site.highest(lane)
                await until(lane, lambda la=lane, n=highest: site.cursor(lane=la) == n, 20)
                assert central.bodies(site.epoch, lane) == await site.bodies(lane)
            assert site.stream.status.connects > 2
            assert await site.events("receipt.refused") == []


@BOTH_VERSIONS
async def test_a_broker_that_takes_one_message_at_a_time(tmp_path: Path, version: str) -> None:
    """Goal: the narrowest window there is slows delivery down, and stops nothing.

    Method: Receive Maximum 1, which live lanes, heads, catch-ups and answers share.
    """
    with Mosquitto(tmp_path, settings=["max_inflight_messages 1"]) as broker:
        site = Site(tmp_path, broker, version=version, batch_bytes=1024)
        async with Consumer(broker.port, site.name, version=version) as central, site:
            await until("up", lambda: central.on("head"))
            dropped = 0

            def every_fifth(_: Any) -> bool:
                nonlocal dropped
                dropped += 1
                return dropped % 5 == 0

            central.drops = every_fifth
            for _ in range(20):
                site.put(5, 100)
                site.put_event()
                await site.flush()
                facts = {"from": 1, "to": 3}
                central.send_request("replay", epoch=site.epoch, lane="data", **facts)
            await until("all data", lambda: site.cursor() == 100)
            await until("all events", lambda: site.cursor(lane="event") == 20)
            await until("all answers", lambda: len(central.on("reply/central")) == 20)
            assert central.bodies(site.epoch, "data") == await site.bodies()
            assert site.stream.status.connects == 1


async def test_a_broker_that_refuses_the_login(tmp_path: Path) -> None:
    """Goal: it is said in words; records are committed meanwhile; once mended they all arrive."""
    secret = tmp_path / "password"
    secret.write_text("secret\n")
    users = {"agent": "another", "central": "c"}
    with Mosquitto(tmp_path, users=users) as broker:
        login = {"username": "agent", "password_file": secret}
        site = Site(tmp_path, broker, login=login)
        central = Consumer(broker.port, site.name, username="central", password="c")
        async with central, site:
            status = site.stream.status
            await until("down", lambda: status.state == "down")
            assert "check username" in (status.cause or "")
            assert "password_file" in (status.cause or "")
            await site.record(10)
            assert site.highest() == 10
            broker.kill()
            brokers._password_file(tmp_path / f"users-{broker.port}", users | {"agent": "secret"})
            broker.start()
            await until("everything", lambda: site.cursor() == 10, 20)
            assert (status.state, status.cause, status.connects) == ("up", None, 1)


async def test_a_broker_that_refuses_a_topic(tmp_path: Path) -> None:
    """Goal: a right that is missing is named; it is not tried without end in a hurry, and nothing
    is skipped: once the right is there everything arrives.
    """
    users = {"agent": "a", "central": "c"}
    every = "user central\ntopic readwrite #\nuser agent\n"
    without_data = "".join(
        f"topic {right} edge/v1/+/{topic}\n"
        for right, topic in (
            ("read", "receipt/+"),
            ("read", "request/+"),
            ("write", "head"),
            ("write", "event"),
            ("write", "schema/#"),
            ("write", "context/+"),
            ("write", "reply/#"),
        )
    )
    secret = tmp_path / "password"
    secret.write_text("a\n")
    with Mosquitto(tmp_path, users=users, permissions=every + without_data) as broker:
        login = {"username": "agent", "password_file": secret}
        site = Site(tmp_path, broker, login=login)
        central = Consumer(broker.port, site.name, username="central", password="c")
        async with central, site:
            status, causes = site.stream.status, set()
            await site.record(5)

            def refused() -> bool:
                causes.add(status.cause)
                return status.connects >= 3

            await until("some attempts", refused)
            cause = f"the broker refuses messages on edge/v1/{site.name}/data: not authorized"
            assert any(cause in each for each in causes if each), causes
            connects, loop = status.connects, asyncio.get_running_loop()
            began_s = loop.time()
            await until("a while", lambda: loop.time() > began_s + 1)
            assert status.connects - connects <= 2, "it tries again ever more rarely"
            broker.kill()
            acl = tmp_path / f"acl-{broker.port}"
            acl.write_text(every + "topic readwrite edge/v1/#\n")
            broker.start()
            await until("everything", lambda: site.cursor() == 5, 20)
            assert central.bodies(site.epoch, "data") == await site.bodies()


# -- the end ------------------------------------------------------------------------------------


async def test_a_stop_ends_all_tasks_at_any_moment(tmp_path: Path) -> None:
    """Goal: a stop is a stop, also when the connection breaks at that very moment.

    Method: cut the connection, let the loop turn so many times, cancel. In Python 3.11 a task
    group forgets a cancellation that meets a failing task; the agent would never end.
    """
    sessions: list[Session] = []

    async def noted(*arguments: Any, **more: Any) -> Session:
        sessions.append(await connect(*arguments, **more))
        return sessions[-1]

    with Mosquitto(tmp_path) as broker:
        site = Site(tmp_path, broker)
        await site.open()
        site.stream._connect = noted
        for turns in range(12):
            task = asyncio.create_task(site.stream.run(), name="publish")
            await until("up", lambda n=turns: site.stream.status.connects == n + 1)
            sessions[-1]._wire.abort()
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=3)
            assert task.cancelled(), f"still running after {turns} turns"
        await site.stop()


@pytest.mark.parametrize("where", ["refused", "black hole", "catching up", "window", "new epoch"])
async def test_a_stop_ends_all_tasks(tmp_path: Path, where: str) -> None:
    """Goal: wherever the stream waits, cancelling it ends everything that belongs to it."""
    with Mosquitto(tmp_path) as broker, socket.create_server(("127.0.0.1", 0)) as hole:
        if where == "refused":
            broker.kill()
        site = Site(tmp_path, broker, batch_bytes=1024, window_messages=1)
        if where == "black hole":
            url = f"mqtt://127.0.0.1:{hole.getsockname()[1]}"
            site._broker = site._broker.model_copy(update={"url": url})
        async with site:  # at its end no task may be left
            if where == "refused":
                await until("down", lambda: site.stream.status.state == "down")
            elif where == "catching up":
                async with Consumer(broker.port, site.name) as central:
                    central.commits = False
                    site.put(1000, 100)
                    await until("caught up", lambda: site.stream.status.catching_up)
            elif where == "window":
                site.put(10_000, 100)
                await until("sending", lambda: site.stream.status.records > 0)
            elif where == "new epoch":
                await until("up", lambda: site.stream.status.state == "up")
                await site.recorder.new_epoch("a test")
            else:
                await asyncio.sleep(0)
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert not {name for name in names if name.startswith(("publish", "journal"))}


async def test_the_tail_leaves_before_a_stop(tmp_path: Path) -> None:
    """Goal: drained() returns when the listening consumers hold everything, and not before; nobody
    who is silent is waited for.
    """
    with Mosquitto(tmp_path) as broker:
        site = Site(tmp_path, broker, enrolled=("central", "silent"))
        async with Consumer(broker.port, site.name) as central, site:
            await until("heard", lambda: site.delivery.listens("central"))
            central.receipts = False
            await site.record(3)
            draining = asyncio.create_task(site.stream.drained())
            await until("sent", lambda: central.upto(site.epoch, "data") == 3)
            assert not draining.done()
            central.receipts = True
            await asyncio.wait_for(draining, 5)
            assert site.cursor() == 3
            broker.kill()
            await until("down", lambda: site.stream.status.state == "down")
            await site.record(1)
            await asyncio.wait_for(site.stream.drained(), 1)

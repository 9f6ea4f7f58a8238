"""The receiver as a process of its own: killed, stopped, shut out, several at once.

Method: a fake agent, written from docs/mqtt.md, sends batches and sends again from its cursor when
receipts do not come; mosquitto_sub, which is not ours, writes down the receipts. The oracle is the
list of bodies that the fake agent made.
"""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, text

from edgeagent.cli.receive import receive
from edgeagent.model.settings import BrokerSettings
from edgeagent.mqtt import BrokerUnreachable, Message, connect
from tests.brokers import Mosquitto, tool
from tests.consumers import until
from tests.unit.central.life import EPOCH, Life, life
from tests.unit.central.postgres import Cluster, running_cluster

BASE = "edge/v1/berlin-1"
RECORDS, PER_BATCH, WINDOW = 2000, 10, 20
WAIT_S = 20.0


def wait_until(what: str, holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {WAIT_S:g} s: {what}"
        time.sleep(0.01)
    return found


class Process:
    """``edgeagent receive`` with what it said so far."""

    def __init__(self, broker: Mosquitto, database: str, place: Path, *options: str) -> None:
        command = [sys.executable, "-m", "edgeagent", "receive", "--broker", broker.url]
        command += ["--database", database, *options]
        own = os.urandom(4).hex()
        self._out, self._err = place / f"out-{own}", place / f"err-{own}"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(command, stdout=out, stderr=err, cwd=place)

    @property
    def lines(self) -> list[str]:
        return self._out.read_text().splitlines()

    @property
    def said(self) -> dict[str, Any]:
        """The last whole JSON line."""
        lines = self._out.read_text().rpartition("\n")[0].splitlines()
        return json.loads(lines[-1]) if lines else {}

    @property
    def complaints(self) -> list[str]:
        return self._err.read_text().splitlines()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def connected(self) -> None:
        wait_until("connected", lambda: any("broker.connected" in c for c in self.complaints))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop; return its exit code. It has five seconds."""
        self._process.send_signal(number)
        return self._process.wait(5)

    def ended(self) -> int:
        return self._process.wait(WAIT_S)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'central.sqlite'}"
    return request.getfixturevalue("cluster").new_database()


@pytest.fixture
def broker(tmp_path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:
        yield running


@pytest.fixture
def start(broker, tmp_path):
    """Start receivers; whatever is left of them at the end is killed."""
    started: list[Process] = []

    def begin(database: str, *options: str) -> Process:
        started.append(Process(broker, database, tmp_path, "--json", *options))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


def held(database: str) -> dict[int, bytes]:
    """What is in the database, read without our code."""
    engine = create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT seq, branch, body FROM record")).all()
    engine.dispose()
    assert {row.branch for row in rows} <= {0}
    found = {row.seq: bytes(row.body) for row in rows}
    assert len(found) == len(rows), "a record is there twice"
    return found


class Receipts:
    """What mosquitto_sub has seen of them."""

    def __init__(self, broker: Mosquitto, path: Path) -> None:
        self._path = path
        command = [tool("mosquitto_sub"), "-p", str(broker.port), "-V", "5", "-q", "1"]
        command += ["-t", f"{BASE}/receipt/+", "-t", "mark", "-F", "%r %p"]
        with path.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out)
        self._mark = [tool("mosquitto_pub"), "-p", str(broker.port), "-q", "1", "-t", "mark", "-m"]
        self.settle()

    def settle(self) -> None:
        """Wait until everything that the broker had has been written down."""

        def written() -> bool:
            mark = os.urandom(4).hex()
            subprocess.run([*self._mark, json.dumps({"mark": mark})], check=True)
            soon = time.monotonic() + 0.5
            while mark not in self._path.read_text() and time.monotonic() < soon:
                time.sleep(0.005)
            return mark in self._path.read_text()

        wait_until("mosquitto_sub writes", written)

    def seen(self) -> list[dict[str, Any]]:
        lines = self._path.read_text().rpartition("\n")[0].splitlines()
        assert not any(line.startswith("1") for line in lines), "a receipt is never retained"
        seen = [json.loads(line[2:]) for line in lines]
        return [each for each in seen if each.get("lane") == "data"]

    def stop(self) -> list[dict[str, Any]]:
        self._process.terminate()
        self._process.wait()
        return self.seen()


@pytest.fixture
def receipts(broker, tmp_path) -> Iterator[Receipts]:
    listening = Receipts(broker, tmp_path / "receipts")
    yield listening
    listening.stop()


class Agent:
    """Sends a lane from its cursor, in a window, and again when the cursor stands still."""

    def __init__(self, broker: Mosquitto, told: Life, ahead: int = 1000) -> None:
        self._broker = broker
        self._ahead = ahead
        self._told = told
        self._last = len(told.bodies)
        self._step = PER_BATCH
        self.cursor = 0
        self.sent = 0

    def reached(self, seq: int) -> bool:
        return self.cursor >= min(seq, self._last)

    async def deliver(self) -> None:
        """Deliver everything, over as many connections as it takes."""
        while self.cursor < self._last:
            try:
                await self._connection()
            except BrokerUnreachable:
                await asyncio.sleep(0.02)

    async def _connection(self) -> None:
        published = asyncio.Semaphore(WINDOW)
        session = await connect(
            BrokerSettings(url=self._broker.url),
            "agent",
            on_message=self._take,
            on_published=lambda _: published.release(),
        )
        try:
            await session.subscribe([f"{BASE}/receipt/+"])
            self.sent = self.cursor
            while self.cursor < self._last:
                if self.sent >= self._last or self.sent - self.cursor > self._ahead:
                    await self._wait()
                    continue
                await published.acquire()
                first, last = self.sent + 1, min(self._last, self.sent + PER_BATCH)
                session.publish(f"{BASE}/data", self._told.payload(first, last))
                self.sent = last
        finally:
            await session.close()

    async def _wait(self) -> None:
        """Wait for a receipt; without one, go back to the cursor."""
        before = self.cursor
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 0.5
        while self.cursor == before:
            if loop.time() > deadline:
                self.sent = self.cursor
                return
            await asyncio.sleep(0.005)

    def _take(self, message: Message) -> None:
        receipt = json.loads(message.payload)
        upto = receipt["upto"]
        if receipt["lane"] != "data":
            return
        assert bytes.fromhex(receipt["chain"]) == self._told.chains[upto]
        self.cursor = max(self.cursor, upto)


def committed_upto(database: str) -> int:
    """The prefix that a receiver which was killed left behind, from its rows alone."""
    found = held(database)
    return next(n for n in range(1, len(found) + 2) if n not in found) - 1


async def test_a_receiver_that_is_killed_loses_nothing_and_promised_nothing(
    broker, start, receipts, database
):
    """Killed -9 in the middle of the load, twice: what was receipted was committed."""
    told = life(RECORDS)
    agent = Agent(broker, told, ahead=300)
    rng = Random(4711)
    delivery = asyncio.create_task(agent.deliver())
    for _ in range(2):
        process = start(database)
        process.connected()
        aim = agent.cursor + rng.randrange(100, 500)
        await until("on the way", partial(agent.reached, aim), WAIT_S)
        process.kill()
        upto = committed_upto(database)
        receipts.settle()
        assert max(each["upto"] for each in receipts.seen()) <= upto
    process = start(database)
    process.connected()
    async with asyncio.timeout(WAIT_S):
        await delivery
    assert process.stop() == 0
    assert held(database) == dict(enumerate(told.bodies, 1))
    seen = receipts.stop()
    assert len({each["incarnation"] for each in seen}) == 1
    for each in seen:
        assert each["chain"] == told.chains[each["upto"]].hex()
    assert seen[-1]["upto"] == RECORDS


async def test_three_receivers_share_the_work(broker, start, receipts, cluster):
    """Stateless: one is killed on the way; the agent sees one consumer."""
    told = life(RECORDS)
    database = cluster.new_database()
    processes = [start(database, "--shared") for _ in range(3)]
    for process in processes:
        process.connected()
    agent = Agent(broker, told, ahead=RECORDS)
    delivery = asyncio.create_task(agent.deliver())
    await until("on the way", partial(agent.reached, 100), WAIT_S)
    processes[0].kill()
    async with asyncio.timeout(WAIT_S):
        await delivery
    assert [process.stop() for process in processes[1:]] == [0, 0]
    assert all(process.said["receipts"] for process in processes[1:]), "each took its share"
    assert held(database) == dict(enumerate(told.bodies, 1))
    for each in receipts.stop():
        assert each["chain"] == told.chains[each["upto"]].hex()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_under_load_is_clean_and_quick(broker, start, tmp_path, number):
    told = life(RECORDS)
    database = f"sqlite:///{tmp_path / 'central.sqlite'}"
    process = start(database, "--mqtt", "3.1.1")
    process.connected()
    agent = Agent(broker, told)
    delivery = asyncio.create_task(agent.deliver())
    await until("on the way", partial(agent.reached, 300), WAIT_S)
    assert process.stop(number) == 0
    assert committed_upto(database) == process.said["prefix"][f"berlin-1/{EPOCH}/data"]
    assert process.said["connected"] is False
    delivery.cancel()
    await asyncio.gather(delivery, return_exceptions=True)


def test_a_refused_login_is_one_line_and_is_tried_again(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    with Mosquitto(tmp_path, users={"central": "right"}) as broker:
        options = ("--user", "central", "--password-file", str(secret), "--json")
        process = Process(broker, f"sqlite:///{tmp_path / 'x'}", tmp_path, *options)
        try:
            (line,) = wait_until("a complaint", lambda: process.complaints)
            assert "check username, password_file" in line
            assert len(process.complaints) == 1
            secret.write_text("right\n")
            process.connected()
            assert process.stop() == 0
            assert sum("refused" in line for line in process.complaints) == 1
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--broker", "http://x"), "no broker address"),
        (("--broker", "mqtt://x", "--shared", "--mqtt", "3.1.1"), "MQTT 5"),
        (("--broker", "mqtt://x", "--consumer", "a/b"), "--consumer"),
        (("--broker", "mqtt://x", "--site", "#"), "--site"),
        (("--broker", "mqtt://x", "--password-file", __file__), "username"),
        ((), "--broker"),
    ],
)
def test_wrong_use_ends_with_one_clear_line(options, words):
    done = CliRunner().invoke(receive, options)
    assert done.exit_code == 2
    assert words in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("database", "words"),
    [
        ("mysql://x/y", "sqlite:///path"),
        ("sqlite:////no/such/directory/x", "unable to open"),
        ("postgresql://postgres@/x?host=/nowhere", "check the address"),
    ],
)
def test_an_unusable_database_ends_with_one_clear_line(tmp_path, broker, database, words):
    process = Process(broker, database, tmp_path)
    assert process.ended() == 74
    (line,) = process.complaints
    assert words in line


def test_a_database_that_fails_on_the_way_ends_the_process(broker, start, tmp_path):
    """Nothing more is taken, nothing is receipted, and whoever supervises it sees it at once."""
    path = tmp_path / "central.sqlite"
    process = start(f"sqlite:///{path}")
    process.connected()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE prefix")
    connection.close()
    payload = tmp_path / "payload"
    payload.write_bytes(life(3).payload(1, 3))
    publish = [tool("mosquitto_pub"), "-p", str(broker.port), "-q", "1", "-t", f"{BASE}/data"]
    subprocess.run([*publish, "-f", str(payload)], check=True)
    assert process.ended() == 74
    assert "the database cannot be used (no such table: prefix)" in process.complaints[-1]
    assert not any("Traceback" in line for line in process.complaints)


def test_what_is_shown_without_json(broker, tmp_path):
    process = Process(broker, f"sqlite:///{tmp_path / 'x'}", tmp_path)
    try:
        told = life(3)
        payload = tmp_path / "payload"
        payload.write_bytes(told.payload(1, 3))
        publish = [tool("mosquitto_pub"), "-p", str(broker.port), "-q", "1", "-t", f"{BASE}/data"]

        def shown() -> bool:
            subprocess.run([*publish, "-f", str(payload)], check=True)
            return any("records 3" in line for line in process.lines)

        wait_until("a line", shown)
        assert process.stop() == 0
        assert process.lines[-1].startswith("sites 1  records 3  duplicates ")
    finally:
        process.kill()

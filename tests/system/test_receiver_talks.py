"""What the receiver says to an agent, through a real mosquitto: receipts and requests.

Method: the test is the agent. It publishes what docs/mqtt.md lets an agent publish and reads what
comes back; the receiver runs in this process, its patience shortened.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from edgeagent.central.receiver import Receiver, ReceiverSettings
from edgeagent.central.store import Store
from edgeagent.model.clock import SystemClock
from edgeagent.model.settings import BrokerSettings
from edgeagent.mqtt import Message, Session, connect
from tests.brokers import Mosquitto
from tests.unit.central.life import EPOCH, KEY, Life, fork, life

BASE = "edge/v1/berlin-1"
WAIT_S = 10.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


class Agent:
    """The other side of the conversation."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.heard: list[tuple[str, dict[str, Any], Message]] = []
        self._changed = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, broker: Mosquitto) -> AsyncIterator["Agent"]:
        found: list[Message] = []
        session = await connect(
            BrokerSettings(url=broker.url), "agent", on_message=lambda m: agent.hear(m)
        )
        agent = cls(session)
        assert not found
        await session.subscribe([f"{BASE}/receipt/+", f"{BASE}/request/+"])
        try:
            yield agent
        finally:
            session.publish(f"{BASE}/head", b"", retain=True)
            await session.close()

    def hear(self, message: Message) -> None:
        kind = message.topic.split("/")[3]
        self.heard.append((kind, json.loads(message.payload), message))
        self._changed.set()

    def said(self, kind: str) -> list[dict[str, Any]]:
        return [content for each, content, _ in self.heard if each == kind]

    async def until(self, what: str, holds: Callable[[], Any]) -> Any:
        """Wait for something that was heard; fail by its name."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not (found := holds()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pytest.fail(f"{what}; heard {self.heard}")
        return found

    async def receipt(self, upto: int) -> dict[str, Any]:
        """Wait for a receipt up to this record."""
        found = await self.until(
            f"no receipt up to {upto}",
            lambda: [each for each in self.said("receipt") if each["upto"] == upto],
        )
        return found[-1]

    async def request(self, kind: str) -> dict[str, Any]:
        found = await self.until(
            f"no request {kind}",
            lambda: [each for each in self.said("request") if each["request"] == kind],
        )
        return found[-1]

    def send(self, payload: bytes, topic: str = "data") -> None:
        self._session.publish(f"{BASE}/{topic}", payload, content_type="application/x-ndjson")

    def say(self, topic: str, content: dict[str, Any], *, retain: bool = False) -> None:
        self._session.publish(f"{BASE}/{topic}", json.dumps(content).encode(), retain=retain)

    def head(self, highest: int, epoch: str = EPOCH) -> None:
        lanes = {"data": {"lowest": 1, "highest": highest, "chain": "00"}}
        content = {"v": 1, "site": "berlin-1", "epoch": epoch, "at": 1, "lanes": lanes}
        self.say("head", content, retain=True)


@contextlib.asynccontextmanager
async def receiving(
    broker: Mosquitto, path: Path, *, agent: Agent | None = None, **more: Any
) -> AsyncIterator[Receiver]:
    """A receiver that is connected, when an agent is given to tell."""
    settings = {"hole_s": 0.2, "receipt_every_s": 0.05} | more
    version = settings.pop("version", "5")
    store = Store(f"sqlite:///{path / 'central.sqlite'}", SystemClock())
    receiver = Receiver(
        ReceiverSettings(BrokerSettings(url=broker.url, version=version), **settings),
        store,
        "receiver",
        SystemClock(),
        Random(4711),
    )
    task = asyncio.create_task(receiver.run(), name="receiver")
    try:
        if agent is not None:
            agent.head(0)
            await agent.receipt(0)
        yield receiver
        assert not task.done()
    finally:
        receiver.stop()
        async with asyncio.timeout(5):
            await task
        store.close()


@pytest.fixture
async def agent(broker):
    async with Agent.connected(broker) as connected:
        yield connected


def says(receipt: dict[str, Any], told: Life, upto: int) -> None:
    """Check a receipt against section 4 of the contract."""
    incarnation = receipt.pop("incarnation")
    assert len(incarnation) == 36
    assert receipt == {
        "v": 1,
        "consumer": "central",
        "site": "berlin-1",
        "epoch": told.key.epoch,
        "lane": told.key.lane,
        "upto": upto,
        "chain": told.chains[upto].hex(),
        "quarantined": [],
    }


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_commit_is_receipted(broker, agent, tmp_path, version):
    told = life(10)
    async with receiving(broker, tmp_path, agent=agent, version=version) as receiver:
        agent.send(told.payload(1, 4))
        says(await agent.receipt(4), told, 4)
        agent.send(told.payload(5, 10), "to/central/data")
        says(await agent.receipt(10), told, 10)
        agent.send(told.payload(1, 4), "to/other/data")
        agent.send(b"not for us", "schema/x/1")
        assert receiver.progress.records == 10
        assert receiver.progress.prefix[KEY] == 10
    assert not any(message.retain for _, _, message in agent.heard)


async def test_a_repetition_is_receipted_again(broker, agent, tmp_path):
    """The agent repeats because a receipt was lost: silence would make it repeat for ever."""
    told = life(10)
    async with receiving(broker, tmp_path, agent=agent):
        agent.send(told.payload(1, 10))
        await agent.receipt(10)
        before = len(agent.said("receipt"))
        agent.send(told.payload(1, 10))
        await agent.until("no second receipt", lambda: len(agent.said("receipt")) > before)
        says(agent.said("receipt")[-1], told, 10)


async def test_receipts_come_at_the_connection_and_upon_a_head(broker, agent, tmp_path):
    told = life(10)
    async with receiving(broker, tmp_path, agent=agent):
        agent.send(told.payload(1, 10))
        await agent.receipt(10)
    agent.heard.clear()
    agent._session.publish(f"{BASE}/head", b"", retain=True)
    async with receiving(broker, tmp_path):
        says(await agent.receipt(10), told, 10)
        agent.heard.clear()
        agent.head(10)
        says(await agent.receipt(10), told, 10)


async def test_receipts_are_coalesced(broker, agent, tmp_path):
    """At most so many a second, the first at once, and the last one says it all."""
    told = life(100)
    loop = asyncio.get_running_loop()
    async with receiving(broker, tmp_path, agent=agent, receipt_every_s=0.2):
        began = loop.time()
        for n in range(1, 101):
            agent.send(told.payload(n, n))
            await asyncio.sleep(0.004)
        says(await agent.receipt(100), told, 100)
        spent = loop.time() - began
        assert len(agent.said("receipt")) <= 2 + spent / 0.2


async def test_a_hole_is_asked_for_and_filled(broker, agent, tmp_path):
    told = life(20)
    async with receiving(broker, tmp_path, agent=agent) as receiver:
        agent.send(told.payload(1, 4))
        agent.send(told.payload(11, 20))
        request = await agent.request("replay")
        assert {key: request[key] for key in ("v", "epoch", "lane", "from", "to")} == {
            "v": 1,
            "epoch": EPOCH,
            "lane": "data",
            "from": 5,
            "to": 11,
        }
        assert receiver.progress.holes == {KEY: (5, 10)}
        agent.send(told.payload(5, 11), "to/central/data")
        says(await agent.receipt(20), told, 20)
        assert receiver.progress.holes == {}


async def test_a_lost_end_is_asked_for(broker, agent, tmp_path):
    told = life(20)
    async with receiving(broker, tmp_path, agent=agent):
        agent.send(told.payload(1, 4))
        agent.head(20)
        request = await agent.request("replay")
        assert (request["from"], request["to"]) == (5, 21)
        agent.send(told.payload(5, 20), "to/central/data")
        await agent.receipt(20)


async def test_a_late_joiner_goes_on_over_what_is_gone(broker, agent, tmp_path):
    told = life(20)
    async with receiving(broker, tmp_path, agent=agent):
        agent.send(told.payload(11, 15))
        request = await agent.request("replay")
        assert (request["from"], request["to"]) == (1, 11)
        reply = {"v": 1, "reply": "replay", "id": request["id"], "epoch": EPOCH, "lane": "data"}
        agent.say("reply/central", {**reply, "available": None, "unavailable": [[1, 11]]})
        agent.say("reply/central", {**reply, "available": [11, 11], "unavailable": [[1, 10]]})
        says(await agent.receipt(15), told, 15)
        agent.send(told.payload(16, 20))
        says(await agent.receipt(20), told, 20)


async def test_a_conflict_is_proved_to_the_agent_until_it_answers(broker, agent, tmp_path):
    old = life(10)
    new = fork(old, 8, 13)
    async with receiving(broker, tmp_path, agent=agent):
        agent.send(old.payload(1, 10))
        await agent.receipt(10)
        agent.send(new.payload(7, 12))
        says(await agent.receipt(12), new, 12)
        request = await agent.request("conflict")
        assert (request["epoch"], request["lane"], request["seq"]) == (EPOCH, "data", 9)
        assert request["held"] != request["offered"]
    agent.heard.clear()
    async with receiving(broker, tmp_path):
        assert await agent.request("conflict") == request
        says(await agent.receipt(12), new, 12)
        reply = {"v": 1, "reply": "conflict", "id": request["id"], "epoch": "next"}
        agent.say("reply/central", reply)
        agent.send(new.payload(13, 13))
        await agent.receipt(13)
        agent.heard.clear()
        agent.head(13)
        await agent.receipt(13)
        assert agent.said("request") == []


async def test_a_poison_record_is_receipted_as_such(broker, agent, tmp_path):
    sound = life(3).bodies
    told = Life([sound[0], b"no record", sound[2]])
    async with receiving(broker, tmp_path, agent=agent) as receiver:
        agent.send(told.payload(1, 3))
        receipt = await agent.receipt(3)
        assert receipt["quarantined"] == [2]
        assert receipt["chain"] == told.chains[3].hex()
        assert receiver.progress.quarantined == 1


async def test_rubbish_does_not_stop_anything(broker, agent, tmp_path):
    told = life(4)
    payload = told.payload(1, 4)
    async with receiving(broker, tmp_path, agent=agent) as receiver:
        for spoilt in (b"", b"\xff" * 100, payload[:-1], payload.replace(b"berlin-1", b"berlin-2")):
            agent.send(spoilt)
        agent.send(payload, "event")
        agent.say("reply/central", {"reply": "conflict", "id": [1]})
        agent.send(payload)
        says(await agent.receipt(4), told, 4)
        assert receiver.progress.rejected == 6
    store = Store(f"sqlite:///{tmp_path / 'central.sqlite'}", SystemClock())
    found = store._connection.exec_driver_sql("SELECT type FROM event ORDER BY id").scalars().all()
    store.close()
    assert sorted(found) == ["batch.rejected", "epoch.opened", "reply.rejected"]


async def test_the_connection_is_found_again(tmp_path):
    """A broker that comes and goes: the receiver is back as soon as it is."""
    told = life(6)
    broker = Mosquitto(tmp_path)
    async with receiving(broker, tmp_path) as receiver:
        for upto in (2, 4, 6):
            broker.start()
            async with Agent.connected(broker) as agent:
                agent.head(0)
                await agent.receipt(upto - 2)
                agent.send(told.payload(upto - 1, upto))
                says(await agent.receipt(upto), told, upto)
            broker.kill()
        assert receiver.progress.records == 6

"""Bad luck from a seed: everything at once, and at the end every consumer holds the journal.

Method: one agent, two consumers, one broker. From a seed: messages are lost on the way, the broker
is killed, the agent is stopped and started, a consumer falls silent, loses its database or stalls,
the journal's epoch changes, rows are damaged on disk. When it is over each consumer must have
receipted every lane of every epoch to its end, and hold exactly the bytes that the journal took.
What the journal took is noted by the test as commits end, not read back.
"""

import asyncio
import contextlib
from collections import defaultdict
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest

from edgeagent.journal import Committed
from edgeagent.model.record import Lane
from tests.brokers import Mosquitto
from tests.consumers import Batch, Consumer, until
from tests.unit.publish.site import Site

NAMES = ("one", "other")


class BadLuck:
    """What may happen, drawn from one seed."""

    def __init__(self, site: Site, broker: Mosquitto, consumers: list[Consumer], seed: int) -> None:
        self.random = Random(seed)
        self.site = site
        self.broker = broker
        self.consumers = consumers
        self.taken: dict[tuple[str, str], dict[int, bytes]] = defaultdict(dict)
        self.damaged: set[tuple[str, int]] = set()

    def note(self, part: Committed) -> None:
        self.taken[part.epoch, part.lane.value] |= dict(enumerate(part.bodies, part.first))

    def loses(self, _: Batch) -> bool:
        return self.random.random() < 0.2

    async def write(self) -> None:
        while True:
            self.site.put(self.random.randint(1, 9), self.random.choice([10, 100, 900]))
            if self.random.random() < 0.3:
                self.site.put_event()
            await asyncio.sleep(self.random.uniform(0, 0.02))

    async def strike(self) -> None:
        acts = (self.kill_broker, self.restart, self.silence, self.stall, self.replace)
        await self.random.choice((*acts, self.new_epoch, self.damage))()

    async def kill_broker(self) -> None:
        self.broker.kill()
        await asyncio.sleep(self.random.uniform(0, 0.1))
        self.broker.start()

    async def restart(self) -> None:
        await self.site.stop()
        await self.open()

    async def open(self) -> None:
        await self.site.open()
        self.site.recorder.listeners.append(self.note)
        self.site.connect()

    async def silence(self) -> None:
        consumer = self.random.choice(self.consumers)
        consumer.answers_heads = consumer.receipts = consumer.commits = False
        await asyncio.sleep(self.random.uniform(0, 1))
        consumer.answers_heads = consumer.receipts = consumer.commits = True

    async def stall(self) -> None:
        consumer = self.random.choice(self.consumers)
        consumer.commits = False
        await asyncio.sleep(self.random.uniform(0, 0.5))
        consumer.commits = True

    async def replace(self) -> None:
        consumer = self.random.choice(self.consumers)
        consumer.forget()
        consumer.incarnation = str(uuid4())
        self.site.clock.forward(61)

    async def new_epoch(self) -> None:
        await self.site.recorder.new_epoch("bad luck")

    async def damage(self) -> None:
        """Damage a row that both hold, so that all can still be held by both."""
        async with self.site.opened_by_hand() as database:
            number = len(self.site.journal.epochs) - 1
            base = number << 48
            highest = min(self.site.cursor(name) for name in NAMES)
            if highest > 0:
                key = base + self.random.randint(1, highest)
                database.execute("UPDATE data SET crc = crc + 1 WHERE key = ?", (key,))
                self.damaged.add((self.site.epoch, key - base))
        await self.site.stop()
        await self.open()

    def receipted(self) -> bool:
        journal = self.site.journal
        if any(journal.consumers[c.name].incarnation != c.incarnation for c in self.consumers):
            return False  # a new database has not been noticed yet
        return all(
            journal.cursor(name, epoch, lane) is not None
            and self.site.cursor(name, lane.value, epoch.number) >= self.highest(epoch.uuid, lane)
            for name in NAMES
            for epoch in journal.epochs
            for lane in Lane
        )

    def highest(self, epoch: str, lane: Lane) -> int:
        return max(self.taken.get((epoch, lane.value), {}), default=0)

    def check(self, consumer: Consumer) -> None:
        for (epoch, lane), taken in self.taken.items():
            held = consumer.held[epoch, lane]
            assert held.upto >= max(taken)
            for seq, body in taken.items():
                if seq in held.bodies:
                    assert held.bodies[seq] == body, (epoch, lane, seq)
                else:
                    assert (epoch, seq) in self.damaged, f"record {seq} of {lane} is not held"


async def bad_day(directory: Path, seed: int, strikes: int) -> None:
    with Mosquitto(directory) as broker:
        site = Site(directory, broker, enrolled=NAMES, batch_bytes=2048)
        consumers = [Consumer(broker.port, site.name, name) for name in NAMES]
        luck = BadLuck(site, broker, consumers, seed)
        async with contextlib.AsyncExitStack() as stack:
            for consumer in consumers:
                await stack.enter_async_context(consumer)
                consumer.drops = luck.loses
            await luck.open()
            stack.push_async_callback(site.stop)
            for _ in range(strikes):
                writing = asyncio.create_task(luck.write())
                await asyncio.sleep(luck.random.uniform(0, 0.3))
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
                await site.flush()
                await luck.strike()
            await site.flush()
            await until(f"all is receipted, seed {seed}", luck.receipted, 30)
            for consumer in consumers:
                luck.check(consumer)


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_bad_day(tmp_path: Path, seed: int) -> None:
    await bad_day(tmp_path, seed, strikes=6)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(100, 110))
async def test_bad_days(tmp_path: Path, seed: int) -> None:
    await bad_day(tmp_path, seed, strikes=30)

"""One day from one seed: chaos, then healing, then what the checkers say.

    python -m tests.simulation 4711

replays a day and prints its faults, its log and what was found.
"""

import asyncio
import hashlib
import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import structlog

from edgeagent.journal import recorder, store
from edgeagent.model.record import Batch, Receipt, decode_batch, decode_receipt
from edgeagent.model.settings import BrokerSettings
from tests.simulation.broker import Broker, Session
from tests.simulation.consumer import Consumer, Row
from tests.simulation.day import EVERY_MINUTE, HELD_BYTES_FEW, Day
from tests.simulation.devices import Device, Ledger, PushedLink, SimulatedLink
from tests.simulation.loop import VirtualLoop
from tests.simulation.site import SITE, Agent

HEAL_WITHIN_S = 150.0
"""Longest time from the last fault to an empty backlog: a broken connection may be half-open for
22 s, wait 30 s for its next attempt, twice; a replaced database may have to wait a minute."""
SETTLE_S = 12.0
STOP_WITHIN_S = 5.0
SAMPLE_EVERY_S = 2.0
STEADY = "steady-1/all"


class Sent(NamedTuple):
    """A batch that reached the broker."""

    at_s: float
    session: int
    topic: str
    batch: Batch


class Receipted(NamedTuple):
    """A receipt that reached the broker, and how far its database held the lane then."""

    at_s: float
    receipt: Receipt
    held: int


class Sample(NamedTuple):
    """What bounds are kept to, at one moment."""

    at_s: float
    pending_bytes: int
    tasks: int
    unsent: int
    cursors: dict[tuple[str, str, str], int]


@dataclass(slots=True)
class Evidence:
    """What the checkers judge; gathered outside the code under test.

    :ivar held: per consumer its records at the end
    :ivar journal: how far each lane of each epoch went at the end
    :ivar healed_s: when nothing was owed any more, ``None`` if that did not come in time
    """

    day: Day
    ledger: Ledger
    agent: Agent
    sent: list[Sent] = field(default_factory=list)
    receipts: list[Receipted] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    held: dict[str, list[Row]] = field(default_factory=dict)
    journal: dict[tuple[str, str], int] = field(default_factory=dict)
    epochs: tuple[str, ...] = ()
    healed_s: float | None = None
    heal_began_s: float = 0.0
    end_s: float = 0.0
    owed: str = ""
    unexpected: list[str] = field(default_factory=list)

    def trace(self) -> str:
        """Return a hash of everything that was delivered, to whom and when."""
        found = hashlib.sha256()
        for at_s, session, topic, batch in self.sent:
            found.update(f"{at_s!r} {session} {topic}".encode() + batch.encode())
        for at_s, receipt, held in self.receipts:
            found.update(f"{at_s!r} {held}".encode() + receipt.encode())
        for name, rows in self.held.items():
            found.update(repr((name, rows)).encode())
        found.update(repr((self.healed_s, self.end_s)).encode())
        return found.hexdigest()


class World:
    """Everything of one day, on one loop."""

    def __init__(self, day: Day, directory: Path, loop: VirtualLoop) -> None:
        self.day = day
        self.loop = loop
        ledger = Ledger()
        self.broker = Broker(day)
        self.links = [
            SimulatedLink("steady", [Device("steady-1", 4, day, ledger)], day, steady=True),
            SimulatedLink(
                "line",
                [Device("line-1", 4, day, ledger), Device("line-2", 5, day, ledger)],
                day,
                steady=False,
            ),
            PushedLink("panel", Device("panel-1", 5, day, ledger), day),
        ]
        url = BrokerSettings(url="mqtt://broker.example")
        names = ["central", "mirror"][: day.consumers]
        self.agent = Agent(day, directory, self.links, self.broker, url, names, loop)
        self.consumers = [
            Consumer(name, day, self.broker, self.agent.machine.clock, url) for name in names
        ]
        self.random = day.random("weather")
        self.evidence = Evidence(day, ledger, self.agent)
        self.broker.tap = self._tap

    # -- a day ---------------------------------------------------------------------------------

    async def live(self) -> Evidence:
        """Live through chaos and healing; stop the agent; return what was seen."""
        evidence, loop = self.evidence, self.loop
        tasks = [
            asyncio.create_task(self.agent.supervise(), name="agent's supervisor"),
            *(asyncio.create_task(each.supervise()) for each in self.consumers),
            *(asyncio.create_task(e.push()) for e in self.links if isinstance(e, PushedLink)),
            asyncio.create_task(self._sample(), name="samples"),
        ]
        weather = asyncio.create_task(self._weather(), name="weather")
        await asyncio.sleep(self.day.chaos_s)
        weather.cancel()
        evidence.heal_began_s = loop.time()
        self._heal()
        evidence.owed = await self._wait_until_nothing_is_owed()
        if not evidence.owed:
            evidence.healed_s = loop.time()
            await self._stop_in_order()
        evidence.end_s = loop.time()
        self._gather()
        for task in tasks:
            task.cancel()
        await asyncio.wait([*tasks, weather])
        return evidence

    def _heal(self) -> None:
        self.day.heal()
        self.agent.machine.mend_disk()
        self.broker.slow_until_s = 0.0
        self.broker.up = True
        for link in self.links:
            for device in link.devices.values():
                device.silent_until_s = 0.0

    async def _wait_until_nothing_is_owed(self) -> str:
        """Return what is still owed when there was time enough, in words."""
        give_up_s = self.loop.time() + HEAL_WITHIN_S
        for _ in itertools.count():
            owed = self._owed()
            if not owed or self.loop.time() >= give_up_s:
                return owed
            await asyncio.sleep(0.5)
        raise AssertionError

    async def _stop_in_order(self) -> None:
        """Let a good while pass, then stop the agent by command: that, too, is delivered."""
        await asyncio.sleep(SETTLE_S)
        self.agent.stop()
        await asyncio.sleep(STOP_WITHIN_S)
        self.evidence.owed = await self._wait_until_nothing_is_owed()

    def _owed(self) -> str:
        """Return what is not as it should be yet, in words; nothing when all is well."""
        parts = self.agent.ready
        if parts is None:
            return "the agent does not run"
        if parts.acquisition.continuity.open_count():
            return "gaps are open"
        epoch, heads = parts.journal.epoch.uuid, parts.journal.heads
        ends = {(epoch, lane.value): end for lane, (end, _) in heads.items()}
        for consumer in self.consumers:
            prefixes = consumer.database.prefixes()
            for (epoch, lane), end in ends.items():
                held = prefixes.get((epoch, lane), 0)
                if held < end:
                    return f"{consumer.name} holds {held} of {end} records of lane {lane}"
        return ""

    # -- what goes wrong -----------------------------------------------------------------------

    async def _weather(self) -> None:
        """Do what the day's rates say, at random moments."""
        rates = {name: self.day.rates[name] for name in EVERY_MINUTE if self.day.rates[name]}
        while rates:
            await asyncio.sleep(self.random.expovariate(sum(rates.values()) / 60))
            (name,) = self.random.choices(list(rates), list(rates.values()))
            self._happens(name)

    def _happens(self, name: str) -> None:
        spell_s = self.random.uniform(0.2, 15)
        consumer = self.random.choice(self.consumers)
        for each in self.consumers:
            if len(each.backups) < 3:
                each.back_up()
        happenings: dict[str, Callable[[], None]] = {
            "broker.restart": lambda: self._broker_gone(spell_s, forget=False),
            "broker.kill": lambda: self._broker_gone(spell_s, forget=True),
            "broker.half-open": lambda: self._some_session(lambda each: each.hang()),
            "broker.cut": lambda: self._some_session(lambda each: each.end("connection reset")),
            "broker.slow": lambda: self._slow_broker(spell_s),
            "consumer.kill": consumer.kill,
            "consumer.restore": consumer.restore,
            "consumer.replace": consumer.replace,
            "agent.kill": self.agent.kill,
            "agent.power-loss": self.agent.power_loss,
            "agent.stop": self.agent.stop,
            "disk.slow": lambda: self.agent.machine.slow_disk(spell_s),
            "disk.sync-fails": self.agent.machine.fail_syncs,
            "disk.full": self.agent.machine.fill_disk,
            "disk.rot": self.agent.machine.let_rot,
            "journal.pack": self.agent.pack,
            "journal.purge": self.agent.purge,
            "clock.step": self.agent.machine.step_clock,
        }
        self.day.happened[name] += 1
        happenings[name]()

    def _broker_gone(self, for_s: float, *, forget: bool) -> None:
        self.broker.stop(forget=forget)

        def back() -> None:
            self.broker.up = True

        self.loop.call_later(for_s, back)

    def _some_session(self, what: Callable[[Session], None]) -> None:
        if self.broker.sessions:
            what(self.random.choice(list(self.broker.sessions.values())))

    def _slow_broker(self, for_s: float) -> None:
        self.broker.slow_until_s = self.loop.time() + for_s

    # -- what is seen --------------------------------------------------------------------------

    def _tap(self, session: Session, topic: str, payload: bytes) -> None:
        kind = topic.split("/")[3]
        if kind in ("data", "event", "to"):
            batch = decode_batch(payload)
            self.evidence.sent.append(Sent(self.loop.time(), session.number, topic, batch))
        elif kind == "receipt":
            receipt = decode_receipt(payload)
            consumer = next(each for each in self.consumers if each.name == receipt.consumer)
            held = consumer.database.prefixes().get((receipt.epoch, receipt.lane.value), 0)
            self.evidence.receipts.append(Receipted(self.loop.time(), receipt, held))

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_EVERY_S)
            parts = self.agent.ready
            if parts is None:
                continue
            epochs = parts.journal.epochs
            cursors = {
                (name, epochs[number].uuid, lane.value): cursor.upto
                for (name, number, lane), cursor in parts.journal.cursors.items()
            }
            unsent = max((len(each._unsent) for each in self.broker.sessions.values()), default=0)
            self.evidence.samples.append(
                Sample(
                    self.loop.time(),
                    parts.recorder._pending_bytes,
                    len(asyncio.all_tasks()),
                    unsent,
                    cursors,
                )
            )

    def _gather(self) -> None:
        evidence, parts = self.evidence, self.agent.ready
        evidence.held = {each.name: each.database.rows() for each in self.consumers}
        if parts is not None:
            journal = parts.journal
            evidence.epochs = tuple(epoch.uuid for epoch in journal.epochs)
            evidence.journal = {
                (journal.epoch.uuid, lane.value): end for lane, (end, _) in journal.heads.items()
            }
        evidence.unexpected = self.loop.unexpected

    def close(self) -> None:
        self.agent.close()
        for each in self.consumers:
            each.close()


@contextmanager
def _small_world(day: Day) -> Iterator[None]:
    """Let UUIDs come from the seed, and limits fit a day of some hundred records."""
    with (
        patch.object(os, "urandom", day.random("uuid").randbytes),
        patch.object(recorder, "CHECKPOINT_EVERY_NS", 10 * 10**9),
        patch.object(store, "LOG_PAGES_MAX", 50),
        patch.object(store, "BLOCK_BYTES", 2048),
    ):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def simulate(seed: int, *, log: bool = False, rates: Mapping[str, float] | None = None) -> Evidence:
    """Live through the day of a seed.

    :param rates: the only faults that happen, and how often, in place of what the seed draws
    """
    day = Day(seed)
    if rates is not None:
        day.rates = dict.fromkeys(day.rates, 0.0) | rates
        day.held_bytes = HELD_BYTES_FEW
    directory = Path(tempfile.mkdtemp(prefix=f"{SITE}-{seed}-"))
    loop = VirtualLoop(day.random("loop"))
    world: World | None = None
    try:
        with _small_world(day), _stamped(loop) if log else _quiet():
            world = World(day, directory, loop)
            return loop.run(world.live())
    finally:
        if world is not None:
            world.close()
        shutil.rmtree(directory)


@contextmanager
def _stamped(loop: VirtualLoop) -> Iterator[None]:
    """Print the product's log with virtual time."""
    before = structlog.get_config()

    def stamp(_: object, __: str, event: dict[str, object]) -> dict[str, object]:
        return {"at": f"{loop.time():9.4f}", **event}

    structlog.configure(processors=[stamp, structlog.processors.KeyValueRenderer(["at", "event"])])
    try:
        yield
    finally:
        structlog.configure(**before)

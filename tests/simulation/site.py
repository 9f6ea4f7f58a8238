"""The agent of one site, put together from the shipped parts, on a machine that may die.

The composition follows ``edgeagent/app.py``; what is simulated stands at the ports: drivers,
broker, clock, disk, threads.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from edgeagent.acquire.acquisition import Acquisition
from edgeagent.acquire.polled import PolledLink
from edgeagent.acquire.subscribed import SubscribedLink
from edgeagent.journal import Journal, Recorder
from edgeagent.journal.store import Consumer
from edgeagent.journal.survey import received_upto
from edgeagent.model.clock import CLOCK_UNKNOWN, ClockState
from edgeagent.model.errors import EdgeAgentError, JournalFull
from edgeagent.model.record import Lane
from edgeagent.model.settings import BrokerSettings
from edgeagent.operate.timekeeping import clock_context, keep_time
from edgeagent.publish.lossless import LosslessStream
from tests.simulation.broker import Broker
from tests.simulation.day import Day
from tests.simulation.devices import (
    Life,
    PolledSimulation,
    PushedLink,
    SimulatedLink,
    SubscribedSimulation,
)
from tests.simulation.loop import VirtualLoop
from tests.simulation.machine import Machine

SITE = "berlin-1"
PACK_KEEPS = 10


@dataclass(slots=True)
class Served:
    """One life of the agent, on the loop's clock.

    :ivar ready_s: when links were started; ``None`` if it never came so far
    :ivar stop_s: when it was told to stop
    :ivar end: ``kill``, ``power-loss``, ``stop`` or the error that ended it
    """

    begin_s: float
    ready_s: float | None = None
    stop_s: float = float("inf")
    end_s: float = float("inf")
    end: str = ""


class Kept(NamedTuple):
    """Where a lane began on the disk, and how far a consumer had receipted it, on the same disk."""

    at_s: float
    consumer: str
    lane: str
    lowest: int
    upto: int


class Agent:
    """The agent's process and its machine: killed, stopped, powerless, and started again.

    :ivar lives: every life so far
    :ivar ready: the parts of the life of now, once it polls
    :ivar kept: what the disk held at the start of each life, and after each purge
    """

    def __init__(
        self, day: Day, directory: Path, links: Sequence[SimulatedLink], broker: Broker,
        url: BrokerSettings, consumers: Sequence[str], loop: VirtualLoop,
    ) -> None:  # fmt: skip
        self.day = day
        self.links = links
        self.broker = broker
        self.url = url
        self.consumers = consumers
        self.machine = Machine(day, directory, loop)
        self.random = day.random("agent")
        self.lives: list[Served] = []
        self.ready: Parts | None = None
        self.stopping = asyncio.Event()
        self.chores: asyncio.Queue[Lane | None] = asyncio.Queue()
        self.kept: list[Kept] = []
        self._loop = loop
        self._life = Life()
        self._running: asyncio.Task[None] | None = None
        self._journal: Journal | None = None
        self._moment = 0
        loop.worked = self._worked

    # -- the process ---------------------------------------------------------------------------

    async def supervise(self) -> None:
        """Start the agent again whenever it has ended, as a service manager does."""
        while True:
            self.lives.append(served := Served(self._loop.time()))
            self._life = Life()
            self._running = asyncio.create_task(self._live(self._life, served), name="agent")
            await asyncio.wait([self._running])
            if self._life.alive:  # it ended by itself
                error = None if self._running.cancelled() else self._running.exception()
                self._die("stop" if error is None else f"error: {_words(error)}", None)
            self._close_journal()
            self.machine.rot()
            await asyncio.sleep(self.random.uniform(0.1, 5.0))

    async def _live(self, life: Life, served: Served) -> None:
        """Do what ``edgeagent run`` does."""
        random, clock, disk = self.random, self.machine.clock, self.machine.disk
        journal = await Journal.open(disk.directory, clock, vfs=disk.name)
        self._journal = journal
        await self._note_what_was_kept(journal)
        recorder = Recorder(
            journal, clock, commit_within_s=0.012, held_bytes_max=self.day.held_bytes
        )
        await recorder.load()
        recorder.set_context(
            {
                "boot_id": clock.boot_id,
                "agent": "simulated",
                "configuration": "0" * 64,
                "clock": clock_context(CLOCK_UNKNOWN),
                "instruments": {},
                "batches": {},
            }
        )
        for name in self.consumers:
            if name not in journal.consumers:
                await journal.save_consumer(Consumer(name, "enrolled", None))
        acquisition = Acquisition(
            recorder, [each for link in self.links for each in link.instruments]
        )
        stream = LosslessStream(
            SITE, "edge/v1", self.url, self.day.stream, recorder, random,
            connect=self.broker.connect_for(life),
        )  # fmt: skip
        owners = [self._owner(link, acquisition, life) for link in self.links]
        async with asyncio.TaskGroup() as tasks:
            committing = tasks.create_task(recorder.run(), name="journal")
            await acquisition.begin()
            polling = [tasks.create_task(each.run(), name="link") for each in owners]
            others = [
                tasks.create_task(stream.run(), name="publish"),
                tasks.create_task(keep_time(recorder, _ask_nobody), name="time"),
                tasks.create_task(self._keep_house(journal, recorder), name="retention"),
            ]
            served.ready_s = self._loop.time()
            self.ready = Parts(journal, recorder, acquisition, stream)
            await self.stopping.wait()
            self.stopping.clear()
            await _end(polling)
            acquisition.stop()
            recorder.event("agent.stopped", "info", "stopped by command")
            await recorder.flush()
            with suppress(TimeoutError):
                async with asyncio.timeout(3.0):
                    await stream.drained()
                    await stream.say_stopped()
            await _end([*others, committing])
        await journal.close()

    async def _note_what_was_kept(self, journal: Journal) -> None:
        assert journal._view is not None
        cursors = await journal._in_reader(journal._view.cursors)  # as they are on the disk
        for name in journal.consumers:
            for lane in Lane:
                held = await journal.lane_range(journal.epoch, lane)
                cursor = cursors.get((name, journal.epoch.number, lane))
                upto = cursor.upto if cursor else 0
                self.kept.append(Kept(self._loop.time(), name, lane.value, held.lowest, upto))

    async def _keep_house(self, journal: Journal, recorder: Recorder) -> None:
        """Pack and purge when the day says so; nobody here waits months for a budget to fill."""
        while True:
            purged = await self.chores.get()
            with suppress(JournalFull, ValueError):
                if purged is None:
                    await journal.pack(Lane.DATA, keep_newest=PACK_KEEPS)
                else:
                    upto = received_upto(journal, journal.epoch, purged)
                    if purged is Lane.DATA:
                        upto = min(upto, recorder.start_needs_behind(journal.epoch))
                    await journal.purge(journal.epoch, purged, upto)
                    await self._note_what_was_kept(journal)

    def _owner(
        self, link: SimulatedLink, acquisition: Acquisition, life: Life
    ) -> PolledLink | SubscribedLink:
        if isinstance(link, PushedLink):
            driver = SubscribedSimulation(link, self.machine.clock, life)
            return SubscribedLink(link.name, driver, link.instruments, acquisition, self.random)
        polled = PolledSimulation(link, self.machine.clock, life)
        return PolledLink(link.name, polled, link.instruments, acquisition, self.random)

    # -- how it ends ---------------------------------------------------------------------------

    def kill(self) -> None:
        """``kill -9`` at whatever await it is."""
        self._end("kill", None)

    def power_loss(self) -> None:
        """The machine loses its power; what was not synced may be gone."""
        self._end("power-loss", None)

    def stop(self) -> None:
        """Stop by command."""
        if self.ready is not None:
            self.lives[-1].stop_s = min(self.lives[-1].stop_s, self._loop.time())
            self.stopping.set()

    def _end(self, how: str, moment: int | None) -> None:
        if self._life.alive and self._running is not None and not self._running.done():
            self._die(how, moment)
            self._running.cancel()

    def _die(self, how: str, moment: int | None) -> None:
        """End a life at a moment of the disk; what it does from here on reaches nobody."""
        self._life.end()
        self.ready = None
        self.stopping.clear()
        self.lives[-1].end, self.lives[-1].end_s = how, self._loop.time()
        if how == "power-loss":
            self.machine.lose_power(moment)
        else:
            self.machine.kill(moment)

    def pack(self) -> None:
        """Let a block of old rows be packed."""
        self.chores.put_nowait(None)

    def purge(self) -> None:
        """Let a prefix that everybody has receipted be forgotten."""
        self.chores.put_nowait(self.random.choice(list(Lane)))

    def _worked(self, executor: Any) -> None:
        """Die within what was just done, if the day says so."""
        moment, self._moment = self._moment, len(self.machine.disk.log)
        journal = self._journal
        if journal is None or executor is not journal._writer or moment >= self._moment:
            return
        for fault, how in (
            ("agent.killed-in-commit", "kill"),
            ("agent.powerless-in-commit", "power-loss"),
        ):
            if self.day.strikes(fault):
                self._end(how, self.random.randint(moment, self._moment))
                return

    def close(self) -> None:
        """Give everything back at the end of the day."""
        self._close_journal()
        self.machine.close()

    def _close_journal(self) -> None:
        """Close what a process held open; what it says of it reaches only its own disk."""
        journal, self._journal = self._journal, None
        for held in (journal._store, journal._view) if journal is not None else ():
            if held is not None:
                with suppress(apsw.Error):
                    held.close()


class Parts(NamedTuple):
    """The agent's parts, to be looked at by those who check it."""

    journal: Journal
    recorder: Recorder
    acquisition: Acquisition
    stream: LosslessStream


async def _ask_nobody() -> ClockState:
    return CLOCK_UNKNOWN


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=3.0)


def _words(error: BaseException) -> str:
    """Return what ended a life: errors that the product raises by name, others in full."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(_words(each) for each in error.exceptions)
    kind = type(error).__name__
    return kind if isinstance(error, EdgeAgentError) else f"{kind}: {error}"

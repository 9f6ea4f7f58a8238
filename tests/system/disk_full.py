"""Runs of a journal on a disk that fills and empties, from a seed: ``python -m`` on a tmpfs.

Shipped acquisition, recorder, journal and retention; a source that never stops, consumers that
come, go and receipt when the seed says so. The judge keeps its own ledger: what the source offered
and what each consumer took, nothing of what the agent believes.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import structlog

from edgeagent.acquire import acquisition
from edgeagent.acquire.acquisition import Acquisition
from edgeagent.journal import (
    Journal,
    Recorder,
    Storing,
    policy,
    recorder,
    retention,
    store,
    survey,
)
from edgeagent.journal.held import CorruptRecord
from edgeagent.journal.retention import Retention
from edgeagent.journal.store import Consumer, Cursor
from edgeagent.model.clock import SystemClock
from edgeagent.model.frame import DataType, Frame, GroupSchema, TagSchema
from edgeagent.model.record import Lane, extend_chain, genesis
from edgeagent.model.settings import JournalSettings
from tests.fakes import instrument_of
from tests.unit.acquire.timeline import Timeline

KB, MB = 1000, 1_000_000
RESERVE = 3 * MB
CHAOS_TICKS = 100
FRAMES_A_TICK = 8
TICK_S = 0.002
RUN_WITHIN_S = 60.0

SCENARIOS = "disk", "receipts", "budget", "reserve", "restart"

CRITICAL = TagSchema("temperature", DataType.FLOAT64, critical=True)
ORDINARY = TagSchema("humidity", DataType.FLOAT64)
TEXT = TagSchema("report", DataType.STRING)
MIXED = GroupSchema("freezer", "mixed", (ORDINARY, CRITICAL, TEXT), 0, "acme", "1.0.0")
PLAIN = GroupSchema("counter", "plain", (ORDINARY, TEXT), 0, "acme", "1.0.0")
BULKY = GroupSchema("tank", "bulky", (CRITICAL, replace(TEXT, critical=True)), 0, "acme", "1.0.0")


def in_proportion() -> None:
    """Bring what takes seconds and megabytes at a site down to the size of a run."""
    retention.LOOK_EVERY_S = 0.02
    retention.LULL_S = 0.005
    retention.REST_S = 0.1
    recorder.RETRY_WHEN_FULL_S = 0.02
    recorder.CHECKPOINT_EVERY_NS = 10**7
    store.LOG_PAGES_MAX = 50


# -- the ledger ----------------------------------------------------------------------------------


@dataclass
class Ledger:
    """What the source offered: of each group, boot time by the number that the values state."""

    offered: dict[GroupSchema, dict[float, int]] = field(
        default_factory=lambda: {MIXED: {}, PLAIN: {}, BULKY: {}}
    )
    alarms: int = 0
    faults: list[str] = field(default_factory=list)


class FakeConsumer:
    """Takes records in order while it is up; receipts what it has when told to."""

    def __init__(self, name: str, journal: Journal, ledger: Ledger) -> None:
        self.name = name
        self.up = True
        self.bytes_at_once = MB
        self.bodies: dict[Lane, list[bytes]] = {lane: [] for lane in Lane}
        self.journal = journal
        self._ledger = ledger
        self._chain = {lane: genesis(journal.epoch.uuid, lane) for lane in Lane}

    async def take(self) -> None:
        """Read on; a record that is gone before it was taken is a fault."""
        for lane in Lane:
            after = len(self.bodies[lane])
            end = self.journal.heads[lane][0]
            if after >= end:
                continue
            try:
                entries = await self.journal.read(
                    self.journal.epoch, lane, after, bytes_max=self.bytes_at_once, upto=end
                )
            except CorruptRecord as damage:
                self._fault(f"{lane} {damage.seq} is damaged")
                continue
            if not entries or entries[0].seq != after + 1:
                self._fault(f"{lane} {after + 1} is gone and was never received")
                self.up = False
                return
            self.bodies[lane] += [entry.body for entry in entries]
            taken = (entry.body for entry in entries)
            self._chain[lane] = extend_chain(self._chain[lane], taken)

    def receipt(self) -> None:
        for lane in Lane:
            cursor = Cursor(len(self.bodies[lane]), self._chain[lane])
            self.journal.set_cursor(self.name, self.journal.epoch, lane, cursor)

    def _fault(self, what: str) -> None:
        self._ledger.faults.append(f"{self.name}: {what}")

    @property
    def behind(self) -> bool:
        return any(len(self.bodies[lane]) < self.journal.heads[lane][0] for lane in Lane)


# -- one run -------------------------------------------------------------------------------------


class Run:
    """One seed: a scenario, its chaos, its healing and its judgement.

    ``disk``: somebody else fills the disk and leaves it; ``receipts``: he stays, and only what is
    received makes space; ``budget``: the disk is large enough; ``reserve``: critical tags alone
    use up the reserve and what may be held in memory; ``restart``: the agent begins anew on a disk
    that has no byte left.
    """

    heal_within_s = 30.0

    def __init__(self, seed: int, directory: Path) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.directory = directory
        self.ledger = Ledger()
        self.scenario = SCENARIOS[seed % len(SCENARIOS)]
        self.number = 0.0
        self.accepted_all = True
        self.storing: set[Storing] = set()
        self.consumers: list[FakeConsumer] = []

    @property
    def settings(self) -> JournalSettings:
        budget = 7 * MB if self.scenario == "budget" else 1000 * MB
        held = MB if self.scenario == "reserve" else 16 * MB
        changes = {"budget": budget, "reserve": RESERVE, "held_bytes": held}
        return JournalSettings().model_copy(update=changes)

    @asynccontextmanager
    async def _at_work(self) -> AsyncIterator[None]:
        clock = SystemClock()
        self.journal = await Journal.open(self.directory, clock)
        if not self.consumers:
            await self._enrol()
        for consumer in self.consumers:
            consumer.journal = self.journal
        self.recorder = Recorder(
            self.journal, clock, commit_within_s=0.002, held_bytes_max=self.settings.held_bytes
        )
        await self.recorder.load()
        self.recorder.set_context({"boot_id": clock.boot_id})
        groups = MIXED, PLAIN, BULKY
        self.acquisition = Acquisition(self.recorder, [instrument_of(group) for group in groups])
        self.retention = Retention(self.recorder, self.settings, self.directory)
        tasks = [asyncio.create_task(self.recorder.run())]
        await self.acquisition.begin()
        tasks.append(asyncio.create_task(self.retention.run()))
        try:
            yield
        finally:
            ended = [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.journal.close()
            for task in ended:
                self.ledger.faults.append(f"a task of the agent ended: {task.exception()!r}")

    async def _enrol(self) -> None:
        names = ["central", "archive", "analysis"][: self.random.randint(2, 3)]
        for name in names:
            await self.journal.save_consumer(Consumer(name, "enrolled", None))
        if self.random.random() < 0.3:
            await self.journal.save_consumer(Consumer(names[1], "suspended", None))
        self.consumers = [FakeConsumer(name, self.journal, self.ledger) for name in names]
        self.consumers[-1].bytes_at_once = 20 * KB  # much slower than the source

    async def run(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(RUN_WITHIN_S):
                await self._lives()
            self._judge()
        except TimeoutError:
            self.ledger.faults.append(f"hangs: {self._said()}")
        return {
            "seed": self.seed,
            "scenario": self.scenario,
            "storing": sorted(storing.name for storing in self.storing),
            "overflowed": not self.accepted_all,
            "purged": self._count("journal.purged"),
            "faults": self.ledger.faults,
        }

    async def _lives(self) -> None:
        async with self._at_work():
            await self._chaos(CHAOS_TICKS)
            if self.scenario != "restart":
                await self._heal()
            else:
                self._fill(2 * RESERVE)  # so that what was offered is not lost with the memory
            await self.recorder.flush()
        if self.scenario == "restart":
            self._fill(0)
            async with self._at_work():
                await self._chaos(CHAOS_TICKS // 10)
                await self._heal()

    async def _chaos(self, ticks: int) -> None:
        for _ in range(ticks):
            for _ in range(FRAMES_A_TICK):
                self._tick(self.random.randint(1, 12))
            self._fault_of_the_tick()
            await self._consume(receipts=0.1)
            await asyncio.sleep(TICK_S)

    # -- what happens ----------------------------------------------------------------------------

    def _tick(self, text_kb: int) -> None:
        """Offer a frame of each group, and sometimes raise an alarm."""
        for group in (MIXED, PLAIN, BULKY):
            bulky = group is BULKY and self.scenario != "reserve"
            if bulky and self.random.random() < 0.9:
                continue
            self.number += 1.0
            text = "x" * (KB * (1 if bulky else text_kb))
            values = tuple(text if tag.name == "report" else self.number for tag in group.tags)
            at = self.recorder.now()
            raw = self.random.randbytes(300) if self.random.random() < 0.5 else None
            self.ledger.offered[group][self.number] = at.boot_ns
            self.accepted_all &= self.recorder.accepting
            self.acquisition.take(Frame(group, values, *at, raw))
            shown, _ = self.acquisition.latest[str(group)]
            if shown.values != values:
                self.ledger.faults.append(f"{group}: the live value is not the last one")
        self.storing.add(self.recorder.storing)
        if self.random.random() < 0.05:
            self.recorder.event("test.alarm", "alarm", str(self.ledger.alarms))
            self.ledger.alarms += 1

    def _fault_of_the_tick(self) -> None:
        if self.scenario != "budget" and self.random.random() < 0.08:
            self._fill(self.random.choice([0, 20 * KB, 200 * KB, 3 * MB]))
        for consumer in self.consumers:
            if self.random.random() < 0.05:
                consumer.up = not consumer.up

    def _fill(self, leave: int) -> None:
        """Have somebody else's file take the disk but for so much; or less than it took."""
        with (self.directory / "filler").open("ab", buffering=0) as filler:
            free = self._free()
            if free < leave:
                filler.truncate(max(0, filler.tell() - (leave - free)))
            while (left := self._free() - leave) > 0:  # the agent takes some at the same time
                try:
                    filler.write(bytes(min(100 * KB, left)))
                except OSError:
                    return

    def _free(self) -> int:
        disk = os.statvfs(self.directory)
        return disk.f_bavail * disk.f_frsize

    async def _consume(self, receipts: float) -> None:
        for consumer in self.consumers:
            if consumer.up:
                await consumer.take()
                if self.random.random() < receipts:
                    consumer.receipt()

    async def _heal(self) -> None:
        """Everybody receipts, and the disk has space again, if only by what is received."""
        for consumer in self.consumers:
            consumer.up, consumer.bytes_at_once = True, MB
        if self.scenario == "receipts":
            self._fill(0)
            room = RESERVE + 2 * MB
            (self.directory / "filler").open("ab").truncate(
                max(0, (self.directory / "filler").stat().st_size - room)
            )
        elif self.scenario != "budget":
            (self.directory / "filler").unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + self.heal_within_s
        calm = 0
        while calm < 3:
            if loop.time() > give_up_s:
                self.ledger.faults.append(f"not healed: {self._said()}")
                break
            self._tick(1)
            await self._consume(receipts=1.0)
            await asyncio.sleep(10 * TICK_S)
            whole = self.recorder.storing is Storing.ALL
            calm = calm + 1 if whole and not self.acquisition.continuity.open_count() else 0
        await self.recorder.flush()
        while any(consumer.up and consumer.behind for consumer in self.consumers):
            await self._consume(receipts=1.0)

    def _said(self) -> str:
        state = self.retention.state()
        keys = ("storing", "used_bytes", "room_bytes", "reserve_bytes", "received_share")
        return f"{ {key: state[key] for key in keys} }, {self._free()} free"

    # -- the judgement ---------------------------------------------------------------------------

    def _decoded(self, lane: Lane) -> list[list[Any]]:
        return [json.loads(body) for body in self.consumers[0].bodies[lane]]

    def _count(self, kind: str) -> int:
        return sum(body[0] == "E" and body[5] == kind for body in self._decoded(Lane.EVENT))

    def _judge(self) -> None:
        self._judge_alarms()
        for consumer in self.consumers:
            if consumer.bodies != self.consumers[0].bodies:
                self.ledger.faults.append(f"{consumer.name} holds other records")
        line = Timeline()
        try:
            line.feed(self.consumers[0].bodies[Lane.DATA])
            still_open = line.finish()
        except AssertionError as error:
            self.ledger.faults.append(f"time line: {error}")
            return
        if still_open:
            self.ledger.faults.append(f"gaps stay open: {still_open}")
        causes = {gap.cause for gap in line.gaps.values()} - {
            "first_value",
            "journal_full",
            "agent_killed",
        }
        if causes:
            self.ledger.faults.append(f"gaps for other causes: {causes}")
        self._judge_values()

    def _judge_alarms(self) -> None:
        events = self._decoded(Lane.EVENT)
        texts = [body[6]["text"] for body in events if body[0] == "E" and body[5] == "test.alarm"]
        if texts != [str(number) for number in range(self.ledger.alarms)]:
            self.ledger.faults.append(f"{len(texts)} of {self.ledger.alarms} alarms, or misplaced")
        kinds = [body[5] for body in events if body[0] == "E"]
        turns = [kind for kind in kinds if kind in ("journal.full", "journal.resumed")]
        if turns[-1:] == ["journal.full"]:
            self.ledger.faults.append("paused, and nobody said that it resumed")

    def _judge_values(self) -> None:
        """Each value that was offered is held, or lies inside a gap that critical tags have not."""
        bodies = self._decoded(Lane.DATA)
        stated = {body[2]: body[5] for body in bodies if body[0] == "S"}
        held: dict[tuple[str, int], set[float]] = {}
        gaps: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for body in bodies:
            if body[0] == "F":
                schema = stated[body[2]]
                present = range(len(schema["tags"])) if body[8] is None else body[8]
                for index, value in zip(present, body[11], strict=True):
                    held.setdefault((schema["instrument"], index), set()).add(value)
            elif body[0] == "G" and body[9] is not None:
                schema = stated[body[2]]
                tags = range(len(schema["tags"])) if body[10] is None else body[10]
                since = -1 if body[8] is None else body[8][1]
                for index in tags:
                    spans = gaps.setdefault((schema["instrument"], index), [])
                    spans.append((since, body[9][1]))
        for group, offered in self.ledger.offered.items():
            for index, tag in enumerate(group.tags):
                if tag.type is not DataType.STRING:
                    key = (group.instrument, index)
                    mine, spans = held.get(key, set()), gaps.get(key, [])
                    self._judge_tag(key, tag.critical, offered, mine, spans)

    def _judge_tag(
        self,
        key: tuple[str, int],
        critical: bool,
        offered: dict[float, int],
        held: set[float],
        gaps: list[tuple[int, int]],
    ) -> None:
        for number in sorted(offered.keys() - held):
            inside = any(since < offered[number] < until for since, until in gaps)
            if not inside:
                self.ledger.faults.append(f"{key}: {number} is neither held nor in a gap")
            if critical and (self.accepted_all or self.scenario != "reserve"):
                self.ledger.faults.append(f"{key}: {number} is critical and not held")
        if held - offered.keys():
            self.ledger.faults.append(f"{key}: holds what was never offered")


# -- mutations -----------------------------------------------------------------------------------


def purge_what_anybody_has() -> None:
    def anybody(journal: Journal, epoch: Any, lane: Lane) -> int:
        cursors = [journal.cursor(name, epoch, lane) for name in journal.consumers]
        return max((cursor.upto if cursor else 0 for cursor in cursors), default=0)

    survey.received_upto = retention.received_upto = anybody
    store.Store._require_receipted = lambda *_: None  # type: ignore[method-assign]


def store_no_critical_tags() -> None:
    acquisition._only = lambda frame, _: replace(  # type: ignore[attr-defined]
        frame, values=(None,) * len(frame.values), present=()
    )


def never_resume() -> None:
    def at_most_reserved(*_: Any, **__: Any) -> tuple[Storing, int]:
        return Storing.RESERVED, 0

    policy._as_the_disk_allows = at_most_reserved
    Run.heal_within_s = 3.0


MUTATIONS = {
    "purge": purge_what_anybody_has,
    "critical": store_no_critical_tags,
    "resume": never_resume,
}


def main(directory: Path, first: int, last: int, *mutations: str) -> None:
    """Run seeds, each on a tmpfs of its own; print a line of JSON for each."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    in_proportion()
    for mutation in mutations:
        MUTATIONS[mutation]()
    for seed in range(first, last):
        size = Random(seed).randint(12, 16)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(directory)]
        subprocess.run(mount, check=True)
        try:
            found = asyncio.run(Run(seed, directory).run())
            sys.stdout.write(f"{json.dumps(found)}\n")
        finally:
            subprocess.run(["umount", str(directory)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])

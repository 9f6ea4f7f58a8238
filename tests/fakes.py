"""Drivers that do what a script says, and a journal that keeps records in lists.

They stand where a link and a disk stand, so that acquisition runs on virtual time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, NamedTuple, TypeVar

from pydantic import Field

from edgeagent.acquire.acquisition import Acquisition
from edgeagent.acquire.polled import PolledLink
from edgeagent.acquire.subscribed import SubscribedLink
from edgeagent.driver import DriverKind, Instrument
from edgeagent.journal import Recorder, Storing
from edgeagent.journal.store import Description, Epoch
from edgeagent.model.clock import Clock
from edgeagent.model.errors import JournalFull
from edgeagent.model.frame import DataType, Frame, GroupSchema, Identity, Loss, TagSchema
from edgeagent.model.profile import Group, IdentityItem, Profile, Strict, Tag
from edgeagent.model.record import (
    Entry,
    Instant,
    Lane,
    Record,
    context_record,
    decode_json,
    encode_json,
    event_record,
    schema_record,
)
from tests.clocks import START_UTC_NS

T = TypeVar("T")


# -- a driver package, without a wire ----------------------------------------------------------


class FakeLinkSettings(Strict):
    """Where a fake link leads."""

    host: str
    port: int = Field(502, ge=1, le=65_535)


class FakeInstrumentSettings(Strict):
    """Which fake instrument it is."""

    address: int = Field(ge=1, le=247)


class FakeTag(Tag):
    """A tag that has a channel."""

    channel: int = Field(ge=0)


class FakeProfile(Profile[Group[FakeTag], IdentityItem]):
    """A whole profile of the fake driver."""


def fake_kind(name: str = "fake") -> DriverKind:
    """Return a driver kind whose links cannot be opened."""

    def clash(one: FakeInstrumentSettings, other: FakeInstrumentSettings) -> str | None:
        return f"has address {one.address}" if one.address == other.address else None

    def refuse(*_: object) -> Any:
        raise AssertionError("a driver was opened")

    return DriverKind(
        name=name,
        link_settings=FakeLinkSettings,
        instrument_settings=FakeInstrumentSettings,
        profile=FakeProfile,
        endpoint=lambda link: f"{link.host}:{link.port}",
        clash=clash,
        open=refuse,
    )


# -- instruments -------------------------------------------------------------------------------


def group_of(
    instrument: str, group: str = "all", *, tags: int = 2, period_ns: int = 10**9
) -> GroupSchema:
    """Return a group of FLOAT64 tags ``t0``, ``t1`` …"""
    schemas = tuple(TagSchema(f"t{index}", DataType.FLOAT64) for index in range(tags))
    return GroupSchema(instrument, group, schemas, period_ns, "acme", "1.0.0")


def instrument_of(*groups: GroupSchema) -> Instrument:
    """Return the instrument that has these groups; it needs no profile to be polled."""
    profile: Any = None
    return Instrument(groups[0].instrument, profile, None, groups)


# -- a journal without a disk ------------------------------------------------------------------


class TapeJournal:
    """The data and event lanes as lists, and what :class:`Acquisition` reads of a journal.

    Nothing here ever waits, so a coroutine that uses it can be run to its end by :func:`at_once`.
    """

    def __init__(self) -> None:
        self.lanes: dict[Lane, list[Record]] = {lane: [] for lane in Lane}
        self.saved: tuple[int, int, bytes] | None = None
        self.epochs = (Epoch(0, "0192a6e4-7b11-7c3a-9d52-3f1c2b4a5d6e", 0, "created"),)
        self.read_at_once = 3
        self.heads = dict.fromkeys(Lane, (0, b""))

    @property
    def epoch(self) -> Epoch:
        return self.epochs[-1]

    def add(self, record: Record) -> None:
        self.lanes[record.lane].append(record)
        self.heads[record.lane] = (len(self.lanes[record.lane]), b"")

    def bodies(self, lane: Lane = Lane.DATA) -> list[bytes]:
        return [record.body(seq) for seq, record in enumerate(self.lanes[lane], 1)]

    async def descriptions(self, lane: Lane, kind: str) -> list[Description]:
        return [
            Description(record.number, record.tail.split(b",", 3)[3][:-1])
            for record in self.lanes[lane]
            if record.kind == kind
        ]

    async def checkpoint(self) -> tuple[int, int, bytes] | None:
        return self.saved

    async def read(self, _: Any, lane: Lane, after: int, *, bytes_max: int) -> list[Entry]:
        bodies = self.bodies(lane)[after : after + self.read_at_once]
        return [Entry(seq, body) for seq, body in enumerate(bodies, after + 1)]


class TapeRecorder:
    """A :class:`edgeagent.journal.Recorder` that is durable at once."""

    def __init__(self, journal: TapeJournal, clock: Clock) -> None:
        self.journal = journal
        self.clock = clock
        self.snapshot: Callable[[], bytes] | None = None
        self.accepting = True
        self.storing = Storing.ALL
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.context: dict[str, Any] = {}
        self._numbers = {
            lane: max((r.number for r in journal.lanes[lane] if r.kind == "C"), default=0)
            for lane in Lane
        }

    def now(self) -> Instant:
        return Instant(self.clock.utc_ns(), self.clock.boot_ns())

    def context_number(self, lane: Lane) -> int:
        return self._numbers[lane]

    def set_context(self, changes: Mapping[str, Any]) -> None:
        changed = {**self.context, **changes}
        if changed != self.context:
            self.context = changed
            for lane in Lane:
                self._numbers[lane] += 1
                self.put(context_record(lane, self._numbers[lane], self.now(), changed))

    def schema_number(self, description: Mapping[str, Any]) -> int:
        known = {d.content: d.number for d in at_once(self.journal.descriptions(Lane.DATA, "S"))}
        number = known.get(encode_json(description))
        if number is None:
            number = len(known) + 1
            self.put(schema_record(number, self.now(), description))
        return number

    def event(self, event_type: str, severity: str, text: str, **facts: Any) -> None:
        self.events.append((event_type, severity, facts))
        number = self._numbers[Lane.EVENT]
        self.put(event_record(number, self.now(), event_type, severity, text, facts))

    def put(self, record: Record) -> None:
        self.journal.add(record)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    work.close()
    raise AssertionError("it waited")


# -- the same on virtual time ------------------------------------------------------------------


class LoopClock:
    """Time as the event loop has it; on a virtual loop, that is how much of the test has passed."""

    boot_id = "00000000-0000-4000-8000-000000000001"

    def utc_ns(self) -> int:
        return START_UTC_NS + self.boot_ns()

    def boot_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)


class SlowJournal(TapeJournal):
    """A journal whose commits take their time, and whose disk can be full."""

    def __init__(self, commit_takes_s: float = 0.002) -> None:
        super().__init__()
        self.commit_takes_s = commit_takes_s
        self.full = False
        self.mended = 0
        self.broken: Exception | None = None

    async def append(self, records: Sequence[Record], **_: Any) -> list[Any]:
        await asyncio.sleep(self.commit_takes_s)
        if self.broken is not None:
            raise self.broken
        if self.full:
            raise JournalFull("no space left")
        for record in records:
            self.add(record)
        return []

    async def move_log(self) -> None:
        """Nothing to move."""


class Step(NamedTuple):
    """What a scripted driver does when it is called: take so long, then fail or answer."""

    takes_s: float = 0.01
    error: Exception | None = None
    answer: Any = None


Plan = Callable[[str, float], Step | None]
"""From ``connect``, ``identify:probe``, ``poll:probe/all``, ``close`` and the time to a step."""


class Scripted:
    """What polled and subscribed scripted drivers have in common: calls that never overlap.

    :ivar calls: when each call began, and which it was
    """

    def __init__(self, instruments: Sequence[Instrument], clock: Clock, plan: Plan | None = None):
        self.instruments = instruments
        self.clock = clock
        self.plan: Plan = plan or (lambda what, at_s: None)
        self.calls: list[tuple[float, str]] = []
        self._busy = False

    def times(self, what: str) -> list[float]:
        """Return when calls of one kind began."""
        return [at_s for at_s, call in self.calls if call.startswith(what)]

    async def _do(self, what: str) -> Any:
        at_s = asyncio.get_running_loop().time()
        assert not self._busy, f"{what} while another call is under way"
        self.calls.append((at_s, what))
        step = self.plan(what, at_s) or Step()
        self._busy = True
        try:
            await asyncio.sleep(step.takes_s)
        finally:
            self._busy = False
        if step.error is not None:
            raise step.error.with_traceback(None) from None
        return step.answer

    async def connect(self) -> tuple[Identity, ...]:
        """Connect; everybody answers unless the plan names those who do."""
        answer = await self._do("connect")
        if answer is not None:
            return answer
        return tuple(Identity(each.name, (("make", "Acme"),)) for each in self.instruments)

    async def close(self) -> None:
        """Close, also while a cancelled call still unwinds."""
        await self._do("close")

    def frame(self, group: GroupSchema, **facts: Any) -> Frame:
        """Return a frame of this moment."""
        values = tuple(float(index) for index in range(len(group.tags)))
        utc_ns, boot_ns = self.clock.utc_ns(), self.clock.boot_ns()
        return Frame(
            group, **{"values": values} | facts, received_utc_ns=utc_ns, received_boot_ns=boot_ns
        )


class ScriptedPolled(Scripted):
    """A link that is asked; a :class:`~edgeagent.driver.PolledDriver`."""

    async def identify(self, instrument: str) -> Identity:
        return await self._do(f"identify:{instrument}") or Identity(instrument, (("make", "Acme"),))

    async def poll(self, group: GroupSchema) -> Frame:
        facts = await self._do(f"poll:{group}") or {}
        return self.frame(group, **facts)


class ScriptedSubscribed(Scripted):
    """A link that pushes what a test puts into ``queue``; an exception is raised by ``next``.

    :ivar acknowledged: frames that were committed, with the time
    :ivar durable: what it was told is stored already
    """

    def __init__(self, instruments: Sequence[Instrument], clock: Clock, plan: Plan | None = None):
        super().__init__(instruments, clock, plan)
        self.queue: asyncio.Queue[Sequence[Frame | Loss] | Exception] = asyncio.Queue()
        self.acknowledged: list[tuple[float, Frame]] = []
        self.on_committed: Callable[[Frame], Awaitable[None]] | None = None
        self.durable: Mapping[GroupSchema, Sequence[int | None]] = {}

    def resume(self, durable: Mapping[GroupSchema, Sequence[int | None]]) -> None:
        self.durable = durable

    async def next(self) -> Sequence[Frame | Loss]:
        pushed = await self.queue.get()
        if isinstance(pushed, Exception):
            raise pushed
        return pushed

    async def committed(self, upto: Frame) -> None:
        self.acknowledged.append((asyncio.get_running_loop().time(), upto))
        if self.on_committed is not None:
            await self.on_committed(upto)


class Bench:
    """Acquisition of some links on virtual time, over a :class:`SlowJournal`.

    Made by :func:`bench_of`, inside a test with a virtual loop.
    """

    def __init__(self, journal: SlowJournal, seed: int = 4711) -> None:
        self.clock = LoopClock()
        self.journal = journal
        self.recorder = Recorder(
            journal,
            self.clock,
            commit_within_s=0.02,
            held_bytes_max=100_000,  # type: ignore[arg-type]
        )
        self.seed = seed
        self.links: dict[str, asyncio.Task[None]] = {}
        self.acquisition: Acquisition

    async def start(self, **drivers: Scripted) -> None:
        """Begin acquisition and run the owner task of each link."""
        await self.recorder.load()
        self.recorder.set_context({"boot_id": self.clock.boot_id})
        instruments = [each for driver in drivers.values() for each in driver.instruments]
        self.acquisition = Acquisition(self.recorder, instruments)
        await self.acquisition.begin()
        for name, driver in drivers.items():
            kind: Any = PolledLink if isinstance(driver, ScriptedPolled) else SubscribedLink
            link = kind(name, driver, driver.instruments, self.acquisition, Random(self.seed))
            self.links[name] = asyncio.create_task(link.run(), name=f"link:{name}")

    def records(self, kinds: str = "FG", lane: Lane = Lane.DATA) -> list[list[Any]]:
        """Return what is durable, decoded."""
        return [
            decode_json(body) for body in self.journal.bodies(lane) if body[2:3].decode() in kinds
        ]

    def gaps(self, group: GroupSchema) -> list[tuple[int, str, bool, str | None]]:
        """Return number, cause, whether it closes, and detail of each gap record of a group."""
        schema = self.acquisition.schema_numbers()[group]
        found = [record for record in self.records("G") if record[2] == schema]
        return [(g[6], g[7], g[9] is not None, g[11]) for g in found]

    def frames(self, group: GroupSchema) -> list[list[Any]]:
        """Return the durable frames of a group."""
        schema = self.acquisition.schema_numbers()[group]
        return [record for record in self.records("F") if record[2] == schema]

    def events(self) -> list[str]:
        """Return the types of the durable events."""
        return [record[5] for record in self.records("E", Lane.EVENT)]


@asynccontextmanager
async def bench_of(journal: SlowJournal | None = None, **drivers: Scripted) -> AsyncIterator[Bench]:
    """Run links over a journal; cancel them at the end, as the agent does."""
    bench = Bench(journal or SlowJournal())
    committing = asyncio.create_task(bench.recorder.run(), name="journal")
    try:
        await bench.start(**drivers)
        yield bench
    finally:
        tasks = [*bench.links.values(), committing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

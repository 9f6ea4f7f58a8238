"""The receiver: MQTT in, one transaction at a time, receipts out.

What arrives while a transaction runs goes into the next one. A message is acknowledged to the
broker, and a receipt sent to the agent, only after the commit that holds it.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from random import Random
from typing import NamedTuple, Protocol, TypeVar

import structlog

from edgeagent.central.messages import (
    Sorted,
    Topics,
    conflict_request,
    replay_request,
    sort_out,
)
from edgeagent.central.store import LaneKey, Note, Outcome, Standing, Store
from edgeagent.model.backoff import backoff_s
from edgeagent.model.clock import Clock
from edgeagent.model.record import ENVELOPE_VERSION, Receipt
from edgeagent.model.settings import BrokerSettings
from edgeagent.mqtt import (
    JSON,
    BrokerRefused,
    BrokerUnreachable,
    Connect,
    Message,
    Session,
    connect,
)

RECEIVE_MAXIMUM = 100
INBOX_MESSAGES_MAX = 1_000
REQUEST_EXPIRY_S = 60
REPEAT_REQUEST_S_MAX = 600.0
SETTLED_AFTER_S = 10.0
SAME_NOTE_EVERY_NS = 60 * 10**9

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """What a receiver is told at its start.

    :ivar site: one site, or ``+`` for all
    :ivar shared: divide the messages with the other receivers of this consumer
    :ivar receipt_every_s: shortest time between two receipts for one lane; the contract allows a
        consumer five a second, so receivers that share the work keep to one each
    :ivar hole_s: how long a hole may stay before it is asked for
    """

    broker: BrokerSettings
    consumer: str = "central"
    site: str = "+"
    topic_root: str = "edge/v1"
    shared: bool = False
    receipt_every_s: float = 0.2
    hole_s: float = 1.0


@dataclass(slots=True)
class Progress:
    """What a receiver has done since its start, for people and scripts.

    :ivar records: stored; ``duplicates`` are batches that were held already
    :ivar prefix: per lane the last record of the contiguous prefix
    """

    connected: bool = False
    sites: set[str] = field(default_factory=set)
    records: int = 0
    duplicates: int = 0
    rejected: int = 0
    conflicts: int = 0
    quarantined: int = 0
    receipts: int = 0
    prefix: dict[LaneKey, int] = field(default_factory=dict)
    holes: Mapping[LaneKey, tuple[int, int]] = field(default_factory=dict)

    def take(self, outcome: Outcome) -> None:
        """Add what a transaction did."""
        counts = outcome.counts
        self.records += counts["records"]
        self.duplicates += counts["duplicate"]
        self.conflicts += counts["conflicts"]
        self.quarantined += counts["quarantined"]
        for standing in outcome.standings:
            self.sites.add(standing.key.site)
            self.prefix[standing.key] = standing.upto


class Receiver:
    """One process's share of a consumer. :meth:`run` it once; it ends when :meth:`stop` is called.

    :param store: used by ``database`` only
    :param database: where transactions run; a thread of this object's own when not stated
    """

    def __init__(
        self,
        settings: ReceiverSettings,
        store: Store,
        client_id: str,
        clock: Clock,
        rng: Random,
        *,
        connect: Connect = connect,
        database: "Database | None" = None,
    ) -> None:
        self.progress = Progress()
        self._settings = settings
        self._store = store
        self._client_id = client_id
        self._rng = rng
        self._topics = Topics(settings.topic_root, settings.site, settings.consumer)
        self._connect = connect
        self._database = database or _DatabaseThread()
        self._stopping = asyncio.Event()
        self._session: Session | None = None
        self._inbox: list[tuple[Message, Session | None]] = []
        self._overflowing = False
        self._arrived = asyncio.Event()
        self._greeting = False
        self._receipts = _Pacer(settings.receipt_every_s, self._send_receipt)
        self._holes = _Holes(settings.hole_s)
        self._proofs = _Repetition(settings.hole_s)
        self._flood_gate = _FloodGate(clock)

    def stop(self) -> None:
        """Ask :meth:`run` to end: what arrived is committed and receipted first."""
        self._stopping.set()
        self._arrived.set()

    async def run(self) -> None:
        """Receive until :meth:`stop`.

        :raises DatabaseFailed: when the database cannot be used any more
        """
        tasks = [
            asyncio.create_task(self._commit_all(), name="commits"),
            asyncio.create_task(self._keep_connected(), name="connection"),
            asyncio.create_task(self._watch_holes(), name="holes"),
        ]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._receipts.flush()
            if self._session is not None:
                await self._session.close()
            self._database.stop()

    # Connection

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        failures, told = 0, ""
        while True:
            began = loop.time()
            try:
                reason = await self._serve_session()
                log.warning("broker.lost", broker=self._settings.broker.url, reason=reason)
                told = ""
            except (BrokerRefused, BrokerUnreachable) as error:
                if str(error) != told:
                    log.warning("broker.unavailable", reason=str(error), retrying=True)
                    told = str(error)
            failures = 1 if loop.time() - began > SETTLED_AFTER_S else failures + 1
            await asyncio.sleep(backoff_s(failures, self._rng.random()))

    async def _serve_session(self) -> str:
        """Connect, serve until the connection ends, return why it ended."""
        settings = self._settings
        session = await self._connect(
            settings.broker,
            self._client_id,
            on_message=self._take_message,
            manual_ack=True,
            receive_maximum=RECEIVE_MAXIMUM,
        )
        try:
            self._session = session
            await session.subscribe(self._topics.filters(shared=settings.shared))
            self.progress.connected = True
            log.info("broker.connected", broker=settings.broker.url, consumer=settings.consumer)
            self._greeting = True
            self._arrived.set()
            return await session.closed()
        finally:
            self.progress.connected = False
            if not self._stopping.is_set():
                self._session = None
                await session.close()

    def _take_message(self, message: Message) -> None:
        if self._stopping.is_set():
            return
        if len(self._inbox) >= INBOX_MESSAGES_MAX:
            # Only a broker without a window (3.1.1, QoS 0) gets here. The agent sends it again.
            if not self._overflowing:
                log.warning("inbox.full", messages=INBOX_MESSAGES_MAX)
            self._overflowing = True
            if self._session is not None:
                self._session.acknowledge(message)
            return
        self._inbox.append((message, self._session))
        self._arrived.set()

    # Database

    async def _commit_all(self) -> None:
        while not self._stopping.is_set() or self._inbox:
            await self._arrived.wait()
            self._arrived.clear()
            inbox, self._inbox, self._overflowing = self._inbox, [], False
            greeting, self._greeting = self._greeting, False
            if not inbox and not greeting:
                continue
            messages = [message for message, _ in inbox]
            done, outcome = await self._database.do(partial(self._commit, messages, greeting))
            for message, session in inbox:
                if session is not None:
                    session.acknowledge(message)
            self._tell(done, outcome)

    def _commit(self, messages: list[Message], greeting: bool) -> tuple[Sorted, Outcome]:
        """Do one transaction; runs in the database's thread."""
        done = sort_out(messages, self._topics)
        done.work.notes = self._flood_gate.pass_on(done.work.notes)
        if greeting:
            site = None if self._settings.site == "+" else self._settings.site
            newest = self._store.newest_lanes(site)
            done.work.asked.update(newest)
            done.work.sites.update(key.site for key in newest)
        return done, self._store.do(done.work)

    def _tell(self, done: Sorted, outcome: Outcome) -> None:
        """Send what follows from a commit."""
        self.progress.take(outcome)
        self.progress.rejected += done.rejected
        for note in outcome.notes:
            emit = log.info if note.severity == "info" else log.warning
            emit(note.type, site=note.site, text=note.text, **_lane_words(note.key))
        now = asyncio.get_running_loop().time()
        for standing in outcome.standings:
            self._receipts.offer(standing)
            self._holes.see(standing, done.highest.get(standing.key), now)
        for conflict in outcome.conflicts:
            if self._session is not None and self._proofs.is_due(conflict.id, now):
                self._request(conflict.key.site, conflict_request(conflict))
        self.progress.holes = self._holes.open

    # Out

    def _send_receipt(self, standing: Standing) -> None:
        key = standing.key
        receipt = Receipt(
            v=ENVELOPE_VERSION,
            consumer=self._settings.consumer,
            incarnation=self._store.incarnation,
            site=key.site,
            epoch=key.epoch,
            lane=key.lane,
            upto=standing.upto,
            chain=standing.chain.hex(),
            quarantined=list(standing.quarantined),
        )
        if self._publish(self._topics.receipt(key.site), receipt.encode()):
            self.progress.receipts += 1

    def _request(self, site: str, payload: bytes) -> None:
        self._publish(self._topics.request(site), payload, REQUEST_EXPIRY_S)

    def _publish(self, topic: str, payload: bytes, expiry_s: int | None = None) -> bool:
        """Send, or not: at the next connection everything is told again."""
        if self._session is None:
            return False
        try:
            self._session.publish(topic, payload, content_type=JSON, message_expiry_s=expiry_s)
        except BrokerUnreachable:
            return False
        return True

    async def _watch_holes(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, self._settings.hole_s / 2))
            if self._session is None:
                continue
            for key, first, last in self._holes.due(loop.time()):
                log.info(
                    "hole.requested", site=key.site, **_lane_words(key), first=first, last=last
                )
                self._request(key.site, replay_request(key, first, last))


class Database(Protocol):
    """Runs one transaction at a time, beside the event loop."""

    async def do(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, or raise what it raises; call it once at a time."""

    def stop(self) -> None:
        """Let it end when it has nothing to do."""


class _DatabaseThread:
    """One thread for one transaction at a time, that a stopping process does not wait for.

    An executor would do the same at twice the cost per transaction.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="database", daemon=True).start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    async def do(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, or raise what it raises; call it once at a time."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        result: list[T] = []
        failed: list[Exception] = []

        def wake() -> None:
            if not done.done():
                done.set_result(None)

        def run() -> None:
            try:
                result.append(work())
            except Exception as error:  # noqa: BLE001 - raised again in the loop
                failed.append(error)
            with suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(wake)

        self._work.put(run)
        await done
        if failed:
            raise failed[0]
        return result[0]

    def stop(self) -> None:
        """Let the thread end when it has nothing to do."""
        self._work.put(None)


class _Pacer:
    """Receipts, at most so often per lane: the first at once, the last one of a burst for sure."""

    def __init__(self, every_s: float, send: Callable[[Standing], None]) -> None:
        self._every_s = every_s
        self._send = send
        self._due: dict[LaneKey, Standing] = {}
        self._sent_s: dict[LaneKey, float] = {}
        self._timers: dict[LaneKey, asyncio.TimerHandle] = {}

    def offer(self, standing: Standing) -> None:
        """Send this as soon as the lane's pace allows, unless a newer one comes first."""
        key = standing.key
        self._due[key] = standing
        if key in self._timers:
            return
        loop = asyncio.get_running_loop()
        at_s = self._sent_s.get(key, float("-inf")) + self._every_s
        if loop.time() >= at_s:
            self._release(key)
        else:
            self._timers[key] = loop.call_at(at_s, self._release, key)

    def _release(self, key: LaneKey) -> None:
        self._timers.pop(key, None)
        self._sent_s[key] = asyncio.get_running_loop().time()
        self._send(self._due.pop(key))

    def flush(self) -> None:
        """Send all that is due, now: the process ends."""
        for key, timer in list(self._timers.items()):
            timer.cancel()
            self._release(key)


@dataclass(slots=True)
class _Hole:
    first: int
    last: int
    due_s: float
    requests: int = 0


class _Due(NamedTuple):
    key: LaneKey
    first: int
    last: int


class _Holes:
    """Ranges that should have come: between batches, or before what a head announces.

    A hole is asked for when nothing has filled any of it for a while, and again ever more rarely.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._holes: dict[LaneKey, _Hole] = {}

    @property
    def open(self) -> Mapping[LaneKey, tuple[int, int]]:
        """The holes that there are now."""
        return {key: (hole.first, hole.last) for key, hole in self._holes.items()}

    def see(self, standing: Standing, highest: int | None, now_s: float) -> None:
        """Take note of a lane's standing, and of the end that its head announces, if any."""
        key, hole = standing.key, self._holes.get(standing.key)
        wanted = standing.wanted
        if wanted is None:
            end = highest if highest is not None else (hole.last if hole else 0)
            wanted = (standing.upto + 1, end) if end > standing.upto else None
        if wanted is None:
            self._holes.pop(key, None)
        elif hole is None or hole.first != wanted[0]:
            self._holes[key] = _Hole(*wanted, now_s + self._patience_s)
        else:
            hole.last = wanted[1]

    def due(self, now_s: float) -> list[_Due]:
        """Return what is to be asked for now."""
        found = []
        for key, hole in self._holes.items():
            if hole.due_s <= now_s:
                hole.requests += 1
                wait_s = self._patience_s * 2**hole.requests
                hole.due_s = now_s + min(REPEAT_REQUEST_S_MAX, wait_s)
                found.append(_Due(key, hole.first, hole.last))
        return found


class _Repetition:
    """Says the same again ever more rarely: an agent may refuse to answer for ever."""

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self._next: dict[int, tuple[float, float]] = {}

    def is_due(self, number: int, now_s: float) -> bool:
        """Return whether to say this now, and take it as said."""
        due_s, wait_s = self._next.get(number, (now_s, self._first_s))
        if now_s < due_s:
            return False
        self._next[number] = (now_s + wait_s, min(REPEAT_REQUEST_S_MAX, wait_s * 2))
        return True


class _FloodGate:
    """Keeps what others can cause without end from filling the event table.

    Of notes of one type and site, one a minute passes, with the number of those held back.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._passed_ns: dict[tuple[str, str], int] = {}
        self._held_back: Counter[tuple[str, str]] = Counter()

    def pass_on(self, notes: list[Note]) -> list[Note]:
        """Return the notes that may be stored."""
        if not notes:
            return notes
        now = self._clock.boot_ns()
        passed = []
        for note in notes:
            kind = (note.site, note.type)
            if now - self._passed_ns.get(kind, -SAME_NOTE_EVERY_NS) < SAME_NOTE_EVERY_NS:
                self._held_back[kind] += 1
                continue
            self._passed_ns[kind] = now
            held_back = self._held_back.pop(kind, 0)
            passed.append(note._replace(facts={**note.facts, "held_back_before": held_back}))
        return passed


def _lane_words(key: LaneKey | None) -> dict[str, str]:
    return {} if key is None else {"epoch": key.epoch, "lane": key.lane.value}

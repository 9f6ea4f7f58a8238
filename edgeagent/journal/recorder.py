"""The one door into the journal, and the rule of when to commit.

Records that belong to one tick are committed together: as soon as the last poll of the tick has
answered, else when the oldest record has waited its budget, and never while the commit before
is still under way. A commit costs one sync, whatever it holds.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from enum import IntEnum
from typing import Any

import structlog

from edgeagent.journal.held import SEQ_MASK, Committed, Consumer, Epoch
from edgeagent.journal.journal import Journal
from edgeagent.model.clock import Clock
from edgeagent.model.errors import JournalFull
from edgeagent.model.recent import Recent
from edgeagent.model.record import (
    Instant,
    Lane,
    Record,
    context_record,
    encode_json,
    event_record,
    schema_record,
)

RETRY_WHEN_FULL_S = 1.0
CHECKPOINT_EVERY_NS = 60 * 10**9

log = structlog.get_logger()


class Storing(IntEnum):
    """What is stored now.

    ``RESERVED`` is what may use the reserve: critical tags, gaps, schemas, contexts and events.
    With ``NOTHING`` records wait in memory.
    """

    NOTHING = 0
    RESERVED = 1
    ALL = 2


class Recorder:
    """Numbers contexts and schemas, gathers records, commits them, tells who listens.

    :ivar snapshot: returns a state that is true after everything that was put so far; it is
        kept in the journal about once a minute, so that a start need not read far back
    :ivar make_way: called when the disk refuses a write; returns whether that made space. Without
        one, what is refused is tried again every second
    :ivar full_since_ns: since when not everything can be stored, ``None`` if it can
    :ivar commits: how long the commits of the last minute took, in seconds
    :ivar committing_since_s: when the commit that is under way began, on the loop's clock
    """

    def __init__(
        self, journal: Journal, clock: Clock, *, commit_within_s: float, held_bytes_max: int
    ) -> None:
        self.journal = journal
        self.clock = clock
        self.snapshot: Callable[[], bytes] | None = None
        self.listeners: list[Callable[[Committed], None]] = []
        self.make_way: Callable[[], bool] | None = None
        self.full_since_ns: int | None = None
        self.commits = Recent()
        self.committing_since_s: float | None = None
        self._commit_within_s = commit_within_s
        self._held_bytes_max = held_bytes_max
        self._pending: list[Record] = []
        self._pending_bytes = 0
        self._consumers: dict[str, Consumer] = {}
        self._notes: dict[str, bytes | None] = {}
        self._polls_due = 0
        self._due: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._context: dict[str, Any] = {}
        self._context_numbers = dict.fromkeys(Lane, 0)
        self._schemas: dict[bytes, int] = {}
        self._checkpoint_ns: int | None = None
        self._checkpoint: tuple[int, int] | None = None
        self._epoch_wanted: str | None = None
        self._mended = journal.mended
        self._storing = Storing.ALL
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = asyncio.Event()

    async def load(self) -> None:
        """Take up the numbers of schemas and contexts where the journal left them."""
        kept = await self.journal.checkpoint()
        self._checkpoint = None if kept is None else kept[:2]
        for lane in Lane:
            contexts = await self.journal.descriptions(lane, "C")
            self._context_numbers[lane] = max((d.number for d in contexts), default=0)
        for known in await self.journal.descriptions(Lane.DATA, "S"):
            self._schemas[known.content] = known.number

    def now(self) -> Instant:
        """Return this moment on both clocks."""
        return Instant(self.clock.utc_ns(), self.clock.boot_ns())

    def context_number(self, lane: Lane) -> int:
        """Return the number of the context that holds now."""
        return self._context_numbers[lane]

    def set_context(self, changes: Mapping[str, Any]) -> None:
        """Change what holds for the records that follow; nothing happens when nothing changes."""
        changed = {**self._context, **changes}
        if changed == self._context:
            return
        self._context = changed
        at = self.now()
        for lane in Lane:
            self._context_numbers[lane] += 1
            self.put(context_record(lane, self._context_numbers[lane], at, changed))

    @property
    def context(self) -> Mapping[str, Any]:
        """What holds now."""
        return self._context

    def schema_number(self, description: Mapping[str, Any]) -> int:
        """Return the number of a schema, recording it when it is new."""
        content = encode_json(description)
        number = self._schemas.get(content)
        if number is None:
            number = self._schemas[content] = max(self._schemas.values(), default=0) + 1
            self.put(schema_record(number, self.now(), description))
        return number

    def event(self, event_type: str, severity: str, text: str, **facts: Any) -> None:
        """Record an event; facts that are ``None`` are left out."""
        stated = {name: fact for name, fact in facts.items() if fact is not None}
        context = self._context_numbers[Lane.EVENT]
        self.put(event_record(context, self.now(), event_type, severity, text, stated))
        write = log.info if severity == "info" else log.warning
        write(event_type, text=text, **stated)

    @property
    def storing(self) -> Storing:
        """What is stored now."""
        return self._storing

    def store(self, storing: Storing, why: str) -> None:
        """Store more or less from now on; that ordinary storage pauses or resumes is an event."""
        before, self._storing = self._storing, storing
        if storing is Storing.NOTHING:
            self._writable.clear()
        else:
            self._writable.set()
        if before is Storing.ALL > storing and self.full_since_ns is None:
            self.full_since_ns = self.clock.utc_ns()
            self.event("journal.full", "alarm", why)
        elif storing is Storing.NOTHING < before:
            log.error("journal.exhausted", text=why)
        elif storing is Storing.ALL > before:
            self._resumed(why)

    def _resumed(self, why: str) -> None:
        since, self.full_since_ns = self.full_since_ns, None
        self.event("journal.resumed", "alarm", why, since_utc_ns=since)

    @property
    def accepting(self) -> bool:
        """Whether frames can be taken: false while too much waits for a disk that refuses."""
        return self._pending_bytes < self._held_bytes_max

    def put(self, record: Record) -> None:
        """Take a record. It is acquired when it is committed, not before."""
        self._pending.append(record)
        self._pending_bytes += len(record.tail) + len(record.evidence or b"")
        if self._due is None:
            loop = asyncio.get_running_loop()
            self._due = loop.call_later(self._commit_within_s, self._wake.set)

    def change_consumer(self, consumer: Consumer) -> None:
        """Change a consumer's state in one commit with the records that were put since the last."""
        self._consumers[consumer.name] = consumer

    def note(self, name: str, content: bytes | None) -> None:
        """Keep a state under a name, or let it go; in one commit as :meth:`change_consumer`."""
        self._notes[name] = content

    def poll_started(self) -> None:
        """One more answer of this tick is on its way."""
        self._polls_due += 1

    def poll_ended(self) -> None:
        """An answer of this tick has come, or will not come."""
        self._polls_due -= 1
        if self._polls_due == 0 and self._pending:
            self._wake.set()

    async def committed(self) -> None:
        """Wait until everything that was put so far is durable, without hurrying it."""
        if self._pending:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(future)
            await future
        else:
            await self.flush()

    async def flush(self) -> None:
        """Wait until everything that was put so far is durable, at once."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        self._wake.set()
        await future

    async def prove_progress(self) -> None:
        """Return once the commit loop and the journal's threads have answered.

        While a full disk is waited out only the reader answers: a restart would not make space.
        """
        flushing = asyncio.create_task(self.flush(), name="progress")
        try:
            while not flushing.done() and self.full_since_ns is None:
                await asyncio.wait([flushing], timeout=RETRY_WHEN_FULL_S)
        finally:
            flushing.cancel()
        await self.journal.file_bytes()

    async def lull(self, within_s: float) -> None:
        """Wait for the end of the next commit, or for so long without one.

        Work on the file that is short and begins now keeps hardly anybody waiting.
        """
        self._ended.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._ended.wait()

    async def new_epoch(self, cause: str) -> None:
        """Start a new epoch behind everything that was put so far."""
        self._epoch_wanted = cause
        await self.flush()

    async def run(self) -> None:
        """Commit until cancelled.

        :raises JournalFailed: when the journal cannot be mended
        """
        while True:
            await self._wake.wait()
            await self.commit_pending()
            await self.journal.move_log()

    async def commit_pending(self) -> None:
        """Commit what waits now, waiting out a full disk."""
        self._wake.clear()
        if self._due is not None:
            self._due.cancel()
            self._due = None
        records, self._pending = self._pending, []
        size, waiters = self._pending_bytes, self._waiters
        self._waiters = []
        epoch_wanted, self._epoch_wanted = self._epoch_wanted, None
        checkpoint = self._checkpoint_due()
        consumers, self._consumers = self._consumers, {}
        notes, self._notes = self._notes, {}
        if records or checkpoint or consumers or notes:
            loop = asyncio.get_running_loop()
            began_s = self.committing_since_s = loop.time()
            await self._write(
                lambda: self.journal.append(
                    records, checkpoint=checkpoint, consumers=consumers, notes=notes
                )
            )
            self.commits.add(loop.time(), loop.time() - began_s)
            self.committing_since_s = None
            if checkpoint is not None:
                last, _ = self.journal.heads[Lane.DATA]
                self._checkpoint = (self.journal.epoch.number, last)
        self._pending_bytes -= size
        if epoch_wanted is not None:
            await self._open_epoch(epoch_wanted)
        self._ended.set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def start_needs_behind(self, epoch: Epoch) -> int:
        """Return the last data record of an epoch that a start need not read back."""
        if self.snapshot is None:
            return SEQ_MASK
        number, last = self._checkpoint or (epoch.number, 0)
        return SEQ_MASK if epoch.number < number else last if epoch.number == number else 0

    def _checkpoint_due(self) -> bytes | None:
        now = self.clock.boot_ns()
        kept = self._checkpoint_ns
        if self.snapshot is None or (kept is not None and now - kept < CHECKPOINT_EVERY_NS):
            return None
        self._checkpoint_ns = now
        return self.snapshot()

    async def _open_epoch(self, cause: str) -> None:
        previous = self.journal.epoch.uuid
        await self._write(lambda: self.journal.open_epoch(cause))
        self.event("epoch.opened", "alarm", f"a new epoch begins: {cause}", previous=previous)

    async def _write(self, write: Callable[[], Awaitable[list[Committed]]]) -> None:
        """Write, waiting out a full disk; tell who listens, and record what was in the way."""
        committed: list[Committed] | None = None
        while committed is None:
            await self._writable.wait()
            try:
                committed = await write()
            except JournalFull as error:
                if self.make_way is not None and self.make_way():
                    continue
                if self.full_since_ns is None:
                    self.full_since_ns = self.clock.utc_ns()
                    log.error("journal.full", error=str(error), mend="free space on this disk")
                await asyncio.sleep(RETRY_WHEN_FULL_S)
        for part in committed:
            for listener in self.listeners:
                listener(part)
        if self.full_since_ns is not None and self._storing is Storing.ALL:
            self._resumed("the disk was full")
        if self.journal.mended != self._mended:
            self._mended = self.journal.mended
            self.event(
                "journal.reopened", "alarm", "a write failed; the file was opened again and proved"
            )

"""What delivery knows beyond one connection: cursors, tails, who was heard, how it does."""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeagent.journal import Committed, Epoch, Journal, Recorder
from edgeagent.journal.store import Cursor
from edgeagent.model.record import Lane, genesis
from edgeagent.model.settings import StreamSettings
from edgeagent.publish.receipts import ReceiptDesk
from edgeagent.publish.stream import Stream, Tail
from edgeagent.publish.topics import Topics

HEADS_UNTIL_SILENT = 3
"""Periods of the head after which the other end counts as silent, on either side: one may be lost
and one late without an alarm. Consumers answer every head."""

BriefHealth = Callable[[], Awaitable[Mapping[str, Any]]]
"""Returns how the agent does, as a head states it."""


@dataclass(slots=True)
class DeliveryStatus:
    """How delivery does; read by status and health. ``state`` is connecting, up or down."""

    state: str = "connecting"
    cause: str | None = None
    since_utc_ns: int = 0
    connects: int = 0
    messages: int = 0
    records: int = 0
    receipts: int = 0
    refused: int = 0
    catching_up: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Heard:
    """What this process has heard of one consumer.

    :ivar at_s: when its last receipt or request came, on the loop's clock
    :ivar moved_s: when its cursor last moved, or something was sent to it alone, by epoch number
        and lane
    :ivar replaced_ns: when its database was last replaced, on the boot-time clock
    """

    at_s: float = float("-inf")
    moved_s: dict[tuple[int, Lane], float] = field(default_factory=dict)
    replaced_ns: int | None = None
    quarantined: set[tuple[str, Lane, int]] = field(default_factory=set)


class Unreceipted:
    """What was sent and not yet receipted."""

    def __init__(self) -> None:
        self._sent: deque[tuple[int, int, int, float]] = deque()
        self.bytes = 0

    def sent(self, first: int, last: int, size: int, now_s: float) -> None:
        """Take note of one message."""
        self._sent.append((first, last, size, now_s))
        self.bytes += size

    def receipted(self, upto: int) -> bool:
        """Let go what has been receipted; return whether that was anything."""
        before = self.bytes
        while self._sent and self._sent[0][1] <= upto:
            self.bytes -= self._sent.popleft()[2]
        return self.bytes < before

    def clear(self) -> None:
        """Wait for nobody."""
        self._sent.clear()
        self.bytes = 0

    def waiting_since_s(self, upto: int) -> float:
        """Return since when a consumer at ``upto`` has been owed a receipt.

        Minus infinity when what it lacks was not sent on this connection, or was let go.
        """
        at = bisect_right(self._sent, upto, key=lambda sent: sent[1])
        if at == len(self._sent) or self._sent[at][0] > upto + 1:
            return float("-inf")
        return self._sent[at][3]


class Delivery:
    """The state of the lossless stream that outlives a connection.

    :ivar brief_health: returns what each head says of the agent's health
    :ivar stopped: whether the agent was stopped by command and says so from here on
    """

    def __init__(
        self, site: str, topic_root: str, settings: StreamSettings, recorder: Recorder
    ) -> None:
        self.site = site
        self.topics = Topics.of(topic_root, site)
        self.settings = settings
        self.recorder = recorder
        self.journal: Journal = recorder.journal
        self.desk = ReceiptDesk(self.journal, site)
        self.status = DeliveryStatus(since_utc_ns=recorder.clock.utc_ns())
        self.heard: dict[str, Heard] = {}
        self.tails = {lane: Tail() for lane in Lane}
        self.committed = {lane: asyncio.Event() for lane in Lane}
        self.moved = asyncio.Event()
        self.damaged: set[tuple[str, Lane, int]] = set()
        self.brief_health: BriefHealth | None = None
        self.stopped = False
        self._stood: dict[tuple[str, Lane], Cursor] = {}
        recorder.listeners.append(self._on_commit)

    def _on_commit(self, committed: Committed) -> None:
        self.tails[committed.lane].add(committed)
        self.committed[committed.lane].set()

    def cursor(self, consumer: str, epoch: Epoch, lane: Lane) -> Cursor:
        """Return how far a consumer has receipted; the beginning when it has not."""
        found = self.journal.cursor(consumer, epoch, lane)
        return found or Cursor(0, genesis(epoch.uuid, lane))

    def live_stream(self, lane: Lane) -> Stream:
        """Return the live stream of a new connection: it goes on behind the best cursor.

        While nobody listens it goes on where it stood: nothing is repeated to nobody.
        """
        epoch = self.journal.epoch
        active = self.journal.active_consumers()
        starts = [self.cursor(consumer.name, epoch, lane) for consumer in active]
        stood = self._stood.get((epoch.uuid, lane))
        if stood is not None and not self.listeners(lane):
            starts.append(stood)
        start = max(starts, default=Cursor(*self.journal.heads[lane]))
        return Stream(self.journal, self.site, epoch, lane, *start, tail=self.tails[lane])

    def leave(self, stream: Stream) -> None:
        """Remember where a live stream stood."""
        self._stood[stream.epoch.uuid, stream.lane] = Cursor(stream.after, stream.chain)

    def hear(self, consumer: str) -> Heard:
        """Take note that a consumer speaks."""
        heard = self.heard.setdefault(consumer, Heard())
        heard.at_s = asyncio.get_running_loop().time()
        return heard

    def listens(self, consumer: str) -> bool:
        """Return whether a consumer was heard lately: it answers every head."""
        heard = self.heard.get(consumer)
        patience_s = HEADS_UNTIL_SILENT * self.settings.head_every / 1e9
        return heard is not None and asyncio.get_running_loop().time() - heard.at_s < patience_s

    def listeners(self, lane: Lane) -> list[int]:
        """Return where the listening consumers stand in the current epoch."""
        epoch = self.journal.epoch
        return [
            self.cursor(consumer.name, epoch, lane).upto
            for consumer in self.journal.active_consumers()
            if self.listens(consumer.name)
        ]

    def all_receipted(self) -> bool:
        """Return whether every listening consumer holds everything of the current epoch."""
        heads = self.journal.heads
        return all(upto >= heads[lane][0] for lane in Lane for upto in self.listeners(lane))

    async def wait_moved(self, timeout_s: float) -> bool:
        """Wait until any cursor moves; return whether one did in time."""
        self.moved.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self.moved.wait()
        except TimeoutError:
            return False
        return True

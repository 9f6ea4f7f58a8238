"""Catch-ups: what one consumer missed, sent to it alone while the live stream goes on."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from edgeagent.journal import Epoch
from edgeagent.journal.store import Consumer, Cursor
from edgeagent.model.record import Batch, Lane
from edgeagent.publish.delivery import Delivery, Unreceipted
from edgeagent.publish.live import UNRECEIPTED_BYTES_MAX, LiveLane
from edgeagent.publish.outlet import Outlet
from edgeagent.publish.stream import Stream

REPLAYS_WAITING_MAX = 100


class CatchUps:
    """Starts a catch-up when a listening consumer stands behind what will not come again.

    Replays are what a consumer asks for itself: sent as asked, one after the other.
    """

    def __init__(
        self,
        delivery: Delivery,
        outlet: Outlet,
        live: dict[Lane, LiveLane],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._delivery = delivery
        self._outlet = outlet
        self._live = live
        self._tasks = tasks
        self._running: dict[tuple[str, int, Lane], asyncio.Task[None]] = {}
        self._replays: dict[str, deque[Stream]] = {}
        self._ends: dict[tuple[int, Lane], int] = {}

    async def serve(self, consumer: Consumer) -> None:
        """Serve one consumer, in every epoch and lane in which it is owed something."""
        if consumer.state != "enrolled" or not self._delivery.listens(consumer.name):
            return
        for epoch in self._delivery.journal.epochs:
            for lane in Lane:
                cursor = self._delivery.cursor(consumer.name, epoch, lane)
                end = await self._end_of(epoch, lane)
                if cursor.upto < end and self._is_owed(consumer.name, epoch, lane, cursor.upto):
                    self._start(consumer.name, epoch, lane, cursor, end)

    async def _end_of(self, epoch: Epoch, lane: Lane) -> int:
        """Return up to where the live stream will not come again on this connection."""
        if epoch == self._delivery.journal.epoch:
            return self._live[lane].stream.after
        key = (epoch.number, lane)
        if key not in self._ends:
            held = await self._delivery.journal.lane_range(epoch, lane)
            self._ends[key] = held.highest if held.lowest <= held.highest else 0
        return self._ends[key]

    def _is_owed(self, consumer: str, epoch: Epoch, lane: Lane, upto: int) -> bool:
        """Return whether its receipt is overdue, and not because it is just being served."""
        now = asyncio.get_running_loop().time()
        patience_s = self._delivery.settings.resend_after / 1e9
        since_s = self._delivery.heard[consumer].moved_s.get((epoch.number, lane), float("-inf"))
        if epoch == self._delivery.journal.epoch:
            since_s = max(since_s, self._live[lane].unreceipted.waiting_since_s(upto))
        return now - since_s >= patience_s

    def _start(self, consumer: str, epoch: Epoch, lane: Lane, after: Cursor, end: int) -> None:
        """Send ``(after, end]`` to one consumer, unless it is being served already."""
        key = (consumer, epoch.number, lane)
        running = self._running.get(key)
        if running is not None and not running.done():
            return
        sending = self._catch_up(consumer, self._stream(epoch, lane, after, end))
        self._running[key] = self._tasks.create_task(sending, name=f"publish:to:{consumer}:{lane}")

    def replay(self, consumer: str, epoch: Epoch, lane: Lane, after: Cursor, end: int) -> bool:
        """Send ``(after, end]`` when the replays asked for before are sent; false if too many."""
        waiting = self._replays.setdefault(consumer, deque())
        if len(waiting) >= REPLAYS_WAITING_MAX:
            return False
        waiting.append(self._stream(epoch, lane, after, end))
        if len(waiting) == 1:
            replaying = self._replay_all(consumer, waiting)
            self._tasks.create_task(replaying, name=f"publish:replay:{consumer}")
        return True

    def _stream(self, epoch: Epoch, lane: Lane, after: Cursor, end: int) -> Stream:
        delivery = self._delivery
        return Stream(delivery.journal, delivery.site, epoch, lane, *after, end=end)

    @contextmanager
    def _shown(self, consumer: str, lane: Lane) -> Iterator[None]:
        catching_up, what = self._delivery.status.catching_up, f"{consumer}/{lane}"
        catching_up.append(what)
        try:
            yield
        finally:
            catching_up.remove(what)

    async def _catch_up(self, consumer: str, stream: Stream) -> None:
        """Send what is owed: first a batch, then twice as much each time that the cursor moves.

        It ends when the cursor stands still, to begin again from there: a message may be lost.
        So a consumer that does not commit is sent a batch from time to time, not its backlog.
        """
        ahead, ahead_max = Unreceipted(), self._delivery.settings.batch_bytes
        with self._shown(consumer, stream.lane):
            while batch := await self._next(stream):
                await self._send(consumer, batch, stream, ahead)
                while ahead.bytes >= ahead_max:
                    cursor = await self._moved(consumer, stream)
                    if cursor is None:
                        return
                    ahead_max = min(2 * ahead_max, UNRECEIPTED_BYTES_MAX)
                    ahead.receipted(cursor.upto)
                    stream.go_on_behind(cursor)

    async def _replay_all(self, consumer: str, waiting: deque[Stream]) -> None:
        while waiting:
            with self._shown(consumer, waiting[0].lane):
                await self._replay(consumer, waiting[0])
            waiting.popleft()

    async def _replay(self, consumer: str, stream: Stream) -> None:
        """Send all of a range; where no cursor tells how it is taken, not too fast."""
        delivery, ahead = self._delivery, Unreceipted()
        while batch := await self._next(stream):
            await self._send(consumer, batch, stream, ahead)
            ahead.receipted(delivery.cursor(consumer, stream.epoch, stream.lane).upto)
            if ahead.bytes > UNRECEIPTED_BYTES_MAX:
                await self._moved(consumer, stream)
                ahead.clear()
                if not delivery.listens(consumer):
                    return

    async def _next(self, stream: Stream) -> Batch | None:
        return await stream.next_batch(self._delivery.settings.batch_bytes)

    async def _send(self, consumer: str, batch: Batch, stream: Stream, ahead: Unreceipted) -> None:
        delivery = self._delivery
        topic = delivery.topics.to(consumer, stream.lane)
        size = await self._outlet.send(topic, batch, self._outlet.aside)
        now = asyncio.get_running_loop().time()
        ahead.sent(batch.first, batch.last, size, now)
        delivery.heard[consumer].moved_s[stream.epoch.number, stream.lane] = now

    async def _moved(self, consumer: str, stream: Stream) -> Cursor | None:
        """Wait until a cursor moves; ``None`` when it stands still for too long."""
        delivery, loop = self._delivery, asyncio.get_running_loop()
        before = delivery.cursor(consumer, stream.epoch, stream.lane)
        give_up_s = loop.time() + delivery.settings.resend_after / 1e9
        while (left_s := give_up_s - loop.time()) > 0:
            await delivery.wait_moved(left_s)
            cursor = delivery.cursor(consumer, stream.epoch, stream.lane)
            if cursor.upto > before.upto:
                return cursor
        return None

"""Catch-ups: what one consumer missed, sent to it alone while the live stream goes on."""

import asyncio

from edgeagent.journal import Epoch
from edgeagent.journal.store import Consumer, Cursor
from edgeagent.model.record import Lane
from edgeagent.publish.delivery import Delivery, Unreceipted
from edgeagent.publish.live import UNRECEIPTED_BYTES_MAX, LiveLane
from edgeagent.publish.outlet import Outlet
from edgeagent.publish.stream import Stream


class CatchUps:
    """Starts a catch-up when a listening consumer stands behind what will not come again."""

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
                    self.start(consumer.name, epoch, lane, cursor, end)

    async def _end_of(self, epoch: Epoch, lane: Lane) -> int:
        """Return up to where the live stream will not come again on this connection."""
        if epoch == self._delivery.journal.epoch:
            return self._live[lane].stream.after
        key = (epoch.number, lane)
        if key not in self._ends:
            self._ends[key] = (await self._delivery.journal.lane_range(epoch, lane)).highest
        return self._ends[key]

    def _is_owed(self, consumer: str, epoch: Epoch, lane: Lane, upto: int) -> bool:
        """Return whether its receipt is overdue, and not because it is just being served."""
        now = asyncio.get_running_loop().time()
        patience_s = self._delivery.settings.resend_after / 1e9
        since_s = self._delivery.heard[consumer].moved_s.get((epoch.number, lane), float("-inf"))
        if epoch == self._delivery.journal.epoch:
            since_s = max(since_s, self._live[lane].unreceipted.waiting_since_s(upto))
        return now - since_s >= patience_s

    def start(self, consumer: str, epoch: Epoch, lane: Lane, after: Cursor, end: int) -> None:
        """Send ``(after, end]`` to one consumer, unless something is being sent to it already."""
        key = (consumer, epoch.number, lane)
        running = self._running.get(key)
        if running is not None and not running.done():
            return
        stream = Stream(self._delivery.journal, self._delivery.site, epoch, lane, *after, end=end)
        name = f"publish:to:{consumer}:{lane}"
        self._running[key] = self._tasks.create_task(self._send(consumer, stream), name=name)

    async def _send(self, consumer: str, stream: Stream) -> None:
        delivery = self._delivery
        what = f"{consumer}/{stream.lane}"
        delivery.status.catching_up.append(what)
        try:
            await self._send_all(consumer, stream)
        finally:
            delivery.status.catching_up.remove(what)

    async def _send_all(self, consumer: str, stream: Stream) -> None:
        delivery, loop = self._delivery, asyncio.get_running_loop()
        topic = delivery.topics.to(consumer, stream.lane)
        heard = delivery.heard[consumer]
        ahead = Unreceipted()
        while batch := await stream.next_batch(delivery.settings.batch_bytes):
            size = await self._outlet.send(topic, batch, self._outlet.aside)
            ahead.sent(batch.first, batch.last, size, loop.time())
            heard.moved_s[stream.epoch.number, stream.lane] = loop.time()
            while ahead.bytes > UNRECEIPTED_BYTES_MAX:
                ahead.receipted(delivery.cursor(consumer, stream.epoch, stream.lane).upto)
                if ahead.bytes > UNRECEIPTED_BYTES_MAX:
                    await delivery.wait_moved(delivery.settings.resend_after / 1e9)
                    if not delivery.listens(consumer):
                        return

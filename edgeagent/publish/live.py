"""The live stream of one lane: each commit goes out as it ends, in order."""

import asyncio

from edgeagent.model.record import Lane
from edgeagent.publish.delivery import Delivery, Unreceipted
from edgeagent.publish.outlet import Outlet
from edgeagent.publish.stream import Stream

UNRECEIPTED_BYTES_MAX = 32 << 20
"""Most bytes ahead of the slowest listening consumer: a broker may drop what it must queue."""


class LiveLane:
    """Sends one lane to everybody."""

    def __init__(self, delivery: Delivery, outlet: Outlet, lane: Lane) -> None:
        self._delivery = delivery
        self._outlet = outlet
        self._lane = lane
        self.stream: Stream = delivery.live_stream(lane)
        self.unreceipted = Unreceipted()

    async def run(self) -> None:
        """Send for as long as the connection lasts."""
        delivery, stream = self._delivery, self.stream
        loop = asyncio.get_running_loop()
        topic, committed = delivery.topics.live(self._lane), delivery.committed[self._lane]
        window, bytes_max = self._outlet.windows[self._lane], delivery.settings.batch_bytes
        while True:
            committed.clear()
            batch = await stream.next_batch(bytes_max)
            if batch is None:
                await committed.wait()
                continue
            size = await self._outlet.send(topic, batch, window)
            self.unreceipted.sent(batch.first, batch.last, size, loop.time())
            while self.unreceipted.bytes > UNRECEIPTED_BYTES_MAX:
                await self._wait_for_receipts()

    async def _wait_for_receipts(self) -> None:
        """Let listening consumers keep up; those that are silent are not waited for."""
        slowest = self._delivery.slowest_listener(self._lane)
        if slowest is None:
            self.unreceipted.clear()
            return
        self.unreceipted.receipted(slowest)
        if self.unreceipted.bytes > UNRECEIPTED_BYTES_MAX:
            patience_s = self._delivery.settings.resend_after / 1e9
            if not await self._delivery.wait_moved(patience_s):
                self.unreceipted.clear()

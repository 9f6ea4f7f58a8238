"""The live stream of one lane: each commit goes out as it ends, in order."""

import asyncio

from edgeagent.model.record import Lane
from edgeagent.publish.delivery import Delivery, Unreceipted
from edgeagent.publish.outlet import Outlet
from edgeagent.publish.stream import Stream

UNRECEIPTED_BYTES_MAX = 32 << 20
"""Most bytes ahead of what a consumer has receipted: a broker may drop what it must queue."""


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
            await self._wait_for_receipts()

    async def _wait_for_receipts(self) -> None:
        """Stay in sight of the listening consumer that is farthest.

        Those behind it have catch-ups of their own; one that stands still is not waited for.
        """
        delivery, loop = self._delivery, asyncio.get_running_loop()
        patience_s = delivery.settings.resend_after / 1e9
        give_up_s = loop.time() + patience_s
        while self.unreceipted.bytes > UNRECEIPTED_BYTES_MAX:
            farthest = max(delivery.listeners(self._lane), default=None)
            left_s = give_up_s - loop.time()
            if farthest is None or left_s <= 0:
                self.unreceipted.clear()
            elif self.unreceipted.receipted(farthest):
                give_up_s = loop.time() + patience_s
            else:
                await delivery.wait_moved(left_s)

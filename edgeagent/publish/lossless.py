"""The lossless stream: batches out in strict order, receipts in, nothing forgotten between.

PUBACKs move the send window; receipts move the cursors. After a reconnect the live stream goes
on behind the most advanced cursor. A consumer that is behind it is served on its own topic, from
its own cursor, as soon as it makes itself heard.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from random import Random

import apsw
import structlog

from edgeagent.journal import Recorder
from edgeagent.journal.store import CorruptRecord
from edgeagent.model.backoff import backoff_s
from edgeagent.model.record import Lane
from edgeagent.model.settings import BrokerSettings, StreamSettings
from edgeagent.mqtt import BrokerRefused, BrokerUnreachable, Connect, Session, connect
from edgeagent.publish.announce import Announcer
from edgeagent.publish.catch_up import CatchUps
from edgeagent.publish.delivery import BriefHealth, Delivery, DeliveryStatus
from edgeagent.publish.incoming import Incoming, RefusalLog
from edgeagent.publish.live import LiveLane
from edgeagent.publish.outlet import Outlet

NEW_EPOCH_EVERY_NS = 60 * 10**9
SETTLED_AFTER_S = 1.0

_ENDINGS = (BrokerUnreachable, BrokerRefused, apsw.Error, CorruptRecord)

log = structlog.get_logger()


class LosslessStream:
    """The agent's side of ``docs/mqtt.md``: one owner task, one connection at a time."""

    def __init__(
        self,
        site: str,
        topic_root: str,
        broker: BrokerSettings,
        settings: StreamSettings,
        recorder: Recorder,
        random: Random,
        *,
        connect: Connect = connect,
    ) -> None:
        self._connect = connect
        self._site = site
        self._broker = broker
        self._recorder = recorder
        self._random = random
        self._delivery = Delivery(site, topic_root, settings, recorder)
        self._announcer: Announcer | None = None
        self._refusals = RefusalLog(self._delivery)
        self._epoch_opened_ns = -NEW_EPOCH_EVERY_NS
        self._changed = asyncio.Event()

    @property
    def status(self) -> DeliveryStatus:
        """How delivery does."""
        return self._delivery.status

    def listens(self, consumer: str) -> bool:
        """Return whether a consumer was heard lately; see :meth:`Delivery.listens`."""
        return self._delivery.listens(consumer)

    def report_health(self, brief: BriefHealth) -> None:
        """From here on each head carries what this returns."""
        self._delivery.brief_health = brief

    def change(self, broker: BrokerSettings, settings: StreamSettings) -> None:
        """Deliver with other settings, or with other files behind them, on a new connection."""
        self._broker = broker
        self._delivery.settings = settings
        self._changed.set()

    async def say_stopped(self) -> None:
        """Say in a last head that the agent was stopped by command, if the broker is there."""
        self._delivery.stopped = True
        if self._announcer is not None:
            with suppress(*_ENDINGS):
                await self._announcer.announce()

    async def run(self) -> None:
        """Deliver for ever; a broker that is away or refuses is tried again."""
        attempt, wait_s, loop = 0, 0.0, asyncio.get_running_loop()
        while True:
            connects, began_s = self.status.connects, loop.time()
            try:
                await _in_a_task_of_its_own(self._connect_and_serve())
            except (BrokerUnreachable, BrokerRefused) as error:
                self._change("down", str(error))
            except (apsw.Error, CorruptRecord) as error:  # old pages: acquisition goes on
                mend = "edgeagent journal verify says what is lost"
                self._change("down", f"the journal cannot be read: {error}; {mend}")
            lasted = loop.time() - began_s > max(SETTLED_AFTER_S, wait_s)
            attempt = 1 if self.status.connects > connects and lasted else attempt + 1
            wait_s = backoff_s(attempt, self._random.random())
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
                    attempt = 0
            self._changed.clear()

    async def drained(self) -> None:
        """Wait until the listening consumers have receipted everything, if the broker is there."""
        while self.status.state == "up" and not self._delivery.all_receipted():
            await self._delivery.wait_moved(1.0)

    def _change(self, state: str, cause: str | None) -> None:
        status = self.status
        if (status.state, status.cause) != (state, cause):
            write = log.info if state == "up" else log.warning
            write(f"broker.{state}", url=self._broker.url, cause=cause)
        if status.state != state:
            status.since_utc_ns = self._recorder.clock.utc_ns()
        status.state, status.cause = state, cause

    async def _connect_and_serve(self) -> None:
        delivery = self._delivery
        outlet = Outlet(delivery)
        incoming = Incoming(delivery, outlet, self._refusals, self._new_epoch)
        session = await self._connect(
            self._broker,
            self._broker.client_id or f"{self._site}-lossless",
            on_message=incoming.on_message,
            on_published=outlet.on_published,
        )
        live: dict[Lane, LiveLane] = {}
        try:
            outlet.open(session)
            await session.subscribe(delivery.topics.incoming)
            self.status.connects += 1
            self._change("up", None)
            announcer = Announcer(delivery, outlet)
            await announcer.announce()
            self._announcer = announcer
            live |= {lane: LiveLane(delivery, outlet, lane) for lane in Lane}
            await self._serve(session, outlet, live, incoming, announcer)
        finally:
            self._announcer = None
            for lane in live.values():
                delivery.leave(lane.stream)
            await session.close()

    async def _serve(
        self,
        session: Session,
        outlet: Outlet,
        live: dict[Lane, LiveLane],
        incoming: Incoming,
        announcer: Announcer,
    ) -> None:
        """Run the tasks of one connection until it ends.

        :raises BrokerUnreachable, BrokerRefused, apsw.Error, CorruptRecord: why it ended
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                catch_ups = CatchUps(self._delivery, outlet, live, tasks)
                tasks.create_task(live[Lane.EVENT].run(), name="publish:event")
                tasks.create_task(live[Lane.DATA].run(), name="publish:data")
                tasks.create_task(incoming.run(catch_ups), name="publish:incoming")
                tasks.create_task(self._tick(announcer, catch_ups), name="publish:head")
                tasks.create_task(self._until_closed(session), name="publish:closed")
                tasks.create_task(self._until_changed(), name="publish:changed")
        except ExceptionGroup as group:
            expected, others = group.split(_ENDINGS)
            if others is not None or expected is None:
                raise
            raise expected.exceptions[0] from None

    async def _until_closed(self, session: Session) -> None:
        raise BrokerUnreachable(await session.closed())

    async def _until_changed(self) -> None:
        await self._changed.wait()
        raise BrokerUnreachable("the settings were changed: a new connection is made")

    async def _tick(self, announcer: Announcer, catch_ups: CatchUps) -> None:
        """Each second serve who is behind; every ``head_every`` say where we stand."""
        every_s = self._delivery.settings.head_every / 1e9
        loop = asyncio.get_running_loop()
        head_due_s = loop.time() + every_s
        epoch = self._delivery.journal.epoch
        while self._delivery.journal.epoch == epoch:
            await asyncio.sleep(min(1.0, every_s))
            for consumer in self._delivery.journal.active_consumers():
                await catch_ups.serve(consumer)
            if loop.time() >= head_due_s:
                head_due_s += every_s
                await announcer.announce()
        raise BrokerUnreachable("a new epoch begins on a new connection")

    async def _new_epoch(self, cause: str) -> None:
        """Open a new epoch, but not again within a minute: a claim must not flood the journal."""
        now = self._recorder.clock.boot_ns()
        if now - self._epoch_opened_ns < NEW_EPOCH_EVERY_NS:
            log.warning("epoch.too_soon", cause=cause)
            return
        self._epoch_opened_ns = now
        await self._recorder.new_epoch(cause)


async def _in_a_task_of_its_own(work: Coroutine[None, None, None]) -> None:
    """Do some work so that a cancellation always ends the caller.

    A task group forgets that it was cancelled when one of its tasks fails at that moment.
    """
    task = asyncio.create_task(work, name="publish:connection")
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    task.result()

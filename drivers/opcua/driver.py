"""The OPC UA driver: one session, its instruments, their identities and their subscriptions."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from drivers.opcua.definitions import Definitions
from drivers.opcua.drift import drifted
from drivers.opcua.frames import Assembler, Point, refusal, watched_again
from drivers.opcua.historian import Historian
from drivers.opcua.nodes import Server, describe, find, lasting
from drivers.opcua.notification import Notification
from drivers.opcua.pump import Pump
from drivers.opcua.quarantine import Quarantine
from drivers.opcua.session import Connector, Session
from drivers.opcua.settings import OpcUaLinkSettings
from drivers.opcua.stack import Channel, Refused, decode_variant, self_test, status_name, ua
from drivers.opcua.station import Place, Station, identify
from drivers.opcua.structures import Definition, decode
from drivers.opcua.subscription import (
    Item,
    Ledger,
    Subscription,
    create,
    delete,
    monitor,
    republish,
    transfer,
)
from drivers.opcua.takeover import session_name, take_over
from drivers.opcua.trust import Trust
from drivers.opcua.watch import watch
from edgeagent.driver import (
    Frame,
    GroupSchema,
    HistoryPiece,
    Identity,
    Instrument,
    LinkLost,
    Loss,
)
from edgeagent.model.clock import Clock

PREPARE_WITHIN_S = 120.0
"""Longest time from an open session to running subscriptions."""

CLOSE_WITHIN_S = 1.0

REPUBLISH_AT_ONCE_MAX = 100_000
"""Messages asked for again after one interruption."""

_SESSION_GONE = ("BadSessionClosed", "BadSessionIdInvalid", "BadSessionNotActivated")
_SUBSCRIPTIONS_GONE = ("BadNoSubscription", "BadSubscriptionIdInvalid")


class OpcUaDriver:
    """One OPC UA session; see :class:`~edgeagent.driver.SubscribedDriver`.

    What outlives a connection: the session's token, the subscriptions on the server, and the frames
    that are not durable yet. Each connection is made afresh.
    """

    def __init__(
        self,
        settings: OpcUaLinkSettings,
        instruments: Sequence[Instrument],
        clock: Clock,
        trust: Trust,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._stations = [Station.of(instrument) for instrument in instruments]
        self._points = _points(self._stations)
        self._name = session_name(self._stations)
        self._connector = Connector(settings, trust, clock, self._name)
        self._assembler = Assembler(self._points)
        self._quarantine = Quarantine(clock)
        self._historian = Historian(settings.url, clock, self._variant)
        self._changed = asyncio.Event()
        self._channel: Channel | None = None
        self._pump: Pump | None = None
        self._watching: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self._subscriptions: dict[int, Subscription] = {}
        self._ledger = Ledger()
        self._ready: list[Frame | Loss] = []
        self._acknowledge: list[tuple[int, int]] = []
        self._definitions: dict[bytes, Definition] = {}
        self._uris: dict[int, str] = {}
        self._examining: Session | None = None
        self._was_cut = False
        self._took_over = False
        self._tested = False

    # -- the contract --------------------------------------------------------------------------

    def resume(self, durable: Mapping[GroupSchema, Sequence[int | None]]) -> None:
        """Remember what is stored, so that nothing is stored twice and each gap has its bounds."""
        for point in self._points:
            last_ns = durable.get(point.group, ())[point.index : point.index + 1]
            if last_ns and last_ns[0] is not None:
                point.last_source_ns, point.interrupted = last_ns[0], "the agent was away"

    async def connect(self) -> tuple[Identity, ...]:
        """Open the connection, ask who is there, take up or create the subscriptions."""
        if not self._tested:
            self_test()
            self._tested = True
        await self._disconnect()
        channel, session, same = await self._connector.open(self._session, self._changed.set)
        self._session = session
        try:
            async with asyncio.timeout(PREPARE_WITHIN_S):
                return await self._prepare(channel, same)
        except Refused as error:
            await self._give_up(channel)
            raise LinkLost(f"the server refuses what a subscription needs: {error}") from None
        except TimeoutError:
            await self._give_up(channel)
            raise LinkLost(f"no subscription within {PREPARE_WITHIN_S:g} s") from None
        except BaseException:
            await self._give_up(channel)
            raise

    async def next(self) -> Sequence[Frame | Loss]:
        """Wait for what the server pushes next."""
        while not self._ready:
            pump = self._pump
            if pump is None:
                raise LinkLost("not connected")
            if pump.arrived:
                try:
                    await self._advance(pump, pump.arrived[0])
                except LinkLost as error:
                    pump.fail(str(error))
                    raise
                continue
            reason = pump.failure or (self._channel.lost if self._channel else None)
            if reason is not None:
                raise LinkLost(reason)
            self._changed.clear()
            await self._changed.wait()
        items, self._ready = self._ready, []
        return items

    async def committed(self, upto: Frame) -> None:
        """Let the server forget the messages that are durable."""
        durable = self._ledger.committed(upto)
        if self._pump is not None:
            self._pump.acknowledge(durable)
        else:
            self._acknowledge += durable

    def remembers(self, group: GroupSchema) -> bool:
        """Return whether the server keeps history of a tag of this group that may be read."""
        return self._historian.remembers(group)

    async def history(
        self, group: GroupSchema, after_utc_ns: int, before_utc_ns: int
    ) -> HistoryPiece:
        """Ask for the oldest piece of history; publishing goes on meanwhile."""
        channel = self._channel
        if channel is None:
            raise LinkLost("not connected")
        return await self._historian.history(channel, group, after_utc_ns, before_utc_ns)

    async def close(self) -> None:
        """Close the connection; a healthy session is ended, one that was cut is kept for later."""
        channel = self._channel
        is_well = channel is not None and channel.lost is None and self._pump_is_well()
        if channel is not None and is_well:
            await channel.end_session(CLOSE_WITHIN_S)
            self._session = None
            self._bury(self._subscriptions.values(), "the agent closed the session")
        await self._disconnect()

    # -- connecting ----------------------------------------------------------------------------

    def _pump_is_well(self) -> bool:
        return self._pump is not None and self._pump.failure is None

    async def _disconnect(self) -> None:
        channel, self._channel = self._channel, None
        pump, self._pump = self._pump, None
        watching, self._watching = self._watching, None
        if pump is not None:
            self._acknowledge += pump.unconfirmed()
            self._was_cut = pump.was_cut
            pump.fail("closed")
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        if channel is not None:
            await channel.close()

    async def _give_up(self, channel: Channel) -> None:
        channel.abort("given up")
        await channel.close()

    async def _prepare(self, channel: Channel, same_session: bool) -> tuple[Identity, ...]:
        server = await describe(channel)
        self._uris = {index: uri for uri, index in server.namespaces.items()}
        stated = await identify(channel, server, self._stations)
        identities = await drifted(channel, server, self._stations, stated)
        self._ready = [*self._ledger.frames(), *(x for x in self._ready if isinstance(x, Loss))]
        await self._recover(channel, server, same_session)
        await self._subscribe(channel, server)
        if not (same_session and self._historian.is_known):
            await self._historian.look(channel, server, self._places())
        pump = Pump(channel, self._changed, self._variant)
        now_s = asyncio.get_running_loop().time()
        for subscription in self._subscriptions.values():
            subscription.heard_s = now_s
        alive = self._subscriptions.keys()
        pump.start(len(alive), [each for each in self._acknowledge if each[0] in alive])
        self._acknowledge = []
        self._channel, self._pump = channel, pump
        name = f"watch:{self._settings.url}"
        self._watching = asyncio.create_task(
            watch(channel, pump, self._subscriptions.values(), self._connector.withdrawn), name=name
        )
        return identities

    async def _recover(self, channel: Channel, server: Server, same_session: bool) -> None:
        """Take up what the server kept: messages that we have not had, in order."""
        if self._was_cut and self._quarantine.is_waiting:
            for each in self._subscriptions.values():  # what broke the connection would do so again
                each.dead = "the connection broke before every tag had a value"
        dead = [each for each in self._subscriptions.values() if each.dead]
        if dead and same_session:
            delete(channel, (each.number for each in dead))
        alive = [each for each in self._subscriptions.values() if not each.dead]
        if alive and not same_session:
            taken = await transfer(channel, [each.number for each in alive])
            for each in alive:
                if each.number not in taken:
                    each.dead = "the server did not keep the subscription"
        self._bury([each for each in self._subscriptions.values() if each.dead])
        if not self._took_over and self._session is not None:
            self._took_over = True
            now_s = asyncio.get_running_loop().time()
            for each in await take_over(
                channel, self._name, self._session.number, self._by_interval(), now_s
            ):
                self._subscriptions[each.number] = each
            taken_over = {point for each in self._subscriptions.values() for point in each.points}
            await self._learn(channel, server, taken_over)
        for each in list(self._subscriptions.values()):
            try:
                for _ in range(REPUBLISH_AT_ONCE_MAX):
                    notification = await republish(channel, each, self._variant)
                    if notification is None:
                        break
                    self._take(each, notification)
                self._ready += _in_sight(each, self._clock.utc_ns())
            except Refused as error:
                self._bury([each], f"the server did not keep the subscription ({error})")

    def _by_interval(self) -> dict[int, list[Point]]:
        """Return the tags by publishing interval, as subscriptions are made of them."""
        found: dict[int, list[Point]] = {}
        for point, place in self._places().items():
            found.setdefault(place.publishing_ns, []).append(point)
        return found

    def _places(self) -> dict[Point, Place]:
        """Return where each tag is."""
        return {
            point: place
            for station in self._stations
            for point, place in zip(station.points, station.places, strict=True)
        }

    def _bury(self, subscriptions: Iterable[Subscription], reason: str = "") -> None:
        """Give up subscriptions: what they did not bring before may be missing."""
        for each in list(subscriptions):
            self._subscriptions.pop(each.number, None)
            for point in each.points:
                point.interrupted = reason or each.dead or "the subscription was made again"

    async def _subscribe(self, channel: Channel, server: Server) -> None:
        """Create what is not subscribed yet; say what cannot be."""
        have = {point for each in self._subscriptions.values() for point in each.points}
        if not have:  # a type's id may mean another type after the server's restart
            self._definitions = {}
        places = {p: place for p, place in self._places().items() if p not in have}
        found = await find(channel, server, [(p.start, p.address) for p in places.values()])
        faults: dict[Point, tuple[int, str]] = {}
        by_interval: dict[int, list[Item]] = {}
        for (point, place), where in zip(places.items(), found, strict=True):
            if where.fault:
                faults[point] = (ua.StatusCodes.BadNodeIdUnknown, where.fault)
                continue
            item = Item(point, where.node, place.sampling_ms, place.queue_size, place.deadband)
            by_interval.setdefault(place.publishing_ns, []).append(item)
        nodes = {item.point: item.node for items in by_interval.values() for item in items}
        await self._learn(channel, server, nodes)
        broken = await self._quarantine.inspect(nodes, server, self._reopened, self._was_cut)
        faults |= broken
        loop = asyncio.get_running_loop()
        for interval_ns, items in by_interval.items():
            wanted = [item for item in items if item.point not in broken]
            if not wanted:
                continue
            lifetime_s = self._settings.session_timeout / 1e9
            subscription = await create(channel, interval_ns / 1e6, lifetime_s, loop.time())
            self._subscriptions[subscription.number] = subscription
            refused = await monitor(channel, subscription, wanted, server.limits["monitor"])
            faults |= {point: (code, _refused(code)) for point, code in refused.items()}
        self._report(faults)

    async def _learn(self, channel: Channel, server: Server, points: Collection[Point]) -> None:
        """Load the definitions of the structures of which fields are wanted."""
        fields = [p for point, p in self._places().items() if p.is_field and point in points]
        if fields:
            found = await find(channel, server, [(p.start, p.address) for p in fields])
            definitions = Definitions(channel, server)
            await definitions.load([where.node for where in found if not where.fault])
            self._definitions |= definitions.by_encoding

    def _report(self, faults: Mapping[Point, tuple[int, str]]) -> None:
        for point, (status, text) in faults.items():
            self._assembler.refused.setdefault(point.group, {})[point.index] = status
            self._ready += refusal(point, text)

    async def _reopened(self) -> Channel:
        """Open a connection with a session of its own, for looking at tags one by one."""
        channel, self._examining, _ = await self._connector.open(self._examining, lambda: None)
        return channel

    def _variant(self, encoded: bytes) -> Any:
        """Decode what the notification decoder does not."""
        if self._definitions:
            value = decode(encoded, self._definitions, decode_variant)
        else:
            value = decode_variant(encoded)
        return lasting(value, self._uris)

    # -- taking --------------------------------------------------------------------------------

    async def _advance(self, pump: Pump, notification: Notification) -> None:
        """Take the oldest message, or fetch what is missing before it."""
        if notification.service_result >> 31:
            self._fault(status_name(notification.service_result))
        subscription = self._subscriptions.get(notification.subscription)
        if subscription is not None:
            missing = subscription.missing(notification)
            if missing > 0:
                await self._fetch(subscription, missing)
                return
            if notification.data == 0 or missing < 0:
                pass
            else:
                self._take(subscription, notification)
        elif self._channel is not None and notification.subscription:
            delete(self._channel, [notification.subscription])
        pump.arrived.popleft()
        pump.refill()

    async def _fetch(self, subscription: Subscription, missing: int) -> None:
        assert self._channel is not None
        try:
            notification = await republish(self._channel, subscription, self._variant)
        except Refused as error:
            subscription.dead = f"the server lost the subscription ({error})"
            raise LinkLost(subscription.dead) from None
        if notification is None:
            subscription.dead = f"the server lost {missing} messages"
            raise LinkLost(f"{subscription.dead}; the subscription is made again")
        self._take(subscription, notification)

    def _take(self, subscription: Subscription, notification: Notification) -> None:
        """Turn a message into frames; no await: either all of it is taken or nothing."""
        # A Good status says that it was transferred: to us, or else its silence will tell.
        if notification.status is not None and notification.status >> 31:
            name = status_name(notification.status)
            subscription.dead = f"the server ended the subscription ({name})"
            raise LinkLost(subscription.dead)
        items = self._assembler.assemble(
            notification.samples, self._clock.utc_ns(), self._clock.boot_ns()
        )
        message = (subscription.number, notification.sequence)
        subscription.advance()
        self._quarantine.brought(notification.samples.handles)
        at_once = self._ledger.enter(items, message)
        if self._pump is not None:
            self._pump.acknowledge(at_once)
        else:
            self._acknowledge += at_once
        self._ready += items

    def _fault(self, name: str) -> None:
        """Decide what an answer without a message means.

        :raises LinkLost: always
        """
        if name in _SESSION_GONE:
            self._session = None
            reason = f"the server ended the session ({name})"
            for each in self._subscriptions.values():
                each.dead = reason
            raise LinkLost(reason)
        if name in _SUBSCRIPTIONS_GONE:
            reason = f"the server ended the subscriptions ({name})"
            for each in self._subscriptions.values():
                each.dead = reason
            raise LinkLost(reason)
        raise LinkLost(f"the server refuses to publish: {name}")


def _in_sight(subscription: Subscription, now_ns: int) -> list[Loss]:
    """Say that a subscription goes on: what follows is new, and what did not change has not."""
    points = subscription.points
    goes_on = any(point.interrupted is None for point in points)
    for point in points:
        point.stored_until_ns = None
        if goes_on:
            point.interrupted = None
    return list(watched_again(points, now_ns)) if goes_on else []


def _points(stations: Sequence[Station]) -> list[Point]:
    points = [point for station in stations for point in station.points]
    for handle, point in enumerate(points, 1):
        point.handle = handle
    return points


def _refused(status: int) -> str:
    name = status_name(status)
    mend = {
        "BadNodeIdUnknown": "the server has no such node; correct node",
        "BadNodeIdInvalid": "the server has no such node; correct node",
        "BadUserAccessDenied": "the user may not read it; let the server's administrator allow it",
        "BadNotReadable": "the server does not let it be read; remove the tag",
        "BadAttributeIdInvalid": "the node has no value; correct node",
        "BadTooManyMonitoredItems": "the server monitors no more; monitor less, or raise its limit",
        "BadFilterNotAllowed": "the node has no deadband; remove deadband",
        "BadMonitoredItemFilterUnsupported": "the server has no such deadband; remove deadband",
    }.get(name, "correct the tag")
    return f"{mend} ({name})"

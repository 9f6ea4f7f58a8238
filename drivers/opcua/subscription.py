"""Subscriptions as we keep them: created within limits, counted, acknowledged when durable.

A server keeps each NotificationMessage until it is acknowledged, and gives it again on Republish
(OPC 10000-4 section 5.14). So a message is acknowledged only when everything in it is on disk.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from drivers.opcua.frames import Point
from drivers.opcua.measure import Malformed
from drivers.opcua.nodes import VALUE, in_parts
from drivers.opcua.notification import DecodeVariant, Notification, decode_republish
from drivers.opcua.profile import Deadband
from drivers.opcua.stack import Channel, Refused, decode_variant, ua
from edgeagent.driver import Frame, LinkLost, Loss

KEEP_ALIVE_S = 2.0
"""A subscription without news says so at least this often."""

SEQUENCE_MAX = 2**32 - 1
"""After it a sequence number is 1 again; 0 is never used (OPC 10000-4 section 7.5)."""

NOTIFICATIONS_AT_ONCE = 10_000
"""Values in one message; more follow in the next one."""


@dataclass(slots=True, eq=False)
class Subscription:
    """One subscription on the server.

    :ivar points: what it monitors
    :ivar expected: sequence number of the next message
    :ivar window_s: longest silence, by what the server has agreed to
    :ivar heard_s: when something of it arrived last, on the loop's clock
    :ivar dead: why it is not to be trusted any more
    """

    number: int
    points: list[Point]
    window_s: float
    heard_s: float
    expected: int = 1
    dead: str | None = None

    def missing(self, notification: Notification) -> int:
        """Return how many messages are missing before this one; negative: it came already."""
        ahead = (notification.sequence - self.expected) % SEQUENCE_MAX
        return ahead if ahead < SEQUENCE_MAX // 2 else ahead - SEQUENCE_MAX

    def advance(self) -> None:
        """Count the message that was expected."""
        self.expected = 1 if self.expected >= SEQUENCE_MAX else self.expected + 1


@dataclass(frozen=True, slots=True)
class Item:
    """One tag as it is to be monitored."""

    point: Point
    node: Any
    sampling_ms: float
    queue_size: int
    deadband: Deadband | None = None


async def create(
    channel: Channel, interval_ms: float, lifetime_s: float, now_s: float
) -> Subscription:
    """Create an empty subscription with a small keep-alive count, whatever the server revises."""
    request = ua.CreateSubscriptionRequest()
    parameters = request.Parameters
    parameters.RequestedPublishingInterval = interval_ms
    parameters.RequestedMaxKeepAliveCount = _count(KEEP_ALIVE_S, interval_ms)
    parameters.RequestedLifetimeCount = _lifetime(lifetime_s, interval_ms)
    parameters.MaxNotificationsPerPublish = NOTIFICATIONS_AT_ONCE
    parameters.PublishingEnabled = True
    created = (await channel.ask(request, ua.CreateSubscriptionResponse)).Parameters
    revised_ms = created.RevisedPublishingInterval
    keep_alive = created.RevisedMaxKeepAliveCount
    if keep_alive * revised_ms > 2000 * KEEP_ALIVE_S and keep_alive > _count(
        KEEP_ALIVE_S, revised_ms
    ):
        modify = ua.ModifySubscriptionRequest()
        modify.Parameters.SubscriptionId = created.SubscriptionId
        modify.Parameters.RequestedPublishingInterval = revised_ms
        modify.Parameters.RequestedMaxKeepAliveCount = _count(KEEP_ALIVE_S, revised_ms)
        modify.Parameters.RequestedLifetimeCount = _lifetime(lifetime_s, revised_ms)
        modify.Parameters.MaxNotificationsPerPublish = NOTIFICATIONS_AT_ONCE
        modified = (await channel.ask(modify, ua.ModifySubscriptionResponse)).Parameters
        revised_ms = modified.RevisedPublishingInterval
        keep_alive = modified.RevisedMaxKeepAliveCount
    window_s = revised_ms * max(keep_alive, 1) / 1000 * 1.25 + 0.5
    return Subscription(created.SubscriptionId, [], window_s, now_s)


def _count(seconds: float, interval_ms: float) -> int:
    return max(1, round(seconds * 1000 / max(interval_ms, 1)))


def _lifetime(lifetime_s: float, interval_ms: float) -> int:
    """Return a lifetime count; at least three times the keep-alive count (5.14.2)."""
    keep_alive = _count(KEEP_ALIVE_S, interval_ms)
    return max(3 * keep_alive, math.ceil(lifetime_s * 1000 / max(interval_ms, 1)))


async def monitor(
    channel: Channel, subscription: Subscription, items: Sequence[Item], at_once: int
) -> dict[Point, int]:
    """Let the server monitor items; return the status of those that it refuses."""

    async def ask(part: Sequence[Item]) -> Sequence[Any]:
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = subscription.number
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.ItemsToCreate = [_request(item) for item in part]
        return (await channel.ask(request, ua.CreateMonitoredItemsResponse)).Results or []

    # Neighbours of one type are decoded at once; most servers report in the order of creation.
    ordered = sorted(items, key=lambda item: item.point.kind)
    results = await in_parts(ordered, at_once, ask)
    refused = {}
    for item, result in zip(ordered, results, strict=True):
        if result.StatusCode.value >> 31:
            refused[item.point] = result.StatusCode.value
        else:
            subscription.points.append(item.point)
    return refused


def _request(item: Item) -> Any:
    parameters = ua.MonitoringParameters(
        ClientHandle=item.point.handle,
        SamplingInterval=item.sampling_ms,
        QueueSize=item.queue_size,
        DiscardOldest=True,
    )
    if item.deadband is not None:
        percent = item.deadband.percent is not None
        kind = ua.DeadbandType.Percent if percent else ua.DeadbandType.Absolute
        parameters.Filter = ua.DataChangeFilter(
            Trigger=ua.DataChangeTrigger.StatusValue,
            DeadbandType=int(kind),
            DeadbandValue=item.deadband.percent or item.deadband.absolute,
        )
    return ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=item.node, AttributeId=VALUE),
        MonitoringMode=ua.MonitoringMode.Reporting,
        RequestedParameters=parameters,
    )


async def republish(
    channel: Channel, subscription: Subscription, variant: DecodeVariant = decode_variant
) -> Notification | None:
    """Return the expected message once more; ``None`` when the server does not hold it.

    :raises Refused: if it does not know the subscription
    """
    request = ua.RepublishRequest()
    request.Parameters.SubscriptionId = subscription.number
    request.Parameters.RetransmitSequenceNumber = subscription.expected
    try:
        notification = decode_republish(await channel.ask_bytes(request), variant)
    except Malformed as error:
        raise LinkLost(f"a message that the server sent again cannot be read: {error}") from None
    except Refused as error:
        if error.status == ua.StatusCodes.BadMessageNotAvailable:
            return None
        raise
    if notification.service_result >> 31:
        raise Refused(notification.service_result)
    is_it = notification.data > 0 and notification.sequence == subscription.expected
    return notification if is_it else None  # some servers answer with a message about nothing


async def transfer(channel: Channel, numbers: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Take subscriptions over into this session; return what is still held of each that came."""
    request = ua.TransferSubscriptionsRequest()
    request.Parameters.SubscriptionIds = list(numbers)
    request.Parameters.SendInitialValues = False
    try:
        answer = await channel.ask(request, ua.TransferSubscriptionsResponse)
    except Refused:
        return {}
    return {
        number: tuple(result.AvailableSequenceNumbers or ())
        for number, result in zip(numbers, answer.Parameters.Results or (), strict=False)
        if not result.StatusCode.value >> 31
    }


def delete(channel: Channel, numbers: Iterable[int]) -> None:
    """Ask the server to forget subscriptions; what it answers does not matter."""
    request = ua.DeleteSubscriptionsRequest()
    request.Parameters.SubscriptionIds = list(numbers)
    channel.send(request).add_done_callback(lambda done: done.cancelled() or done.exception())


class Ledger:
    """Frames that were handed over and are not yet durable, with the messages they came in."""

    def __init__(self) -> None:
        self._entries: deque[tuple[Frame, list[tuple[int, int]]]] = deque()
        self._waiting: set[int] = set()

    def enter(
        self, items: Iterable[Frame | Loss], message: tuple[int, int]
    ) -> list[tuple[int, int]]:
        """Note what a message brought; return it if it can be acknowledged at once."""
        for item in items:
            if isinstance(item, Frame):
                self._entries.append((item, []))
                self._waiting.add(id(item))
        if not self._entries:
            return [message]
        self._entries[-1][1].append(message)
        return []

    def committed(self, upto: Frame) -> list[tuple[int, int]]:
        """Forget everything up to a frame; return the messages that are durable now."""
        if id(upto) not in self._waiting:
            return []
        durable: list[tuple[int, int]] = []
        while self._entries:
            frame, messages = self._entries.popleft()
            self._waiting.discard(id(frame))
            durable += messages
            if frame is upto:
                break
        return durable

    def frames(self) -> list[Frame]:
        """Return the frames that are not yet durable, in order."""
        return [frame for frame, _ in self._entries]

"""The publish loop of one connection: requests outstanding, messages in the order of arrival.

Two PublishRequests wait at the server at any time, so that one message does not have to wait for
the way of another. A new one is sent when a message has been taken, so a reader that stops is felt
by the server and not by our memory.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from drivers.opcua.measure import Malformed
from drivers.opcua.notification import DecodeVariant, Notification, decode_publish
from drivers.opcua.stack import Channel, decode_variant, ua
from edgeagent.driver import LinkLost

OUTSTANDING: Final = 2
_TOO_LARGE: Final = (0x80B9_0000, 0x8008_0000)
"""BadResponseTooLarge, BadEncodingLimitsExceeded."""


class Pump:
    """Keeps PublishRequests with the server and gathers what comes back.

    :ivar arrived: messages that were not taken yet, each with the loop's time of its arrival
    :ivar changed: set when there is something to look at: a message, or the end
    :ivar failure: why nothing more will come
    """

    def __init__(
        self, channel: Channel, changed: asyncio.Event, variant: DecodeVariant = decode_variant
    ) -> None:
        self.arrived: deque[Notification] = deque()
        self.heard: dict[int, float] = {}
        self.changed = changed
        self.failure: str | None = None
        self._channel = channel
        self._variant = variant
        self._outstanding = 0
        self._wanted = 0
        self.is_too_large = False
        self._loop = asyncio.get_running_loop()
        self._acknowledge: list[tuple[int, int]] = []
        self._on_the_way: dict[asyncio.Future[Any], list[tuple[int, int]]] = {}

    def start(self, subscriptions: int, acknowledge: Iterable[tuple[int, int]]) -> None:
        """Begin to ask, and acknowledge what is durable already."""
        self._acknowledge += acknowledge
        self._wanted = max(OUTSTANDING, subscriptions + 1) if subscriptions else 0
        self.refill()

    @property
    def is_asking(self) -> bool:
        """Whether a request is with the server: silence is then the server's."""
        return self._outstanding > 0

    @property
    def was_cut(self) -> bool:
        """Whether the server ended it, or refused to send what there is."""
        return self._channel.was_cut or self.is_too_large

    def acknowledge(self, messages: Iterable[tuple[int, int]]) -> None:
        """Let the next request say that these ``(subscription, sequence number)`` are durable."""
        self._acknowledge += messages

    def unconfirmed(self) -> list[tuple[int, int]]:
        """Return acknowledgements of which the server has not said that it got them."""
        return [each for part in self._on_the_way.values() for each in part] + self._acknowledge

    def fail(self, reason: str) -> None:
        """End; the first reason counts."""
        self.failure = self.failure or reason
        self.changed.set()

    def refill(self) -> None:
        """Send requests until as many are outstanding as should be."""
        while (
            self._outstanding + len(self.arrived) < self._wanted
            and self.failure is None
            and self._channel.lost is None
        ):
            self._send()

    def _send(self) -> None:
        messages, self._acknowledge = self._acknowledge, []
        request = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = [
            ua.SubscriptionAcknowledgement(SubscriptionId=subscription, SequenceNumber=sequence)
            for subscription, sequence in messages
        ]
        try:
            answer = self._channel.send(request)
        except LinkLost as error:
            self._acknowledge = messages
            self.fail(str(error))
            return
        self._outstanding += 1
        self._on_the_way[answer] = messages
        answer.add_done_callback(self._take)

    def _take(self, answer: "asyncio.Future[Any]") -> None:
        self._outstanding -= 1
        if answer.cancelled() or answer.exception() is not None:
            self.fail(self._channel.lost or "the connection ended")
            return
        self._on_the_way.pop(answer, None)
        try:
            notification = decode_publish(bytes(answer.result()), self._variant)
        except Malformed as error:
            self._channel.abort(f"a message of the server cannot be read: {error}")
            self.fail(f"a message of the server cannot be read: {error}")
            return
        if notification.subscription:
            self.heard[notification.subscription] = self._loop.time()
        if notification.service_result == ua.StatusCodes.BadTooManyPublishRequests:
            self._wanted = max(1, self._wanted - 1)
            self.refill()
            return
        if notification.service_result in _TOO_LARGE:
            self.is_too_large = True
        self.arrived.append(notification)
        self.changed.set()

"""An MQTT broker in memory, as the product's one connection sees it.

It acknowledges what it has taken (QoS 1), keeps retained messages, and is free to do what brokers
do: forget everything, pass a message on twice or not at all, refuse, be slow, be gone.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edgeagent.model.settings import BrokerSettings
from edgeagent.mqtt import BrokerUnreachable, Message, ignore
from tests.simulation.day import Day
from tests.simulation.devices import Life

QUEUED_MAX = 1000
CONNECT_TIMEOUT_S = 10.0
TINY_S = 1e-6

Tap = Callable[["Session", str, bytes], None]


class Broker:
    """Whoever connects is one client; an older connection with the same name ends.

    :ivar tap: hears of each message that reaches it, also of one that it refuses
    """

    def __init__(self, day: Day) -> None:
        self.day = day
        self.random = day.random("broker")
        self.up = True
        self.slow_until_s = 0.0
        self.sessions: dict[str, Session] = {}
        self.retained: dict[str, bytes] = {}
        self.tap: Tap = lambda session, topic, payload: None
        self.numbers = itertools.count(1)

    def connect_for(self, life: Life) -> Callable[..., Any]:
        """Return the way to this broker of one process's life."""

        async def connect(
            settings: BrokerSettings,
            client_id: str,
            *,
            on_message: Callable[[Message], None],
            on_published: Callable[[int], None] = ignore,
            manual_ack: bool = False,
            receive_maximum: int = 100,
        ) -> Session:
            await asyncio.sleep(self.latency_s())
            if not (self.up and life.alive):
                raise BrokerUnreachable("connection refused")
            if self.day.strikes("broker.busy"):
                raise BrokerUnreachable("server busy")
            before = self.sessions.get(client_id)
            if before is not None:
                before.end("another client took over with the same client id")
            session = Session(self, settings, client_id, on_message, on_published)
            session.flow = receive_maximum
            session.manual_ack = manual_ack
            self.sessions[client_id] = session
            life.sessions.append(session)
            return session

        return connect

    def latency_s(self) -> float:
        """Return how long one packet takes."""
        slow = asyncio.get_running_loop().time() < self.slow_until_s
        return self.random.uniform(0.0005, 0.01) * (100 if slow else 1)

    def stop(self, *, forget: bool) -> None:
        """End every connection; a killed broker forgets its retained messages, too."""
        self.up = False
        for session in list(self.sessions.values()):
            session.end("connection lost")
        if forget:
            self.retained.clear()

    def take(self, topic: str, payload: bytes, retain: bool) -> None:
        """Route a message."""
        if retain:
            self.retained[topic] = payload
        for other in list(self.sessions.values()):
            if any(matches(each, topic) for each in other.filters):
                if self.day.strikes("broker.loses"):
                    continue
                other.pass_on(topic, payload, retained=False)
                if self.day.strikes("broker.repeats"):
                    other.pass_on(topic, payload, retained=False)

    def retained_for(self, filters: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the retained messages that a new subscription gets."""
        for topic, payload in list(self.retained.items()):
            if any(matches(each, topic) for each in filters):
                yield topic, payload


def matches(pattern: str, topic: str) -> bool:
    """Return whether a topic fits a filter without ``#``."""
    asked, found = pattern.split("/"), topic.split("/")
    return len(asked) == len(found) and all(
        a in ("+", f) for a, f in zip(asked, found, strict=True)
    )


class Session:
    """One connection: what :class:`edgeagent.mqtt.Session` is to its callers.

    :ivar flow: most messages on the way to the client without its acknowledgement
    :ivar dead: packets vanish both ways, and nobody says so
    """

    mqtt5 = True

    def __init__(
        self,
        broker: Broker,
        settings: BrokerSettings,
        client_id: str,
        on_message: Callable[[Message], None],
        on_published: Callable[[int], None],
    ) -> None:
        self.broker = broker
        self.number = next(broker.numbers)
        self.client_id = client_id
        self.receive_maximum = broker.day.receive_maximum
        self.flow = 100
        self.manual_ack = False
        self.filters: list[str] = []
        self.dead = False
        self.in_flight: set[int] = set()
        self._keepalive_s = settings.keepalive / 1e9
        self._on_message = on_message
        self._on_published = on_published
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._ids = itertools.count(1)
        self._unsent: deque[tuple[int, str, bytes, bool]] = deque()
        self._to_client: deque[tuple[str, bytes, bool]] = deque()
        self._unacknowledged: set[int] = set()
        self._handles = itertools.count(1)
        self._at_s = {"up": 0.0, "down": 0.0}

    # -- the wire ------------------------------------------------------------------------------

    def _later(self, way: str, what: Callable[..., None], *facts: Any) -> None:
        """Do something when a packet arrives; packets of one direction never overtake."""
        at_s = max(self._at_s[way] + TINY_S, self._loop.time() + self.broker.latency_s())
        self._at_s[way] = at_s
        self._loop.call_at(at_s, self._if_open, what, facts)

    def _if_open(self, what: Callable[..., None], facts: tuple[Any, ...]) -> None:
        if not self.dead and not self._ended.done():
            what(*facts)

    def end(self, reason: str) -> None:
        """Be over, at both ends."""
        if self.broker.sessions.get(self.client_id) is self:
            del self.broker.sessions[self.client_id]
        if not self._ended.done():
            self._ended.set_result(reason)

    def sever(self) -> None:
        """Be over because the client is dead."""
        self.end("dead")

    def hang(self) -> None:
        """Become half-open; keep-alive finds out (MQTT 5, 3.1.2.10)."""
        self.dead = True
        lost = "connection lost: keep alive timeout"
        self._loop.call_later(1.5 * self._keepalive_s, self.end, lost)

    # -- what callers do -----------------------------------------------------------------------

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, **_: Any
    ) -> int:
        if self._ended.done():
            raise BrokerUnreachable(self._ended.result())
        number = next(self._ids)
        self._unsent.append((number, topic, payload, retain))
        self._transmit()
        return number

    def _transmit(self) -> None:
        while self._unsent and len(self.in_flight) < self.receive_maximum:
            packet = self._unsent.popleft()
            self.in_flight.add(packet[0])
            self._later("up", self._arrived, *packet)

    def _arrived(self, number: int, topic: str, payload: bytes, retain: bool) -> None:
        self.broker.tap(self, topic, payload)
        if self.broker.day.strikes("broker.refuses"):
            text = f"the broker refuses messages on {topic}: quota exceeded; "
            self._later("down", self.end, f"{text}check what it allows this user")
            return
        self.broker.take(topic, payload, retain)
        if self.broker.day.strikes("broker.disorders"):
            self._loop.call_later(0.05, self._later, "down", self._taken, number)
        else:
            self._later("down", self._taken, number)

    def _taken(self, number: int) -> None:
        self.in_flight.discard(number)
        self._on_published(number)
        self._transmit()

    async def subscribe(self, filters: Sequence[str]) -> None:
        answered = self._loop.create_future()

        def subscribed() -> None:
            self.filters += filters
            for topic, payload in self.broker.retained_for(filters):
                self.pass_on(topic, payload, retained=True)
            self._later("down", lambda: answered.done() or answered.set_result(None))

        self._later("up", subscribed)
        ended = asyncio.ensure_future(self.closed())
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.wait([answered, ended], return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise BrokerUnreachable("the broker does not answer a subscription") from None
        finally:
            ended.cancel()
        if not answered.done():
            raise BrokerUnreachable(self._ended.result())

    def acknowledge(self, message: Message) -> None:
        if not self._ended.done():
            self._later("up", self._acknowledged, message.handle)

    def _acknowledged(self, handle: int) -> None:
        self._unacknowledged.discard(handle)
        self._flow_on()

    async def closed(self) -> str:
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        self.end("closed by this side")

    # -- what the broker does ------------------------------------------------------------------

    def pass_on(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Send to the client as its window allows; drop what is too much, as mosquitto does."""
        if len(self._to_client) < QUEUED_MAX:
            self._to_client.append((topic, payload, retained))
            self._flow_on()

    def _flow_on(self) -> None:
        while self._to_client and len(self._unacknowledged) < self.flow:
            handle = next(self._handles)
            self._unacknowledged.add(handle)
            self._later("down", self._deliver, handle, *self._to_client.popleft())

    def _deliver(self, handle: int, topic: str, payload: bytes, retained: bool) -> None:
        message = Message(topic, payload, retained, None, None, handle)
        self._on_message(message)
        if not self.manual_ack:
            self._later("up", self._acknowledged, handle)

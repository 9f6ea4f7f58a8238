"""A scripted consumer for tests: written from docs/mqtt.md and paho alone, none of our code.

It keeps every message, puts batches together as section 2 says and proves the chain by itself.
What it answers is the script of a test: receipts as section 4 says, none, or wrong ones.

    async with Consumer(broker.port, "berlin-1") as central:
        await until("all is there", lambda: central.upto(epoch, "data") == 100)
"""

import asyncio
import hashlib
import itertools
import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple
from uuid import uuid4

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

ROOT = "edge/v1"
WAIT_S = 30.0


async def until(what: str, holds: Callable[[], Any], timeout_s: float = WAIT_S) -> None:
    """Wait for a condition; fail by its name."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.005)


class Message(NamedTuple):
    """A message as it came. ``topic`` is what follows ``{root}/{site}/``."""

    topic: str
    payload: bytes
    retain: bool
    content_type: str | None
    correlation: bytes | None

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


class Batch(NamedTuple):
    """A batch whose numbers and chain have been checked."""

    topic: str
    header: dict[str, Any]
    bodies: dict[int, bytes]
    size: int

    @property
    def key(self) -> tuple[str, str]:
        return self.header["epoch"], self.header["lane"]

    @property
    def first(self) -> int:
        return self.header["first"]

    @property
    def last(self) -> int:
        missing = self.header.get("missing", [])
        return self.first + self.header["count"] + len(missing) - 1

    @property
    def seqs(self) -> range:
        return range(self.first, self.last + 1)


def genesis(epoch: str, lane: str) -> bytes:
    return hashlib.sha256(f"edgeagent/1|{epoch}|{lane}".encode("ascii")).digest()


def extend(chain: bytes, bodies: list[bytes]) -> bytes:
    for body in bodies:
        chain = hashlib.sha256(chain + body).digest()
    return chain


def read_batch(message: Message) -> Batch:
    """Check a batch as docs/mqtt.md section 6 says; fail if anything in it is not true."""
    first_line, *lines = message.payload.split(b"\n")
    header = json.loads(first_line)
    assert header["v"] == 1
    assert header["count"] == len(lines)
    assert message.topic.rsplit("/", 1)[-1] == header["lane"]
    missing = header.get("missing", [])
    bodies = {json.loads(line)[1]: line for line in lines}
    batch = Batch(message.topic, header, bodies, len(message.payload))
    assert sorted([*bodies, *missing]) == list(batch.seqs), "numbers without a hole"
    if missing:
        assert header["last"] == batch.last
    else:
        assert "missing" not in header
        chain = extend(bytes.fromhex(header["prev"]), lines)
        assert header["chain"] == chain.hex(), "the chain is broken"
    return batch


class Held:
    """What a consumer holds of one lane of one epoch, and how far it is contiguous."""

    def __init__(self, epoch: str, lane: str) -> None:
        self.bodies: dict[int, bytes] = {}
        self.missing: set[int] = set()
        self.upto = 0
        self.chain = genesis(epoch, lane)

    def take(self, batch: Batch) -> tuple[int, bytes]:
        """Commit a batch; return the place that a receipt names now."""
        known = batch.last <= self.upto
        assert batch.first != self.upto + 1 or batch.header["prev"] == self.chain.hex()
        for seq, body in batch.bodies.items():
            assert self.bodies.setdefault(seq, body) == body, f"another record {seq}"
        missing = batch.header.get("missing", [])
        self.missing.update(missing)
        if missing and batch.first <= self.upto + 1 <= batch.last:
            self.upto, self.chain = batch.last, bytes.fromhex(batch.header["chain"])
        while (body := self.bodies.get(self.upto + 1)) is not None:
            self.upto, self.chain = self.upto + 1, extend(self.chain, [body])
        if known:
            return batch.last, bytes.fromhex(batch.header["chain"])
        return self.upto, self.chain


class Consumer:
    """One consumer with its database in memory.

    :ivar messages: everything that came, in order
    :ivar batches: those among them that were committed, in order
    :ivar commits: whether batches are taken at all; what comes while it is false is lost
    :ivar drops: batches for which it returns true are lost on the way
    :ivar receipts: whether a commit is followed by a receipt
    :ivar answers_heads: whether a head is answered with receipts
    """

    def __init__(
        self, port: int, site: str, name: str = "central", *, version: str = "5", **login: str
    ) -> None:
        self.name = name
        self.incarnation = str(uuid4())
        self.messages: list[Message] = []
        self.batches: list[Batch] = []
        self.held: dict[tuple[str, str], Held] = {}
        self.commits = True
        self.receipts = True
        self.answers_heads = True
        self.drops: Callable[[Batch], bool] = lambda _: False
        self._base = f"{ROOT}/{site}"
        self._site = site
        self._port = port
        self._mqtt5 = version == "5"
        self._numbers = itertools.count(1)
        self._connected = asyncio.Event()
        self._client = self._new_client(login)

    def _new_client(self, login: dict[str, str]) -> paho.Client:
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=f"{self.name}-{uuid4().hex[:8]}",
            protocol=paho.MQTTv5 if self._mqtt5 else paho.MQTTv311,
        )
        client.reconnect_delay_set(0.02, 0.05)
        if login:
            client.username_pw_set(login["username"], login["password"])
        loop = asyncio.get_running_loop()

        def connected(*_: Any) -> None:
            client.subscribe(f"{self._base}/#", 1)

        def received(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
            loop.call_soon_threadsafe(self._receive, message)

        client.on_connect = connected
        client.on_subscribe = lambda *_: loop.call_soon_threadsafe(self._connected.set)
        client.on_message = received
        return client

    async def __aenter__(self) -> "Consumer":
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        await asyncio.wait_for(self._connected.wait(), WAIT_S)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    # -- in ------------------------------------------------------------------------------------

    def _receive(self, message: paho.MQTTMessage) -> None:
        own = message.topic.removeprefix(f"{self._base}/")
        if own.startswith(("receipt/", "request/")):
            return
        properties = message.properties
        content_type = getattr(properties, "ContentType", None)
        correlation = getattr(properties, "CorrelationData", None)
        taken = Message(own, bytes(message.payload), message.retain, content_type, correlation)
        self.messages.append(taken)
        if own in ("data", "event", f"to/{self.name}/data", f"to/{self.name}/event"):
            self._take(read_batch(taken))
        elif own == "head" and self.answers_heads:
            self._answer(taken.json)

    def _take(self, batch: Batch) -> None:
        if not self.commits or self.drops(batch):
            return
        self.batches.append(batch)
        held = self.held.setdefault(batch.key, Held(*batch.key))
        upto, chain = held.take(batch)
        if self.receipts:
            self.send_receipt(*batch.key, upto=upto, chain=chain.hex())

    def _answer(self, head: dict[str, Any]) -> None:
        for epoch in [head["epoch"], *(each["epoch"] for each in head["earlier"])]:
            for lane in ("data", "event"):
                self.send_receipt(epoch, lane)

    def forget(self) -> None:
        """Lose the database without noticing it."""
        self.held.clear()
        self.batches.clear()

    def upto(self, epoch: str, lane: str) -> int:
        held = self.held.get((epoch, lane))
        return held.upto if held else 0

    def bodies(self, epoch: str, lane: str) -> list[bytes]:
        """Return the contiguous prefix."""
        held = self.held.get((epoch, lane), Held(epoch, lane))
        return [held.bodies[seq] for seq in range(1, held.upto + 1) if seq not in held.missing]

    def on(self, topic: str) -> list[Message]:
        return [message for message in self.messages if message.topic == topic]

    def sent_to(self, topic: str) -> list[Batch]:
        """Return every batch that came on a topic, committed or not."""
        return [read_batch(message) for message in self.on(topic)]

    # -- out -----------------------------------------------------------------------------------

    def publish(
        self,
        topic: str,
        payload: bytes | dict[str, Any],
        *,
        retain: bool = False,
        response_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> paho.MQTTMessageInfo:
        """Publish below ``{root}/{site}/``, whatever it may be."""
        properties = None
        if response_topic is not None or correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)
            if response_topic is not None:
                properties.ResponseTopic = response_topic
            if correlation is not None:
                properties.CorrelationData = correlation
        text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self._client.publish(f"{self._base}/{topic}", text, 1, retain, properties)

    def receipt(self, epoch: str, lane: str, **changes: Any) -> dict[str, Any]:
        """Return the receipt that is due, with changes."""
        held = self.held.get((epoch, lane), Held(epoch, lane))
        due = {
            "v": 1,
            "consumer": self.name,
            "incarnation": self.incarnation,
            "site": self._site,
            "epoch": epoch,
            "lane": lane,
            "upto": held.upto,
            "chain": held.chain.hex(),
            "quarantined": [],
        }
        return due | changes

    def send_receipt(self, epoch: str, lane: str, **changes: Any) -> None:
        self.publish(f"receipt/{self.name}", self.receipt(epoch, lane, **changes))

    def send_request(
        self,
        request: str,
        *,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        **facts: Any,
    ) -> str:
        """Send a request; return its id."""
        request_id = f"{self.name}-{next(self._numbers)}"
        content = {"v": 1, "request": request, "id": request_id, **facts}
        self.publish(
            f"request/{self.name}",
            content,
            response_topic=response_topic,
            correlation=correlation,
        )
        return request_id

    async def answer(self, request_id: str, topic: str | None = None) -> Message:
        """Wait for the reply to a request."""
        found: list[Message] = []

        def came() -> bool:
            replies = self.on(topic or f"reply/{self.name}")
            found[:] = [each for each in replies if each.json.get("id") == request_id]
            return bool(found)

        await until(f"the reply to {request_id}", came)
        return found[0]

    async def ask(self, request: str, **facts: Any) -> dict[str, Any]:
        """Send a request; return the reply."""
        return (await self.answer(self.send_request(request, **facts))).json

"""What consumers send: any bytes on any topic get an answer or none, and end nothing.

Method: properties, on a real journal; what would be published is kept in a list.
"""

import asyncio
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.journal import Journal, Recorder
from edgeagent.journal.store import Consumer
from edgeagent.model.record import Lane, Record, encode_json
from edgeagent.model.settings import StreamSettings
from edgeagent.mqtt import Message
from edgeagent.publish.delivery import Delivery
from edgeagent.publish.incoming import WAITING_MAX, Incoming, RefusalLog
from tests.unit.publish.site import HandClock

BASE = "edge/v1/berlin-1"


class Door:
    """An :class:`Incoming` on a journal of 20 records, with lists where the others would be."""

    def __init__(self) -> None:
        self.said: list[tuple[str, bytes]] = []
        self.replays: list[Any] = []
        self.epochs: list[str] = []
        self.directory = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self._open())

    async def _open(self) -> None:
        self.journal = await Journal.open(Path(self.directory.name), HandClock())
        recorder = Recorder(self.journal, HandClock(), commit_within_s=0.01, held_bytes_max=1 << 20)
        await self.journal.append([Record(Lane.DATA, "G", b"1]")] * 20)
        await self.journal.save_consumer(Consumer("central", "enrolled", "i"))
        delivery = Delivery("berlin-1", "edge/v1", StreamSettings(), recorder)
        self.incoming = Incoming(delivery, self, RefusalLog(delivery), self.new_epoch)  # type: ignore[arg-type]
        self.incoming._catch_ups = self  # type: ignore[assignment]
        self.recording = asyncio.create_task(recorder.run())

    def say(self, topic: str, value: Mapping[str, Any], **_: Any) -> None:
        self.said.append((topic, encode_json(value)))

    def replay(self, *what: Any) -> bool:
        self.replays.append(what)
        return True

    async def serve(self, _: Consumer) -> None:
        """Nobody is served here."""

    async def new_epoch(self, cause: str) -> None:
        self.epochs.append(cause)

    def take(self, kind: str, payload: bytes, response_topic: str | None = None) -> None:
        message = Message(f"{BASE}/{kind}/central", payload, False, response_topic, None, 1)
        handle = self.incoming._receipt if kind == "receipt" else self.incoming._request
        self.loop.run_until_complete(handle("central", message))

    async def _close(self) -> None:
        self.recording.cancel()
        await asyncio.gather(self.recording, return_exceptions=True)
        await self.journal.close()

    def close(self) -> None:
        self.loop.run_until_complete(self._close())
        self.loop.close()
        self.directory.cleanup()


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-2, 25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(payload=st.binary(max_size=100) | json_values.map(lambda v: json.dumps(v).encode()))
@pytest.mark.parametrize("kind", ["receipt", "request"])
def test_any_bytes_are_answered(door: Door, kind: str, payload: bytes) -> None:
    before = len(door.said)
    door.take(kind, payload)
    ((topic, answer),) = door.said[before:]
    assert topic == f"{BASE}/reply/central"
    expected = {"receipt": "receipt-refused", "request": "error"}[kind]
    assert json.loads(answer)["reply"] == expected
    assert len(answer) < 1000


@given(st.data())
def test_any_request_is_answered_truly(door: Door, data: st.DataObject) -> None:
    """Goal: a reply divides what was asked for into what comes and what does not, whatever else
    stands in the request.
    """
    request = {
        "v": 1,
        "request": "replay",
        "id": data.draw(json_values, "id"),
        "epoch": door.journal.epoch.uuid,
        "lane": "data",
        "from": data.draw(json_values | st.integers(0, 25), "from"),
        "to": data.draw(json_values | st.integers(0, 25), "to"),
        data.draw(st.text(max_size=5), "key"): data.draw(json_values, "value"),
    }
    said, replays = len(door.said), len(door.replays)
    door.take("request", json.dumps(request).encode())
    ((_, answer),) = door.said[said:]
    reply = json.loads(answer)
    if isinstance(request["id"], str | int):
        assert reply["id"] == request["id"]
    if reply["reply"] == "error":
        assert len(door.replays) == replays
        return
    first, last = max(1, request["from"]), request["to"]
    held = set(range(1, 21))
    wanted = set(range(first, min(20 if last is None else last, 10**4) + 1))
    low, high = reply["available"] or (1, 0)
    coming = set(range(low, high + 1))
    assert coming == wanted & held
    if last is None or last < 10**4:
        gone = {n for a, b in reply["unavailable"] for n in range(a, b + 1)}
        assert gone == wanted - held
    assert len(door.replays) == replays + bool(coming)


@given(st.text(max_size=30) | st.text(max_size=10).map(lambda text: f"{BASE}/reply/{text}"))
def test_an_answer_never_leaves_our_replies(door: Door, response_topic: str) -> None:
    before = len(door.said)
    door.take("request", b"{}", response_topic)
    ((topic, _),) = door.said[before:]
    assert topic.startswith(f"{BASE}/reply/")
    assert not set(topic) & set("+#")


async def test_what_waits_is_bounded(door: Door) -> None:
    """Goal: a flood is let go, not kept: consumers repeat their receipts."""
    delivery = door.incoming._delivery
    flooded = Incoming(delivery, door, RefusalLog(delivery), door.new_epoch)  # type: ignore[arg-type]
    for _ in range(WAITING_MAX + 10):
        flooded.on_message(Message(f"{BASE}/receipt/central", b"", False, None, None, 1))
    assert flooded._waiting.qsize() == WAITING_MAX

"""Topics, and what becomes of everything that can arrive on them."""

import json

import pytest

from edgeagent.central.messages import (
    Topics,
    conflict_request,
    replay_request,
    sort_out,
)
from edgeagent.central.store import LaneKey, OpenConflict, Unavailable
from edgeagent.model.record import Batch, Lane, extend_chain, genesis
from edgeagent.mqtt import Message

EPOCH = "0192a7c4-0000-7000-8000-000000000001"
KEY = LaneKey("berlin-1", EPOCH, Lane.DATA)
TOPICS = Topics("org/edge/v1", "+", "central")


def batch(**changes) -> Batch:
    bodies = [b'["?",1]', b'["?",2]']
    start = genesis(EPOCH, Lane.DATA)
    whole = Batch("berlin-1", EPOCH, Lane.DATA, 1, bodies, start, extend_chain(start, bodies))
    return whole._replace(**changes)


def sort_one(topic: str, payload: bytes | dict):
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return sort_out([Message(f"org/edge/v1/{topic}", data, False, None, None, 1)], TOPICS)


def test_what_is_subscribed_to():
    assert Topics("edge/v1", "berlin-1", "central").filters(shared=False) == [
        "edge/v1/berlin-1/data",
        "edge/v1/berlin-1/event",
        "edge/v1/berlin-1/to/central/data",
        "edge/v1/berlin-1/to/central/event",
        "edge/v1/berlin-1/head",
        "edge/v1/berlin-1/reply/central",
    ]
    assert TOPICS.filters(shared=True)[0] == "$share/central/org/edge/v1/+/data"
    assert TOPICS.receipt("b") == "org/edge/v1/b/receipt/central"
    assert TOPICS.request("b") == "org/edge/v1/b/request/central"


@pytest.mark.parametrize("topic", ["berlin-1/data", "berlin-1/to/central/data"])
def test_a_batch(topic):
    done = sort_one(topic, batch().encode())
    assert done.rejected == 0
    assert done.work.batches == [(batch(missing=[]), batch().encode())]


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("berlin-2/data", batch().encode()),
        ("berlin-1/event", batch().encode()),
        ("berlin-1/data", b""),
        ("berlin-1/data", b"\xff\xff"),
        ("berlin-1/data", batch().encode() + b"\n"),
        ("berlin-1/data", batch().encode().replace(b'"v":1', b'"v":2')),
        ("berlin-1/data", batch().encode().replace(b'["?",2]', b'["?",3]')),
        ("berlin-1/data", batch(prev=b"\1" * 31).encode()),
        ("berlin-1/data", batch(epoch="ep\0och").encode()),
        ("berlin-1/data", batch(first=2**63).encode()),
        ("berlin-1/data", batch(bodies=[]).encode()),
        ("berlin-1/data", batch(missing=(9,)).encode()),
        ("b\u00e4rlin/data", batch(site="b\u00e4rlin").encode()),
        ("berlin-1/head", b"[]"),
        ("berlin-1/head", {"site": "berlin-2", "epoch": EPOCH, "lanes": {}}),
        ("berlin-1/head", {"site": "berlin-1", "epoch": "\0", "lanes": {"data": {"highest": 1}}}),
        ("berlin-1/reply/central", b"nonsense"),
        ("berlin-1/reply/central", {"reply": "conflict", "id": "conflict-x", "epoch": EPOCH}),
        ("berlin-1/reply/central", {"reply": "conflict", "id": "conflict-1", "epoch": "\0"}),
        (
            "berlin-1/reply/central",
            {"reply": "replay", "epoch": EPOCH, "lane": "data", "unavailable": [[5, 4]]},
        ),
        ("berlin-1/reply/central", {"reply": "receipt-refused", "epoch": EPOCH, "lane": "x"}),
    ],
)
def test_what_cannot_be_trusted_becomes_an_event(topic, payload):
    done = sort_one(topic, payload)
    assert done.rejected == 1
    assert [note.severity for note in done.work.notes] == ["warning"]
    assert not done.work.batches
    assert not done.work.asked
    assert not done.work.answered


@pytest.mark.parametrize(
    "topic", ["berlin-1/to/other/data", "berlin-1/schema/x/1", "berlin-1/reply/other", "x"]
)
def test_what_is_not_for_us_is_left_alone(topic):
    done = sort_one(topic, b"\xff")
    assert done.rejected == 0
    assert not done.work.notes


def test_a_head_asks_for_receipts_in_every_epoch_that_the_journal_holds():
    lanes = {"data": {"lowest": 1, "highest": 102, "chain": "a0"}, "later": {"highest": 1}}
    earlier = [{"epoch": "old", "lanes": {"event": {"lowest": 3, "highest": 9, "chain": ""}}}]
    head = {"v": 1, "site": "berlin-1", "epoch": EPOCH, "lanes": lanes, "earlier": earlier}
    done = sort_one("berlin-1/head", head)
    old = LaneKey("berlin-1", "old", Lane.EVENT)
    assert done.work.asked == {KEY, old}
    assert done.highest == {KEY: 102, old: 9}
    assert done.work.sites == {"berlin-1"}


def test_only_what_lies_below_what_the_agent_holds_is_gone():
    reply = {"v": 1, "reply": "replay", "id": 1, "epoch": EPOCH, "lane": "data"}

    def gone(**more):
        return sort_one("berlin-1/reply/central", reply | more).work.unavailable

    assert gone(available=[5, 9], unavailable=[[1, 4]]) == [Unavailable(KEY, 1, 4)]
    assert gone(available=[5, 9], unavailable=[[1, 4], [10, 12]]) == [Unavailable(KEY, 1, 4)]
    assert gone(available=None, unavailable=[[1, 4]]) == []
    assert gone(available=[1, 9], unavailable=[]) == []


def test_other_replies():
    done = sort_one(
        "berlin-1/reply/central", {"reply": "conflict", "id": "conflict-7", "epoch": "n"}
    )
    assert done.work.answered == {7: "n"}
    refused = {"reply": "receipt-refused", "epoch": EPOCH, "lane": "data", "upto": 9, "reason": "r"}
    done = sort_one("berlin-1/reply/central", refused)
    assert [(note.type, note.key) for note in done.work.notes] == [("receipt.refused", KEY)]
    done = sort_one("berlin-1/reply/central", {"reply": "error", "id": None, "error": "no\0"})
    assert [note.type for note in done.work.notes] == ["request.refused"]
    assert not sort_one("berlin-1/reply/central", {"reply": "later"}).work.notes


def test_requests():
    """A replay asks for the record behind the range too: see what the reply then means."""
    request = json.loads(replay_request(KEY, 5, 9))
    assert request == {
        "v": 1,
        "request": "replay",
        "id": request["id"],
        "epoch": EPOCH,
        "lane": "data",
        "from": 5,
        "to": 10,
    }
    request = json.loads(conflict_request(OpenConflict(7, KEY, 81, "aa", "bb")))
    assert request == {
        "v": 1,
        "request": "conflict",
        "id": "conflict-7",
        "epoch": EPOCH,
        "lane": "data",
        "seq": 81,
        "held": "aa",
        "offered": "bb",
    }

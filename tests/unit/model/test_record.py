"""Bodies, batches and the chain are what docs/mqtt.md says, to the byte.

Method: golden bytes written from the document alone; properties for what comes back.
"""

import base64
import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.acquire.condition import compile_conditioner
from edgeagent.acquire.encode import compile_encoder, schema_description
from edgeagent.model.frame import DataType, Frame, GroupSchema, Origin, Scale, TagSchema
from edgeagent.model.record import (
    Batch,
    Bound,
    Instant,
    Lane,
    Record,
    context_record,
    decode_batch,
    decode_receipt,
    event_record,
    evidence_text,
    extend_chain,
    gap_record,
    genesis,
    schema_record,
)

AT = Instant(1795403350123456789, 86400123456789)
EPOCH = "0192a6e4-7b11-7c3a-9d52-3f1c2b4a5d6e"
GROUP = GroupSchema(
    "probe-1",
    "measurements",
    (
        TagSchema("ph", DataType.FLOAT32, "[pH]", low=0.0, high=14.0),
        TagSchema("temperature", DataType.INT16, "Cel", scale=Scale(1, 0, 10)),
    ),
    10**9,
    "acme-b200",
    "1.2.0",
)


def frame_body(seq=101, *, commissioned=True, **facts) -> bytes:
    facts = {"values": (7.210000038146973, 370), "raw": bytes.fromhex("030a")} | facts
    frame = Frame(GROUP, received_utc_ns=AT.utc_ns, received_boot_ns=AT.boot_ns, **facts)
    conditioned = compile_conditioner(GROUP.tags)(frame)
    return compile_encoder(GROUP, 3)(frame, conditioned, 2, commissioned).body(seq)


def test_schema_body():
    record = schema_record(3, AT, schema_description(GROUP))
    assert record.lane is Lane.DATA
    assert record.body(7) == (
        b'["S",7,3,1795403350123456789,86400123456789,{"instrument":"probe-1",'
        b'"group":"measurements","profile":"acme-b200","profile_version":"1.2.0",'
        b'"period_ns":1000000000,"tags":['
        b'{"name":"ph","type":"FLOAT32","unit":"[pH]","range":[0.0,14.0]},'
        b'{"name":"temperature","type":"INT16","unit":"Cel","scale":[1,0,10]}]}]'
    )


@pytest.mark.parametrize("lane", Lane)
def test_context_body(lane):
    clock = {"state": "synced", "error_ns": 1048576, "source": "chrony"}
    record = context_record(lane, 2, AT, {"boot_id": "b1", "clock": clock, "batches": {}})
    assert record.lane is lane
    assert record.body(1) == (
        b'["C",1,2,1795403350123456789,86400123456789,{"boot_id":"b1",'
        b'"clock":{"state":"synced","error_ns":1048576,"source":"chrony"},"batches":{}}]'
    )


def test_event_body():
    record = event_record(
        4, AT, "identity.mismatch", "alarm", "größer als\nerwartet", {"instrument": "probe-1"}
    )
    assert record.lane is Lane.EVENT
    assert (
        record.body(12)
        == (
            '["E",12,4,1795403350123456789,86400123456789,"identity.mismatch",{"severity":"alarm",'
            '"text":"größer als\\nerwartet","instrument":"probe-1"}]'
        ).encode()
    )


LONG_REPLY = bytes(range(33))
LONG_DIGEST = base64.urlsafe_b64encode(hashlib.sha256(LONG_REPLY).digest()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("facts", "behind_boot"),
    [
        ({}, '0,0,null,null,null,[7.21,37.0],null,"x:030a"]'),
        ({"raw": None}, "0,0,null,null,null,[7.21,37.0],null,null]"),
        ({"raw": b""}, '0,0,null,null,null,[7.21,37.0],null,"x:"]'),
        ({"raw": LONG_REPLY}, f'0,0,null,null,null,[7.21,37.0],null,"s:{LONG_DIGEST}"]'),
        ({"origin": Origin.BACKFILL}, '1,0,null,null,null,[7.21,37.0],null,"x:030a"]'),
        ({"origin": Origin.TEST}, '2,0,null,null,null,[7.21,37.0],null,"x:030a"]'),
        ({"source_utc_ns": 17}, '0,0,null,17,null,[7.21,37.0],null,"x:030a"]'),
        (
            {"source_utc_ns": (17, None), "server_utc_ns": (18, 19)},
            '0,0,null,[17,null],[18,19],[7.21,37.0],null,"x:030a"]',
        ),
        (
            {"present": (1,), "values": (None, -5), "source_utc_ns": (None, 17)},
            '0,0,[1],[17],null,[-0.5],null,"x:030a"]',
        ),
        (
            {"values": (14.100000381469727, 370)},
            '0,[[0,1083441152]],null,null,null,[14.1,37.0],null,"x:030a"]',
        ),
        (
            {"values": (float("nan"), 370)},
            '0,[[0,2151416832]],null,null,null,[null,37.0],null,"x:030a"]',
        ),
        ({"commissioned": False}, '0,1073741824,null,null,null,[7.21,37.0],null,"x:030a"]'),
    ],
)
def test_frame_body(facts, behind_boot):
    head = '["F",101,3,2,1795403350123456789,86400123456789,'
    assert frame_body(**facts) == (head + behind_boot).encode()


@pytest.mark.parametrize(
    ("gap", "behind_boot"),
    [
        (
            (7, "timeout", Bound(5, None), None, None, "no answer in 1 s"),
            '7,"timeout",[5,null],null,null,"no answer in 1 s"]',
        ),
        (
            (7, "timeout", Bound(5, 6), AT, [1], None),
            f'7,"timeout",[5,6],[{AT[0]},{AT[1]}],[1],null]',
        ),
        ((1, "first_value", None, None, None, None), '1,"first_value",null,null,null,null]'),
    ],
)
def test_gap_body(gap, behind_boot):
    record = gap_record(3, 2, AT, *gap)
    assert record.lane is Lane.DATA
    head = '["G",102,3,2,1795403350123456789,86400123456789,'
    assert record.body(102) == (head + behind_boot).encode()


@given(st.binary(max_size=200))
def test_evidence_is_the_reply_or_its_digest(raw):
    stated = json.loads(evidence_text(raw))
    if len(raw) <= 32:
        assert bytes.fromhex(stated.removeprefix("x:")) == raw
    else:
        digest = base64.urlsafe_b64decode(stated.removeprefix("s:") + "=")
        assert digest == hashlib.sha256(raw).digest()


def test_chain_is_the_one_of_the_document():
    start = hashlib.sha256(b"edgeagent/1|" + EPOCH.encode() + b"|data").digest()
    assert genesis(EPOCH, Lane.DATA) == start
    assert genesis(EPOCH, Lane.EVENT) != start
    first = hashlib.sha256(start + b'["F",1]').digest()
    second = hashlib.sha256(first + b'["F",2]').digest()
    assert extend_chain(start, [b'["F",1]', b'["F",2]']) == second
    assert extend_chain(start, []) == start


bodies = st.lists(
    st.builds(lambda values: json.dumps(values).encode(), st.lists(st.text(max_size=5))),
    max_size=20,
)


@given(bodies, st.sampled_from(Lane), st.integers(1, 2**48), st.lists(st.booleans(), max_size=4))
def test_a_batch_comes_back_as_it_was(stored, lane, first, destroyed):
    missing = [first + index for index, gone in enumerate(destroyed) if gone]
    stored = stored + [b"[]"] * (len(destroyed) - len(missing))
    prev = genesis(EPOCH, lane)
    batch = Batch("berlin-1", EPOCH, lane, first, stored, prev, extend_chain(prev, stored), missing)
    payload = batch.encode()
    assert decode_batch(payload) == batch
    header = json.loads(payload.split(b"\n")[0])
    assert payload.split(b"\n")[1:] == stored
    assert header["count"] == len(stored)
    assert ("missing" in header) == ("last" in header) == bool(missing)
    assert batch.last == first + len(stored) + len(missing) - 1 == header.get("last", batch.last)


def test_batch_bytes_are_those_of_the_document():
    batch = Batch("berlin-1", "e", Lane.DATA, 101, [b'["F",101]'], bytes(32), b"\xa0" * 32)
    assert batch.encode() == (
        b'{"v":1,"site":"berlin-1","epoch":"e","lane":"data","first":101,"count":1,'
        b'"prev":"' + b"00" * 32 + b'","chain":"' + b"a0" * 32 + b'"}\n["F",101]'
    )


def test_keys_of_later_versions_are_ignored():
    batch = Batch("berlin-1", "e", Lane.DATA, 1, [b"[]"], bytes(32), bytes(32), [])
    head, body = batch.encode().split(b"\n")
    more = json.dumps(json.loads(head) | {"colour": "blue"}).encode()
    assert decode_batch(more + b"\n" + body) == batch


def header(**changes) -> bytes:
    stated = {
        "v": 1, "site": "s", "epoch": "e", "lane": "data", "first": 1, "count": 1,
        "prev": "00" * 32, "chain": "00" * 32,
    } | changes  # fmt: skip
    return json.dumps({k: v for k, v in stated.items() if v is not None}).encode() + b"\n[]"


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "batch header"),
        (b"\xff\xfe", "batch header"),
        (b"[]", "batch header: Expected `object`, got `array`"),
        (header(site=None), "missing required field `site`"),
        (header(v=2), "envelope version 2; this program reads 1"),
        (header(lane="audit"), "Invalid enum value 'audit'"),
        (header(first=0), "does not fit its bodies"),
        (header(first=-5), "does not fit its bodies"),
        (header(count=2), "does not fit its bodies"),
        (header(count=0), "does not fit its bodies"),
        (header(prev="00"), "does not fit its bodies"),
        (header(chain="xy" * 32), "non-hexadecimal"),
        (header(first="1"), "Expected `int`, got `str`"),
        (header(missing=[0]), "does not fit its bodies"),
        (header(missing=[2, 2]), "does not fit its bodies"),
        (header(missing=[3]), "does not fit its bodies"),
        (header(missing=["2"]), "Expected `int`, got `str`"),
    ],
)
def test_malformed_batches_are_refused_with_words(payload, words):
    with pytest.raises(ValueError, match=words):
        decode_batch(payload)


@given(st.binary(max_size=300))
def test_no_payload_at_all_raises_anything_else(payload):
    with pytest.raises(ValueError, match=r"."):
        decode_batch(payload)


RECEIPT = {
    "v": 1, "consumer": "central", "incarnation": "i", "site": "s", "epoch": "e", "lane": "data",
    "upto": 102, "chain": "a0" * 32, "quarantined": [3],
}  # fmt: skip


def test_receipts_come_back_and_their_key_order_is_that_of_the_document():
    payload = json.dumps(RECEIPT, separators=(",", ":")).encode()
    receipt = decode_receipt(payload)
    assert (receipt.upto, receipt.lane, receipt.quarantined) == (102, Lane.DATA, [3])
    assert receipt.encode() == payload
    assert decode_receipt(json.dumps(RECEIPT | {"later": 1}).encode()) == receipt


@pytest.mark.parametrize("fault", [{"lane": "x"}, {"upto": "7"}, {"v": None}, {"chain": 5}])
def test_malformed_receipts_are_refused(fault):
    with pytest.raises(msgspec.DecodeError):
        decode_receipt(json.dumps(RECEIPT | fault).encode())


@given(st.text(), st.integers(1, 2**48))
def test_no_body_ever_holds_a_line_feed(text, seq):
    for record in (
        schema_record(1, AT, {"instrument": text}),
        context_record(Lane.EVENT, 1, AT, {"agent": text}),
        event_record(1, AT, text, text, text, {text: text}),
        gap_record(1, 1, AT, 1, text, None, None, None, text),
    ):
        body = record.body(seq)
        assert b"\n" not in body
        assert json.loads(body)[:2] == [record.kind, seq]


def test_a_record_gets_its_number_late():
    assert Record(Lane.DATA, "F", b"1]").body(9) == b'["F",9,1]'

"""What counts as a record of the contract, and what is a poison record."""

import pytest

from edgeagent.central.bodies import Facts, inspect
from edgeagent.model.record import (
    Instant,
    Lane,
    Record,
    context_record,
    event_record,
    gap_record,
    schema_record,
)

AT = Instant(1_795_403_350_123_456_789, 86_400_123_456_789)
TAGS = [{"name": "a", "type": "FLOAT64", "unit": "Cel", "range": [0, 1]}]
SCHEMA = {"instrument": "i", "group": "g", "period_ns": 1, "tags": TAGS, "profile": "p"}
FRAME = b'["F",101,3,2,%d,%d,0,0,null,null,null,[7.21,-0.0],null,"x:030a"]' % AT


@pytest.mark.parametrize(
    ("record", "schema"),
    [
        (schema_record(7, AT, SCHEMA), 7),
        (context_record(Lane.DATA, 2, AT, {"boot_id": "b", "clock": None}), None),
        (context_record(Lane.EVENT, 2, AT, {}), None),
        (gap_record(3, 2, AT, 5, "timeout", None, None, None, None), 3),
        (gap_record(3, 2, AT, 5, "timeout", Instant(1, None), AT, [0, 4], "late"), 3),
        (event_record(2, AT, "agent.started", "info", "x", {"facts": [1]}), None),
    ],
)
def test_what_the_agent_writes_is_a_record(record, schema):
    facts = inspect(record.body(101), 101, record.lane)
    assert facts == Facts(record.kind, AT.utc_ns, schema, None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"", b""),
        (b"0,0,null", b"1,[[0,2151416832],[1,0]],[0,4]"),
        (b"null,null,[", b"5,[1,null],["),
        (b"[7.21,-0.0]", b"[18446744073709551615,-9223372036854775808]"),
        (b"[7.21,-0.0]", '[null,true,"µ"]'.encode()),
        (b"[7.21,-0.0],null", b"[],[[0,7.2],[1,null]]"),
        (b'"x:030a"', b"null"),
        (b'"x:030a"', b'"x:030a","appended",{"later":[1]}'),
    ],
)
def test_every_shape_of_a_frame(old, new):
    body = FRAME.replace(old, new, 1)
    assert body != FRAME or not old
    assert inspect(body, 101, Lane.DATA) == Facts("F", AT.utc_ns, 3, None)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "truncated"),
        (b"null", "array"),
        (b"{}", "array"),
        (b"[]", "length"),
        (FRAME[:-1], "truncated"),
        (FRAME + b"]", "trailing"),
        (FRAME.replace(b'"F"', b'"Q"'), "'Q'"),
        (FRAME.replace(b'"F",101', b'"F",102'), "number 102"),
        (FRAME.replace(b"101", b"1e999"), "range"),
        (FRAME.replace(b"-0.0", b"NaN"), "invalid"),
        (FRAME.replace(b"-0.0", b"1e999"), "range"),
        (FRAME.replace(b"[7.21,-0.0]", b"7.21"), "array"),
        (FRAME.replace(b"[7.21,-0.0]", b"[[1]]"), "array"),
        (FRAME.replace(b"x:030a", b"\xff\xfe"), "utf-8"),
        (FRAME.replace(b"%d" % AT.utc_ns, b"%d" % 2**63), "<="),
        (b'["C",101,2,1,1,{"deep":' + b"[" * 100_000, "recursion"),
        (event_record(2, AT, "x", "info", "y", {}).body(101), "lane data"),
        (schema_record(7, AT, {"instrument": "i"}).body(101), "group"),
    ],
)
def test_a_poison_record_says_why(body, words):
    facts = inspect(body, 101, Lane.DATA)
    assert facts[:3] == ("?", None, None)
    assert words in facts.fault
    assert len(facts.fault) < 400


def test_a_frame_does_not_belong_among_events():
    frame = Record(Lane.DATA, "F", FRAME.split(b",", 2)[2])
    assert "lane event" in inspect(frame.body(4), 4, Lane.EVENT).fault

"""What a frame held can be had back from its body with the document alone.

Method: any frame through conditioning and encoding, then through ``reader``, which imports
nothing of ours.
"""

import json
import math
import struct

from hypothesis import given
from hypothesis import strategies as st

from edgeagent.acquire.condition import compile_conditioner
from edgeagent.acquire.encode import compile_encoder, schema_description
from edgeagent.model.frame import DataType, Frame, GroupSchema, Origin, TagSchema
from tests.unit.acquire.reader import read_frame
from tests.unit.acquire.test_condition import frames, tag_schemas

UNCERTAIN = 0x40000000
times = st.none() | st.integers(-(2**62), 2**62)


@st.composite
def timed_frames(draw):
    frame = draw(frames())
    count = len(frame.group.tags)
    per_tag = st.lists(times, min_size=count, max_size=count).map(tuple)
    source, server = draw(times | per_tag), draw(times | per_tag)
    raw = draw(st.none() | st.binary(max_size=40))
    return Frame(
        frame.group, frame.values, draw(st.integers(0, 2**62)), draw(st.integers(0, 2**62)), raw,
        frame.present, frame.status, source, server, draw(st.sampled_from(Origin)),
    )  # fmt: skip


def encode(frame: Frame, conditioned, commissioned=True):
    return compile_encoder(frame.group, 3)(frame, conditioned, 2, commissioned)


def of_tag(stated, index):
    return stated[index] if isinstance(stated, tuple) else stated


def equal(kind: DataType, value, back) -> bool:
    if isinstance(value, float):  # 37.0 of a FLOAT32 may be written 37
        width = "<f" if kind is DataType.FLOAT32 else "<d"
        return struct.pack(width, value) == struct.pack(width, back)
    return type(value) is type(back) and value == back


@given(timed_frames(), st.booleans())
def test_a_body_gives_back_what_the_frame_held(frame, commissioned):
    conditioned = compile_conditioner(frame.group.tags)(frame)
    record = encode(frame, conditioned, commissioned)
    body = record.body(101)
    assert body.startswith(b'["F",101,3,2,')
    read = read_frame(body, len(frame.group.tags))
    assert (read.schema, read.context) == (3, 2)
    assert (read.utc, read.boot) == (frame.received_utc_ns, frame.received_boot_ns)
    assert read.origin == int(frame.origin)
    present = range(len(frame.group.tags)) if frame.present is None else frame.present
    assert list(read.tags) == list(present)
    codes = dict(conditioned.statuses)
    for index, tag in read.tags.items():
        assert equal(frame.group.tags[index].type, conditioned.values[index], tag.value)
        assert tag.source == of_tag(frame.source_utc_ns, index)
        assert tag.server == of_tag(frame.server_utc_ns, index)
        code = codes.get(index, 0)
        if commissioned or code >> 30:
            assert tag.status == code
        else:
            assert tag.status == UNCERTAIN


@given(timed_frames())
def test_long_evidence_stays_beside_the_body(frame):
    conditioned = compile_conditioner(frame.group.tags)(frame)
    record = encode(frame, conditioned)
    long = frame.raw is not None and len(frame.raw) > 32
    assert record.evidence == (frame.raw if long else None)
    stated = json.loads(record.body(1))[13]
    assert (stated is None) == (frame.raw is None)
    assert stated is None or stated.startswith("s:" if long else "x:")


def test_a_body_has_no_white_space():
    group = GroupSchema("i", "g", (TagSchema("t", DataType.FLOAT32),) * 2, 10**9, "p", "1.0.0")
    frame = Frame(group, (1.5, math.nan), 1, 2, present=(0, 1), source_utc_ns=(3, None))
    body = encode(frame, compile_conditioner(group.tags)(frame)).body(1)
    assert body == b'["F",1,3,2,1,2,0,[[1,2151416832]],[0,1],[3,null],null,[1.5,null],null,null]'


@given(st.lists(tag_schemas(), min_size=1, max_size=5))
def test_a_schema_says_what_its_values_mean(tags):
    named = [TagSchema(f"t{i}", *_rest(tag)) for i, tag in enumerate(tags)]
    group = GroupSchema("probe-1", "all", tuple(named), 10**9, "acme", "1.0.0")
    stated = json.loads(json.dumps(schema_description(group)))
    assert {k: v for k, v in stated.items() if k != "tags"} == {
        "instrument": "probe-1",
        "group": "all",
        "profile": "acme",
        "profile_version": "1.0.0",
        "period_ns": 10**9,
    }
    for tag, said in zip(named, stated["tags"], strict=True):
        assert (said["name"], said["type"], said["unit"]) == (tag.name, tag.type.value, tag.unit)
        assert said.get("scale", [1, 0, 1]) == list(tag.scale)
        assert said.get("range", [None, None]) == [tag.low, tag.high]


def _rest(tag: TagSchema):
    return tag.type, tag.unit, tag.scale, tag.low, tag.high, tag.sentinels

"""Conditioning of a whole frame is the conditioning of its single values.

Method: an oracle that treats one value after the other, slowly, straight from docs/mqtt.md 3.6
and the profile's words; the property holds the compiled conditioner against it.
"""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.acquire.condition import compile_conditioner
from edgeagent.model.frame import DataType, Frame, GroupSchema, Scale, TagSchema

FLOATS = (DataType.FLOAT32, DataType.FLOAT64)
INTEGERS = {
    DataType.INT8: (-(2**7), 2**7 - 1),
    DataType.UINT8: (0, 2**8 - 1),
    DataType.INT16: (-(2**15), 2**15 - 1),
    DataType.UINT16: (0, 2**16 - 1),
    DataType.INT32: (-(2**31), 2**31 - 1),
    DataType.UINT32: (0, 2**32 - 1),
    DataType.INT64: (-(2**63), 2**63 - 1),
    DataType.UINT64: (0, 2**64 - 1),
}
GOOD, UNCERTAIN_RANGE, SENSOR = 0, 0x40940000, 0x808C0000
THOUSANDTH = Scale(1, 0, 1000)
NAN, PLUS, MINUS = 0x803C0400, 0x803C0600, 0x803C0500


def binary32(value: float) -> float:
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def width(tag: TagSchema, value: float) -> float:
    """A number as the tag's own width holds it."""
    return binary32(value) if tag.type is DataType.FLOAT32 else value


def one(tag: TagSchema, raw, present: bool, theirs: int):
    """(value, status) of one tag."""
    if not present or raw is None:
        value, status = None, GOOD
    elif any(raw == (width(tag, s) if isinstance(s, float) else s) for s in tag.sentinels):
        value, status = None, SENSOR
    elif tag.type in (DataType.BOOL, DataType.STRING):
        value, status = raw, GOOD
    else:
        value, status = number(tag, raw)
    if not present:
        return None, GOOD
    if theirs and theirs >> 30 >= status >> 30:
        status = theirs
    return (None if status >> 31 else value), status


def number(tag: TagSchema, raw):
    numerator, shift, denominator = tag.scale
    value = raw
    if math.isfinite(raw) and tag.scale != (1, 0, 1):
        value = raw * numerator + shift
        value = value if denominator == 1 and tag.type not in FLOATS else value / denominator
        value = width(tag, value)
    if not math.isfinite(value):
        return None, NAN if math.isnan(value) else PLUS if value > 0 else MINUS
    low = -math.inf if tag.low is None else width(tag, tag.low)
    high = math.inf if tag.high is None else width(tag, tag.high)
    return value, GOOD if low <= value <= high else UNCERTAIN_RANGE


scales = st.sampled_from(
    [Scale(), Scale(), Scale(1, 0, 10), Scale(25, -819200, 4096), Scale(-2), Scale(1, 3, 1)]
)
interesting = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e300, 3e38, 37.2])


def raw_of(kind: DataType):
    if kind is DataType.BOOL:
        return st.booleans()
    if kind is DataType.STRING:
        return st.sampled_from(["", "n/a", "ERR"]) | st.text(max_size=3)
    if kind in FLOATS:
        small = st.integers(-50, 50).map(float)
        value = small | interesting | st.floats(width=32 if kind is DataType.FLOAT32 else 64)
        return value.map(binary32) if kind is DataType.FLOAT32 else value
    return st.integers(-3, 3).filter(lambda x: x >= INTEGERS[kind][0]) | st.integers(
        *INTEGERS[kind]
    )


@st.composite
def tag_schemas(draw):
    kind = draw(st.sampled_from(list(DataType)))
    if kind in (DataType.BOOL, DataType.STRING):
        sentinels = draw(st.sampled_from([(), ("n/a", "ERR") if kind is DataType.STRING else (1,)]))
        return TagSchema("t", kind, sentinels=sentinels)
    low, high = draw(st.sampled_from([(None, None), (-10.0, 10.0), (0.0, 37.2), (-1e300, 1e300)]))
    sentinels = draw(st.sampled_from([(), (0,), (-1, 2), (-9999.9, 3), (37.2,)]))
    return TagSchema("t", kind, "1", draw(scales), low, high, sentinels)


statuses = st.sampled_from([0, 0, 0x00300000, 0x40000000, 0x80000000, 0x800A0000, 0x40940000])


@st.composite
def frames(draw):
    """Runs of equal tags and single ones, some absent, some with a status of the device."""
    tags = []
    for tag in draw(st.lists(tag_schemas(), min_size=1, max_size=4)):
        tags += [tag] * draw(st.integers(1, 4))
    present = draw(st.none() | st.sets(st.sampled_from(range(len(tags)))).map(sorted).map(tuple))
    here = set(range(len(tags)) if present is None else present)
    values = [draw(raw_of(tag.type)) if i in here else None for i, tag in enumerate(tags)]
    per_tag = st.lists(statuses, min_size=len(tags), max_size=len(tags)).map(tuple)
    status = draw(st.just(0) | statuses | per_tag)
    group = GroupSchema("i", "g", tuple(tags), 10**9, "p", "1.0.0")
    return Frame(group, tuple(values), 0, 0, present=present, status=status)


def by_the_oracle(frame: Frame):
    tags = frame.group.tags
    here = set(range(len(tags)) if frame.present is None else frame.present)
    theirs = [frame.status if isinstance(frame.status, int) else s for s in _each(frame)]
    return [
        one(tag, raw, i in here, theirs[i])
        for i, (tag, raw) in enumerate(zip(tags, frame.values, strict=True))
    ]


def _each(frame: Frame):
    return [0] * len(frame.group.tags) if isinstance(frame.status, int) else frame.status


def same(one, other) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("<d", one) == struct.pack("<d", other)
    return type(one) is type(other) and one == other


@given(frames())
def test_a_frame_is_conditioned_as_its_single_values(frame):
    conditioned = compile_conditioner(frame.group.tags)(frame)
    expected = by_the_oracle(frame)
    assert conditioned.statuses == [(i, s) for i, (_, s) in enumerate(expected) if s]
    assert len(conditioned.values) == len(expected)
    for value, (wanted, _) in zip(conditioned.values, expected, strict=True):
        assert same(value, wanted), (value, wanted)


def conditioned_one(tag: TagSchema, raw, status=0):
    group = GroupSchema("i", "g", (tag,), 10**9, "p", "1.0.0")
    done = compile_conditioner(group.tags)(Frame(group, (raw,), 0, 0, status=status))
    return done.values[0], dict(done.statuses).get(0, 0)


@pytest.mark.parametrize(
    ("tag", "raw", "value", "status"),
    [
        (TagSchema("t", DataType.INT64, scale=THOUSANDTH), 2**63 - 1, 9223372036854775.807, GOOD),
        (TagSchema("t", DataType.INT16, scale=Scale(1, 0, 10)), 303, 30.3, GOOD),
        (TagSchema("t", DataType.UINT16, sentinels=(0x8000,)), 0x8000, None, SENSOR),
        (TagSchema("t", DataType.FLOAT32, sentinels=(-9999.9,)), binary32(-9999.9), None, SENSOR),
        (TagSchema("t", DataType.FLOAT32, low=0.0, high=0.1), binary32(0.1), binary32(0.1), GOOD),
        (TagSchema("t", DataType.FLOAT32, low=0.0, high=37.2), 37.25, 37.25, UNCERTAIN_RANGE),
        (TagSchema("t", DataType.FLOAT32), math.nan, None, NAN),
        (TagSchema("t", DataType.FLOAT32), -math.inf, None, MINUS),
        (TagSchema("t", DataType.FLOAT32, scale=Scale(10)), binary32(3e38), None, PLUS),
        (TagSchema("t", DataType.FLOAT64, high=1.0, low=0.0), math.inf, None, PLUS),
        (TagSchema("t", DataType.BOOL), True, True, GOOD),
        (TagSchema("t", DataType.STRING, sentinels=("ERR",)), "ERR", None, SENSOR),
        (TagSchema("t", DataType.UINT64), 2**64 - 1, 2**64 - 1, GOOD),
    ],
)  # fmt: skip
def test_single_values(tag, raw, value, status):
    assert conditioned_one(tag, raw) == (value, status)


def test_the_worse_of_two_statuses_stands_and_a_bad_one_leaves_no_value():
    tag = TagSchema("t", DataType.INT16, low=0.0, high=10.0)
    assert conditioned_one(tag, 5, 0x80050000) == (None, 0x80050000)
    assert conditioned_one(tag, 50, 0x40000000) == (50, 0x40000000)
    assert conditioned_one(tag, 50, 0x00300000) == (50, UNCERTAIN_RANGE)
    assert conditioned_one(tag, 5, 0x00300000) == (5, 0x00300000)

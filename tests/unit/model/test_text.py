"""Numbers in bodies: whatever a tag holds reads back as exactly that.

Method: properties over all values of each width, against ``struct`` and ``json`` as judges.
"""

import json
import math
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeagent.model.frame import DataType, TagSchema
from edgeagent.model.record import decode_json
from edgeagent.model.text import float32_text, writer_of

BINARY32_MAX = 3.4028234663852886e38
DENORMAL_MIN = 1.401298464324817e-45

binary32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
unicode_text = st.text()
values_of = {
    DataType.BOOL: st.booleans(),
    DataType.INT8: st.integers(-(2**7), 2**7 - 1),
    DataType.UINT8: st.integers(0, 2**8 - 1),
    DataType.INT16: st.integers(-(2**15), 2**15 - 1),
    DataType.UINT16: st.integers(0, 2**16 - 1),
    DataType.INT32: st.integers(-(2**31), 2**31 - 1),
    DataType.UINT32: st.integers(0, 2**32 - 1),
    DataType.INT64: st.integers(-(2**63), 2**63 - 1),
    DataType.UINT64: st.integers(0, 2**64 - 1),
    DataType.FLOAT32: binary32,
    DataType.FLOAT64: st.floats(allow_nan=False, allow_infinity=False),
    DataType.STRING: unicode_text,
}


def bits32(value: float) -> bytes:
    return struct.pack("<f", value)


def tags_of(*types: DataType) -> list[TagSchema]:
    return [TagSchema(f"tag_{index}", kind) for index, kind in enumerate(types)]


def write(types, values) -> bytes:
    return writer_of(tags_of(*types))(values)


@given(binary32)
@example(0.0)
@example(-0.0)
@example(DENORMAL_MIN)
@example(-DENORMAL_MIN)
@example(math.ldexp(1.0, -126))
@example(BINARY32_MAX)
@example(-BINARY32_MAX)
@example(49060848.0)
def test_binary32_reads_back_bit_by_bit_and_is_never_longer_than_nine_digits(value):
    text = float32_text(value)
    assert bits32(json.loads(text)) == bits32(value)
    assert len(text) <= max(len(f"{value:.9g}"), len("-0.0"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (37.012001037597656, "37.012"),
        (7.210000038146973, "7.21"),
        (-187.5, "-187.5"),
        (37.0, "37"),
        (0.0, "0"),
        (-0.0, "-0.0"),
        (0.10000000149011612, "0.1"),
        (BINARY32_MAX, "3.4028235e+38"),
        (16777216.0, "16777216"),
        (49060848.0, "49060848"),
        (1e8, "1e+08"),
        (-9.999999747378752e-06, "-1e-05"),
    ],
)
def test_binary32_as_people_expect_it(value, text):
    assert float32_text(value) == text
    assert write([DataType.FLOAT32], [value]) == f"[{text}]".encode()


@given(st.lists(binary32, min_size=1, max_size=8))
def test_a_run_of_binary32_is_written_as_its_single_values(values):
    types = [DataType.FLOAT32] * len(values)
    assert write(types, values) == f"[{','.join(map(float32_text, values))}]".encode()


@st.composite
def mixed(draw):
    types = draw(st.lists(st.sampled_from(list(DataType)), min_size=1, max_size=12))
    values = [draw(st.none() | values_of[kind]) for kind in types]
    return types, values


@given(mixed())
def test_mixed_schemas_are_the_json_of_their_single_values(sample):
    types, values = sample
    written = write(types, values)
    singly = [write([kind], [value])[1:-1] for kind, value in zip(types, values, strict=True)]
    assert written == b"[" + b",".join(singly) + b"]"
    assert b"\n" not in written
    for kind, value, back in zip(types, values, json.loads(written), strict=True):
        if kind is DataType.FLOAT32 and value is not None:
            assert bits32(back) == bits32(value)
        else:
            assert back == value
            assert isinstance(value, float) or type(back) is type(value)


@given(values_of[DataType.INT64] | values_of[DataType.UINT64])
def test_64_bit_integers_are_exact_also_for_our_own_reader(value):
    assert write([DataType.INT64], [value]) == b"[%d]" % value
    assert decode_json(b"[%d]" % value) == [value]


@given(values_of[DataType.FLOAT64])
@example(-0.0)
def test_binary64_is_the_shortest_that_reads_back(value):
    written = write([DataType.FLOAT64], [value])[1:-1]
    assert struct.pack("<d", float(written)) == struct.pack("<d", value)
    assert len(written) <= len(repr(value)) + len(".0")


@given(st.integers(-(2**31), 2**32 - 1), st.sampled_from([10, 100, 1000]))
@example(303, 10)
def test_decimal_scales_print_as_people_write_them(raw, denominator):
    digits = len(str(denominator)) - 1
    whole, fraction = divmod(abs(raw), denominator)
    sign = "-" if raw < 0 else ""
    by_hand = f"{sign}{whole}.{fraction:0{digits}d}".rstrip("0")
    by_hand += "0" if by_hand.endswith(".") else ""
    written = write([DataType.FLOAT64], [raw / denominator])[1:-1].decode()
    assert written == by_hand or (fraction and float(written) == float(by_hand) < 1e-3)


@given(unicode_text)
@example('\n\r\u2028\u2029\x00\x7f"\\\N{SNOWMAN}\N{GRINNING FACE}')
def test_any_text_survives_and_never_holds_a_line_feed(value):
    written = write([DataType.STRING], [value])
    assert b"\n" not in written
    assert json.loads(written) == [value]

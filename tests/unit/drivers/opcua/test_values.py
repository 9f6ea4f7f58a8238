"""A value of the server becomes the tag's value exactly, or a line says why not."""

import datetime
import uuid

import pytest
from asyncua import ua

from drivers.opcua.values import Mismatch, NoValue, converter
from tests.conformance.opcua.server import profile

TICKS_1970 = 116_444_736_000_000_000


def convert(kind: ua.VariantType, value, **facts):
    facts = {"s": "x"} | facts
    if facts.get("type") == "STRING":
        facts["privacy"] = "none"
    tag = profile({"x": facts}).groups["all"].tags["x"]
    return converter(tag)(kind.value, value)


V = ua.VariantType


@pytest.mark.parametrize(
    ("kind", "value", "facts", "result"),
    [
        (V.String, "a", {"type": "STRING"}, "a"),
        (V.String, b"\xff".decode("utf-8", "surrogateescape"), {"type": "STRING"}, "\\xff"),
        (V.LocalizedText, ua.LocalizedText("Läuft", "de"), {"type": "STRING"}, "Läuft"),
        (V.QualifiedName, ua.QualifiedName("n", 3), {"type": "STRING"}, "n"),
        (V.Guid, uuid.UUID(int=5), {"type": "STRING"}, str(uuid.UUID(int=5))),
        (V.ByteString, b"\0\1", {"type": "STRING"}, "AAE="),
        (V.NodeId, ua.NodeId(7, 2), {"type": "STRING"}, "ns=2;i=7"),
        (V.DateTime, TICKS_1970 + 12_345, {"type": "INT64"}, 1_234_500),
        (V.DateTime, TICKS_1970 + 12_345, {"type": "STRING"}, "1970-01-01T00:00:00.0012345Z"),
        (V.StatusCode, 0x8034_0000, {"type": "UINT32"}, 0x8034_0000),
        (V.Double, [1.0, 2.5], {"type": "FLOAT64", "element": 1}, 2.5),
        (V.Int32, [[1, 2], [3, 4]], {"type": "INT32", "element": [1, 0]}, 3),
        (V.Boolean, [True], {"type": "BOOL", "element": 0}, True),
        (V.Double, [1.0, float("nan")], {"type": "STRING", "array": True}, "[1.0, null]"),
        (V.String, ["µ", None], {"type": "STRING", "array": True}, '["µ", null]'),
        (
            V.DateTime,
            [datetime.datetime(1970, 1, 2)],
            {"type": "STRING", "array": True},
            '["1970-01-02T00:00:00.0000000Z"]',
        ),
        (
            V.ExtensionObject,
            {"Range": {"Low": 1.5}},
            {"type": "FLOAT64", "field": "Range.Low"},
            1.5,
        ),
        (V.ExtensionObject, {"n": [4, 5]}, {"type": "INT16", "field": "n", "element": 1}, 5),
    ],
)
def test_what_a_value_becomes(kind, value, facts, result):
    found = convert(kind, value, **facts)
    assert (found, type(found)) == (result, type(result))


@pytest.mark.parametrize(
    ("kind", "value", "facts", "words"),
    [
        (V.Float, 1.0, {"type": "FLOAT64"}, "declares FLOAT64, the server sends Float; write type"),
        (V.Int32, 1, {"type": "INT16"}, "the server sends Int32; write type: INT32"),
        (V.String, "7", {"type": "INT32"}, "the server sends String; write type: STRING"),
        (V.DateTime, 0, {"type": "FLOAT64"}, "write type: STRING or INT64"),
        (V.Double, [1.0], {"type": "FLOAT64"}, "sends an array; name its element"),
        (V.Double, [1.0], {"type": "FLOAT64", "element": 1}, "has 1 elements; element 1 is none"),
        (V.Double, 1.0, {"type": "FLOAT64", "element": 1}, "sends no array; remove element"),
        (V.Double, [[1.0]], {"type": "FLOAT64", "element": 0}, "more dimensions"),
        (V.Double, [1.0], {"type": "FLOAT64", "element": [0, 0]}, "fewer dimensions"),
        (V.ExtensionObject, {"a": 1}, {"type": "INT32"}, "sends a structure; name its field"),
        (V.ExtensionObject, {"a": 1}, {"type": "INT32", "field": "b"}, "its fields are: a"),
        (V.ExtensionObject, {"a": 1}, {"type": "INT32", "field": "a.b"}, "no structure where"),
        (V.ExtensionObject, {"a": 300}, {"type": "UINT8", "field": "a"}, "declares UINT8"),
        (V.Double, 1.0, {"type": "FLOAT64", "field": "a"}, "no structure where field 'a'"),
    ],
)
def test_what_does_not_fit_is_said_with_the_mend(kind, value, facts, words):
    with pytest.raises(Mismatch, match=words):
        convert(kind, value, **facts)


@pytest.mark.parametrize(
    ("kind", "value", "facts"),
    [
        (V.String, None, {"type": "STRING"}),
        (V.Null, None, {"type": "FLOAT64"}),
        (V.LocalizedText, ua.LocalizedText(None), {"type": "STRING"}),
        (V.DateTime, 2**63 - 1, {"type": "INT64"}),
        (V.DateTime, 2**63 - 1, {"type": "STRING"}),
        (V.ExtensionObject, {"a": None}, {"type": "INT32", "field": "a"}),
    ],
)
def test_nothing_is_no_value(kind, value, facts):
    with pytest.raises(NoValue):
        convert(kind, value, **facts)

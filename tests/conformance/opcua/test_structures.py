"""Fields of structures whose types only the server knows are read by its own definitions."""

import pytest
from asyncua import ua
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field

from drivers.opcua.measure import Malformed
from drivers.opcua.structures import Definition, Field, decode
from edgeagent.driver import Frame
from tests.conformance.opcua.server import driver, instrument, profile, running, taken
from tests.unit.drivers.opcua.messages import decode as decode_variant


@pytest.fixture(scope="module")
def server():
    with running() as made:
        yield made


async def types(server) -> None:
    """Let the server have an enumeration, a structure, and one with optional fields around it."""
    await new_enum(server.server, server.index, "Door", ["Closed", "Open"])
    inner, _ = await new_struct(
        server.server,
        server.index,
        "Range1",
        [
            new_struct_field("Low", ua.VariantType.Double),
            new_struct_field("Counts", ua.VariantType.Int16, array=True),
        ],
    )
    await server.server.load_data_type_definitions()
    await new_struct(
        server.server,
        server.index,
        "Chamber",
        [
            new_struct_field("Name", ua.VariantType.String),
            new_struct_field("Note", ua.VariantType.String, optional=True),
            new_struct_field("Level", ua.VariantType.Float, optional=True),
            new_struct_field("Range", inner),
            new_struct_field("At", ua.VariantType.DateTime),
        ],
    )
    await server.server.load_data_type_definitions()


async def test_a_field_is_a_tag(server):
    await server.do(types(server))
    value = ua.Chamber(Name="left", Level=2.5, Range=ua.Range1(Low=-1.5, Counts=[3, 4]))
    node = await server.add(ua.Variant(value, ua.VariantType.ExtensionObject))
    ns0 = await server.add(ua.Variant(ua.Range(1.0, 9.0), ua.VariantType.ExtensionObject))
    text = {"type": "STRING", "privacy": "none", "s": node}
    tags = {
        "name": text | {"field": "Name"},
        "note": text | {"field": "Note"},
        "level": {"type": "FLOAT32", "s": node, "field": "Level"},
        "low": {"type": "FLOAT64", "s": node, "field": "Range.Low"},
        "count": {"type": "INT16", "s": node, "field": "Range.Counts", "element": 1},
        "no": {"type": "INT16", "s": node, "field": "Range.High"},
        "high": {"type": "FLOAT64", "s": ns0, "field": "High"},
    }
    made = driver(server.url, instrument("device", profile(tags)))
    try:
        await made.connect()
        assert made._definitions
        items = await taken(made, 1)
    finally:
        await made.close()
    frame = next(item for item in items if isinstance(item, Frame))
    assert frame.values == ("left", None, 2.5, -1.5, 4, None, 9.0)
    assert frame.present == (0, 1, 2, 3, 4, 6)
    assert [point.fault for point in made._points if point.fault] == [
        "tag device/all/no: the structure has no field 'High'; its fields are: Low, Counts"
    ]


ID = b"\x01\x02\x07\x00"
INNER = Definition("structure", (Field("a", 5), Field("b", 1, is_array=True)))
OUTER = Definition("union", (Field("x", INNER), Field("y", 11)))


def encoded(body: bytes, kind: int = 22) -> bytes:
    return bytes((kind,)) + ID + b"\x01" + len(body).to_bytes(4, "little") + body


def number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def test_a_union_holds_one_of_its_fields():
    body = number(1) + b"\x05\x00" + number(2) + b"\x01\x00"
    found = decode(encoded(body), {ID: OUTER}, decode_variant)
    assert found == {"x": {"a": 5, "b": [True, False]}}
    assert decode(encoded(number(0)), {ID: OUTER}, decode_variant) is None


def test_an_array_of_structures_is_a_list():
    one = encoded(b"\x05\x00" + number(0))[1:]
    whole = bytes((22 | 128,)) + number(2) + one + one
    assert decode(whole, {ID: INNER}, decode_variant) == [{"a": 5, "b": []}] * 2


@pytest.mark.parametrize(
    ("body", "definition"),
    [
        (b"\x05", INNER),
        (b"\x05\x00" + number(2**31 - 1), INNER),
        (b"\x05\x00" + number(5) + b"\1", INNER),
        (number(9), OUTER),
    ],
)
def test_a_structure_that_does_not_fit_its_definition_is_refused(body, definition):
    with pytest.raises(Malformed):
        decode(encoded(body), {ID: definition}, decode_variant)

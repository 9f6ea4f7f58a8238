"""What a profile may state, and how its faults are told: all at once, each with its place."""

import copy

import pytest
from pydantic import ValidationError

from drivers.modbus.codec import ByteOrder, Table
from drivers.modbus.profile import ModbusLayout, ModbusProfile

GOOD = {
    "profile": "acme-b200",
    "version": "1.0.0",
    "make": "Acme",
    "model": "B200",
    "device_class": "incubator",
    "driver": "modbus",
    "source": [{"manual": "B200 manual", "confidence": "documented"}],
    "modbus": {
        "address_base": "1-based",
        "byte_order": "CDAB",
        "max_registers": 20,
        "atomic": [{"address": 101, "count": 10}],
        "holes": [{"address": 50, "count": 5}],
    },
    "identity": {"model": {"type": "STRING", "address": 200, "length": 4, "expect": "B2.*"}},
    "groups": {
        "air": {
            "period": "1 s",
            "tags": {
                "temperature": {"type": "FLOAT32", "address": 101, "unit": "Cel"},
                "door": {"type": "BOOL", "address": 103, "bit": 4},
                "fan": {"type": "BOOL", "address": 103, "bit": 5},
                "humidity": {"type": "UINT8", "address": 104, "byte": "high", "unit": "%"},
                "fill": {"type": "UINT8", "address": 104, "byte": "low", "unit": "%"},
                "alarm": {"type": "BOOL", "address": 7, "table": "coil"},
                "operator": {"type": "STRING", "address": 110, "length": 1},
            },
        }
    },
}


def profile(*path, **changes):
    """The good profile with some keys changed at one place; ``None`` removes a key."""
    data = copy.deepcopy(GOOD)
    node = data
    for step in path:
        node = node[step]
    for key, value in changes.items():
        if value is None:
            del node[key]
        else:
            node[key] = value
    return data


def faults(data) -> dict[tuple, str]:
    with pytest.raises(ValidationError) as caught:
        ModbusProfile.model_validate(data)
    return {error["loc"]: error["msg"] for error in caught.value.errors()}


def tag(name="new", **keys):
    return profile("groups", "air", "tags", **{name: keys})


AT = ("groups", "air", "tags", "new")


# ---- what is right


def test_tags_become_points_on_the_wire():
    points = {point.name: point for point in ModbusProfile.model_validate(GOOD).points("air")}

    assert list(points) == ["temperature", "door", "fan", "humidity", "fill", "alarm"]
    assert (points["temperature"].address, points["temperature"].count) == (100, 2)
    assert points["temperature"].order is ByteOrder.CDAB
    assert (points["door"].address, points["door"].bit) == (102, 4)
    assert points["humidity"].high_byte
    assert (points["alarm"].table, points["alarm"].address) == (Table.COIL, 6)


def test_a_text_of_class_drop_is_never_read():
    checked = ModbusProfile.model_validate(GOOD)
    assert "operator" in checked.groups["air"].tags
    assert "operator" not in [point.name for point in checked.points("air")]


def test_a_tag_may_have_a_byte_order_of_its_own():
    checked = ModbusProfile.model_validate(tag(type="INT32", address=1, byte_order="BADC"))
    assert checked.points("air")[-1].order is ByteOrder.BADC


@pytest.mark.parametrize(
    ("base", "number", "table", "place"),
    [
        ("0-based", 0, None, (Table.HOLDING, 0)),
        ("0-based", 40001, "input", (Table.INPUT, 40001)),
        ("1-based", 1, None, (Table.HOLDING, 0)),
        ("1-based", 2090, "coil", (Table.COIL, 2089)),
        ("4xxxx", 1, None, (Table.COIL, 0)),
        ("4xxxx", 9999, None, (Table.COIL, 9998)),
        ("4xxxx", 10001, None, (Table.DISCRETE_INPUT, 0)),
        ("4xxxx", 30007, None, (Table.INPUT, 6)),
        ("4xxxx", 40001, None, (Table.HOLDING, 0)),
        ("4xxxx", 49999, "holding", (Table.HOLDING, 9998)),
        ("4xxxx", 100001, None, (Table.DISCRETE_INPUT, 0)),
        ("4xxxx", 365536, None, (Table.INPUT, 65535)),
        ("4xxxx", 465536, None, (Table.HOLDING, 65535)),
    ],
)
def test_numbers_of_the_manual(base, number, table, place):
    layout = ModbusLayout(address_base=base)
    assert layout.place(number, Table(table) if table else None) == place


# ---- what is wrong


@pytest.mark.parametrize(
    ("keys", "place", "words"),
    [
        ({"type": "UINT16", "address": 0}, "address", "its first address is 1"),
        ({"type": "INT32", "address": 65536}, "address", "beyond the last address (65535)"),
        (
            {"type": "UINT16", "address": 102},
            "address",
            "overlaps the tag 'temperature' (101 to 102)",
        ),
        ({"type": "UINT16", "address": 103}, "address", "overlaps the tag 'door' (103)"),
        ({"type": "BOOL", "address": 103, "bit": 4}, "address", "overlaps the tag 'door'"),
        ({"type": "INT8", "address": 104, "byte": "low"}, "address", "overlaps the tag 'fill'"),
        ({"type": "FLOAT32", "address": 100}, "address", "crosses the border of the atomic block"),
        ({"type": "FLOAT32", "address": 110}, "address", "crosses the border of the atomic block"),
        ({"type": "FLOAT64", "address": 47}, "address", "47 to 50 is in the hole 50 to 54"),
        ({"type": "UINT16", "address": 1, "table": "coil"}, "type", "write type BOOL"),
        ({"type": "BOOL", "address": 1}, "bit", "add 'bit'"),
        ({"type": "BOOL", "address": 1, "table": "coil", "bit": 0}, "bit", "remove it"),
        ({"type": "INT16", "address": 1, "bit": 0}, "bit", "remove it"),
        ({"type": "INT8", "address": 1}, "byte", "say 'byte: high' or 'byte: low'"),
        ({"type": "INT16", "address": 1, "byte": "low"}, "byte", "remove it"),
        ({"type": "FLOAT64", "address": 1, "length": 2}, "length", "has 4 registers, not 2"),
        ({"type": "STRING", "address": 1}, "length", "add 'length'"),
        ({"type": "STRING", "address": 1, "length": 21}, "length", "at most 20 may be asked"),
        ({"type": "INT16", "address": 1, "byte_order": "ACBD"}, "byte_order", "'ABCD', 'CDAB'"),
        ({"type": "INT16", "address": 1, "scal": 2}, "scal", "Extra inputs"),
        ({"type": "REAL", "address": 1}, "type", "'FLOAT32'"),
    ],
)
def test_a_tag_that_cannot_be(keys, place, words):
    found = faults(tag(**keys))
    assert list(found) == [(*AT, place)]
    assert words in found[*AT, place]


def test_a_sentinel_that_the_type_never_has():
    found = faults(tag(type="INT16", address=1, sentinels=[-32768, 64536]))
    assert list(found) == [(*AT, "sentinels", 1)]
    assert "-32768 to 32767" in found[*AT, "sentinels", 1]


@pytest.mark.parametrize(
    ("keys", "place", "words"),
    [
        ({"max_registers": 126}, ("max_registers",), "less than or equal to 125"),
        ({"address_base": "2-based"}, ("address_base",), "'0-based', '1-based' or '4xxxx'"),
        ({"byte_order": "ABDC"}, ("byte_order",), "'DCBA'"),
        ({"atomic": [{"address": 1, "count": 21}]}, ("atomic", 0, "count"), "at most 20"),
        ({"atomic": [{"address": 0, "count": 2}]}, ("atomic", 0, "address"), "its first address"),
        ({"holes": [{"address": 65530, "count": 9}]}, ("holes", 0, "count"), "beyond the last"),
        (
            {"atomic": [{"address": 1, "count": 5}, {"address": 5, "count": 2}]},
            ("atomic", 1, "address"),
            "shares addresses with the atomic block 1 to 5",
        ),
        (
            {"atomic": [{"address": 1, "count": 5}], "holes": [{"address": 5, "count": 1}]},
            ("holes", 0, "address"),
            "this hole shares addresses with the atomic block 1 to 5",
        ),
        ({"quirks": {"pause": "1 s"}}, ("quirks", "pause"), "Extra inputs"),
        ({"quirks": {"pause_between_requests": 5}}, ("quirks", "pause_between_requests"), "no dur"),
    ],
)
def test_a_layout_that_cannot_be(keys, place, words):
    found = faults(profile("modbus", **keys))
    assert list(found) == [("modbus", *place)]
    assert words in found["modbus", *place]


def test_holes_may_overlap():
    holes = [{"address": 50, "count": 5}, {"address": 52, "count": 9}]
    assert ModbusProfile.model_validate(profile("modbus", holes=holes))


def test_a_reference_names_its_table_alone():
    data = profile("modbus", address_base="4xxxx", atomic=[], holes=[])
    data["groups"]["air"]["tags"] = {
        "a": {"type": "UINT16", "address": 40001, "table": "input"},
        "b": {"type": "UINT16", "address": 20001},
        "c": {"type": "UINT16", "address": 40000},
        "d": {"type": "UINT16", "address": 1},
    }
    data["identity"]["model"]["address"] = 40100
    found = faults(data)
    assert {loc[3:]: text.split(";")[0] for loc, text in found.items()} == {
        ("a", "address"): "reference 40001 names the table holding",
        ("b", "address"): "20001 is no reference",
        ("c", "address"): "40000 is no reference",
        ("d", "type"): "an address of the table coil is one bit, which cannot hold UINT16",
    }


def test_identity_items_are_checked_like_tags():
    item = {"type": "STRING", "address": 105, "length": 8, "expect": "(B2"}
    found = faults(profile("identity", model=item))
    assert set(found) == {("identity", "model", "address"), ("identity", "model", "expect")}


def test_a_group_of_which_nothing_would_be_read():
    tags = {"operator": {"type": "STRING", "address": 1, "length": 4}}
    found = faults(profile("groups", "air", tags=tags))
    assert list(found) == [("groups", "air", "tags")]


def test_all_faults_are_told_at_once_also_beside_values_that_are_wrong_in_themselves():
    data = tag(type="UINT16", address=0)
    data["groups"]["air"]["tags"]["also"] = {"type": "INT8", "address": 1}
    data["groups"]["air"]["tags"]["temperature"]["unti"] = "Cel"
    data["version"] = "one"
    data["identity"]["model"]["expect"] = "["

    assert set(faults(data)) == {
        ("version",),
        ("groups", "air", "tags", "temperature", "unti"),
        ("groups", "air", "tags", "new", "address"),
        ("groups", "air", "tags", "also", "byte"),
        ("identity", "model", "expect"),
    }


@pytest.mark.parametrize("data", [None, [], {"modbus": None}, {"groups": []}, {"groups": {"a": 1}}])
def test_what_is_no_profile_at_all_is_told_without_a_crash(data):
    assert faults(data)


def test_every_fault_of_ours_says_how_to_mend_it():
    data = tag(type="UINT16", address=0)
    assert all("; " in text for text in faults(data).values())


def test_the_schema_explains_the_byte_orders():
    schema = ModbusProfile.model_json_schema()
    text = schema["$defs"]["ModbusLayout"]["properties"]["byte_order"]["description"]
    for word in ("low register first", "64 bits", "16 and 8 bits", "STRING"):
        assert word in text

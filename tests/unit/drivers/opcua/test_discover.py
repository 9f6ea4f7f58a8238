"""A draft says what the server says, once, and nothing more.

Method: address spaces made by hand, hostile ones from hypothesis; the draft is judged as a profile
by the same check that a person's is.
"""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from drivers.opcua.address import NodeId
from drivers.opcua.discover.draft import draft, profile_names
from drivers.opcua.discover.model import DI, LADS, PACKML, UA, Facts, Units, ua
from drivers.opcua.discover.recognise import Device, Kind, devices
from drivers.opcua.discover.units import UCUM, UNVERIFIED, code, unit_of
from edgeagent.configure.document import parse_document
from edgeagent.configure.plan import load_profile
from edgeagent.configure.units import unit_faults
from edgeagent.model.errors import ConfigurationError
from tests.unit.drivers.opcua.space import (
    ACME,
    ANALOG,
    BOOLEAN,
    CELSIUS,
    DATA_VARIABLE,
    FOLDER,
    NODE_ID,
    PROPERTY,
    STRING,
    UNECE,
    Builder,
    acme,
    lads,
)

URL = "opc.tcp://hall:4840"
APPROVED_BY_NOBODY = "draft: true\n"


def only(builder: Builder) -> Device:
    [device] = devices(builder.space())
    return device


def tags(device: Device) -> dict[str, object]:
    return {each.name: each for each in device.found}


def approved(device: Device, folder: Path):
    """Return the draft as a checked profile, as after a person has removed the line."""
    text = draft(device, "acme", URL)
    assert text.count(APPROVED_BY_NOBODY) == 1
    file = folder / "acme.yaml"
    file.write_text(text.replace(APPROVED_BY_NOBODY, ""), encoding="utf-8")
    profile = load_profile(file)
    assert unit_faults([parse_document("acme.yaml", file.read_bytes())]) == []
    return profile


# -- recognition -------------------------------------------------------------------------------


def test_a_device_is_recognised_by_a_vendors_own_subtypes():
    builder = Builder()
    _, [functions] = builder.device()
    builder.sensor(functions, "Chamber", CELSIUS)
    device = only(builder)
    assert (device.kind, device.name, device.units) == (Kind.LADS, "Freezer", ("unit0",))
    assert list(tags(device)) == ["chamber"]


def test_a_packml_object_is_found_wherever_it_stands():
    builder = Builder()
    hall = builder.add(builder.root, (ACME, "Hall"), FOLDER)
    machine = builder.add(hall, (ACME, "Filler"), NodeId(PACKML, "i", 6))
    status = builder.add(machine, (PACKML, "Status"), NodeId(PACKML, "i", 4))
    builder.value(status, (PACKML, "CurMachSpeed"))
    builder.value(hall, (ACME, "Humidity"))
    found = devices(builder.space())
    assert [(d.kind, d.name, list(tags(d))) for d in found] == [
        (Kind.PACKML, "Filler", ["cur_mach_speed"]),
        (Kind.OTHER, "Hall", ["humidity"]),
    ]


def test_the_name_of_a_variable_in_another_namespace_is_no_role():
    builder = Builder()
    _, [functions] = builder.device()
    function = builder.add(functions, (ACME, "Chamber"), acme(3))
    builder.value(function, (ACME, "SensorValue"), CELSIUS)
    assert list(tags(only(builder))) == ["chamber_sensor_value"]


def test_what_operational_groups_show_again_is_not_mapped_twice():
    builder = Builder()
    device, [functions] = builder.device()
    value = builder.sensor(functions, "Chamber", CELSIUS)
    [unit] = builder._nodes[builder._nodes[device]["children"][-1]]["children"]
    for parent in (unit, device):  # by a shorter way than through the function
        group = builder.add(parent, (LADS, "Operational"), NodeId(DI, "i", 1005))
        builder.refer(group, value)
    found = only(builder).found
    assert [each.name for each in found] == ["chamber"]
    assert found[0].way.steps[-2:] == ((ACME, "Chamber"), (LADS, "SensorValue"))


def test_tags_of_several_functional_units_bear_the_units_name():
    builder = Builder()
    _, sets = builder.device(units=2)
    for functions in sets:
        builder.sensor(functions, "Chamber", CELSIUS)
    assert list(tags(only(builder))) == ["unit0_chamber", "unit1_chamber"]


def test_a_state_is_its_id_and_the_draft_lists_the_states(tmp_path):
    builder = Builder()
    device, _ = builder.device()
    builder.machine(device, "DeviceState", lads(1043))
    [state] = only(builder).found
    assert state.name == "device_state"
    assert state.way.steps[-1] == (UA, "Id")
    tag = approved(only(builder), tmp_path).groups["states"].tags["device_state"]
    assert tag.privacy == "none"
    assert tag.description == (
        "nsu=http://opcfoundation.org/UA/LADS/;i=5085 Stopped, "
        "nsu=http://opcfoundation.org/UA/LADS/;i=5099 Running"
    )


def test_of_an_alarm_only_its_state_is_mapped_and_the_alarm_is_listed():
    builder = Builder()
    _, [functions] = builder.device()
    function = builder.add(functions, (ACME, "Chamber"), acme(3))
    alarm = builder.add(function, (LADS, "AlarmMonitor"), ua(9482))
    builder.value(alarm, (UA, "HighLimit"), type=PROPERTY)
    for name in ("ActiveState", "AckedState", "EnabledState"):
        state = builder.value(alarm, (UA, name), kind=21, data_type=ua(21), type=ua(8995))
        builder.value(state, (UA, "Id"), kind=1, data_type=BOOLEAN, type=PROPERTY)
    device = only(builder)
    assert list(tags(device)) == ["chamber_alarm", "chamber_alarm_acknowledged"]
    assert device.notes == ("alarm: FunctionalUnitSet/Unit0/FunctionSet/Chamber/AlarmMonitor",)


def test_results_are_listed_and_their_variables_are_no_tags():
    builder = Builder()
    device, _ = builder.device()
    results = builder.add(device, (LADS, "ResultSet"), lads(1020))
    run = builder.add(results, (ACME, "RUN-1"), lads(1021))
    builder.value(run, (LADS, "User"), kind=12, data_type=STRING)
    found = only(builder)
    assert found.found == ()
    assert found.notes == ("results: ResultSet (RUN-1)",)


def test_two_nodes_of_one_name_are_addressed_by_their_ids(tmp_path):
    builder = Builder()
    _, [functions] = builder.device()
    one, other = (builder.sensor(functions, "Probe", CELSIUS) for _ in range(2))
    profile = approved(only(builder), tmp_path)
    nodes = [tag.node for tag in profile.groups["values"].tags.values()]
    assert nodes == [f"nsu=acme;i={one.identifier}", f"nsu=acme;i={other.identifier}"]


def test_who_a_component_is_says_nothing_of_the_device():
    builder = Builder()
    device, _ = builder.device()
    parts = builder.add(device, (DI, "Components"), FOLDER)
    pump = builder.add(parts, (ACME, "Pump"), NodeId(DI, "i", 15063))
    builder.value(pump, (DI, "SerialNumber"), kind=12, data_type=STRING, type=PROPERTY, text="P-1")
    group = builder.add(device, (DI, "Identification"), NodeId(DI, "i", 1005))
    builder.value(group, (DI, "Manufacturer"), kind=21, type=PROPERTY, text="Acme")
    assert {f.name: f.text for f in only(builder).identity} == {"model": "U80 (2)", "make": "Acme"}


# -- units -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "ucum"),
    [
        (CELSIUS, "Cel"),
        (Units(UNECE, 0x5031, "percent"), "%"),
        (Units(UNECE, 0x513330, ""), "[pH]"),
        (Units(UNECE, 0, "°C"), UNVERIFIED),
        (Units(UNECE, -1, "°C"), UNVERIFIED),
        (Units(UNECE, 0x5A5A5A, "°C"), UNVERIFIED),
        (Units("urn:acme:units", 4408652, "°C"), UNVERIFIED),
        (Units("", 4408652, "°C"), UNVERIFIED),
        (None, UNVERIFIED),
    ],
)
def test_a_unit_is_what_the_code_says_or_unverified(units, ucum, tmp_path):
    builder = Builder()
    _, [functions] = builder.device()
    builder.sensor(functions, "Chamber", units)
    tag = approved(only(builder), tmp_path).groups["values"].tags["chamber"]
    assert tag.unit == ucum
    assert (tag.assumed or "").startswith("unit unverified") is (ucum == UNVERIFIED)
    if units is not None and ucum == UNVERIFIED and units.display:
        assert f"calls it {units.display!r}" in tag.assumed


def test_a_duration_is_in_milliseconds_and_a_count_has_no_unit():
    duration = Facts(ua(290), 11)
    assert unit_of(duration, is_duration=True, needs_unit=True).ucum == "ms"
    assert unit_of(Facts(ua(7), 7), is_duration=False, needs_unit=False).ucum == "1"


def test_every_code_is_one_of_unece_and_leads_to_ucum():
    from ucumvert import get_ucum_parser

    parser = get_ucum_parser()
    for unece, ucum in UCUM.items():
        assert code(int.from_bytes(unece.encode(), "big")) == unece
        parser.parse(ucum)


def test_the_approved_facts_stand_beside_the_tag(tmp_path):
    builder = Builder()
    _, [functions] = builder.device()
    builder.sensor(functions, "Chamber", CELSIUS, range=(-100.0, 50.0))
    tag = approved(only(builder), tmp_path).groups["values"].tags["chamber"]
    assert (tag.range.low, tag.range.high) == (-100, 50)
    assert (tag.stated.unit_id, tag.stated.unit) == (4408652, "°C")
    assert (tag.stated.range.low, tag.stated.range.high) == (-100, 50)


# -- the draft ---------------------------------------------------------------------------------


def test_a_draft_is_refused_until_a_person_has_removed_the_line(tmp_path):
    builder = Builder()
    _, [functions] = builder.device()
    builder.sensor(functions, "Chamber", CELSIUS)
    file = tmp_path / "acme.yaml"
    file.write_text(draft(only(builder), "acme", URL), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_profile(file)
    [fault] = caught.value.faults
    assert (fault.key, fault.line) == ("draft", 4)
    assert str(fault).endswith(
        "this profile is a draft; hold it against the manual, then remove this line"
    )
    assert approved(only(builder), tmp_path).identity["model"].expect == r"U80\ \(2\)"


def test_text_that_may_name_a_person_is_dropped_until_somebody_decides(tmp_path):
    builder = Builder()
    device, _ = builder.device()
    builder.value(device, (ACME, "Operator"), kind=12, data_type=STRING, type=DATA_VARIABLE)
    builder.value(device, (ACME, "Program"), kind=17, data_type=NODE_ID, type=DATA_VARIABLE)
    found = approved(only(builder), tmp_path).groups["values"].tags
    assert {name: tag.privacy for name, tag in found.items()} == {
        "operator": "drop",
        "program": "none",
    }


def test_what_no_tag_can_hold_is_said(tmp_path):
    builder = Builder()
    device, [functions] = builder.device()
    builder.sensor(functions, "Chamber", CELSIUS)
    builder.value(device, (ACME, "Weight"), kind=22, type=DATA_VARIABLE)
    builder.value(device, (ACME, "Map"), rank=2, type=DATA_VARIABLE)
    builder.value(device, (ACME, "Secret"), is_readable=False, type=DATA_VARIABLE)
    text = draft(only(builder), "acme", URL)
    assert "#   not mapped: Weight: a structure; name its field\n" in text
    assert "#   not mapped: Map: a matrix; name its elements\n" in text
    assert "#   not mapped: Secret: the user of this session may not read it\n" in text
    assert list(approved(only(builder), tmp_path).acquired()) == ["chamber"]


def test_devices_of_one_name_get_drafts_of_two_names():
    builder = Builder()
    for _ in range(2):
        builder.device()
    assert profile_names(devices(builder.space())) == ["freezer", "freezer-2"]


NAMES = st.text(min_size=1, max_size=80)
SPACES = (UA, LADS, DI, ACME, "urn:other:acme", "http://x.example/Ünits/\n")


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(st.tuples(st.sampled_from(SPACES), NAMES, NAMES), min_size=1, max_size=8))
def test_no_name_breaks_out_of_the_draft_and_every_tag_exists_once(tmp_path_factory, named):
    builder = Builder()
    device, [functions] = builder.device()
    for number, (namespace, name, display) in enumerate(named):
        parent = builder.add(functions, (namespace, name), acme(3)) if number % 2 else device
        units = Units(UNECE, number, display)
        builder.value(parent, (ACME, name), units, type=ANALOG, states={0: display})
        builder.value(parent, (LADS, "SensorValue"), units)
    found = only(builder)
    mapped = [each for each in found.found if each.type is not None]
    assert max(Counter(each.way.node.id for each in mapped).values()) == 1
    profile = approved(found, tmp_path_factory.mktemp("drafts"))
    written = [name for group in profile.groups.values() for name in group.tags]
    assert sorted(written) == sorted(each.name for each in mapped)
    stated = YAML(typ="safe", pure=True).load(draft(found, "acme", URL))
    assert set(stated) <= {
        "draft", "profile", "version", "make", "model", "device_class", "driver", "source", "opcua",
        "identity", "groups",
    }  # fmt: skip

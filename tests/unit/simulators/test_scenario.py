"""A scenario is checked before anything listens, and one line says what is wrong and where."""

import pytest

from simulators.faults import Faults
from simulators.scenario import PORT_FIRST, PORT_LAST, load_faults, load_scenario, parse, shipped
from simulators.settings import Range
from simulators.site import RunOptions, Site
from simulators.strict_yaml import ScenarioError
from tests.unit.simulators.by_hand import connected, read_request, registers

GOOD = """\
description: one freezer
speed: 60
processes:
  freezer-1:
    model: ln2_freezer
    level_cm: 40
wires:
  gateway:
    kind: modbus-tcp
    port: 15030
    faults: {no_answer: 0.5, reply_delay_s: [0.1, 0.2]}
devices:
  adam-1:
    model: adam_4015
    process: freezer-1
    wire: gateway
    unit_id: 3
    channels: [rack, top]
events:
  - {at_s: 60, for_s: 120, target: freezer-1, what: lid_open}
"""


def refused(change, to):
    assert change in GOOD
    with pytest.raises(ScenarioError) as problem:
        parse(GOOD.replace(change, to), "site.yaml", "site")
    text = str(problem.value)
    assert "\n" not in text
    return text


def test_a_good_scenario_becomes_typed():
    scenario = parse(GOOD, "site.yaml", "site")
    assert scenario.speed == 60.0
    assert scenario.processes["freezer-1"].settings.level_cm == 40.0
    assert scenario.devices["adam-1"].settings.channels == ("rack", "top")
    assert scenario.devices["adam-1"].unit_id == 3
    assert scenario.wires["gateway"].faults == Faults(no_answer=0.5, reply_delay_s=Range(0.1, 0.2))
    assert scenario.events[0].for_s == 120.0


@pytest.mark.parametrize(
    ("change", "to", "says"),
    [
        (
            "level_cm",
            "levle_cm",
            "6: processes.freezer-1.levle_cm: unknown key (did you mean level",
        ),
        ("speed: 60", "sped: 60", "2: sped: unknown key (did you mean speed?)"),
        ("speed: 60", "speed: fast", "2: speed: must be a number"),
        ("speed: 60", "speed: 0", "2: speed: must be positive"),
        ("speed: 60", "seed: 1.5", "2: seed: must be a whole number"),
        ("description: one freezer\n", "", "1: description is missing"),
        ("level_cm: 40", "level_cm: -1", "6: processes.freezer-1.level_cm: must be 0 to 100"),
        ("model: ln2_freezer", "model: fridge", "5: processes.freezer-1.model: must be one of"),
        ("port: 15030", "port: 502", "10: wires.gateway.port: must be 15020 to 15040"),
        ("no_answer: 0.5", "no_answer: 2", "11: wires.gateway.faults.no_answer: must be 0 to 1"),
        ("0.1, 0.2", "0.2, 0.1", "11: wires.gateway.faults.reply_delay_s: "),
        ("process: freezer-1", "process: x", "15: devices.adam-1.process: must name a process of"),
        ("wire: gateway", "wire: serial", "16: devices.adam-1.wire: must be one of gateway"),
        ("unit_id: 3", "unit_id: 0", "17: devices.adam-1.unit_id: must be 1 to 247"),
        ("[rack, top]", "[rack, sky]", "18: devices.adam-1.channels: 'sky' is none of"),
        ("[rack, top]", "rack", "18: devices.adam-1.channels: must be a list"),
        ("adam-1:", "Adam 1:", "13: devices.Adam 1: a name has small letters"),
        ("lid_open", "lid_shut", "20: events[0].what: must be one of lid_open, supply_failed"),
        ("target: freezer-1", "target: x", "20: events[0].target: must be one of freezer-1, adam"),
        ("at_s: 60", "at: 60", "20: events[0].at: unknown key (did you mean at_s?)"),
        ("    channels", "    wire: gateway\n    channels", '18: found duplicate key "wire"'),
        ("speed: 60", "speed: [", "4: expected ',' or ']'"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(change, to, says):
    assert refused(change, to).startswith(f"site.yaml:{says}")


def test_a_file_that_is_not_there():
    with pytest.raises(ScenarioError, match=r"nowhere\.yaml: No such file"):
        load_scenario("nowhere.yaml")


def test_two_devices_cannot_share_a_unit():
    twin = GOOD.replace(
        "events:",
        "  adam-2: {model: adam_4015, process: freezer-1, wire: gateway, unit_id: 3}\nevents:",
    )
    with pytest.raises(ScenarioError, match=r"adam-2.unit_id: another device on gateway"):
        parse(twin, "site.yaml", "site")


def test_faults_have_a_file_of_their_own(tmp_path):
    path = tmp_path / "faults.yaml"
    path.write_text("seed: 9\nlate_answer: 0.25\nlate_answer_s: 0.5\n")
    site = parse(GOOD, "site.yaml", "site")
    late = Faults(seed=9, late_answer=0.25, late_answer_s=Range(0.5, 0.5))
    assert load_faults(str(path), site) == late
    path.write_text("no_anwser: 0.1\n")
    with pytest.raises(ScenarioError, match=r"faults.yaml:1: no_anwser: unknown key \(did you"):
        load_faults(str(path), site)
    path.write_text("echo: 0.1\n")
    with pytest.raises(ScenarioError, match=r"faults.yaml:1: echo: cannot happen on a wire of"):
        load_faults(str(path), site)


SERIAL = GOOD.replace("kind: modbus-tcp\n    port: 15030", "kind: modbus-rtu\n    device: line-1")


@pytest.mark.parametrize("end", ["device: line-1", "port: 15030"])
@pytest.mark.parametrize("kind", ["modbus-rtu", "modbus-ascii"])
def test_a_serial_wire_is_a_serial_port_or_a_device_server(kind, end):
    text = SERIAL.replace("modbus-rtu", kind).replace(
        "device: line-1", f"{end}\n    baud_rate: 9600"
    )
    wire = parse(text, "site.yaml", "site").wires["gateway"]
    assert (wire.kind, wire.baud_rate) == (kind, 9600)
    assert (wire.device, wire.port) in (("line-1", None), (None, 15030))


@pytest.mark.parametrize(
    ("change", "to", "says"),
    [
        ("device: line-1", "device: /dev/x", "10: wires.gateway.device: a name has small letters"),
        ("    device: line-1\n", "", "9: wires.gateway: needs either a port (of a device server)"),
        ("device: line-1", "device: a\n    port: 15030", "9: wires.gateway: needs either a port"),
        (
            "device: line-1",
            "device: a\n    baud_rate: 9",
            "11: wires.gateway.baud_rate: must be 300",
        ),
        ("no_answer", "wrong_transaction_id", "wrong_transaction_id: cannot happen on a wire of"),
        ("modbus-rtu", "modbus-tcp", "10: wires.gateway.device: only a serial wire has one"),
    ],
)
def test_a_serial_wire_that_cannot_be(change, to, says):
    assert change in SERIAL
    with pytest.raises(ScenarioError) as problem:
        parse(SERIAL.replace(change, to), "site.yaml", "site")
    assert says in str(problem.value)


def test_two_wires_cannot_share_a_serial_port():
    twin = SERIAL.replace("devices:", "  second: {kind: modbus-rtu, device: line-1}\ndevices:")
    with pytest.raises(ScenarioError, match=r"second.device: another wire has this serial port"):
        parse(twin, "site.yaml", "site")


async def test_a_serial_port_appears_with_the_site_and_goes_with_it(tmp_path):
    async with Site(parse(SERIAL, "s", "s"), RunOptions(serial_dir=tmp_path)) as site:
        end = site.endpoints["adam-1"]
        assert end == {
            "model": "adam_4015",
            "wire": "modbus-rtu",
            "device": str(tmp_path / "line-1"),
            "baud_rate": 19_200,
            "unit_id": 3,
        }
        assert (tmp_path / "line-1").is_char_device()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(shipped()))
def test_the_scenarios_that_come_along_are_good(name):
    scenario = load_scenario(name)
    assert scenario.description
    for wire in scenario.wires.values():
        assert wire.device or PORT_FIRST <= wire.port <= PORT_LAST


async def test_a_site_answers_for_every_device():
    async with Site(load_scenario("demo"), RunOptions(ephemeral=True)) as site:
        for key, address, count in (
            ("particle-counter-1", 300, 19),
            ("ph-1", 2089, 10),
            ("ph-2", 2409, 10),
            ("freezer-temperatures-1", 0, 6),
        ):
            where = site.endpoints[key]
            async with connected(where["port"]) as client:
                reply = await client.ask(read_request(3, address, count), unit=where["unit_id"])
                assert len(registers(reply)) == count


async def test_a_seed_replays_what_the_instruments_say():
    async def said(seed):
        site = Site(load_scenario("demo"), RunOptions(seed=seed))
        site.world.run_to(30.0)
        return {
            key: [round(site.processes[key].temperature_c, 9)]
            for key in ("clean-room-1", "bioreactor-1", "bioreactor-2")
        }

    assert await said(1) == await said(1)
    assert await said(1) != await said(2)


async def test_an_event_of_the_scenario_reaches_the_instrument():
    site = Site(parse(GOOD, "site.yaml", "site"))
    freezer = site.processes["freezer-1"]
    site.world.run_to(59)
    before_c = freezer.top_c
    site.world.run_to(180)
    assert freezer.top_c > before_c + 10

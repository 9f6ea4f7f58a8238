"""The profiles that ship are valid, sourced, and read what their manuals show."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

import drivers.profiles
from drivers.modbus import DRIVER
from drivers.modbus.codec import plan
from edgeagent.cli import main
from edgeagent.configure.plan import driver_kinds

DRIVERS = driver_kinds()
FILES = sorted(Path(drivers.profiles.__file__).parent.glob("*.yaml"))


def load(name: str):
    path = next(file for file in FILES if file.stem == name)
    data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return DRIVERS[data["driver"]].profile.model_validate(data)


def decoded(name: str, group: str, *replies: str) -> dict:
    """Decode replies as they stand in a manual; bytes of the PDU in hexadecimal."""
    profile = load(name)
    planned = plan(profile.points(group), profile.modbus.limits())
    values = planned.decode(b"".join(map(bytes.fromhex, replies)))
    schema = next(s for s in profile.schemas("x", {}) if s.group == group)
    return {
        tag.name: (value * tag.scale.numerator + tag.scale.shift) / tag.scale.denominator
        if tag.scale != (1, 0, 1)
        else value
        for tag, value in zip(schema.tags, values, strict=True)
    }


def requests(name: str, group: str) -> list[str]:
    profile = load(name)
    blocks = plan(profile.points(group), profile.modbus.limits()).blocks
    return [block.request.hex(" ") for block in blocks]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_profile_is_valid_and_bears_the_name_of_its_file(file):
    profile = load(file.stem)
    assert profile.profile == file.stem
    assert profile.identity or profile.identity_unavailable


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_profile_names_its_manual_and_what_no_manual_says(file):
    profile = load(file.stem)
    if all(source.confidence == "simulated-only" for source in profile.source):
        assert "not vendor-documented" in profile.source[0].note
        return
    from_somewhere = ("documented", "third-party")
    assert any(source.confidence in from_somewhere and source.sections for source in profile.source)
    assumed = [tag for group in profile.groups.values() for tag in group.tags.values()]
    if any(tag.assumed for tag in assumed):
        assert any(source.confidence == "assumed" for source in profile.source)


def test_hamilton_reads_each_channel_in_one_request_of_ten_registers():
    assert requests("hamilton-arc-ph", "measurement") == ["03 08 29 00 0a", "03 09 69 00 0a"]


def test_hamilton_reads_the_examples_of_its_manual():
    # Sections 2.5.2 and 2.5.3: pH 4.02503, status 0, 0 to 14; 24.35834 C, status 0, -20 to 130.
    values = decoded(
        "hamilton-arc-ph",
        "measurement",
        "0314 1000 0000 cd0c 4080 0000 0000 0000 0000 0000 4160",
        "0314 0004 0000 dde1 41c2 0000 0000 0000 c1a0 0000 4302",
    )
    assert round(values["ph"], 5) == 4.02503
    assert round(values["temperature"], 5) == 24.35834
    assert (values["ph_unit"], values["temperature_unit"]) == (0x1000, 4)
    assert not any(values[name] for name in values if name.endswith(("warning", "error")))


def test_hamilton_tells_a_warning_from_an_error():
    values = decoded(
        "hamilton-arc-ph",
        "measurement",
        "0314 1000 0000 cd0c 4080 0008 0000 0000 0000 0000 4160",
        "0314 0004 0000 dde1 41c2 0010 0000 0000 c1a0 0000 4302",
    )
    assert {name for name, value in values.items() if value is True} == {
        "ph_warning",
        "temperature_error",
    }


def test_adam_scales_over_the_cryogenic_range():
    # 0.006 C for a step; nitrogen boils at -195.8 C.
    values = decoded("adam-4015", "temperatures", "030c 02b0 8000 0000 ffff 0001 c000")
    assert values == {
        "channel_0": pytest.approx(-195.80078125),
        "channel_1": 0.0,
        "channel_2": -200.0,
        "channel_3": pytest.approx(199.993896484375),
        "channel_4": pytest.approx(-199.993896484375),
        "channel_5": 100.0,
    }
    (schema,) = load("adam-4015").schemas("x", {})
    assert all(tag.sentinels == (65535, 0) for tag in schema.tags)


def test_met_one_reads_a_sample_in_one_request():
    assert requests("met-one-6000", "sample") == ["03 01 2c 00 30"]
    registers = [0] * 48
    registers[0:6] = [2026, 11 << 8 | 23, 14, 5 << 8 | 59, 0, 1 << 8 | 0]
    registers[7:9] = [0, 28_300]
    registers[11:15] = [1, 2, 0, 17]
    registers[43:46] = [2500, 0xFFF6, 453]
    reply = "0360" + "".join(f"{register:04x}" for register in registers)

    values = decoded("met-one-6000", "sample", reply)

    assert values["count_size_1"] == 0x0001_0002
    assert values["count_size_2"] == 17
    assert (values["sample_month"], values["sample_day"]) == (11, 23)
    assert (values["sample_minute"], values["sample_second"]) == (5, 59)
    assert (values["temperature"], values["relative_humidity"]) == (-1.0, 45.3)
    assert values["sample_volume"] == 28_300


def test_bronkhorst_reads_the_frames_of_its_map():
    """`01 03 A1 00 00 02` is the flow: 3E80 0000 is 0.25."""
    assert "03 a1 00 00 02" in requests("bronkhorst-modbus", "flow")
    values = decoded(
        "bronkhorst-modbus", "flow",
        "0304 3e80 7d00", "0302 0000", "0302 0001", "0304 3e80 0000", "0304 43fa 0000",
        "0304 41ac 0000", "0304 00ff ffff",
    )  # fmt: skip
    assert (values["measure"], values["set_point_raw"]) == (16_000, 32_000)
    assert (values["control_mode"], values["alarm_info"]) == (0, 1)
    assert (values["flow"], values["set_point"], values["temperature"]) == (0.25, 500.0, 21.5)


def test_tsx_reads_hexadecimal_addresses_as_the_manual_prints_them():
    """Request 03 0530 0002; FFFF FCE0 is -80.0 C."""
    assert requests("thermo-tsx", "settings") == [
        "03 05 30 00 02", "03 05 38 00 02", "03 05 3c 00 02"
    ]  # fmt: skip
    assert requests("thermo-tsx", "status") == ["03 06 71 00 01", "03 06 74 00 02"]
    values = decoded("thermo-tsx", "settings", "0304 ffff fce0", "0304 ffff fd44", "0304 ffff fc7c")
    assert values == {
        "set_point": -80.0,
        "warm_alarm_set_point": -70.0,
        "cold_alarm_set_point": -90.0,
    }


def test_tsx_tells_the_bits_of_32_apart():
    values = decoded("thermo-tsx", "status", "0302 0003", "0304 0001 0200")
    assert {name for name, value in values.items() if value} == {
        "pull_down_reached",
        "power_failure",
        "memory_corrupt_1",
        "door_1_open",
    }


def test_adam_4018_scales_over_the_range_of_type_t():
    values = decoded("adam-4018", "temperatures", "0310 0000 3333 8000 0001" + "ffff" * 4)
    assert values["channel_0"] == -100.0
    assert values["channel_1"] == pytest.approx(0.0, abs=0.01)
    assert values["channel_2"] == 150.0
    assert values["channel_3"] == pytest.approx(-99.99, abs=0.01)
    (schema,) = load("adam-4018").schemas("x", {})
    assert all(tag.sentinels == (65535, 0) for tag in schema.tags)


def test_eurotherm_reads_singles_at_0x8000_and_twice_the_address():
    """`03 8002 ...`: 4214 0000 is 37.0."""
    asked = requests("eurotherm-2400", "control")
    assert asked == ["03 00 4a 00 04", "03 80 02 00 06", "03 80 0a 00 02"]
    values = decoded(
        "eurotherm-2400", "control",
        "0308 0000 0021 0000 0000", "030c 4214 0000 c234 0000 42c8 0000", "0304 c128 0000",
    )  # fmt: skip
    assert (values["process_value"], values["target_set_point"]) == (37.0, -45.0)
    assert (values["output_power"], values["working_set_point"]) == (100.0, -10.5)
    assert (values["alarm_1"], values["alarm_2"], values["sensor_break"]) == (True, False, True)


@pytest.mark.parametrize(
    ("name", "group", "tag", "reply", "value"),
    [
        ("vaisala-hmp", "air", "relative_humidity", "0308 7ae1 41f4 0000 41a8", 30.56),
        ("vaisala-gmp252", "gas", "co2", "0304 d47a 43e8", 465.65997),
        ("vaisala-hpp272", "vapour", "h2o2", "0304 d47a 43e8", 465.65997),
    ],
)
def test_vaisala_probes_read_the_examples_of_their_manuals(name, group, tag, reply, value):
    profile = load(name)
    planned = plan(profile.points(group), profile.modbus.limits())
    first = planned.blocks[0]
    assert first.request.hex(" ").startswith("03 00 00 00")
    rest = b"".join(
        bytes([3, 2 * block.count]) + bytes(2 * block.count) for block in planned.blocks[1:]
    )
    values = planned.decode(bytes.fromhex(reply) + rest)
    names = [each.name for each in profile.schemas("x", {})[0].tags]
    assert dict(zip(names, values, strict=True))[tag] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("name", ["vaisala-hmp", "vaisala-hpp272"])
def test_vaisala_test_registers_tell_a_wrong_word_order(name):
    profile = load(name)
    points = [point for point in profile.identity_points() if point.name.startswith("test_")]
    planned = plan(points, profile.modbus.limits())
    assert [block.request.hex(" ") for block in planned.blocks] == ["03 1f 00 00 07"]
    expected = [profile.identity[point.name].expect for point in points]

    def accepted(reply: str) -> list[bool]:
        values = planned.decode(bytes.fromhex(reply))
        return [bool(re.fullmatch(e, str(v))) for e, v in zip(expected, values, strict=True)]

    assert accepted("030e cfc7 e666 c2f6 2d31 3233 2e34 3500") == [True, True, True]
    assert accepted("030e cfc7 c2f6 e666 2d31 3233 2e34 3500") == [True, False, True]


def test_lighthouse_reads_a_record_in_one_request_and_selects_nothing():
    assert requests("lighthouse-remote", "record") == ["04 00 00 00 18"]
    assert requests("lighthouse-remote", "status")[0] == "03 00 02 00 01"
    words = "68e7 7800 0000 003c 0000 0001 0000 0000 0001 0002 0000 0011" + "0000" * 12
    values = decoded("lighthouse-remote", "record", "0430" + words)
    assert values["timestamp"] == 0x68E7_7800
    assert (values["sample_time"], values["location"]) == (60, 1)
    assert (values["count_channel_1"], values["count_channel_2"]) == (65_538, 17)


def test_lighthouse_tells_running_from_flow_out_of_range():
    status = decoded("lighthouse-remote", "status", "0302 1007", "0306 0064 0003 ffff", "0302 0100")
    assert {name for name, value in status.items() if value is True} == {
        "running",
        "sampling",
        "flow_out_of_range",
        "calibration_due",
    }
    assert (status["flow"], status["record_count"], status["record_index"]) == (1.0, 3, -1)


def test_airnet_reads_its_sample_in_one_request():
    assert requests("pms-airnet-2", "sample") == ["04 00 d3 00 19"]
    words = "0000 0000 0001 0000 68e7 7800 0000 1770 0000 0000 0000 000a 0000 000a 0001 0004 0000"
    counts = "0000 1eba 0000 0b10 0000 02a0 0000 001c"
    values = decoded("pms-airnet-2", "sample", "0432" + words + counts)
    assert (values["sample_time"], values["flow"], values["volume"]) == (60.0, 1.0, 1.0)
    assert [values[f"count_channel_{n}"] for n in (1, 2, 3, 4)] == [7_866, 2_832, 672, 28]


def test_dwyer_reads_pascals_as_an_integer_and_as_a_single():
    assert requests("dwyer-ms2", "pressure") == [
        "04 00 01 00 01",
        "04 00 04 00 02",
        "04 00 13 00 03",
    ]
    values = decoded("dwyer-ms2", "pressure", "0402 fff4", "0404 c146 6666", "0406 0001 0000 0000")
    assert values["pressure_integer"] == -12
    assert values["pressure"] == pytest.approx(-12.4)
    assert (values["sensor_operational"], values["sensor_errors"]) == (1, 0)


def test_alicat_tells_its_status_bits_apart():
    assert requests("alicat-mc-modbus", "flow") == [
        "03 03 f1 00 02",
        "03 04 af 00 01",
        "03 04 b1 00 09",
    ]
    values = decoded(
        "alicat-mc-modbus", "flow",
        "0304 4248 0000", "0302 0008",
        "0312 0310 4169 eb85 41af 3333 42a0 0000 4248 0000",
    )  # fmt: skip
    assert {name for name, value in values.items() if value is True} == {
        "mass_flow_over_range",
        "valve_held",
        "adc_error",
    }
    assert (values["set_point"], values["mass_flow"], values["gas"]) == (50.0, 50.0, 8)
    assert values["pressure"] == pytest.approx(14.62)


def test_hamilton_oxygen_reads_each_channel_in_one_request():
    assert requests("hamilton-arc-do", "measurement") == ["03 08 29 00 0a", "03 09 69 00 0a"]
    values = decoded(
        "hamilton-arc-do",
        "measurement",
        "0314 0020 0000 0000 4234 0008 0000 0000 0000 0000 4396",
        "0314 0004 0000 0000 4214 0000 0000 0000 c120 0000 430c",
    )
    assert (values["oxygen_unit"], values["oxygen"], values["temperature"]) == (32, 45.0, 37.0)
    assert {name for name, value in values.items() if value is True} == {"oxygen_warning"}


def test_the_page_of_instruments_says_what_the_profiles_say():
    script = Path(__file__).parents[3] / "scripts" / "list_instruments.py"
    run = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


SITE = """\
site: berlin-1
state_dir: state
broker: {url: "mqtt://broker.invalid"}
links:
"""


def test_one_site_may_have_every_modbus_instrument(tmp_path):
    """`edgeagent check` accepts it: profiles, addresses, units."""
    names = [file.stem for file in FILES if "driver: modbus\n" in file.read_text("utf-8")]
    links = [
        f"  to-{name}: {{driver: modbus, host: gateway-{n}}}\n" for n, name in enumerate(names)
    ]
    devices = [f"  {name}: {{profile: {name}, link: to-{name}, unit_id: 1}}\n" for name in names]
    site = tmp_path / "site.yaml"
    site.write_text(SITE + "".join(links) + "instruments:\n" + "".join(devices))
    run = CliRunner().invoke(main, ["check", "--config", str(site)])
    assert (run.exit_code, run.stderr) == (0, "")
    assert f"instruments {len(names)}" in run.stdout
    assert len(names) >= 15


def test_the_example_of_the_documentation_is_a_valid_profile():
    page = Path(__file__).parents[3] / "docs" / "adding-an-instrument.md"
    example = page.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    profile = DRIVER.profile.model_validate(YAML(typ="safe", pure=True).load(example))
    blocks = plan(profile.points("chamber"), profile.modbus.limits()).blocks
    assert [str(block) for block in blocks] == ["holding 100 x 4"]

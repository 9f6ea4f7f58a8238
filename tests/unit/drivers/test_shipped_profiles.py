"""The profiles that ship are valid, sourced, and read what their manuals show."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

import drivers.profiles
from drivers.modbus import DRIVER
from drivers.modbus.codec import plan
from drivers.serial_line import DRIVER as SERIAL_LINE

DRIVERS = {kind.name: kind for kind in (DRIVER, SERIAL_LINE)}
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
    assert any(source.confidence == "documented" and source.sections for source in profile.source)
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


def test_the_example_of_the_documentation_is_a_valid_profile():
    page = Path(__file__).parents[3] / "docs" / "adding-an-instrument.md"
    example = page.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    profile = DRIVER.profile.model_validate(YAML(typ="safe", pure=True).load(example))
    blocks = plan(profile.points("chamber"), profile.modbus.limits()).blocks
    assert [str(block) for block in blocks] == ["holding 100 x 4"]

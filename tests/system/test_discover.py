"""From a server that nobody described to values of an approved profile, and what changes after.

Method: node-opcua with the LADS nodesets of its package and a vendor's subtypes, and the project's
own simulators; `edgeagent discover` and `check` as a person types them, then the real driver.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

import drivers.profiles
from drivers.opcua import DRIVER
from edgeagent.configure.plan import load_profile
from edgeagent.driver import Draft, Frame, Instrument, Loss
from edgeagent.model.clock import SystemClock
from simulators.scenario import parse
from simulators.site import RunOptions, Site
from tests.conformance.opcua.server import driver
from tests.system.opcua_peer import NodeServer

PROFILES = Path(drivers.profiles.__file__).parent
SCRIPT = Path(__file__).with_name("opcua_lads_server.mjs")
WITHIN_S = 20.0

SCENARIO = """
description: one of each
seed: 4
processes:
  culture: {model: bioreactor}
  cabinet: {model: ult_freezer}
  run: {model: cell_processing}
  line: {model: vial_filling}
wires:
  ua: {kind: opcua, port: 15030}
devices:
  bioreactor: {model: lads_bioreactor, process: culture, wire: ua}
  freezer: {model: lads_ult_freezer, process: cabinet, wire: ua}
  processor: {model: lads_cell_processor, process: run, wire: ua}
  filler: {model: packml_filler, process: line, wire: ua}
"""


def edgeagent(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeagent", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def drafts(url: str) -> list[Draft]:
    link = DRIVER.link_settings.model_validate({"url": url, "security": "none"})
    place = DRIVER.instrument_settings.model_validate({})
    assert DRIVER.discover is not None
    return list(await DRIVER.discover(link, place, SystemClock()))


def approve(draft: Draft, folder: Path):
    file = folder / f"{draft.profile}.yaml"
    file.write_text(draft.text(draft.profile).replace("draft: true\n", ""), encoding="utf-8")
    return load_profile(file)


def instrument(profile, start: str | None) -> Instrument:
    own = DRIVER.instrument_settings.model_validate({"start": start})
    return Instrument("device", profile, own, profile.schemas("device", {}), ())


async def first_values(
    url: str, profile, start: str | None = None
) -> tuple[dict[str, object], list[Loss], tuple[str, ...]]:
    """Return each tag's first value, what could not be had, and the mismatches at connect."""
    device = instrument(profile, start)
    made = driver(url, device)
    wanted = {(group.group, tag.name) for group in device.groups for tag in group.tags}
    values: dict[str, object] = {}
    losses: list[Loss] = []
    heard: set[tuple[str, str]] = set()
    try:
        [identity] = await made.connect()
        async with asyncio.timeout(WITHIN_S):
            while heard < wanted:
                for item in await made.next():
                    tags = item.group.tags
                    if isinstance(item, Loss):
                        losses.append(item)
                        heard |= {(item.group.group, tags[i].name) for i in item.tags or ()}
                        continue
                    statuses = item.status
                    for index, tag in enumerate(tags):
                        status = statuses if isinstance(statuses, int) else statuses[index]
                        if item.present is None or index in item.present or status >> 31:
                            heard.add((item.group.group, tag.name))
                            values.setdefault(tag.name, item.values[index])
                    await made.committed(item)
    finally:
        await made.close()
    assert all(isinstance(item, Frame | Loss) for item in losses)
    return values, losses, identity.mismatches


# -- a server that we did not write ------------------------------------------------------------


def test_from_a_foreign_server_to_a_checked_profile(tmp_path):
    with NodeServer(tmp_path, SCRIPT) as server:
        command = ("discover", "opcua", server.url, "--set", "security=none", "-o", "acme-u80.yaml")
        drawn = edgeagent(*command, cwd=tmp_path)
        assert drawn.returncode == 0, drawn.stderr
        assert "remove its line 'draft: true'" in drawn.stderr
        again = edgeagent(*command, cwd=tmp_path)
    assert (again.returncode, "exists; name another file" in again.stderr) == (73, True)
    refused = edgeagent("check", "--profile", "acme-u80.yaml", cwd=tmp_path)
    assert (refused.returncode, "this profile is a draft" in refused.stderr) == (78, True)
    file = tmp_path / "acme-u80.yaml"
    file.write_text(file.read_text().replace("draft: true\n", ""))
    checked = edgeagent("check", "--profile", "acme-u80.yaml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr


def test_of_several_devices_one_is_named_and_a_link_says_how_to_get_there(tmp_path):
    with NodeServer(tmp_path, SCRIPT, packml=True) as server:
        (tmp_path / "site.yaml").write_text(
            f"state_dir: state\nlinks: {{hall: {{driver: opcua, url: '{server.url}', "
            "security: none}}\n"
        )
        command = ("discover", "opcua", "--link", "hall", "--config", "site.yaml")
        several = edgeagent(*command, cwd=tmp_path)
        one = edgeagent(*command, "--device", "filler", cwd=tmp_path)
    assert several.returncode == 2
    assert several.stderr == (
        "edgeagent: there are several devices; name one with --device:\n"
        "  filler: PackML device Filler: 8 variables\n"
        "  freezer: LADS device Freezer: 17 variables\n"
    )
    assert one.returncode == 0, one.stderr
    assert 'profile: "filler"' in one.stdout


async def test_450_variables_of_a_vendors_subtypes_are_mapped_once_with_stated_units(tmp_path):
    with NodeServer(tmp_path, SCRIPT, sensors=38, units=2) as server:
        [draft] = await drafts(server.url)
        profile = approve(draft, tmp_path)
        values, losses, mismatches = await first_values(server.url, profile)
    tags = {name: tag for group in profile.groups.values() for name, tag in group.tags.items()}
    assert len(tags) > 450
    assert len({tag.node for tag in tags.values()}) == len(tags)
    assert mismatches == ()
    assert losses == []
    assert values["unit1_sensor7"] == -87.0
    assert {tag.unit for name, tag in tags.items() if name.endswith("_sensor7")} == {"Cel"}
    for unit in ("unit0", "unit1"):  # of these two the server gives no code, or nothing at all
        assert tags[f"{unit}_sensor1"].unit == "{unverified}"
        assert "calls it 'AU'" in tags[f"{unit}_sensor1"].assumed
        assert tags[f"{unit}_sensor3_raw"].unit == "{unverified}"


async def test_a_folder_larger_than_an_answer_is_read_to_its_end(tmp_path):
    """Five such folders, of a server that keeps three continuation points."""
    with NodeServer(tmp_path, SCRIPT, many=1_100) as server:
        freezer, plant = await drafts(server.url)
    assert freezer.summary == "LADS device Freezer: 17 variables"
    assert plant.summary == "other device Plant: 5500 variables"


async def test_a_unit_that_has_changed_since_the_approval_is_a_mismatch(tmp_path):
    with NodeServer(tmp_path, SCRIPT) as server:
        [draft] = await drafts(server.url)
        profile = approve(draft, tmp_path)
    kelvin = ["KEL", "K", "kelvin"]
    with NodeServer(tmp_path, SCRIPT, unit=kelvin, high=60) as server:
        values, losses, mismatches = await first_values(server.url, profile)
    assert mismatches == (
        "sensor0: the server's unit is 'K' (UnitId 4932940); the profile was approved with "
        "'°C' (UnitId 4408652)",
        "sensor0: the server's range is -100 to 60; the profile was approved with -100 to 50",
        "sensor1: the server's range is -100 to 60; the profile was approved with -100 to 50",
    )
    assert (values["sensor0"], losses) == (-80.0, [])


async def test_a_node_that_is_gone_since_the_approval_is_refused_with_its_tag(tmp_path):
    with NodeServer(tmp_path, SCRIPT) as server:
        [draft] = await drafts(server.url)
        profile = approve(draft, tmp_path)
    with NodeServer(tmp_path, SCRIPT, sensors=1) as server:
        values, losses, mismatches = await first_values(server.url, profile)
    gone = {loss.group.tags[index].name for loss in losses for index in loss.tags}
    assert {loss.cause for loss in losses} == {"refused"}
    assert gone == {name for name in profile.acquired() if name.startswith("sensor1")}
    assert (values["sensor0"], mismatches) == (-80.0, ())


@pytest.mark.parametrize(
    ("name", "start"), [("lads-device", "Freezer"), ("packml-vial-filler", "Filler")]
)
async def test_a_shipped_profile_fits_the_published_types(name, start, tmp_path):
    profile = load_profile(PROFILES / f"{name}.yaml")
    with NodeServer(tmp_path, SCRIPT, packml=True) as server:
        values, losses, mismatches = await first_values(
            server.url, profile, f"nsu=urn:edgeagent:test:lads;s={start}"
        )
    assert (losses, mismatches) == ([], ())
    assert values.keys() == profile.acquired()


# -- our simulators ----------------------------------------------------------------------------


async def test_every_simulated_device_is_drawn_and_its_values_arrive(tmp_path):
    options = RunOptions(ephemeral=True, ledger=tmp_path / "ledger")
    async with Site(parse(SCENARIO, "test", "test"), options) as site:
        url = site.endpoints["freezer"]["url"]
        drawn = await drafts(url)
        assert [draft.profile for draft in drawn] == [
            "bioreactor",
            "freezer",
            "processor",
            "filler",
        ]
        for draft in drawn:
            profile = approve(draft, tmp_path)
            values, losses, mismatches = await first_values(url, profile)
            assert (losses, mismatches) == ([], ())
            assert values.keys() == profile.acquired()
            said = _said(tmp_path / "ledger", draft.profile)
            floats = {name: v for name, v in values.items() if isinstance(v, float)}
            assert floats
            assert set(floats.values()) <= said, draft.profile


def _said(ledger: Path, device: str) -> set[object]:
    """Return every number that a device has ever said."""
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    return {
        value
        for line in lines
        if line["device"] == device
        for value in line["values"].values()
        if isinstance(value, int | float)
    }


async def test_a_state_bears_the_namespace_and_not_its_index(tmp_path):
    async with Site(parse(SCENARIO, "test", "test"), RunOptions(ephemeral=True)) as site:
        url = site.endpoints["freezer"]["url"]
        [draft] = [each for each in await drafts(url) if each.profile == "freezer"]
        profile = approve(draft, tmp_path)
        values, _, _ = await first_values(url, profile)
    door = profile.groups["states"].tags["door_state"]
    assert values["door_state"] == "nsu=http://opcfoundation.org/UA/LADS/;i=5028"
    assert f"{values['door_state']} Closed" in door.description


@pytest.mark.parametrize(
    ("name", "start", "wanted"),
    [
        (
            "lads-device",
            "nsu=urn:simulators:devices;s=freezer",
            {"device_state": "nsu=http://opcfoundation.org/UA/LADS/;i=5178", "device_health": 0},
        ),
        (
            "packml-vial-filler",
            "nsu=urn:simulators:devices;s=filler",
            {
                "speed_set_point": 20.0,
                "base_state": "nsu=http://opcfoundation.org/UA/PackML/;i=71",
                "mode": 1,
                "blocked": False,
            },
        ),
    ],
)
async def test_a_shipped_profile_reads_the_simulated_device(name, start, wanted):
    profile = load_profile(PROFILES / f"{name}.yaml")
    async with Site(parse(SCENARIO, "test", "test"), RunOptions(ephemeral=True)) as site:
        url = site.endpoints["freezer"]["url"]
        values, losses, mismatches = await first_values(url, profile, start)
    assert (losses, mismatches) == ([], ())
    assert values.keys() == profile.acquired()
    assert values.items() >= wanted.items()


# -- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("opcua", "opc.tcp://127.0.0.1:1"), 69, "start the server"),
        (("opcua", "http://x"), 78, "write e.g. opc.tcp://host:4840"),
        (("opcua",), 78, "url: is missing; add url"),
        (("opcua", "opc.tcp://h", "--set", "tmeout=3"), 78, "did you mean timeout?"),
        (("modbus", "opc.tcp://h"), 2, "modbus cannot discover; drivers that can: opcua"),
        (("opcua", "opc.tcp://h", "-o", "Acme.yaml"), 2, "'Acme.yaml' is no name for a profile"),
        (("opcua", "--link", "hall", "--config", "no.yaml"), 78, "create it, or name another file"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, code, words, tmp_path):
    done = edgeagent("discover", *arguments, "--set", "security=none", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr

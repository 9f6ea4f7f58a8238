"""``edgeagent check``: the exit code, the lines, the JSON, and no network.

Method: the real command in this process, and once as a program; sockets fail the test.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeagent.cli import main

PROFILES = Path(__file__).parents[3] / "drivers" / "profiles"

SITE = """\
site: berlin-1
state_dir: state
profile_dirs: [profiles]
broker:
  url: mqtt://broker.invalid
links:
  gateway:
    driver: modbus
    host: gateway.invalid
instruments:
  freezer-1:
    profile: adam-4015
    link: gateway
    unit_id: 1
"""


@pytest.fixture
def site(tmp_path) -> Path:
    (tmp_path / "profiles").mkdir()
    file = tmp_path / "site.yaml"
    file.write_text(SITE)
    return file


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whoever opens, names or connects a socket fails the test."""

    def refuse(*arguments, **_):
        raise AssertionError(f"the network was touched: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket.socket, "bind", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def check(*arguments):
    result = CliRunner().invoke(main, ["check", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def spoil(site: Path, change, name="adam-4015") -> Path:
    """Put a changed copy of a shipped profile before the shipped one."""
    file = site.parent / "profiles" / f"{name}.yaml"
    old, new = change
    text = (PROFILES / f"{name}.yaml").read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    return file


def test_a_sound_site(site):
    code, out, err = check("--config", site)
    assert (code, err) == (0, "")
    assert out.startswith(
        "ok: site berlin-1, links 1, instruments 1, groups 1, tags 6, values_per_s 6.0, revision "
    )
    assert not (site.parent / "state").exists()


def test_a_sound_site_as_json(site):
    code, out, err = check("--config", site, "--json")
    found = json.loads(out)
    assert (code, err, found["ok"], found["faults"], found["tags"]) == (0, "", True, [], 6)


def test_faults_end_with_78_and_stand_on_stderr(site):
    site.write_text(SITE.replace("unit_id: 1", "unit_id: 250").replace("gateway.invalid", "''"))
    code, out, err = check("--config", site)
    assert (code, out) == (78, "")
    assert err.splitlines() == [
        f"{site}:9: links.gateway.host: wrong value ''; give some text",
        f"{site}:14: instruments.freezer-1.unit_id: 250 is reserved; write 1 to 247, or 255 or 0 "
        "for a device that has a connection of its own",
    ]


def test_faults_as_json(site):
    site.write_text(SITE.replace("unit_id: 1", "unit_id: one"))
    code, out, err = check("--config", site, "--json")
    assert (code, err) == (78, "")
    assert json.loads(out) == {
        "ok": False,
        "faults": [
            {
                "file": str(site),
                "line": 14,
                "key": "instruments.freezer-1.unit_id",
                "problem": "wrong value 'one'",
                "mend": "give a whole number",
            }
        ],
    }


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_a_file_that_is_not_there(tmp_path, arguments):
    code, out, err = check("--config", tmp_path / "none.yaml", *arguments)
    assert code == 78
    assert "cannot be read" in out + err


def test_units_are_checked_with_their_lines(site):
    file = spoil(site, ("unit: Cel", "unit: grad"))
    line = file.read_text().splitlines().index("        unit: grad") + 1
    fault = (
        f"{file}:{line}: groups.temperatures.tags.channel_0.unit: 'grad' is no UCUM code; "
        "write a UCUM code, e.g. Cel, %, Pa, [pH], 1\n"
    )
    assert check("--config", site) == (78, "", fault)
    assert check("--profile", file) == (78, "", fault)


def test_every_wrong_unit_is_named(site):
    file = spoil(site, ("unit: Cel", "unit: grad"))
    file.write_text(file.read_text().replace("unit: Cel", "unit: °C"))
    _, _, err = check("--config", site)
    assert [line.split("'")[1] for line in err.splitlines()] == ["grad", *["°C"] * 5]


def test_the_units_of_the_profiles_that_ship_are_ucum_codes():
    for file in PROFILES.glob("*.yaml"):
        code, out, err = check("--profile", file)
        assert (code, err) == (0, "")
        assert out.startswith(f"ok: profile {file.stem}, groups ")


@pytest.mark.parametrize(
    ("change", "end"),
    [
        (
            ("address: 40002", "address: 40001"),
            "groups.temperatures.tags.channel_1.address: 40001 overlaps the tag 'channel_0' "
            "(40001); give each tag registers of its own, or read one register as BOOL tags with "
            "'bit'\n",
        ),
        (
            ("  address_base: 4xxxx", "  address_base: 4xxxx\n  byte_order: ACBD"),
            "modbus.byte_order: wrong value 'ACBD'; give 'ABCD', 'CDAB', 'BADC' or 'DCBA'\n",
        ),
        (
            ("profile: adam-4015", "profile: adam-4015 (mine)"),
            "profile: 'adam-4015 (mine)' is no name; use lower-case letters, digits, - and _\n",
        ),
        (
            ("        address: 40001", "        addres: 40001"),
            "groups.temperatures.tags.channel_0.address: is missing; add address\n",
        ),
        (
            ("sentinels: [65535, 0]", "sentinels: [70000]"),
            "groups.temperatures.tags.channel_0.sentinels[0]: an UINT16 is never 70000; "
            "write the raw value before scaling, 0 to 65535\n",
        ),
    ],
)
def test_faults_of_a_modbus_profile(site, change, end):
    file = spoil(site, change)
    code, out, err = check("--config", site)
    assert (code, out) == (78, "")
    first = err.splitlines(keepends=True)[0]
    assert first.startswith(f"{file}:")
    assert first.endswith(end)


def test_two_modbus_instruments_at_one_address(site):
    site.write_text(SITE + "  freezer-2: {profile: adam-4015, link: gateway, unit_id: 1}\n")
    assert check("--config", site)[2] == (
        f"{site}:15: instruments.freezer-2: both have unit_id 1, as freezer-1 has; "
        "give each its own address, or its own link\n"
    )


def test_as_a_program(site):
    """Alone, with an environment of its own, and without the libraries of the wire."""
    program = "import sys; from edgeagent.cli import main; " + (
        "import atexit; atexit.register(lambda: print('loaded', 'pymodbus' in sys.modules));main()"
    )
    environment = {**os.environ, "EDGEAGENT_CONFIG": str(site)}
    run = [sys.executable, "-c", program, "check"]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok: site berlin-1")
    assert done.stdout.endswith("loaded False\n")
    site.write_text(SITE.replace("site:", "sight:"))
    run = [sys.executable, "-m", "edgeagent", "check", "--config", str(site)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert done.returncode == 78
    assert done.stderr.splitlines() == [
        f"{site}:1: site: is missing; add site",
        f"{site}:1: sight: unknown key; did you mean site?",
    ]

"""``edgeagent schema``: an editor that knows it accepts what we ship and refuses a slip.

Method: the printed schemas with the jsonschema package, on the files that ship.
"""

import copy
import json

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from edgeagent.cli import main
from tests.fakes import fake_kind
from tests.unit.cli.test_check import PROFILES, SITE


def printed(*arguments):
    result = CliRunner().invoke(main, ["schema", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def yaml(text):
    return YAML(typ="safe").load(text)


@pytest.fixture(scope="module")
def site_schema():
    return printed("site")


@pytest.fixture(scope="module")
def profile_schema():
    return printed("profile", "--driver", "modbus")


def test_a_sound_site_is_accepted(site_schema):
    assert site_schema.is_valid(yaml(SITE))
    rich = yaml(SITE)
    rich["stream"] = {"window_messages": 5, "head_every": "5 s"}
    rich["links"]["gateway"] |= {"port": 503, "timeout": "500 ms"}
    rich["instruments"]["freezer-1"] |= {
        "serial_number": "7",
        "groups": {"temperatures": {"period": "2 s"}},
    }
    assert site_schema.is_valid(rich)


@pytest.mark.parametrize("file", sorted(PROFILES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_profile_that_ships_is_accepted(file):
    profile = yaml(file.read_text())
    schema = printed("profile", "--driver", profile["driver"])
    assert list(schema.iter_errors(profile)) == []


def at(data, path):
    for step in path:
        data = data[step]
    return data


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ((), "colour", "red"),
        (("broker",), "usrname", "me"),
        (("links", "gateway"), "prot", 503),
        (("links", "gateway"), "port", 0),
        (("links", "gateway"), "driver", "spi"),
        (("links", "gateway"), "timeout", 1),
        (("instruments", "freezer-1"), "serial_numbr", "7"),
        (("instruments", "freezer-1"), "unit_id", 256),
    ],
)
def test_a_slip_in_a_site_is_refused(site_schema, path, key, value):
    site = yaml(SITE)
    at(site, path)[key] = value
    assert not site_schema.is_valid(site)


@pytest.mark.parametrize("key", ["site", "broker", "links", "state_dir"])
def test_a_missing_key_is_refused(site_schema, key):
    site = yaml(SITE)
    del site[key]
    assert not site_schema.is_valid(site)


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ((), "colour", "red"),
        ((), "driver", "spi"),
        (("modbus",), "byte_order", "ACBD"),
        (("groups", "temperatures"), "period", 1),
        (("groups", "temperatures", "tags", "channel_0"), "adress", 1),
        (("groups", "temperatures", "tags", "channel_0"), "type", "FLOAT16"),
    ],
)
def test_a_slip_in_a_profile_is_refused(profile_schema, path, key, value):
    profile = copy.deepcopy(yaml((PROFILES / "adam-4015.yaml").read_text()))
    at(profile, path)[key] = value
    assert not profile_schema.is_valid(profile)


def test_each_driver_keeps_its_own_keys(monkeypatch):
    """With two drivers, a link has the keys of the one that it names, not of both."""
    from edgeagent.configure.plan import driver_kinds

    kinds = {**driver_kinds(), "fake": fake_kind()}
    monkeypatch.setattr("edgeagent.cli.schema.driver_kinds", lambda: kinds)
    schema = printed("site")
    site = yaml(SITE)
    site["links"]["other"] = {"driver": "fake", "host": "x"}
    site["instruments"]["other"] = {"profile": "acme", "link": "other", "address": 1}
    assert schema.is_valid(site)
    site["links"]["other"]["timeout"] = "1 s"
    assert not schema.is_valid(site)


def test_an_unknown_driver_is_named():
    result = CliRunner().invoke(main, ["schema", "profile", "--driver", "spi"])
    assert result.exit_code == 2
    assert "installed: file_drop, modbus" in result.stderr


def test_editors_find_descriptions_and_examples():
    text = json.dumps(printed("site").schema)
    assert "mqtt://host[:port] or mqtts://host[:port]" in text
    assert "500 ms" in text

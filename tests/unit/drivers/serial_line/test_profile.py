"""What a profile may state, and that every fault is told at once, with its place and the mend."""

import copy

import pytest
from pydantic import ValidationError

from drivers.serial_line import DRIVER
from edgeagent.driver import Instrument
from tests.conformance.serial_line.instruments import load

GOOD = {
    "profile": "test",
    "version": "1.0.0",
    "make": "test",
    "model": "test",
    "device_class": "test",
    "driver": "serial_line",
    "source": [{"manual": "none", "confidence": "simulated-only"}],
    "serial_line": {"sets": ["Z", "SET .*"]},
    "commands": {
        "who": {
            "request": "ID",
            "read": True,
            "source": "1",
            "reply": {"pattern": "(?P<value>.+)"},
        },
        "all": {
            "request": "R?",
            "read": True,
            "source": "2",
            "reply": {"separator": ",", "fields": ["x", "unit"]},
        },
    },
    "identity": {"serial_number": {"command": "who"}},
    "groups": {
        "g": {"period": "1 s", "tags": {"x": {"type": "FLOAT64", "command": "all", "field": "x"}}}
    },
}


def profile(*changes):
    """The good profile with these changes: (path, value); a value of ``...`` removes the key."""
    data = copy.deepcopy(GOOD)
    for path, value in changes:
        *way, last = path.split("/")
        at = data
        for step in way:
            at = at.setdefault(step, {})
        if value is ...:
            del at[last]
        else:
            at[last] = value
    return DRIVER.profile.model_validate(data)


def problems(*changes) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        profile(*changes)
    return {"/".join(map(str, e["loc"])): e["msg"] for e in caught.value.errors()}


def test_the_example_is_good():
    assert profile().acquired() == {"x"}


TAG = "groups/g/tags/x"


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        (
            ("commands/all/request", "Z"),
            "commands/all/request",
            "serial_line.sets has Z); remove it",
        ),
        (("commands/all/request", "SET 5"), "commands/all/request", "changes something"),
        (("commands/all/request", "HI=5"), "commands/all/request", "assigns"),
        (("commands/all/read", ...), "commands/all/read", "write read: true"),
        (("commands/all/read", False), "commands/all/read", "True"),
        (("commands/all/source", ...), "commands/all/source", "add source"),
        (("commands/all/request", ...), "commands/all/request", "add request"),
        (("commands/all/request", "R?\r\nZ"), "commands/all/request", "end or steer a line"),
        (
            ("commands/all/request", "{address}R?"),
            "commands/all/request",
            "add serial_line.address",
        ),
        (("commands/all/reply", {}), "commands/all/reply", "pattern, separator or columns"),
        (
            ("commands/all/reply", {"separator": ","}),
            "commands/all/reply",
            "separator and fields go together",
        ),
        (
            ("commands/all/reply", {"pattern": "(a+)+"}),
            "commands/all/reply/pattern",
            "repeats a group",
        ),
        (
            ("commands/all/reply", {"columns": {"x": [3, 2], "unit": [1, 2]}}),
            "commands/all/reply/columns/x",
            "are no columns",
        ),
        (("commands/more", GOOD["commands"]["all"]), "commands/more", "brings no value"),
        ((f"{TAG}/command", "none"), f"{TAG}/command", "use one of: who, all"),
        ((f"{TAG}/field", "y"), f"{TAG}/field", "use one of: unit, x"),
        ((f"{TAG}/uncertain", {"y": ["D"]}), f"{TAG}/uncertain/y", "no part 'y'"),
        ((f"{TAG}/unit_field", "unit"), TAG, "unit_texts go together"),
        ((f"{TAG}/unit_command", "who"), f"{TAG}/unit_command", "goes with unit_field"),
        ((f"{TAG}/type", "FLOAT32"), f"{TAG}/type", "write FLOAT64"),
        ((f"{TAG}/number", "hexadecimal"), f"{TAG}/number", "integer"),
        ((f"{TAG}/number", "hexadecimal-float"), f"{TAG}/number", "FLOAT32"),
        ((f"{TAG}/negative_above", 5), f"{TAG}/negative_above", "number: hexadecimal"),
        ((f"{TAG}/bit", 5), TAG, "only a BOOL"),
        ((f"{TAG}/type", "BOOL"), TAG, "give bit, or true_texts and false_texts"),
        ((f"{TAG}/text_form", "hexadecimal"), f"{TAG}/text_form", "STRING"),
        (("serial_line/deadline", "10 ms"), "serial_line/deadline", "shorter than timeout"),
        (
            ("serial_line/slowest_reply", "1 s"),
            "serial_line/slowest_reply",
            "shorter than deadline",
        ),
        (("serial_line/padding", "\n"), "serial_line/padding", "part of the terminator"),
        (
            ("serial_line/address", {"pattern": "[A-Z]", "default": "1"}),
            "serial_line/address/default",
            "does not match",
        ),
        (("serial_line/factory_line", "fast"), "serial_line/factory_line", "match pattern"),
    ],
)
def test_a_fault_is_told_with_its_place_and_the_mend(change, place, words):
    found = problems(change)
    assert place in found
    assert words in found[place]


def test_all_faults_are_told_at_once():
    found = problems(("commands/all/request", "Z"), (f"{TAG}/field", "y"), (f"{TAG}/scale", "zero"))
    assert {"commands/all/request", f"{TAG}/scale"} <= set(found)


def test_a_select_of_the_vendors_read_protocol_is_allowed_when_it_says_why():
    profile(("commands/all/request", "SET 5"), ("commands/all/select", "manual, 4.2: read pointer"))


def test_where_instruments_share_a_line_every_request_bears_the_address():
    address = ("serial_line/address", {"pattern": "[1-9]", "default": "1"})
    found = problems(address)
    assert "asks every instrument" in found["commands/all/request"]
    profile(
        address, ("commands/all/request", "{address}R?"), ("commands/who/request", "{address}ID")
    )


def test_who_is_listened_to_is_never_asked():
    found = problems(("serial_line/listen", True))
    assert "remove request" in found["commands/all/request"]
    assert "remove identity" in found["identity"]


def test_text_that_may_name_a_person_needs_a_class_and_a_key():
    text = {"type": "STRING", "command": "all", "field": "x"}
    assert profile(("groups/g/tags/code", text)).acquired() == {"x"}
    checked = profile(("groups/g/tags/code", text | {"privacy": "pseudonym"}))
    assert checked.needs_key
    it = Instrument("a", checked, DRIVER.instrument_settings(), ())
    assert "add pseudonym_key_file" in DRIVER.misfit(it, [])


def misfit(profile_name, others=(), **settings):
    def made(name, keys):
        checked = load(name)
        return Instrument(name, checked, DRIVER.instrument_settings(**keys), ())

    return DRIVER.misfit(made(profile_name, settings), [made(*each) for each in others])


def test_an_address_must_have_the_form_that_the_profile_states():
    assert misfit("watson-marlow-620", address="16") is None
    assert "must match" in misfit("watson-marlow-620", address="17")
    assert "remove address" in misfit("mettler-mt-sics", address="1")


def test_who_sends_by_itself_has_a_line_of_its_own():
    assert "its own link" in misfit("sartorius-sbi-print", [("alicat-mc", {"address": "A"})])
    assert misfit("alicat-mc", [("alicat-mc", {"address": "B"})], address="A") is None


def test_two_instruments_with_one_address_clash():
    settings = DRIVER.instrument_settings
    assert DRIVER.clash(settings(address="A"), settings(address="A"))
    assert DRIVER.clash(settings(), settings())
    assert DRIVER.clash(settings(address="A"), settings(address="B")) is None

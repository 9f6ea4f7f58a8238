"""A profile means what it says: order of ranges, privacy of strings, exact scales.

Method: small profiles made in code, a Fraction as the judge of arithmetic.
"""

import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgeagent.acquire.condition import compile_conditioner
from edgeagent.acquire.encode import schema_description
from edgeagent.model.frame import DataType, Frame, GroupSchema, Scale
from edgeagent.model.profile import Group, IdentityItem, Profile, Range, Tag

INTEGERS = {
    DataType.INT8: (-(2**7), 2**7 - 1),
    DataType.UINT8: (0, 2**8 - 1),
    DataType.INT16: (-(2**15), 2**15 - 1),
    DataType.UINT16: (0, 2**16 - 1),
    DataType.INT32: (-(2**31), 2**31 - 1),
    DataType.UINT32: (0, 2**32 - 1),
    DataType.INT64: (-(2**63), 2**63 - 1),
    DataType.UINT64: (0, 2**64 - 1),
}


class AnyProfile(Profile[Group[Tag], IdentityItem]):
    """The base without any driver's addressing."""


def profile(**changes: Any) -> AnyProfile:
    stated = {
        "profile": "acme-b200",
        "version": "1.2.3",
        "make": "Acme",
        "model": "B200",
        "device_class": "balance",
        "driver": "fake",
        "source": [{"manual": "B200 manual", "confidence": "documented"}],
        "identity": {"serial_number": {}},
        "groups": {"weight": {"period": "1 s", "tags": {"weight": {"type": "FLOAT32"}}}},
    }
    return AnyProfile.model_validate(stated | changes)


def problem(make, *arguments, **keywords) -> str:
    with pytest.raises(ValidationError) as caught:
        make(*arguments, **keywords)
    return "\n".join(error["msg"] for error in caught.value.errors())


def test_a_range_has_its_ends_in_order():
    assert Range(low=-1, high=1).low == -1
    for low, high in [(1, 1), (2, 1)]:
        assert "is not below high" in problem(Range, low=low, high=high)


@pytest.mark.parametrize(
    "ends", [{"low": 0}, {"low": 0, "high": float("inf")}, {"low": float("nan"), "high": 1}]
)
def test_a_range_has_two_finite_ends(ends):
    problem(Range, **ends)


def test_only_numbers_are_scaled_and_ranged():
    for kind in ("BOOL", "STRING"):
        for key in ({"scale": 2}, {"offset": 1}, {"range": {"low": 0, "high": 1}}):
            assert f"a {kind} has no scale, offset or range" in problem(Tag, type=kind, **key)
    assert "scale 0" in problem(Tag, type="INT16", scale=0)
    assert "pseudonym" in problem(Tag, type="STRING", privacy="pseudonym")


def test_a_string_enters_only_where_its_privacy_says_so():
    tags = {
        "weight": {"type": "FLOAT32"},
        "operator": {"type": "STRING"},
        "patient": {"type": "STRING", "privacy": "drop"},
        "program": {"type": "STRING", "privacy": "none"},
        "door": {"type": "BOOL"},
    }
    made = profile(groups={"all": {"period": "1 s", "tags": tags}})
    (group,) = made.schemas("balance-1", {})
    assert [tag.name for tag in group.tags] == ["weight", "program", "door"]
    assert list(made.groups["all"].acquired()) == ["weight", "program", "door"]
    assert not {"operator", "patient"} & set(json.dumps(schema_description(group)).split('"'))


def test_a_site_may_change_a_period_and_nothing_else():
    (group,) = profile().schemas("balance-1", {"weight": 5 * 10**9})
    assert (group.period_ns, group.instrument, group.group) == (5 * 10**9, "balance-1", "weight")
    assert (group.profile, group.profile_version) == ("acme-b200", "1.2.3")
    assert profile().schemas("balance-1", {})[0].period_ns == 10**9


def test_critical_tags_are_the_profiles_unless_the_site_names_others():
    tags = {
        "level": {"type": "FLOAT32", "critical": True},
        "lid": {"type": "BOOL"},
        "nitrogen": {"type": "FLOAT32"},
    }
    made = profile(groups={"all": {"period": "1 s", "tags": tags}})

    def critical(*of_the_site: Any) -> list[str]:
        (group,) = made.schemas("tank-1", {}, *of_the_site)
        return [tag.name for tag in group.tags if tag.critical]

    assert critical() == critical(None) == ["level"]
    assert critical(("nitrogen", "lid")) == ["lid", "nitrogen"]
    assert critical(()) == []


def test_who_cannot_be_identified_says_why():
    assert "identity_unavailable" in problem(profile, identity={})
    assert profile(identity={}, identity_unavailable="has no number").identity == {}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"version": "1.2"}, "pattern"),
        ({"profile": "Acme B200"}, "pattern"),
        ({"groups": {}}, "at least 1"),
        ({"source": []}, "at least 1"),
        ({"colour": "blue"}, "Extra inputs"),
        ({"groups": {"weight": {"period": 1, "tags": {"w": {"type": "FLOAT32"}}}}}, "no duration"),
        ({"groups": {"weight": {"period": "1 s", "tags": {}}}}, "at least 1"),
        ({"groups": {"w": {"period": "1 s", "tags": {"w": {"type": "FLOAT16"}}}}}, "FLOAT32"),
    ],
)
def test_what_no_profile_may_say(change, word):
    assert word in problem(profile, **change)


def engineering(kind: DataType, scale: Scale | None, raw: Any, tag: Tag | None = None) -> Any:
    schema = (tag or Tag(type=kind)).compile("t")
    if scale is not None:
        schema = type(schema)("t", kind, scale=scale)
    group = GroupSchema("i", "g", (schema,), 10**9, "p", "1.0.0")
    return compile_conditioner(group.tags)(Frame(group, (raw,), 0, 0)).values[0]


rationals = st.fractions(max_denominator=10**6).filter(lambda f: abs(f) < 10**9)


@given(st.sampled_from(list(INTEGERS)), st.data(), rationals, rationals)
def test_an_integer_becomes_the_exactly_rounded_rational(kind, data, scale, offset):
    """One rounding: the nearest binary64 of raw * scale + offset, an integer where it is one."""
    assume(scale != 0)
    raw = data.draw(st.integers(*INTEGERS[kind]))
    tag = Tag(type=kind, scale=scale, offset=offset)
    value = engineering(kind, None, raw, tag)
    exact = raw * scale + offset
    if isinstance(value, int):
        assert value == exact
    else:
        assert value == exact.numerator / exact.denominator
    numerator, shift, denominator = tag.compile("t").scale
    assert Fraction(raw * numerator + shift, denominator) == exact


@given(st.integers(-(2**15), 2**16 - 1), st.sampled_from([1, 2, 3, 4]))
def test_decimal_places_are_those_of_the_display(raw, places):
    tag = Tag(type="INT32", scale=f"1/{10**places}")
    assert engineering(DataType.INT32, None, raw, tag) == float(f"{raw}e-{places}")


def test_the_worked_examples_of_the_adam_4015():
    """Support note 1-2C1EWF: value = low + raw / 65536 * (high - low)."""
    tag = Tag(type="UINT16", scale="400/65536", offset=-200)
    assert engineering(DataType.UINT16, None, 0, tag) == -200
    assert engineering(DataType.UINT16, None, 32768, tag) == 0
    assert engineering(DataType.UINT16, None, 65536 // 4 * 3, tag) == 100
    assert tag.compile("t").scale == Scale(25, -819200, 4096)

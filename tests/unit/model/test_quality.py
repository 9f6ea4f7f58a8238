"""Status codes are those of the document, and say their name."""

import math

import pytest

from edgeagent.model import quality


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (0x803C0400, math.nan),
        (0x803C0600, math.inf),
        (0x803C0500, -math.inf),
    ],
)
def test_what_stood_where_a_body_has_null(code, value):
    assert quality.non_finite(value) == code
    assert quality.is_bad(code)
    assert not quality.is_good(code)


@pytest.mark.parametrize(
    ("code", "name", "good", "bad"),
    [
        (0x00000000, "good", True, False),
        (0x00300000, "0x00300000", True, False),
        (0x40940000, "uncertain_engineering_units_exceeded", False, False),
        (0x40000000, "uncertain", False, False),
        (0x808C0000, "bad_sensor_failure", False, True),
        (0x803C0400, "not_a_number", False, True),
        (0xC0000000, "0xc0000000", False, True),
    ],
)
def test_names_and_severities(code, name, good, bad):
    assert quality.name(code) == name
    assert (quality.is_good(code), quality.is_bad(code)) == (good, bad)

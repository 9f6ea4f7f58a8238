"""What people write as a duration or a number means exactly that, or is refused with words."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from edgeagent.model.quantity import (
    DurationNs,
    Rational,
    SizeBytes,
    parse_duration_ns,
    parse_rational,
    parse_size_bytes,
)


class Model(BaseModel):
    period: DurationNs = 10**9
    scale: Rational = Fraction(1)
    budget: SizeBytes = 1


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("500 ms", 500_000_000),
        ("1 s", 10**9),
        ("1.5s", 1_500_000_000),
        ("0.1 s", 100_000_000),
        ("5 min", 300 * 10**9),
        ("4 h", 14_400 * 10**9),
        ("90 d", 7_776_000 * 10**9),
        ("  20 ms ", 20_000_000),
        ("0.000001 ms", 1),
    ],
)
def test_durations(text, ns):
    assert parse_duration_ns(text) == ns
    assert Model(period=text).period == ns


@pytest.mark.parametrize(
    "text",
    ["1", "s", "1 S", "1 sec", "1 m", "-1 s", "+1 s", "0 s", "1e3 s", "1,5 s", "1 s 2", "", "inf s",
     "0.0000001 ms", 1, 1.0, None, True, ["1 s"], {"s": 1}],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_words(text):
    with pytest.raises(ValueError, match=r"is no duration; write|is no positive whole number"):
        parse_duration_ns(text)
    with pytest.raises(ValidationError):
        Model(period=text)


@given(st.integers(1, 10**12), st.sampled_from(["ms", "s", "min", "h"]), st.sampled_from(["", " "]))
def test_every_whole_duration_is_exact(number, unit, space):
    factor = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}[unit]
    assert parse_duration_ns(f"{number}{space}{unit}") == number * factor


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1 B", 1),
        ("64 MB", 64_000_000),
        ("20 GB", 20_000_000_000),
        ("1.5kB", 1500),
        ("2 TB", 2 * 10**12),
        (" 1 KiB ", 1024),
        ("512 MiB", 512 << 20),
        ("0.5 GiB", 1 << 29),
        ("1 TiB", 1 << 40),
    ],
)
def test_sizes(text, size):
    assert parse_size_bytes(text) == size
    assert Model(budget=text).budget == size


@pytest.mark.parametrize(
    "text",
    ["1", "MB", "20 gb", "20 G", "1 KB", "1 kiB", "-1 MB", "0 B", "0.5 B", "1.0001 kB", "1e3 MB",
     "1,5 GB", "", 1, 1.0, None, True, ["1 MB"]],
)  # fmt: skip
def test_what_is_no_size_is_refused_with_words(text):
    with pytest.raises(ValueError, match=r"is no size; write|is no positive whole number of bytes"):
        parse_size_bytes(text)
    with pytest.raises(ValidationError):
        Model(budget=text)


@pytest.mark.parametrize(
    ("stated", "exact"),
    [
        (0.1, Fraction(1, 10)),
        (2, Fraction(2)),
        (-200, Fraction(-200)),
        ("400/65536", Fraction(25, 4096)),
        ("400 / 65536", Fraction(25, 4096)),
        ("0.0625", Fraction(1, 16)),
        (1e-3, Fraction(1, 1000)),
        ("1e-3", Fraction(1, 1000)),
        (Fraction(1, 3), Fraction(1, 3)),
    ],
)
def test_rationals_are_exact(stated, exact):
    assert parse_rational(stated) == exact
    assert Model(scale=stated).scale == exact


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=6
    )
)
def test_a_decimal_in_a_file_is_that_decimal_and_not_its_binary_neighbour(decimal):
    """YAML hands over a float; what was written is its shortest form."""
    assert parse_rational(str(decimal)) == Fraction(decimal)
    assert parse_rational(float(decimal)) == Fraction(Decimal(repr(float(decimal))))


@pytest.mark.parametrize(
    "stated", ["ten", "", "1/0", "1/2/3", True, None, [1], float("nan"), float("inf"), "0x10"]
)
def test_what_is_no_number_is_refused_with_words(stated):
    with pytest.raises(ValueError, match=r"is no number; write e\.g\. 0\.1 or 400/65536"):
        parse_rational(stated)

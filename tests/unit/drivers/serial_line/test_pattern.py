"""Patterns take time in proportion to the text, whatever it is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.serial_line.pattern import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "text", "fields"),
    [
        (r"S (?P<s>[SD]) +(?P<v>-?[0-9.]+) (?P<u>\S+)", "S S     100.00 g", ("S", "100.00", "g")),
        (r"(?P<v>[+ -] [ 0-9.]{8}) (?P<u>.{3})", "+   123.56    ", ("+   123.56", "   ")),
        (r"(?P<c>N {5})?(?P<v>\d+)", "N     12", ("N     ", "12")),
        (r"[]\]x]+(?P<v>[^]]+)\{S01", "]]xab{S01", None),
        (r"a{,2}b{2,}c{3}(?P<v>.)", "abbbccc!", ("!",)),
    ],
)
def test_ordinary_patterns_mean_what_they_mean(pattern, text, fields):
    found = compile_pattern(pattern).fullmatch(text)
    assert (found and found.groups()) == fields


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(a+)+b", "repeats a group"),
        ("(?:a|aa)*b", "repeats a group"),
        ("a+?b", "lazily"),
        ("(a)\\1", "refers back"),
        ("(?=a)b", "special group"),
        ("(?i)b", "special group"),
        ("[a", "no regular expression"),
        ("(", "no regular expression"),
    ],
)
def test_a_pattern_that_may_take_long_is_refused_with_a_mend(pattern, words):
    with pytest.raises(ValueError, match=words) as caught:
        compile_pattern(pattern)
    assert "; " in str(caught.value)


def test_what_takes_for_ever_otherwise_ends_at_once():
    # Ordinary repetition would try some 10^16 ways.
    pattern = compile_pattern(r".*.*.*.*.*.*.*.*.*.*=x")
    assert pattern.fullmatch("a" * 4096) is None


@given(st.text("ab.*+?()[]{}\\|^$-,1", max_size=12))
def test_no_text_makes_the_compiler_fail_otherwise_than_with_words(pattern):
    try:
        compiled = compile_pattern(pattern)
    except ValueError:
        return
    assert isinstance(compiled, re.Pattern)
    compiled.fullmatch("ab" * 50)

"""A window of measurements: what is in it, its quantiles, and what it may cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.model.recent import KEPT_MAX, Recent

steps = st.lists(st.tuples(st.floats(0, 100), st.floats(-1e6, 1e6, allow_nan=False)), max_size=60)
"""Time that passes, and what is measured then."""


@given(steps, st.floats(0, 200), st.sampled_from([0.5, 0.99, 1.0]))
def test_a_window_holds_what_a_list_would(steps, later_s, share):
    recent, everything, now_s = Recent(60), [], 0.0
    for passed_s, value in steps:
        now_s += passed_s
        recent.add(now_s, value)
        everything.append((now_s, value))
    now_s += later_s
    expected = sorted(value for at_s, value in everything if at_s >= now_s - 60)
    assert recent.values(now_s) == expected
    assert recent.count == len(everything)
    assert recent.total == pytest.approx(sum(value for _, value in everything))
    quantile = recent.quantile(share, now_s)
    if expected:
        assert quantile in expected
        assert sum(value <= quantile for value in expected) >= share * len(expected)
        assert recent.quantile(1, now_s) == expected[-1]
    else:
        assert quantile == 0


def test_the_99th_percentile_leaves_out_one_in_a_hundred():
    recent = Recent()
    for value in range(1, 101):
        recent.add(1.0, value)
    assert recent.quantile(0.99, 1.0) == 99
    assert recent.quantile(1, 1.0) == 100


def test_a_window_is_bounded_whatever_comes():
    recent = Recent()
    for value in range(3 * KEPT_MAX):
        recent.add(0.0, value)
    assert len(recent.values(0.0)) == KEPT_MAX
    assert recent.count == 3 * KEPT_MAX

"""The grid: no drift, the same for every link, and every missed tick is counted.

Method: a million ticks with late polls on a virtual time line, exact fractions as the judge.
"""

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.acquire.schedule import Due, following_tick, tick_after

PERIODS_NS = [20_000_000, 100_000_000, 10**9 // 3, 10**9, 60 * 10**9, 4 * 3600 * 10**9]
periods = st.sampled_from(PERIODS_NS) | st.integers(10**6, 10**13)


@pytest.mark.parametrize("period_ns", PERIODS_NS)
def test_no_drift_over_a_million_ticks(period_ns):
    """Polls take some of the period each time; the millionth is due where it should be."""
    period_s = period_ns / 1e9
    random = Random(4711)
    start_s = 1234.5678
    due = Due(period_s, tick_after(start_s, period_s))
    first = due.tick
    for _ in range(10**6):
        assert due.advance(due.at_s + random.random() * period_s) == 0
    assert due.tick == first + 10**6
    error = abs(Fraction(due.at_s) - due.tick * Fraction(period_ns, 10**9))
    assert error < Fraction(1, 10**5) * min(1, Fraction(period_s))


@given(st.floats(0, 1e9), st.floats(0, 1e9), periods)
def test_groups_of_one_period_are_due_together_on_all_links(one_s, other_s, period_ns):
    """Whenever two links come up, they are on one grid: their ticks coincide."""
    period_s = period_ns / 1e9
    one = Due(period_s, tick_after(one_s, period_s))
    other = Due(period_s, tick_after(other_s, period_s))
    later = max(one.tick, other.tick)
    one.tick = other.tick = later
    assert one.at_s == other.at_s == later * period_s


@given(st.floats(0, 1e9), periods)
def test_the_first_tick_is_the_next_one(now_s, period_ns):
    period_s = period_ns / 1e9
    at_s = Due(period_s, tick_after(now_s, period_s)).at_s
    rounding = 1e-9 + 1e-15 * now_s
    assert now_s - rounding <= at_s <= now_s + period_s + rounding


@given(periods, st.lists(st.floats(0, 20), max_size=50))
def test_every_tick_is_polled_or_counted(period_ns, polls_take):
    """Polled and missed ticks add up; what is missed was over, what comes next is not."""
    period_s = period_ns / 1e9
    due = Due(period_s, tick_after(100.0, period_s))
    first, missed, now_s = due.tick, 0, 0.0
    for index, periods_taken in enumerate(polls_take):
        before, now_s = due.tick, max(now_s, due.at_s) + periods_taken * period_s
        missed += due.advance(now_s)
        assert due.tick == first + index + 1 + missed
        rounding = 1e-9 * (1 + now_s)
        if due.tick > before + 1:
            assert due.at_s <= now_s + rounding
        assert (due.tick + 1) * period_s > now_s - rounding


@pytest.mark.parametrize(
    ("now_s", "following", "missed"),
    [
        (10.0, 11, 0),
        (10.9, 11, 0),
        (11.0, 11, 0),
        (11.9, 11, 0),
        (12.0, 12, 1),
        (13.5, 13, 2),
        (3610.0, 3610, 3599),
    ],
)
def test_a_late_poll_is_late_and_a_passed_one_is_missed(now_s, following, missed):
    assert following_tick(10, now_s, 1.0) == (following, missed)

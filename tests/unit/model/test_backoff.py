"""Waiting grows, is bounded, and never lets many come at once."""

from hypothesis import given
from hypothesis import strategies as st

from edgeagent.model.backoff import backoff_s


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_each_wait_is_within_its_bounds(attempt, random):
    ceiling = min(30.0, 0.2 * 2.0 ** min(attempt, 100))
    assert 0.1 * ceiling <= backoff_s(attempt, random) <= ceiling


def test_it_doubles_up_to_the_cap():
    assert [backoff_s(n, 1.0) for n in (1, 2, 3, 7, 8, 99)] == [0.4, 0.8, 1.6, 25.6, 30.0, 30.0]
    assert backoff_s(3, 0.0, base_s=1, cap_s=5) == 0.5

"""The programme of a controlled-rate freezer, and what a sample makes of it."""

import math
from random import Random

import pytest

from simulators.process.controlled_rate_freezer import (
    NITROGEN_EMPTY,
    SAMPLE_PROBE_BROKEN,
    ControlledRateFreezer,
    ControlledRateFreezerSettings,
)

MINUTE_S = 60.0


def freezer(hold_s=0.0):
    return ControlledRateFreezer(ControlledRateFreezerSettings(hold_s=hold_s), Random(1))


def after(minutes, **settings):
    run = freezer(**settings)
    run.step(minutes * MINUTE_S)
    return run


@pytest.mark.parametrize(
    ("minutes", "set_point_c", "target_c"),
    [
        (0, 4.0, -45.0),
        (10, -6.0, -45.0),
        (49, -45.0, -90.0),
        (51, -65.0, -90.0),
        (60, -90.0, -90.0),
    ],
)
def test_one_degree_a_minute_to_minus_45_then_ten_to_minus_90(minutes, set_point_c, target_c):
    run = freezer()
    if minutes:
        run.step(minutes * MINUTE_S)
    assert run.set_point_c == pytest.approx(set_point_c, abs=0.01)
    assert run.target_c == target_c


def test_it_holds_before_it_ramps():
    assert after(1, hold_s=120.0).set_point_c == 4.0
    assert after(3, hold_s=120.0).set_point_c == pytest.approx(3.0, abs=0.01)


def test_the_chamber_follows_and_the_run_ends():
    assert after(20).chamber_c == pytest.approx(-16.0, abs=1.0)
    done = after(120)
    assert not done.running
    assert done.chamber_c == pytest.approx(-90.0, abs=0.2)
    assert done.sample_c == pytest.approx(-90.0, abs=1.0)


def test_a_sample_supercools_and_springs_to_its_melting_point():
    run = freezer()
    seen_c = []
    for _ in range(40 * 60):
        run.step(1.0)
        seen_c.append(run.true_sample_c)
    coldest_before = next(i for i in range(1, len(seen_c)) if seen_c[i] > seen_c[i - 1] + 2.0)
    assert seen_c[coldest_before - 1] == pytest.approx(-9.0, abs=0.1)
    assert seen_c[coldest_before] == -4.0
    plateau_s = sum(value == -4.0 for value in seen_c)
    assert plateau_s > 5 * 60
    assert seen_c[-1] < -4.0


def test_without_nitrogen_the_chamber_warms():
    run = after(60)
    run.disturbances.begin(NITROGEN_EMPTY)
    run.step(30 * MINUTE_S)
    assert run.chamber_c > -60.0
    assert run.set_point_c == -90.0


def test_a_broken_probe_is_no_number():
    run = after(5)
    run.disturbances.begin(SAMPLE_PROBE_BROKEN)
    assert math.isnan(run.sample_c)
    run.disturbances.end(SAMPLE_PROBE_BROKEN)
    assert not math.isnan(run.sample_c)

"""The freezer keeps cold, boils off by the formula, fills itself and warms slowly when dry."""

from random import Random

import pytest

from simulators.process.ln2_freezer import (
    BOIL_OFF_L_PER_DAY_PER_W,
    LID_OPEN,
    SUPPLY_FAILED,
    Ln2Freezer,
    Ln2FreezerSettings,
)

HOUR_S = 3_600.0
DAY_S = 86_400.0


def freezer(**settings):
    return Ln2Freezer(Ln2FreezerSettings(**settings), Random(1))


def test_a_closed_freezer_stays_within_the_range_of_the_vapour_phase():
    closed = freezer()
    for _ in range(48):
        closed.step(HOUR_S)
        assert -190 < closed.true_top_c < -170
        assert -195.8 < closed.true_rack_c < closed.true_top_c


def test_one_watt_boils_off_half_a_litre_per_day():
    assert pytest.approx(0.537, abs=0.0005) == BOIL_OFF_L_PER_DAY_PER_W


def test_the_level_falls_by_the_boil_off_formula():
    closed = freezer(level_cm=50, static_heat_leak_w=10)
    before_l = closed.liquid_l
    closed.step(DAY_S)
    assert before_l - closed.liquid_l == pytest.approx(10 * 0.537, rel=0.001)


def test_an_open_lid_warms_the_top_long_before_the_racks_and_the_top_recovers():
    opened = freezer()
    top_c, rack_c = opened.true_top_c, opened.true_rack_c
    opened.disturbances.begin(LID_OPEN)
    opened.step(120)
    assert opened.true_top_c > top_c + 10
    assert opened.true_rack_c < rack_c + 0.1
    opened.step(480)
    assert opened.true_top_c > -135
    opened.disturbances.end(LID_OPEN)
    opened.step(2 * HOUR_S)
    assert opened.true_top_c == pytest.approx(top_c, abs=2)


def test_an_open_lid_boils_off_much_more():
    opened, closed = freezer(), freezer()
    opened.disturbances.begin(LID_OPEN)
    opened.step(600)
    closed.step(600)
    assert opened.boil_off_l_per_day > 5 * closed.boil_off_l_per_day
    assert opened.liquid_l < closed.liquid_l


def test_it_fills_between_its_two_levels_and_the_fill_line_shows_it():
    low = freezer(level_cm=30.01)
    while not low.filling:
        low.step(60)
    low.step(900)
    assert low.transfer_line_c < -180
    while low.filling:
        low.step(60)
    assert low.level_cm == pytest.approx(55, abs=0.2)
    low.step(2 * HOUR_S)
    assert low.transfer_line_c > 15
    assert not low.filling


def test_without_supply_it_keeps_the_samples_cold_for_days_and_then_warms():
    failing = freezer(level_cm=0.5)
    failing.disturbances.begin(SUPPLY_FAILED)
    failing.step(DAY_S)
    assert failing.liquid_l == 0
    failing.step(DAY_S)
    assert failing.true_rack_c < -130
    failing.step(6 * DAY_S)
    assert failing.true_rack_c > -130


def test_the_supply_comes_back_and_the_freezer_cools_down():
    failing = freezer(level_cm=0.0)
    failing.disturbances.begin(SUPPLY_FAILED)
    failing.step(5 * DAY_S)
    warm_c = failing.true_rack_c
    failing.disturbances.end(SUPPLY_FAILED)
    failing.step(12 * HOUR_S)
    assert failing.level_cm > 30
    assert failing.true_rack_c < warm_c - 50


def test_probes_follow_their_node_within_lag_and_noise():
    closed = freezer()
    closed.step(60)
    assert closed.top_c == pytest.approx(closed.true_top_c, abs=0.2)
    assert closed.rack_c == pytest.approx(closed.true_rack_c, abs=0.2)
    assert closed.ambient_c == pytest.approx(20, abs=0.2)

"""A freezer for -80 C swings about its set-point, and warms when it may not cool."""

from random import Random

import pytest

from simulators.process.ult_freezer import (
    COMPRESSOR_FAILED,
    DOOR_OPEN,
    MAINS_FAILED,
    UltFreezer,
    UltFreezerSettings,
)

HOUR_S = 3_600.0


def freezer(**settings):
    return UltFreezer(UltFreezerSettings(**settings), Random(1))


def test_the_compressor_cycles_within_its_hysteresis():
    cabinet = freezer()
    seen_c, starts, before = [], 0, False
    for _ in range(12 * 60):
        cabinet.step(60.0)
        seen_c.append(cabinet.true_cabinet_c)
        starts += cabinet.compressor_running and not before
        before = cabinet.compressor_running
    assert min(seen_c) == pytest.approx(-82.5, abs=0.5)
    assert max(seen_c) == pytest.approx(-77.5, abs=0.5)
    assert starts >= 4


def test_a_warm_cabinet_pulls_down_within_a_day():
    cabinet = freezer(start_c=21.0)
    assert not cabinet.pulled_down
    cabinet.step(HOUR_S)
    assert -80.0 < cabinet.cabinet_c < 20.0
    cabinet.step(25.0 * HOUR_S)
    assert cabinet.pulled_down
    assert cabinet.cabinet_c < -75.0


def test_an_open_door_warms_it_faster_than_the_compressor_cools():
    cabinet = freezer()
    cabinet.disturbances.begin(DOOR_OPEN)
    cabinet.step(600.0)
    assert cabinet.door_open
    assert cabinet.compressor_running
    assert cabinet.true_cabinet_c > -70.0
    cabinet.disturbances.end(DOOR_OPEN)
    cabinet.step(6.0 * HOUR_S)
    assert cabinet.true_cabinet_c < -75.0


@pytest.mark.parametrize("what", [COMPRESSOR_FAILED, MAINS_FAILED])
def test_without_cooling_it_warms_slowly(what):
    cabinet = freezer()
    cabinet.disturbances.begin(what)
    cabinet.step(HOUR_S)
    assert not cabinet.compressor_running
    assert -79.0 < cabinet.true_cabinet_c < -70.0
    cabinet.step(100.0 * HOUR_S)
    assert cabinet.true_cabinet_c == pytest.approx(21.0, abs=3.0)


def test_exchanger_and_condenser_show_the_compressor():
    cabinet = freezer(start_c=-70.0)
    cabinet.step(900.0)
    assert cabinet.compressor_running
    assert cabinet.heat_exchanger_c < cabinet.cabinet_c - 5.0
    assert cabinet.condenser_c > cabinet.ambient_c + 10.0


def test_the_same_seed_and_steps_give_the_same_values():
    one, other = freezer(), freezer()
    for part in (one, other):
        for _ in range(100):
            part.step(7.0)
    assert one.cabinet_c == other.cabinet_c

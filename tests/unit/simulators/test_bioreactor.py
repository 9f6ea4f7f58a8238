"""The culture grows as published, and the controllers hold what they can reach."""

import math
from random import Random

import pytest

from simulators.process.bioreactor import (
    FEED_STOPPED,
    GAS_SUPPLY_FAILED,
    HEATER_OFF,
    Bioreactor,
    BioreactorSettings,
)

HOUR_S = 3_600.0
DAY_S = 86_400.0


def bioreactor(**settings):
    return Bioreactor(BioreactorSettings(**settings), Random(1))


def test_cells_double_in_13_to_24_hours():
    culture = bioreactor(viable_cells_per_ml=0.5e6)
    before = culture.viable_cells_per_ml
    culture.step(DAY_S)
    doubling_h = 24 * math.log(2) / math.log(culture.viable_cells_per_ml / before)
    assert 13 < doubling_h < 24


def test_perfusion_carries_the_culture_beyond_ten_million_per_ml():
    culture = bioreactor()
    culture.step(4 * DAY_S)
    assert culture.viable_cells_per_ml > 10e6
    assert culture.perfusion_l_per_day == 1.0


def test_without_feed_the_glucose_runs_out_and_growth_ends():
    fed, starved = bioreactor(), bioreactor()
    starved.disturbances.begin(FEED_STOPPED)
    for culture in (fed, starved):
        culture.step(6 * DAY_S)
    assert 0 <= starved.glucose_mmol_l < 0.5
    assert starved.growth_per_h < 0.005
    assert starved.viable_cells_per_ml < fed.viable_cells_per_ml


def test_lactate_appears_at_one_and_a_half_times_what_glucose_disappears():
    culture = bioreactor()
    glucose = culture.glucose_mmol_l
    culture.step(12 * HOUR_S)
    assert culture.perfusion_l_per_day == 0
    gone = glucose - culture.glucose_mmol_l
    assert culture.lactate_mmol_l == pytest.approx(1.53 * gone, rel=0.001)


def test_ph_oxygen_and_temperature_are_held_while_the_cells_grow():
    culture = bioreactor()
    for _ in range(96):
        culture.step(HOUR_S)
        assert culture.ph == pytest.approx(7.2, abs=0.1)
        assert culture.dissolved_oxygen_pct == pytest.approx(45, abs=5)
        assert culture.temperature_c == pytest.approx(37, abs=0.3)


def test_without_heater_the_culture_cools_and_recovers():
    culture = bioreactor()
    culture.disturbances.begin(HEATER_OFF)
    culture.step(HOUR_S)
    assert culture.temperature_c < 30
    culture.disturbances.end(HEATER_OFF)
    culture.step(2 * HOUR_S)
    assert culture.temperature_c == pytest.approx(37, abs=0.3)


def test_without_gas_a_dense_culture_uses_up_its_oxygen():
    culture = bioreactor(viable_cells_per_ml=10e6)
    culture.step(HOUR_S)
    culture.disturbances.begin(GAS_SUPPLY_FAILED)
    culture.step(0.5 * HOUR_S)
    assert culture.true_dissolved_oxygen_pct < 5
    assert culture.true_ph < 7.2


def test_the_noise_of_a_probe_comes_from_the_seed_alone():
    def readings(seed):
        culture = Bioreactor(BioreactorSettings(), Random(seed))
        values = []
        for _ in range(20):
            culture.step(1.0)
            values.append((culture.ph, culture.dissolved_oxygen_pct, culture.temperature_c))
        return values

    assert readings(7) == readings(7)
    assert readings(7) != readings(8)

"""An isolator dries, gasses up, holds and airs itself, again and again."""

from random import Random

import pytest

from simulators.process.isolator import (
    GENERATOR_FAILED,
    GLOVE_LEAK,
    Isolator,
    IsolatorSettings,
    Phase,
)

CYCLE_S = 600.0 + 900.0 + 1_800.0 + 7_200.0


def isolator(**settings):
    return Isolator(IsolatorSettings(**settings), Random(1))


@pytest.mark.parametrize(
    ("at_s", "phase"),
    [
        (1.0, Phase.DRY),
        (700.0, Phase.CONDITION),
        (1_600.0, Phase.DECONTAMINATE),
        (3_400.0, Phase.AERATE),
        (CYCLE_S + 1.0, Phase.DRY),
    ],
)
def test_the_phases_follow_each_other(at_s, phase):
    chamber = isolator()
    chamber.step(at_s)
    assert chamber.phase is phase


def test_the_concentration_rises_holds_and_falls():
    chamber = isolator()
    chamber.step(600.0)
    assert chamber.h2o2_ppm < 5.0
    chamber.step(2_700.0)
    assert chamber.h2o2_ppm == pytest.approx(600.0, rel=0.02)
    chamber.step(900.0)
    assert chamber.true_h2o2_ppm == pytest.approx(600.0 / 2.718, rel=0.05)
    chamber.step(6_300.0)
    assert chamber.h2o2_ppm < 5.0


def test_humidity_goes_with_it():
    chamber = isolator()
    chamber.step(600.0)
    assert chamber.relative_humidity_pct == pytest.approx(15.0, abs=2.0)
    chamber.step(2_700.0)
    assert chamber.relative_humidity_pct == pytest.approx(55.0, abs=2.0)


@pytest.mark.parametrize(("what", "ppm"), [(GENERATOR_FAILED, 0.0), (GLOVE_LEAK, 240.0)])
def test_what_goes_wrong_shows_in_the_concentration(what, ppm):
    chamber = isolator()
    chamber.disturbances.begin(what)
    chamber.step(3_300.0)
    assert chamber.true_h2o2_ppm == pytest.approx(ppm, abs=1.0)


def test_a_probe_never_reads_below_zero():
    chamber = isolator()
    for _ in range(100):
        chamber.step(1.0)
        assert chamber.h2o2_ppm >= 0.0

"""A counter's samples: their length, their counts, what is left of a fault."""

from random import Random
from types import SimpleNamespace

import pytest

from simulators.devices.sampler import Sampler


def sampler(particles_05um_per_m3=1.0e6, particles_5um_per_m3=1.0e4, sizes_um=(0.5, 5.0), keep=5):
    room = SimpleNamespace(
        particles_05um_per_m3=particles_05um_per_m3, particles_5um_per_m3=particles_5um_per_m3
    )
    return Sampler(
        room, sizes_um, litres_per_min=30.0, period_s=60.0, keep=keep, rng=Random(1), utc_s=1000.0
    )


def test_one_long_step_makes_as_many_samples_as_many_short_ones():
    one, other = sampler(), sampler()
    assert one.step(150.0) == 2
    assert sum(other.step(10.0) for _ in range(15)) == 2
    for each in (one, other):
        assert [sample.started_utc_s for sample in each.complete] == [1000.0, 1060.0]
        assert each.running.elapsed_s == pytest.approx(30.0)
        assert each.utc_s == pytest.approx(1150.0)


def test_a_sample_holds_what_its_volume_held():
    counter = sampler()
    counter.step(60.0)
    (sample,) = counter.complete
    assert sample.volume_l == pytest.approx(30.0)
    assert sample.counts[0] == pytest.approx(30_000, abs=4 * 30_000**0.5)
    assert sample.counts[1] == pytest.approx(300, abs=4 * 300**0.5)


def test_sizes_between_follow_a_power_of_the_diameter():
    """From 0.5 to 5 um a hundredth is left, so at 1.58 um a tenth."""
    counter = sampler(sizes_um=(0.5, 1.581, 5.0))
    counter.step(60.0)
    small, middle, large = counter.complete[0].counts
    assert small >= middle >= large
    assert middle == pytest.approx(3_000, abs=4 * 3_000**0.5)


def test_a_room_without_particles_is_counted_as_such():
    counter = sampler(0.0, 0.0)
    counter.step(60.0)
    assert counter.complete[0].counts == [0, 0]


def test_only_so_many_records_are_kept():
    counter = sampler(keep=2)
    assert counter.step(300.0) == 5
    assert [sample.started_utc_s for sample in counter.complete] == [1180.0, 1240.0]


def test_a_blind_counter_draws_air_and_a_fault_stays_with_its_sample():
    counter = sampler()
    counter.step(30.0, flow_share=0.5, blind=True, faults=1)
    counter.step(90.0)
    first, second = counter.complete
    assert first.volume_l == pytest.approx(22.5)
    assert first.counts[0] == pytest.approx(15_000, abs=4 * 15_000**0.5)
    assert (first.faults, second.faults) == (1, 0)

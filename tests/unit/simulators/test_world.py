"""Simulated time moves in ticks, stops at events and does not depend on who looks."""

import pytest

from simulators.disturbance import Disturbances
from simulators.world import Event, World


class Witness:
    """Writes down how time moved and what was in force."""

    def __init__(self):
        self.disturbances = Disturbances(("lid_open",))
        self.steps = []

    def step(self, dt_s):
        self.steps.append((round(dt_s, 6), self.disturbances.count("lid_open")))


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def world(*events, speed=1.0):
    witness, clock = Witness(), Clock()
    return World({"freezer": witness}, events, speed=speed, monotonic=clock), witness, clock


def opened(at_s, **more):
    return Event(at_s=at_s, target="freezer", what="lid_open", **more)


def test_time_moves_only_when_asked_and_then_in_tenths_of_a_second():
    site, witness, clock = world()
    clock.now_s += 0.35
    assert witness.steps == []
    site.advance()
    site.advance()
    assert witness.steps == [(0.1, 0)] * 3
    assert site.now_s == pytest.approx(0.3)


def test_speed_stretches_the_ticks():
    site, witness, clock = world(speed=60)
    clock.now_s += 0.2
    site.advance()
    assert witness.steps == [(6.0, 0)] * 2


def test_how_often_somebody_looks_makes_no_difference():
    often, seldom = world(opened(1.55, for_s=1.0)), world(opened(1.55, for_s=1.0))
    for (site, _, clock), times in ((often, 40), (seldom, 1)):
        for _ in range(times):
            clock.now_s += 5.0 / times
            site.advance()
    assert often[1].steps == seldom[1].steps


def test_an_event_begins_and_ends_at_its_second():
    site, witness, _ = world(opened(10, for_s=20))
    site.run_to(60)
    assert witness.steps == [(10.0, 0), (20.0, 1), (30.0, 0)]


def test_an_event_without_an_end_stays():
    site, witness, _ = world(opened(10))
    site.run_to(1000)
    assert witness.steps == [(10.0, 0), (990.0, 1)]


def test_overlapping_events_add_up():
    site, witness, _ = world(opened(10, for_s=20), opened(20, for_s=20))
    site.run_to(50)
    assert witness.steps == [(10.0, 0), (10.0, 1), (10.0, 2), (10.0, 1), (10.0, 0)]


def test_an_event_may_repeat():
    site, witness, _ = world(opened(10, for_s=5, every_s=20))
    site.run_to(60)
    assert witness.steps == [
        (10.0, 0),
        (5.0, 1),
        (15.0, 0),
        (5.0, 1),
        (15.0, 0),
        (5.0, 1),
        (5.0, 0),
    ]

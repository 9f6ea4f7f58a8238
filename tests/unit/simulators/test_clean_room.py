"""The clean room behaves as its grade, its people and its door say."""

from random import Random

import pytest

from simulators.process.clean_room import (
    AIR_HANDLING_OFF,
    DOOR_OPEN,
    PERSON_INSIDE,
    CleanRoom,
    CleanRoomSettings,
    Grade,
)


def room(**settings):
    return CleanRoom(CleanRoomSettings(**settings), Random(1))


@pytest.mark.parametrize(
    ("grade", "limit_05um_per_m3", "limit_5um_per_m3"),
    [
        (Grade.A, 3_520, 29),
        (Grade.B, 3_520, 29),
        (Grade.C, 352_000, 2_930),
        (Grade.D, 3_520_000, 29_300),
    ],
)
def test_an_empty_room_rests_below_the_limits_of_annex_1(
    grade, limit_05um_per_m3, limit_5um_per_m3
):
    empty = room(grade=grade)
    assert 0 < empty.particles_05um_per_m3 < limit_05um_per_m3
    assert 0 < empty.particles_5um_per_m3 < limit_5um_per_m3


def test_grade_b_in_operation_stays_within_its_own_limits_with_three_people():
    busy = room(grade=Grade.B, people=3)
    assert 3_520 < busy.particles_05um_per_m3 < 352_000
    assert 29 < busy.particles_5um_per_m3 < 2_930


def test_a_person_raises_the_particles_and_the_air_changes_wash_them_out():
    clean_room = room(grade=Grade.B)
    at_rest = clean_room.particles_05um_per_m3
    clean_room.disturbances.begin(PERSON_INSIDE)
    clean_room.step(600)
    with_person = clean_room.particles_05um_per_m3
    clean_room.disturbances.end(PERSON_INSIDE)
    # Grade B changes its air 40 times an hour: after 90 s a share of exp(-1) of the excess is left.
    clean_room.step(90)
    assert with_person > 20 * at_rest
    left = (clean_room.particles_05um_per_m3 - at_rest) / (with_person - at_rest)
    assert left == pytest.approx(0.368, abs=0.001)


def test_two_people_are_two():
    one, two = room(), room()
    one.disturbances.begin(PERSON_INSIDE)
    two.disturbances.begin(PERSON_INSIDE)
    two.disturbances.begin(PERSON_INSIDE)
    one.step(3600)
    two.step(3600)
    rest = room().particles_05um_per_m3
    excess_of_two = two.particles_05um_per_m3 - rest
    assert excess_of_two == pytest.approx(2 * (one.particles_05um_per_m3 - rest))


def test_the_length_of_a_step_does_not_change_where_it_leads():
    coarse, fine = room(people=2), room(people=2)
    for clean_room in (coarse, fine):
        clean_room.disturbances.begin(DOOR_OPEN)
    coarse.step(60)
    for _ in range(600):
        fine.step(0.1)
    assert fine.particles_05um_per_m3 == pytest.approx(coarse.particles_05um_per_m3)


def test_an_open_door_takes_the_pressure_for_a_moment():
    clean_room = room()
    assert clean_room.differential_pressure_pa == pytest.approx(15, abs=1)
    clean_room.disturbances.begin(DOOR_OPEN)
    clean_room.step(10)
    assert clean_room.differential_pressure_pa < 5
    clean_room.disturbances.end(DOOR_OPEN)
    clean_room.step(30)
    assert clean_room.differential_pressure_pa == pytest.approx(15, abs=1)


def test_without_air_handling_the_room_loses_pressure_and_climate():
    clean_room = room(people=1)
    clean_room.disturbances.begin(AIR_HANDLING_OFF)
    for _ in range(60):
        clean_room.step(60)
    assert clean_room.differential_pressure_pa == pytest.approx(0, abs=1)
    assert clean_room.temperature_c > 24
    assert clean_room.relative_humidity_pct > 55
    assert clean_room.particles_05um_per_m3 > 352_000


def test_reading_a_probe_twice_gives_the_same_number():
    clean_room = room()
    clean_room.step(1)
    assert clean_room.temperature_c == clean_room.temperature_c

"""A clean room: airborne particles, pressure against the corridor, temperature and humidity.

The room is one well-mixed volume. For each size of particle

    dc/dt = emission / V - air_changes * (c - c_rest) + door_flow / V * (c_corridor - c)

and for constant inputs that has an exact solution, so a step may have any length.

Sources: EU GMP Annex 1 (2022), particle limits in operation and at rest, and its guidance of at
least 10 Pa between grades. Everything else, above all what a person sheds and how often the air
is changed, is assumed and marked so.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import ClassVar

from simulators.disturbance import Disturbances
from simulators.process.sensor import Sensor
from simulators.settings import require

DOOR_OPEN = "door_open"
PERSON_INSIDE = "person_inside"
AIR_HANDLING_OFF = "air_handling_off"


class Grade(StrEnum):
    """Cleanliness grades of EU GMP Annex 1."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"


@dataclass(frozen=True, slots=True)
class _GradeFacts:
    limit_at_rest_05um_per_m3: float
    """Annex 1 (2022), monitoring limit at rest, particles of 0.5 um and larger."""
    limit_at_rest_5um_per_m3: float
    """The same for 5 um and larger."""
    air_changes_per_h: float
    """Assumed, usual practice; grade A stands for a small unidirectional zone."""


_GRADES = {
    Grade.A: _GradeFacts(3_520.0, 29.0, 300.0),
    Grade.B: _GradeFacts(3_520.0, 29.0, 40.0),
    Grade.C: _GradeFacts(352_000.0, 2_930.0, 25.0),
    Grade.D: _GradeFacts(3_520_000.0, 29_300.0, 15.0),
}

_REST_SHARE_OF_LIMIT = 0.05  # assumed: a healthy room rests at 5 % of its limit
_CORRIDOR_FACTOR = 50.0  # assumed: the corridor holds 50 times the particles of the room at rest
_DOOR_FLOW_M3_PER_S = 0.2  # assumed: air exchanged through an open door
_AIR_CHANGES_OFF_PER_H = 0.5  # assumed: leakage when the air handling stands still

_PERSON_05UM_PER_S = 1.0e6 / 60.0  # assumed: a gowned person at work sheds 1e6 per minute
_PERSON_5UM_SHARE = 0.01  # assumed: one in a hundred of them is 5 um or larger
_PERSON_HEAT_W = 100.0  # assumed: sensible heat of a person at light work
_PERSON_HUMIDITY_PCT = 0.3  # assumed: rise of relative humidity per person

_AIR_HEAT_J_PER_M3_K = 1.2 * 1005.0  # density of air times its specific heat, at 20 C
_CLIMATE_TAU_S = 600.0  # assumed: room and furniture follow the supply air in ten minutes
_DOOR_WARMING_C = 0.6  # assumed: corridor air through the open door
_DOOR_HUMIDITY_PCT = 4.0  # assumed
_OFF_WARMING_C = 4.0  # assumed: where the room drifts without air handling
_OFF_HUMIDITY_PCT = 12.0  # assumed

_PRESSURE_TAU_S = 4.0  # assumed: how fast the pressure follows a door
_DOOR_OPEN_PRESSURE_PA = 1.0  # assumed: what is left of it through an open door


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanRoomSettings:
    """One room. Defaults are assumed and of usual size."""

    grade: Grade = Grade.B
    volume_m3: float = 60.0
    people: int = 0
    """People inside for the whole run; `person_inside` events come on top."""
    temperature_c: float = 21.0
    relative_humidity_pct: float = 45.0
    differential_pressure_pa: float = 15.0
    """Set-point against the corridor."""

    def __post_init__(self) -> None:
        require(self.volume_m3 > 0.0, "volume_m3", "must be positive")
        require(self.people >= 0, "people", "must not be negative")
        require(
            0.0 <= self.relative_humidity_pct <= 100.0, "relative_humidity_pct", "must be 0 to 100"
        )


class CleanRoom:
    """See the module text. `particles_...` are true values; the rest is what probes report."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (DOOR_OPEN, PERSON_INSIDE, AIR_HANDLING_OFF)

    def __init__(self, settings: CleanRoomSettings, rng: Random) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)
        self._settings = settings
        self._facts = _GRADES[settings.grade]
        self.particles_05um_per_m3 = self._rest_05um_per_m3
        self.particles_5um_per_m3 = self._rest_5um_per_m3
        self._temperature_c = settings.temperature_c
        self._humidity_pct = settings.relative_humidity_pct
        self._pressure_pa = settings.differential_pressure_pa
        self._settle()
        self._temperature_probe = Sensor(self._temperature_c, lag_s=30.0, noise=0.03, rng=rng)
        self._humidity_probe = Sensor(self._humidity_pct, lag_s=30.0, noise=0.2, rng=rng)
        self._pressure_probe = Sensor(self._pressure_pa, lag_s=1.0, noise=0.15, rng=rng)

    @property
    def temperature_c(self) -> float:
        return self._temperature_probe.value

    @property
    def relative_humidity_pct(self) -> float:
        return self._humidity_probe.value

    @property
    def differential_pressure_pa(self) -> float:
        """Pressure above the corridor."""
        return self._pressure_probe.value

    @property
    def people(self) -> int:
        return self._settings.people + self.disturbances.count(PERSON_INSIDE)

    def step(self, dt_s: float) -> None:
        door_open = self.disturbances.active(DOOR_OPEN)
        air_off = self.disturbances.active(AIR_HANDLING_OFF)
        self._step_particles(dt_s, door_open=door_open)
        self._step_climate(dt_s, door_open=door_open, air_off=air_off)
        self._step_pressure(dt_s, door_open=door_open, air_off=air_off)

    @property
    def _rest_05um_per_m3(self) -> float:
        return self._facts.limit_at_rest_05um_per_m3 * _REST_SHARE_OF_LIMIT

    @property
    def _rest_5um_per_m3(self) -> float:
        return self._facts.limit_at_rest_5um_per_m3 * _REST_SHARE_OF_LIMIT

    @property
    def _air_changes_per_s(self) -> float:
        off = self.disturbances.active(AIR_HANDLING_OFF)
        return (_AIR_CHANGES_OFF_PER_H if off else self._facts.air_changes_per_h) / 3600.0

    def _settle(self) -> None:
        """Start with the people of the settings already at work for long."""
        self._step_particles(1.0e6, door_open=False)
        self._temperature_c = self._goal_temperature_c(door_open=False, air_off=False)
        self._humidity_pct = self._goal_humidity_pct(door_open=False, air_off=False)

    def _step_particles(self, dt_s: float, *, door_open: bool) -> None:
        emission_per_s = self.people * _PERSON_05UM_PER_S
        self.particles_05um_per_m3 = self._mixed(
            self.particles_05um_per_m3, emission_per_s, self._rest_05um_per_m3, door_open, dt_s
        )
        self.particles_5um_per_m3 = self._mixed(
            self.particles_5um_per_m3,
            emission_per_s * _PERSON_5UM_SHARE,
            self._rest_5um_per_m3,
            door_open,
            dt_s,
        )

    def _mixed(
        self,
        now_per_m3: float,
        emission_per_s: float,
        rest_per_m3: float,
        door_open: bool,
        dt_s: float,
    ) -> float:
        volume_m3 = self._settings.volume_m3
        supply_per_s = self._air_changes_per_s
        door_per_s = _DOOR_FLOW_M3_PER_S / volume_m3 if door_open else 0.0
        removal_per_s = supply_per_s + door_per_s
        goal_per_m3 = (
            emission_per_s / volume_m3
            + supply_per_s * rest_per_m3
            + door_per_s * rest_per_m3 * _CORRIDOR_FACTOR
        ) / removal_per_s
        return goal_per_m3 + (now_per_m3 - goal_per_m3) * math.exp(-removal_per_s * dt_s)

    def _goal_temperature_c(self, *, door_open: bool, air_off: bool) -> float:
        air_m3_per_s = self._settings.volume_m3 * self._facts.air_changes_per_h / 3600.0
        per_person_c = _PERSON_HEAT_W / (air_m3_per_s * _AIR_HEAT_J_PER_M3_K)
        return (
            self._settings.temperature_c
            + self.people * per_person_c
            + door_open * _DOOR_WARMING_C
            + air_off * _OFF_WARMING_C
        )

    def _goal_humidity_pct(self, *, door_open: bool, air_off: bool) -> float:
        goal_pct = (
            self._settings.relative_humidity_pct
            + self.people * _PERSON_HUMIDITY_PCT
            + door_open * _DOOR_HUMIDITY_PCT
            + air_off * _OFF_HUMIDITY_PCT
        )
        return min(goal_pct, 100.0)

    def _step_climate(self, dt_s: float, *, door_open: bool, air_off: bool) -> None:
        goal_c = self._goal_temperature_c(door_open=door_open, air_off=air_off)
        goal_pct = self._goal_humidity_pct(door_open=door_open, air_off=air_off)
        share = -math.expm1(-dt_s / _CLIMATE_TAU_S)
        self._temperature_c += (goal_c - self._temperature_c) * share
        self._humidity_pct += (goal_pct - self._humidity_pct) * share
        self._temperature_probe.follow(self._temperature_c, dt_s)
        self._humidity_probe.follow(self._humidity_pct, dt_s)

    def _step_pressure(self, dt_s: float, *, door_open: bool, air_off: bool) -> None:
        goal_pa = self._settings.differential_pressure_pa
        if door_open:
            goal_pa = _DOOR_OPEN_PRESSURE_PA
        if air_off:
            goal_pa = 0.0
        self._pressure_pa += (goal_pa - self._pressure_pa) * -math.expm1(-dt_s / _PRESSURE_TAU_S)
        self._pressure_probe.follow(self._pressure_pa, dt_s)

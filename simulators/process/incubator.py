"""The chamber of a CO2 incubator: temperature, CO2, oxygen and humidity follow their set-points.

    dX/dt = (Xset - X)/tau        with the door closed
    dX/dt = (Xroom - X)/tau_door  with the door open

Assumed: all time constants and the air of the room.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from simulators.disturbance import Disturbances
from simulators.process.sensor import Sensor
from simulators.settings import require

DOOR_OPEN = "door_open"
CO2_CYLINDER_A_EMPTY = "co2_cylinder_a_empty"

_TAU_DOOR_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IncubatorSettings:
    """One incubator in steady state."""

    temperature_c: float = 37.0
    co2_pct: float = 5.0
    o2_pct: float = 20.9
    humidity_pct: float = 93.0

    def __post_init__(self) -> None:
        require(0.0 <= self.co2_pct <= 20.0, "co2_pct", "must be 0 to 20")


class Incubator:
    """See the module text."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (DOOR_OPEN, CO2_CYLINDER_A_EMPTY)

    def __init__(self, settings: IncubatorSettings, rng: Random) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)
        self._parts = (
            _Part(settings.temperature_c, 21.0, 600.0, Sensor(0, lag_s=20, noise=0.02, rng=rng)),
            _Part(settings.co2_pct, 0.04, 240.0, Sensor(0, lag_s=10, noise=0.02, rng=rng)),
            _Part(settings.o2_pct, 20.9, 300.0, Sensor(0, lag_s=10, noise=0.02, rng=rng)),
            _Part(settings.humidity_pct, 45.0, 1800.0, Sensor(0, lag_s=30, noise=0.2, rng=rng)),
        )
        self.step(1_000.0)

    @property
    def temperature_c(self) -> float:
        return self._parts[0].sensor.value

    @property
    def co2_pct(self) -> float:
        return self._parts[1].sensor.value

    @property
    def o2_pct(self) -> float:
        return self._parts[2].sensor.value

    @property
    def humidity_pct(self) -> float:
        return self._parts[3].sensor.value

    def step(self, dt_s: float) -> None:
        door_open = self.disturbances.active(DOOR_OPEN)
        for part in self._parts:
            part.step(dt_s, door_open)


class _Part:
    """One quantity of the chamber."""

    def __init__(self, goal: float, room: float, tau_s: float, sensor: Sensor) -> None:
        self._goal, self._room, self._tau_s, self.sensor = goal, room, tau_s, sensor
        self._value = goal

    def step(self, dt_s: float, door_open: bool) -> None:
        goal, tau_s = (self._room, _TAU_DOOR_S) if door_open else (self._goal, self._tau_s)
        self._value += (goal - self._value) * -math.expm1(-dt_s / tau_s)
        self.sensor.follow(self._value, dt_s)

"""A circulating bath and the vessel that it holds at temperature.

    dTbath/dt   = (Tset - Tbath)/tau_bath        while it controls, else towards the room
    dTvessel/dt = (Tbath - Tvessel)/tau_vessel

Assumed: both time constants, the room, and that the pump turns as fast as it is told to.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from simulators.disturbance import Disturbances
from simulators.process.sensor import Sensor
from simulators.settings import require

CONTROL_OFF = "control_off"

_TAU_BATH_S = 180.0
_TAU_VESSEL_S = 900.0
_TAU_ROOM_S = 7_200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThermostatSettings:
    """One bath."""

    set_point_c: float = 4.0
    start_c: float = 20.0
    ambient_c: float = 21.0

    def __post_init__(self) -> None:
        require(-150.0 < self.set_point_c < 300.0, "set_point_c", "must be -150 to 300")


class Thermostat:
    """See the module text."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (CONTROL_OFF,)

    def __init__(self, settings: ThermostatSettings, rng: Random) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)
        self._settings = settings
        self._bath_c = self._vessel_c = settings.start_c
        self._bath = Sensor(self._bath_c, lag_s=5.0, noise=0.005, rng=rng)
        self._vessel = Sensor(self._vessel_c, lag_s=10.0, noise=0.01, rng=rng)

    @property
    def controlling(self) -> bool:
        return not self.disturbances.active(CONTROL_OFF)

    @property
    def set_point_c(self) -> float:
        return self._settings.set_point_c

    @property
    def bath_c(self) -> float:
        return self._bath.value

    @property
    def vessel_c(self) -> float:
        return self._vessel.value

    def step(self, dt_s: float) -> None:
        goal_c, tau_s = self._settings.ambient_c, _TAU_ROOM_S
        if self.controlling:
            goal_c, tau_s = self.set_point_c, _TAU_BATH_S
        self._bath_c += (goal_c - self._bath_c) * -math.expm1(-dt_s / tau_s)
        self._vessel_c += (self._bath_c - self._vessel_c) * -math.expm1(-dt_s / _TAU_VESSEL_S)
        self._bath.follow(self._bath_c, dt_s)
        self._vessel.follow(self._vessel_c, dt_s)

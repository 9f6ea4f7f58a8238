"""One gas that a mass flow controller lets through.

    dQ/dt = (Qset - Q)/tau

Assumed: the time constant, the supply pressure, and the noise at no flow, which may be negative.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from simulators.disturbance import Disturbances
from simulators.process.sensor import Sensor
from simulators.settings import require

SUPPLY_CLOSED = "supply_closed"
OTHER_SET_POINT = "other_set_point"

_TAU_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class GasSupplySettings:
    """One line; flow at 25 C and 1 atmosphere."""

    set_point_sccm: float = 50.0
    other_set_point_sccm: float = 0.0
    """What the process asks for while `other_set_point` is in force."""
    full_scale_sccm: float = 500.0
    pressure_psia: float = 14.62
    temperature_c: float = 21.9

    def __post_init__(self) -> None:
        require(self.full_scale_sccm > 0.0, "full_scale_sccm", "must be positive")
        for key in ("set_point_sccm", "other_set_point_sccm"):
            set_point: float = getattr(self, key)
            require(0.0 <= set_point <= self.full_scale_sccm, key, "must be 0 to full_scale_sccm")


class GasSupply:
    """See the module text."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (SUPPLY_CLOSED, OTHER_SET_POINT)

    def __init__(self, settings: GasSupplySettings, rng: Random) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)
        self.settings = settings
        self._flow_sccm = settings.set_point_sccm
        noise = settings.full_scale_sccm * 1e-4
        self._flow = Sensor(self._flow_sccm, lag_s=0.1, noise=noise, rng=rng)
        self._temperature = Sensor(settings.temperature_c, lag_s=10.0, noise=0.02, rng=rng)

    @property
    def set_point_sccm(self) -> float:
        """What is asked for now."""
        if self.disturbances.active(OTHER_SET_POINT):
            return self.settings.other_set_point_sccm
        return self.settings.set_point_sccm

    @property
    def flow_sccm(self) -> float:
        return self._flow.value

    @property
    def temperature_c(self) -> float:
        return self._temperature.value

    @property
    def valve_pct(self) -> float:
        """Opening of the valve: as wide as the flow asks for, and fully open where none comes."""
        if self.disturbances.active(SUPPLY_CLOSED) and self.set_point_sccm > 0.0:
            return 100.0
        return 100.0 * max(self._flow_sccm, 0.0) / self.settings.full_scale_sccm

    def step(self, dt_s: float) -> None:
        closed = self.disturbances.active(SUPPLY_CLOSED)
        goal_sccm = 0.0 if closed else self.set_point_sccm
        self._flow_sccm += (goal_sccm - self._flow_sccm) * -math.expm1(-dt_s / _TAU_S)
        self._flow.follow(self._flow_sccm, dt_s)
        self._temperature.follow(self.settings.temperature_c, dt_s)

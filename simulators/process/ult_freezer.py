"""An ultra-low-temperature freezer: a cabinet, a two-point compressor, a door.

    C dT/dt = UA (Troom - T) - P        P only while the compressor runs

The compressor starts above the set-point plus half the hysteresis and stops below it minus half.
The heat exchanger and the condenser follow their goals with a lag.

Sources: set-point -80 C, warm and cold alarm at -70 and -90 C (Thermo TSX manual, its examples);
UA 2 W/K closed and 50 W/K open, 1000 W, hysteresis 5 K (the freezer of the public LADS
demonstration server opcua-lads/lads-server-collection); its capacity of 5 kJ/K empties in
minutes and is replaced. Assumed: the capacity, the heat exchanger, the condenser.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from simulators.disturbance import Disturbances
from simulators.process.sensor import Sensor
from simulators.settings import require

DOOR_OPEN = "door_open"
COMPRESSOR_FAILED = "compressor_failed"
MAINS_FAILED = "mains_failed"

_UA_CLOSED_W_PER_K = 2.0
_UA_OPEN_W_PER_K = 50.0
_COOLING_W = 1_000.0
_HYSTERESIS_K = 5.0
_CAPACITY_J_PER_K = 150_000.0  # assumed: a loaded cabinet

_EXCHANGER_COLDER_K = 8.0  # assumed: evaporator below the cabinet while it cools
_CONDENSER_WARMER_K = 15.0  # assumed: condenser above the room while it cools
_TAU_EXCHANGER_S = 120.0  # assumed
_STEP_MAX_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UltFreezerSettings:
    """One cabinet."""

    set_point_c: float = -80.0
    start_c: float = -80.0
    ambient_c: float = 21.0

    def __post_init__(self) -> None:
        require(-90.0 <= self.set_point_c <= -40.0, "set_point_c", "must be -90 to -40")


class UltFreezer:
    """See the module text. `true_cabinet_c` is the node; the rest is what probes say."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (DOOR_OPEN, COMPRESSOR_FAILED, MAINS_FAILED)

    def __init__(self, settings: UltFreezerSettings, rng: Random) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)
        self.settings = settings
        self.true_cabinet_c = settings.start_c
        self.pulled_down = settings.start_c <= settings.set_point_c + _HYSTERESIS_K
        self._demand = not self.pulled_down
        self._exchanger_c = settings.start_c
        self._condenser_c = settings.ambient_c

        def probe(value_c: float) -> Sensor:
            return Sensor(value_c, lag_s=15.0, noise=0.03, rng=rng)

        self._cabinet_probe = probe(self.true_cabinet_c)
        self._exchanger_probe = probe(self._exchanger_c)
        self._condenser_probe = probe(self._condenser_c)
        self._ambient_probe = probe(settings.ambient_c)

    @property
    def cabinet_c(self) -> float:
        return self._cabinet_probe.value

    @property
    def heat_exchanger_c(self) -> float:
        return self._exchanger_probe.value

    @property
    def condenser_c(self) -> float:
        return self._condenser_probe.value

    @property
    def ambient_c(self) -> float:
        return self._ambient_probe.value

    @property
    def door_open(self) -> bool:
        return self.disturbances.active(DOOR_OPEN)

    @property
    def mains_failed(self) -> bool:
        """True while the electronics run from their battery."""
        return self.disturbances.active(MAINS_FAILED)

    @property
    def compressor_running(self) -> bool:
        failed = self.mains_failed or self.disturbances.active(COMPRESSOR_FAILED)
        return self._demand and not failed

    def step(self, dt_s: float) -> None:
        pieces = math.ceil(dt_s / _STEP_MAX_S)
        for _ in range(pieces):
            self._step_once(dt_s / pieces)
        self._cabinet_probe.follow(self.true_cabinet_c, dt_s)
        self._exchanger_probe.follow(self._exchanger_c, dt_s)
        self._condenser_probe.follow(self._condenser_c, dt_s)
        self._ambient_probe.follow(self.settings.ambient_c, dt_s)

    def _step_once(self, dt_s: float) -> None:
        settings = self.settings
        running = self.compressor_running
        ua = _UA_OPEN_W_PER_K if self.door_open else _UA_CLOSED_W_PER_K
        heat_w = ua * (settings.ambient_c - self.true_cabinet_c) - running * _COOLING_W
        self.true_cabinet_c += heat_w / _CAPACITY_J_PER_K * dt_s

        share = -math.expm1(-dt_s / _TAU_EXCHANGER_S)
        exchanger_c = self.true_cabinet_c - running * _EXCHANGER_COLDER_K
        condenser_c = settings.ambient_c + running * _CONDENSER_WARMER_K
        self._exchanger_c += (exchanger_c - self._exchanger_c) * share
        self._condenser_c += (condenser_c - self._condenser_c) * share

        if self.true_cabinet_c >= settings.set_point_c + _HYSTERESIS_K / 2.0:
            self._demand = True
        elif self.true_cabinet_c <= settings.set_point_c - _HYSTERESIS_K / 2.0:
            self._demand = False
        self.pulled_down |= self.true_cabinet_c <= settings.set_point_c

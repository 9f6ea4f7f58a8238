"""A controlled-rate freezer: a programme of ramps, a chamber, a sample that freezes.

    dTchamber/dt = (Tset - Tchamber)/tau_chamber     while nitrogen comes, else towards the room
    dTsample/dt  = (Tchamber - Tsample)/tau_sample   but its latent heat must leave at its plateau

The set-point walks through segments of a rate and a goal. A sample supercools, nucleates,
springs to its melting point and stays there until its latent heat is gone.

Sources: load at +4 C, 1 C/min to -45 C, then 10 C/min to -90 C (CryoMed 700 classic programme,
laboratory manual hg.wustl.edu 12_9). Assumed: all time constants, nucleation, the latent heat in
degrees of supercooling, and the end of the programme, which holds.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from simulators.disturbance import Disturbances
from simulators.process.sensor import Sensor
from simulators.settings import require

NITROGEN_EMPTY = "nitrogen_empty"
SAMPLE_PROBE_BROKEN = "sample_probe_broken"

LOAD_C = 4.0
PROGRAMME = ((1.0, -45.0), (10.0, -90.0))
"""Degrees per minute, and where the ramp ends."""

_TAU_CHAMBER_S = 20.0
_TAU_SAMPLE_S = 120.0
_TAU_ROOM_S = 3_600.0
_MELTING_C = -4.0  # medium with dimethyl sulfoxide
_NUCLEATION_C = -9.0
_LATENT_K = 60.0  # latent heat over the heat capacity of the sample
_STEP_MAX_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlledRateFreezerSettings:
    """One run."""

    hold_s: float = 60.0
    """At the loading temperature, before the first ramp."""
    ambient_c: float = 21.0

    def __post_init__(self) -> None:
        require(self.hold_s >= 0.0, "hold_s", "must not be negative")


class ControlledRateFreezer:
    """See the module text. Temperatures are what probes say; `set_point_c` is exact."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (NITROGEN_EMPTY, SAMPLE_PROBE_BROKEN)

    def __init__(self, settings: ControlledRateFreezerSettings, rng: Random) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)
        self._settings = settings
        self._elapsed_s = 0.0
        self.true_chamber_c = LOAD_C
        self.true_sample_c = LOAD_C
        self._liquid_k = _LATENT_K
        self._freezing = False
        self._chamber = Sensor(LOAD_C, lag_s=2.0, noise=0.02, rng=rng)
        self._sample = Sensor(LOAD_C, lag_s=2.0, noise=0.02, rng=rng)
        self._ambient = Sensor(settings.ambient_c, lag_s=10.0, noise=0.02, rng=rng)

    @property
    def chamber_c(self) -> float:
        return self._chamber.value

    @property
    def sample_c(self) -> float:
        """Not a number while the wire of the probe is broken."""
        broken = self.disturbances.active(SAMPLE_PROBE_BROKEN)
        return math.nan if broken else self._sample.value

    @property
    def ambient_c(self) -> float:
        return self._ambient.value

    @property
    def target_c(self) -> float:
        """Where the running segment ends."""
        return self._segment()[1]

    @property
    def set_point_c(self) -> float:
        """Where the ramp is now."""
        return self._segment()[0]

    @property
    def running(self) -> bool:
        return self.set_point_c != PROGRAMME[-1][1]

    @property
    def valve_pct(self) -> float:
        """Opening of the nitrogen valve: assumed proportional to how cold it is to be."""
        return min(max((self._settings.ambient_c - self.set_point_c) * 0.8, 0.0), 100.0)

    def step(self, dt_s: float) -> None:
        pieces = math.ceil(dt_s / _STEP_MAX_S)
        for _ in range(pieces):
            self._step_once(dt_s / pieces)
        self._chamber.follow(self.true_chamber_c, dt_s)
        self._sample.follow(self.true_sample_c, dt_s)
        self._ambient.follow(self._settings.ambient_c, dt_s)

    def _segment(self) -> tuple[float, float]:
        """The set-point of this moment and the goal of its segment."""
        left_min = max(self._elapsed_s - self._settings.hold_s, 0.0) / 60.0
        start_c = goal_c = LOAD_C
        for rate_c_per_min, goal_c in PROGRAMME:
            needed_min = (start_c - goal_c) / rate_c_per_min
            if left_min < needed_min:
                return start_c - left_min * rate_c_per_min, goal_c
            left_min -= needed_min
            start_c = goal_c
        return start_c, goal_c

    def _step_once(self, dt_s: float) -> None:
        self._elapsed_s += dt_s
        goal_c, tau_s = self.set_point_c, _TAU_CHAMBER_S
        if self.disturbances.active(NITROGEN_EMPTY):
            goal_c, tau_s = self._settings.ambient_c, _TAU_ROOM_S
        self.true_chamber_c += (goal_c - self.true_chamber_c) * -math.expm1(-dt_s / tau_s)
        change_k = (self.true_chamber_c - self.true_sample_c) * -math.expm1(-dt_s / _TAU_SAMPLE_S)
        if self._freezing and change_k < 0.0 and self._liquid_k > 0.0:
            self._liquid_k += change_k
            return
        self.true_sample_c += change_k
        if self.true_sample_c <= _NUCLEATION_C and not self._freezing:
            self._freezing = True
            self._liquid_k -= _MELTING_C - self.true_sample_c
            self.true_sample_c = _MELTING_C

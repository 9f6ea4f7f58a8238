"""An isolator that decontaminates itself with vapour of hydrogen peroxide.

The cycle repeats: the chamber is dried, gassed up, held, and aired. For the concentration

    dc/dt = (cgoal - c)/tau

with a time constant for gassing and a slower one for airing, because the walls give off what they
took up. Humidity follows the phase likewise.

Assumed: the phases, their lengths, concentrations and time constants; published cycles differ.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import ClassVar

from simulators.disturbance import Disturbances
from simulators.process.sensor import Sensor
from simulators.settings import require

GENERATOR_FAILED = "generator_failed"
GLOVE_LEAK = "glove_leak"


class Phase(StrEnum):
    """What the isolator does."""

    DRY = "dry"
    CONDITION = "condition"
    DECONTAMINATE = "decontaminate"
    AERATE = "aerate"


_TAU_GAS_S = 300.0
_TAU_AIR_S = 900.0
_TAU_HUMIDITY_S = 240.0
_HUMIDITY_PCT = {
    Phase.DRY: 15.0,
    Phase.CONDITION: 40.0,
    Phase.DECONTAMINATE: 55.0,
    Phase.AERATE: 30.0,
}
_LEAK_SHARE = 0.4  # what a torn glove leaves of the concentration
_STEP_MAX_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolatorSettings:
    """One isolator and its cycle."""

    h2o2_ppm: float = 600.0
    temperature_c: float = 25.0
    dry_s: float = 600.0
    condition_s: float = 900.0
    decontaminate_s: float = 1_800.0
    aerate_s: float = 7_200.0

    def __post_init__(self) -> None:
        require(0.0 < self.h2o2_ppm <= 2_000.0, "h2o2_ppm", "must be above 0 and at most 2000")
        for key in ("dry_s", "condition_s", "decontaminate_s", "aerate_s"):
            require(getattr(self, key) > 0.0, key, "must be positive")


class Isolator:
    """See the module text. `true_h2o2_ppm` is the chamber; the rest is what probes say."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (GENERATOR_FAILED, GLOVE_LEAK)

    def __init__(self, settings: IsolatorSettings, rng: Random) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)
        self._phases = (
            (Phase.DRY, settings.dry_s),
            (Phase.CONDITION, settings.condition_s),
            (Phase.DECONTAMINATE, settings.decontaminate_s),
            (Phase.AERATE, settings.aerate_s),
        )
        self._settings = settings
        self._elapsed_s = 0.0
        self.true_h2o2_ppm = 0.0
        self._humidity_pct = _HUMIDITY_PCT[Phase.DRY]
        self._h2o2 = Sensor(0.0, lag_s=20.0, noise=1.0, rng=rng)
        self._humidity = Sensor(self._humidity_pct, lag_s=20.0, noise=0.2, rng=rng)
        self._temperature = Sensor(settings.temperature_c, lag_s=20.0, noise=0.02, rng=rng)

    @property
    def phase(self) -> Phase:
        at_s = self._elapsed_s % sum(length_s for _, length_s in self._phases)
        for phase, length_s in self._phases:
            if at_s < length_s:
                return phase
            at_s -= length_s
        return Phase.AERATE

    @property
    def h2o2_ppm(self) -> float:
        return max(self._h2o2.value, 0.0)

    @property
    def relative_humidity_pct(self) -> float:
        return self._humidity.value

    @property
    def temperature_c(self) -> float:
        return self._temperature.value

    def step(self, dt_s: float) -> None:
        pieces = math.ceil(dt_s / _STEP_MAX_S)
        for _ in range(pieces):
            self._step_once(dt_s / pieces)
        self._h2o2.follow(self.true_h2o2_ppm, dt_s)
        self._humidity.follow(self._humidity_pct, dt_s)
        self._temperature.follow(self._settings.temperature_c, dt_s)

    def _step_once(self, dt_s: float) -> None:
        phase = self.phase
        gassed = phase in (Phase.CONDITION, Phase.DECONTAMINATE)
        goal_ppm, tau_s = 0.0, _TAU_AIR_S
        if gassed and not self.disturbances.active(GENERATOR_FAILED):
            leaking = self.disturbances.active(GLOVE_LEAK)
            goal_ppm = self._settings.h2o2_ppm * (_LEAK_SHARE if leaking else 1.0)
            tau_s = _TAU_GAS_S
        self.true_h2o2_ppm += (goal_ppm - self.true_h2o2_ppm) * -math.expm1(-dt_s / tau_s)
        goal_pct = _HUMIDITY_PCT[phase]
        self._humidity_pct += (goal_pct - self._humidity_pct) * -math.expm1(-dt_s / _TAU_HUMIDITY_S)
        self._elapsed_s += dt_s

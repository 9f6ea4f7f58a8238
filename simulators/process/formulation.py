"""A bag on a scale that a peristaltic pump fills up to a mass.

    dm/dt = rpm * millilitres per turn * density

The scale is at rest a moment after the pump has stopped and nobody touches the bag.

Assumed: density 1 g/mL, the pump stops at its target at once, a touched bag swings by half a gram.
"""

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from simulators.disturbance import Disturbances
from simulators.settings import require

PUMP_STOPPED = "pump_stopped"
BAG_TOUCHED = "bag_touched"

_DENSITY_G_PER_ML = 1.0
_SETTLING_S = 2.0
_SWING_G = 0.5
_NOISE_G = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class FormulationSettings:
    """One bag, its pump and how much is to be filled."""

    tare_g: float = 52.4
    target_g: float = 750.0
    pump_rpm: float = 40.0
    ml_per_turn: float = 2.5

    def __post_init__(self) -> None:
        require(self.target_g > self.tare_g >= 0.0, "target_g", "must exceed tare_g")
        require(self.pump_rpm > 0.0, "pump_rpm", "must be positive")
        require(self.ml_per_turn > 0.0, "ml_per_turn", "must be positive")


class Formulation:
    """See the module text."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (PUMP_STOPPED, BAG_TOUCHED)

    def __init__(self, settings: FormulationSettings, rng: Random) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)
        self._settings = settings
        self._rng = rng
        self._at_rest_s = 0.0
        self.true_mass_g = settings.tare_g
        self.mass_g = settings.tare_g
        self.pump_turns = 0.0

    @property
    def pump_running(self) -> bool:
        stopped = self.disturbances.active(PUMP_STOPPED)
        return not stopped and self.true_mass_g < self._settings.target_g

    @property
    def pump_rpm(self) -> float:
        return self._settings.pump_rpm

    @property
    def ml_per_turn(self) -> float:
        return self._settings.ml_per_turn

    @property
    def stable(self) -> bool:
        """Whether the scale has come to rest."""
        return self._at_rest_s >= _SETTLING_S

    def step(self, dt_s: float) -> None:
        touched = self.disturbances.active(BAG_TOUCHED)
        self._at_rest_s = 0.0 if touched or self.pump_running else self._at_rest_s + dt_s
        if self.pump_running:
            gram_per_turn = self.ml_per_turn * _DENSITY_G_PER_ML
            missing = (self._settings.target_g - self.true_mass_g) / gram_per_turn
            turns = min(self.pump_rpm / 60.0 * dt_s, missing)
            self.pump_turns += turns
            self.true_mass_g += turns * gram_per_turn
            if self._settings.target_g - self.true_mass_g < 1e-6:
                self.true_mass_g = self._settings.target_g
        swing = self._rng.gauss(0.0, _SWING_G) if touched else 0.0
        self.mass_g = self.true_mass_g + swing + self._rng.gauss(0.0, _NOISE_G)

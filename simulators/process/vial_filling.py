"""A vial filler as a PackML machine: it fills a batch, completes, resets and begins anew.

Vials that are missing or cannot leave suspend it; an open guard door aborts it, and it is cleared
when the door is closed.

Sources: states and transitions of PackML (ANSI/ISA TR88.00.02; OPC 30050). No maker of a filler for
cell therapy publishes its figures: speed, fill and times are assumed.
"""

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from simulators.disturbance import Disturbances
from simulators.settings import require

INFEED_STARVED = "infeed_starved"
OUTFEED_BLOCKED = "outfeed_blocked"
GUARD_OPEN = "guard_open"

_ACTING_S = 3.0  # assumed: how long each acting state (Starting, Completing …) lasts
_FILL_NOISE_ML = 0.01  # assumed
_TOLERANCE_SHARE = 0.02  # assumed: others are rejected

_AFTER = {
    "Resetting": "Idle", "Idle": "Starting", "Starting": "Execute", "Completing": "Complete",
    "Complete": "Resetting", "Suspending": "Suspended", "Unsuspending": "Execute",
    "Aborting": "Aborted", "Clearing": "Stopped", "Stopped": "Resetting",
}  # fmt: skip
"""What follows an acting state, or one in which nobody waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VialFillingSettings:
    """One machine and its batch. All assumed."""

    vials_per_min: float = 20.0
    fill_ml: float = 2.0
    batch: int = 100

    def __post_init__(self) -> None:
        require(0.0 < self.vials_per_min <= 600.0, "vials_per_min", "must be above 0, to 600")
        require(self.fill_ml > 0.0, "fill_ml", "must be positive")
        require(self.batch > 0, "batch", "must be positive")


class VialFilling:
    """See the module text."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (INFEED_STARVED, OUTFEED_BLOCKED, GUARD_OPEN)

    def __init__(self, settings: VialFillingSettings, rng: Random) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)
        self.settings = settings
        self._rng = rng
        self.state = "Stopped"
        self.state_s = 0.0
        self.processed = 0
        self.rejected = 0
        self.in_batch = 0
        self.last_fill_ml = 0.0
        self._due = 0.0

    @property
    def starved(self) -> bool:
        return self.disturbances.active(INFEED_STARVED)

    @property
    def blocked(self) -> bool:
        return self.disturbances.active(OUTFEED_BLOCKED)

    @property
    def guard_open(self) -> bool:
        return self.disturbances.active(GUARD_OPEN)

    @property
    def speed_per_min(self) -> float:
        return self.settings.vials_per_min if self.state == "Execute" else 0.0

    def step(self, dt_s: float) -> None:
        left_s = dt_s
        while left_s > 0.0:
            piece_s = min(left_s, 1.0)
            self._step_once(piece_s)
            left_s -= piece_s

    def _step_once(self, dt_s: float) -> None:
        self.state_s += dt_s
        if self.guard_open and self.state not in ("Aborting", "Aborted"):
            self._enter("Aborting")
        elif self.state == "Aborted":
            if not self.guard_open:
                self._enter("Clearing")
        elif self.state == "Suspended":
            if not (self.starved or self.blocked):
                self._enter("Unsuspending")
        elif self.state == "Execute":
            if self.starved or self.blocked:
                self._enter("Suspending")
            else:
                self._fill(dt_s)
        elif self.state_s >= _ACTING_S:
            self._enter(_AFTER[self.state])

    def _fill(self, dt_s: float) -> None:
        self._due += self.settings.vials_per_min / 60.0 * dt_s
        while self._due >= 1.0 and self.state == "Execute":
            self._due -= 1.0
            self.last_fill_ml = self.settings.fill_ml + self._rng.gauss(0.0, _FILL_NOISE_ML)
            off = abs(self.last_fill_ml - self.settings.fill_ml)
            self.rejected += off > _TOLERANCE_SHARE * self.settings.fill_ml
            self.processed += 1
            self.in_batch += 1
            if self.in_batch >= self.settings.batch:
                self.in_batch, self._due = 0, 0.0
                self._enter("Completing")

    def _enter(self, state: str) -> None:
        self.state, self.state_s = state, 0.0

"""A closed cell-processing run: cells are isolated, transduced, washed and formulated.

Each step takes its time; a centrifuge chamber turns, a pump moves liquid, the bag's volume and the
viable cells follow. A blocked pump holds the run, and it goes on when the pump does.

Sources: no maker of such a platform publishes its figures. All numbers are assumed; washing keeps
90 % of the cells (Springuel 2026, 10.3389/fbioe.2025.1694134: harvest above 90 %, volume to a
ninth).
"""

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from simulators.disturbance import Disturbances
from simulators.process.sensor import Sensor
from simulators.settings import require

PUMP_BLOCKED = "pump_blocked"
CHAMBER_WARM = "chamber_warm"

_TEMPERATURE_C = {"isolate": 21.0, "transduce": 37.0, "wash": 21.0, "formulate": 8.0}
_SPEED_RPM = {"isolate": 1_800.0, "transduce": 600.0, "wash": 2_200.0, "formulate": 0.0}
_FLOW_ML_MIN = {"isolate": 20.0, "transduce": 2.0, "wash": 40.0, "formulate": 10.0}
_VOLUME_SHARE = {"isolate": 0.5, "transduce": 1.2, "wash": 1.0 / 9.0, "formulate": 4.0}
_CELLS_SHARE = {"isolate": 0.85, "transduce": 0.95, "wash": 0.9, "formulate": 0.98}

_WARM_BY_K = 6.0
_TAU_TEMPERATURE_S = 60.0
_STEP_MAX_S = 1.0

STEPS = tuple(_TEMPERATURE_C)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellProcessingSettings:
    """One platform and how long its steps take. All assumed."""

    isolate_s: float = 3_600.0
    transduce_s: float = 7_200.0
    wash_s: float = 2_400.0
    formulate_s: float = 1_800.0
    rest_s: float = 600.0
    """Between two runs."""
    volume_ml: float = 200.0
    viable_cells: float = 2.0e9

    def __post_init__(self) -> None:
        for step in STEPS:
            require(self.duration_s(step) > 0.0, f"{step}_s", "must be positive")
        require(self.rest_s > 0.0, "rest_s", "must be positive")
        require(self.volume_ml > 0.0, "volume_ml", "must be positive")

    def duration_s(self, step: str) -> float:
        value: float = getattr(self, f"{step}_s")
        return value


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over, in simulated seconds from the start."""

    number: int
    started_s: float
    stopped_s: float
    volume_ml: float
    viable_cells: float


class CellProcessing:
    """See the module text."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (PUMP_BLOCKED, CHAMBER_WARM)

    def __init__(self, settings: CellProcessingSettings, rng: Random) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)
        self.settings = settings
        self.run = 1
        self.ended: list[Ended] = []
        self.paused_s = 0.0
        self.true_temperature_c = _TEMPERATURE_C["isolate"]
        self._now_s = 0.0
        self._index = 0
        self._begin()
        self._temperature_probe = Sensor(self.true_temperature_c, lag_s=10.0, noise=0.02, rng=rng)
        self._tachometer = Sensor(self.target_speed_rpm, lag_s=5.0, noise=2.0, rng=rng)

    def _begin(self) -> None:
        self._index, self.step_s, self.run_s, self.paused_s = 0, 0.0, 0.0, 0.0
        self._started_s = self._now_s
        self.volume_ml = self._volume_before = self.settings.volume_ml
        self.viable_cells = self._cells_before = self.settings.viable_cells

    @property
    def step_name(self) -> str | None:
        """The step that is being done; None between runs."""
        return STEPS[self._index] if self._index < len(STEPS) else None

    @property
    def step_number(self) -> int:
        """From 1; 0 between runs."""
        return self._index + 1 if self.step_name is not None else 0

    @property
    def held(self) -> bool:
        """Whether a run waits for its pump."""
        return self.step_name is not None and self.disturbances.active(PUMP_BLOCKED)

    @property
    def estimated_run_s(self) -> float:
        return sum(self.settings.duration_s(step) for step in STEPS)

    @property
    def target_temperature_c(self) -> float:
        return _TEMPERATURE_C[self.step_name or "isolate"]

    @property
    def target_speed_rpm(self) -> float:
        return _SPEED_RPM[self.step_name] if self.step_name is not None else 0.0

    @property
    def flow_ml_min(self) -> float:
        running = self.step_name is not None and not self.held
        return _FLOW_ML_MIN[self.step_name or ""] if running else 0.0

    @property
    def temperature_c(self) -> float:
        return self._temperature_probe.value

    @property
    def speed_rpm(self) -> float:
        return max(self._tachometer.value, 0.0)

    def step(self, dt_s: float) -> None:
        left_s = dt_s
        while left_s > 0.0:
            piece_s = min(left_s, _STEP_MAX_S)
            self._step_once(piece_s)
            left_s -= piece_s

    def _step_once(self, dt_s: float) -> None:
        self._now_s += dt_s
        warm_k = _WARM_BY_K if self.disturbances.active(CHAMBER_WARM) else 0.0
        goal_c = self.target_temperature_c + warm_k
        self.true_temperature_c += (goal_c - self.true_temperature_c) * min(
            dt_s / _TAU_TEMPERATURE_S, 1.0
        )
        self._temperature_probe.follow(self.true_temperature_c, dt_s)
        self._tachometer.follow(0.0 if self.held else self.target_speed_rpm, dt_s)
        if self.held:
            self.paused_s += dt_s
            return
        self.step_s += dt_s
        step = self.step_name
        if step is None:
            if self.step_s >= self.settings.rest_s:
                self.run += 1
                self._begin()
            return
        self.run_s += dt_s
        share = min(self.step_s / self.settings.duration_s(step), 1.0)
        self.volume_ml = self._volume_before * (1.0 + (_VOLUME_SHARE[step] - 1.0) * share)
        self.viable_cells = self._cells_before * (1.0 + (_CELLS_SHARE[step] - 1.0) * share)
        if share >= 1.0:
            self._index, self.step_s = self._index + 1, 0.0
            self._volume_before, self._cells_before = self.volume_ml, self.viable_cells
            if self.step_name is None:
                self.ended.append(
                    Ended(self.run, self._started_s, self._now_s, self.volume_ml, self.viable_cells)
                )

"""A stirred or rocked bag in which T cells expand, with its gas, heat and feed.

    dX/dt = (mu - k_d) X,   mu = mu_max G/(KG+G) Q/(KQ+Q) KL/(KL+L) O/(KO+O) f(pH) f(T)
    dG/dt = -q_G X + D (G_in - G)        dL/dt = 1.53 q_G X - D L
    dQ/dt = -q_Q X + D (Q_in - Q)        dO/dt = k_La (O* - O) - q_O2 X

with viable cells X, glucose G, glutamine Q, lactate L and oxygen O. Lactic acid takes up
bicarbonate and sets carbon dioxide free; pH follows from both by Henderson and Hasselbalch. Cells
are kept by the perfusion, so it feeds and washes without diluting them. Inside, proportional-
integral controllers hold pH (gassed CO2, else base), dissolved oxygen (oxygen share of the gas)
and temperature (heater), from the same lagging, noisy probes that the instruments report.

Sources: growth 0.029-0.053 1/h, doubling time 13-24 h (J Biol Eng 2019, s13036-019-0167-2,
table 1); half-saturation of glutamine 0.21 mmol/L (Truskey 1990); optimum pH 6.9-7.4 with at
least 90 % of the greatest rate (PMC2796705); consumption of resting lymphocytes 6.2 fmol glucose,
9.5 fmol lactate, 11.7 fmol oxygen per cell and hour, hence 1.53 mol lactate per mol glucose
(Blood 28:163); k_La of rocked bags 3.5-65 1/h (Bai 2019, bit.27000); perfusion by cell density
(Janas 2015). What is assumed is marked at its constant.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from simulators.disturbance import Disturbances
from simulators.process.control import PiController
from simulators.process.sensor import Sensor
from simulators.settings import require

HEATER_OFF = "heater_off"
GAS_SUPPLY_FAILED = "gas_supply_failed"
FEED_STOPPED = "feed_stopped"

_MU_MAX_PER_H = 0.053  # upper end of the source; the limiting terms bring it to its middle
_DEATH_PER_H = 0.002  # assumed
_KG_MMOL_L = 0.5  # assumed
_KQ_MMOL_L = 0.21
_KL_MMOL_L = 60.0  # assumed
_KO_MMOL_L = 0.002  # assumed: 1 % of air saturation
_PH_OPTIMUM = 7.15  # middle of 6.9-7.4
_PH_WIDTH = 0.25 / math.sqrt(-math.log(0.9))  # 90 % left a quarter unit off the optimum

_ACTIVATION = 10.0  # assumed: activated cells consume ten times what resting ones do
_FMOL_TO_MMOL = 1.0e-12
_QG_MMOL_PER_CELL_H = 6.2 * _FMOL_TO_MMOL * _ACTIVATION
_QO_MMOL_PER_CELL_H = 11.7 * _FMOL_TO_MMOL * _ACTIVATION
_QQ_MMOL_PER_CELL_H = 0.15 * _QG_MMOL_PER_CELL_H  # assumed: glutamine against glucose
_LACTATE_PER_GLUCOSE = 1.53

_MEDIUM_GLUCOSE_MMOL_L = 22.0  # assumed: 4 g/L
_MEDIUM_GLUTAMINE_MMOL_L = 4.0  # assumed
_MEDIUM_BICARBONATE_MMOL_L = 24.0  # assumed

_O2_AIR_SATURATED_MMOL_L = 0.2  # at 37 C, stands for 100 % dissolved oxygen
_O2_PURE_FACTOR = 4.76  # pure oxygen against air
_KLA_O2_PER_H = 10.0  # within the 3.5-65 of the source
_KLA_CO2_PER_H = 9.0  # assumed: 90 % of the oxygen value
_KLA_UNGASSED_PER_H = 0.05  # assumed: what still passes the surface

_PK_CARBONATE = 6.1  # Henderson-Hasselbalch for carbonic acid at 37 C
_CO2_MMOL_L_PER_MMHG = 0.0307  # solubility at 37 C
_GAS_MMHG = 713.0  # one atmosphere less the vapour pressure of water at 37 C
_CO2_SHARE_MAX = 0.2  # assumed: end of the CO2 valve
_BASE_MMOL_L_H_MAX = 4.0  # assumed: end of the base pump
_RESPIRATORY_QUOTIENT = 1.0  # assumed: mol CO2 per mol oxygen

_HEAT_CAPACITY_J_PER_L_K = 4_186.0
_HEAT_LOSS_W_PER_K = 1.2  # assumed
_HEATER_W_MAX = 60.0  # assumed

_PERFUSION_L_PER_DAY = ((2.0e6, 0.0), (10.0e6, 0.5), (15.0e6, 0.75), (math.inf, 1.0))
"""Below this many cells per mL: this much medium per day for one litre (Janas 2015)."""

_STEP_MAX_S = 5.0  # far below the shortest time constant, 6 min of gas transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class BioreactorSettings:
    """One culture at its start. Set-points are assumed: replace them by the process's own."""

    volume_l: float = 1.0
    viable_cells_per_ml: float = 0.5e6
    ph_set_point: float = 7.2
    dissolved_oxygen_set_point_pct: float = 45.0
    temperature_set_point_c: float = 37.0
    ambient_c: float = 21.0

    def __post_init__(self) -> None:
        require(self.volume_l > 0.0, "volume_l", "must be positive")
        require(self.viable_cells_per_ml >= 0.0, "viable_cells_per_ml", "must not be negative")
        require(6.5 <= self.ph_set_point <= 7.6, "ph_set_point", "must be 6.5 to 7.6")


class Bioreactor:
    """See the module text. `true_...` and amounts are the culture; the rest is what probes say."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (HEATER_OFF, GAS_SUPPLY_FAILED, FEED_STOPPED)

    def __init__(self, settings: BioreactorSettings, rng: Random) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)
        self.settings = settings
        self.viable_cells_per_ml = settings.viable_cells_per_ml
        self.glucose_mmol_l = _MEDIUM_GLUCOSE_MMOL_L
        self.glutamine_mmol_l = _MEDIUM_GLUTAMINE_MMOL_L
        self.lactate_mmol_l = 0.0
        self.bicarbonate_mmol_l = _MEDIUM_BICARBONATE_MMOL_L
        self.true_temperature_c = settings.temperature_set_point_c
        self._o2_mmol_l = settings.dissolved_oxygen_set_point_pct / 100 * _O2_AIR_SATURATED_MMOL_L
        self._co2_mmol_l = self.bicarbonate_mmol_l / math.pow(
            10.0, settings.ph_set_point - _PK_CARBONATE
        )

        self._ph_probe = Sensor(self.true_ph, lag_s=20.0, noise=0.005, rng=rng)
        self._oxygen_probe = Sensor(self.true_dissolved_oxygen_pct, lag_s=45.0, noise=0.3, rng=rng)
        self._temperature_probe = Sensor(self.true_temperature_c, lag_s=10.0, noise=0.02, rng=rng)

        co2_share = self._co2_mmol_l / (_CO2_MMOL_L_PER_MMHG * _GAS_MMHG)
        self._ph_control = PiController(
            gain=5.0, integral_time_s=1_800.0, low=-1.0, high=1.0, start=co2_share / _CO2_SHARE_MAX
        )
        self._oxygen_control = PiController(
            gain=0.004,
            integral_time_s=600.0,
            low=0.0,
            high=1.0,
            start=self._o2_mmol_l / (_O2_AIR_SATURATED_MMOL_L * _O2_PURE_FACTOR),
        )
        heat_loss_w = _HEAT_LOSS_W_PER_K * (self.true_temperature_c - settings.ambient_c)
        self._heater_control = PiController(
            gain=0.5, integral_time_s=900.0, low=0.0, high=1.0, start=heat_loss_w / _HEATER_W_MAX
        )

    @property
    def ph(self) -> float:
        return self._ph_probe.value

    @property
    def dissolved_oxygen_pct(self) -> float:
        """Share of air saturation."""
        return self._oxygen_probe.value

    @property
    def temperature_c(self) -> float:
        return self._temperature_probe.value

    @property
    def true_ph(self) -> float:
        return _PK_CARBONATE + math.log10(self.bicarbonate_mmol_l / self._co2_mmol_l)

    @property
    def true_dissolved_oxygen_pct(self) -> float:
        return self._o2_mmol_l / _O2_AIR_SATURATED_MMOL_L * 100.0

    @property
    def growth_per_h(self) -> float:
        """Specific growth rate of the cells at this moment, deaths not subtracted."""
        warmth = math.exp2((min(self.true_temperature_c, 37.0) - 37.0) / 10.0)  # assumed: Q10 = 2
        acidity = math.exp(-(((self.true_ph - _PH_OPTIMUM) / _PH_WIDTH) ** 2))
        return (
            _MU_MAX_PER_H
            * _saturation(self.glucose_mmol_l, _KG_MMOL_L)
            * _saturation(self.glutamine_mmol_l, _KQ_MMOL_L)
            * _saturation(self._o2_mmol_l, _KO_MMOL_L)
            * _KL_MMOL_L
            / (_KL_MMOL_L + self.lactate_mmol_l)
            * acidity
            * warmth
        )

    @property
    def perfusion_l_per_day(self) -> float:
        """Fresh medium for one litre of culture."""
        if self.disturbances.active(FEED_STOPPED):
            return 0.0
        return next(
            flow for below, flow in _PERFUSION_L_PER_DAY if self.viable_cells_per_ml < below
        )

    def step(self, dt_s: float) -> None:
        pieces = math.ceil(dt_s / _STEP_MAX_S)
        for _ in range(pieces):
            self._step_once(dt_s / pieces)

    def _step_once(self, dt_s: float) -> None:
        dt_h = dt_s / 3600.0
        self._step_gas(dt_s, dt_h)
        self._step_cells(dt_h)
        self._step_heat(dt_s)
        self._ph_probe.follow(self.true_ph, dt_s)
        self._oxygen_probe.follow(self.true_dissolved_oxygen_pct, dt_s)
        self._temperature_probe.follow(self.true_temperature_c, dt_s)

    def _step_gas(self, dt_s: float, dt_h: float) -> None:
        settings = self.settings
        # More CO2 lowers pH, so the error is turned round: positive asks for CO2, else base.
        acid = self._ph_control.output(self.ph - settings.ph_set_point, dt_s)
        oxygen_share = self._oxygen_control.output(
            settings.dissolved_oxygen_set_point_pct - self.dissolved_oxygen_pct, dt_s
        )
        o2_goal = oxygen_share * _O2_AIR_SATURATED_MMOL_L * _O2_PURE_FACTOR
        co2_goal = max(acid, 0.0) * _CO2_SHARE_MAX * _GAS_MMHG * _CO2_MMOL_L_PER_MMHG
        kla_o2, kla_co2 = _KLA_O2_PER_H, _KLA_CO2_PER_H
        if self.disturbances.active(GAS_SUPPLY_FAILED):
            o2_goal, co2_goal = _O2_AIR_SATURATED_MMOL_L, 0.0
            kla_o2 = kla_co2 = _KLA_UNGASSED_PER_H

        uptake = _QO_MMOL_PER_CELL_H * self._cells_per_l * _saturation(self._o2_mmol_l, _KO_MMOL_L)
        self._o2_mmol_l += (kla_o2 * (o2_goal - self._o2_mmol_l) - uptake) * dt_h
        self._o2_mmol_l = max(self._o2_mmol_l, 0.0)

        lactic_acid = self._glucose_uptake_mmol_l_h * _LACTATE_PER_GLUCOSE
        neutralised = min(lactic_acid * dt_h, self.bicarbonate_mmol_l - 0.1)
        base = max(-acid, 0.0) * _BASE_MMOL_L_H_MAX * dt_h
        self._co2_mmol_l += (
            kla_co2 * (co2_goal - self._co2_mmol_l) + uptake * _RESPIRATORY_QUOTIENT
        ) * dt_h + neutralised
        self._co2_mmol_l = max(self._co2_mmol_l, 0.01)
        refreshed = self._dilution_per_h * (_MEDIUM_BICARBONATE_MMOL_L - self.bicarbonate_mmol_l)
        self.bicarbonate_mmol_l += refreshed * dt_h + base - neutralised

    def _step_cells(self, dt_h: float) -> None:
        dilution = self._dilution_per_h
        glucose = self._glucose_uptake_mmol_l_h
        glutamine = (
            _QQ_MMOL_PER_CELL_H * self._cells_per_l * _saturation(self.glutamine_mmol_l, _KQ_MMOL_L)
        )
        growth = self.growth_per_h - _DEATH_PER_H
        self.glucose_mmol_l += (
            dilution * (_MEDIUM_GLUCOSE_MMOL_L - self.glucose_mmol_l) - glucose
        ) * dt_h
        self.glutamine_mmol_l += (
            dilution * (_MEDIUM_GLUTAMINE_MMOL_L - self.glutamine_mmol_l) - glutamine
        ) * dt_h
        self.lactate_mmol_l += (
            _LACTATE_PER_GLUCOSE * glucose - dilution * self.lactate_mmol_l
        ) * dt_h
        self.viable_cells_per_ml += growth * self.viable_cells_per_ml * dt_h

    def _step_heat(self, dt_s: float) -> None:
        settings = self.settings
        heater = self._heater_control.output(
            settings.temperature_set_point_c - self.temperature_c, dt_s
        )
        heater_w = 0.0 if self.disturbances.active(HEATER_OFF) else heater * _HEATER_W_MAX
        loss_w = _HEAT_LOSS_W_PER_K * (self.true_temperature_c - settings.ambient_c)
        capacity_j_per_k = _HEAT_CAPACITY_J_PER_L_K * settings.volume_l
        self.true_temperature_c += (heater_w - loss_w) / capacity_j_per_k * dt_s

    @property
    def _cells_per_l(self) -> float:
        return self.viable_cells_per_ml * 1000.0

    @property
    def _dilution_per_h(self) -> float:
        return self.perfusion_l_per_day / 24.0

    @property
    def _glucose_uptake_mmol_l_h(self) -> float:
        return (
            _QG_MMOL_PER_CELL_H * self._cells_per_l * _saturation(self.glucose_mmol_l, _KG_MMOL_L)
        )


def _saturation(amount: float, half: float) -> float:
    """Monod's term: the share of the greatest rate at this amount."""
    return amount / (half + amount)

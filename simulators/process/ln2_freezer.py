"""A vapour-phase liquid-nitrogen freezer: two temperatures, a level and an automatic fill.

The vapour under the lid (top) and the racks are one thermal node each:

    dTtop/dt  = (Track - Ttop)/tau_mix + (Tambient - Ttop)/tau_lid + (Tambient - Ttop)/tau_static
    dTrack/dt = (Tvapour - Track)/tau_cool + (Ttop - Track)/tau_load

The lid term acts only while the lid is open, the cooling term only while there is liquid. The
static term is why the top of a closed freezer is warmer than its racks. Liquid boils off by

    litres/day = watts * 86 400 / (199 100 J/kg * 0.808 kg/L) = 0.537 * watts

Sources: boiling point -195.8 C, latent heat 199.1 kJ/kg and density 0.808 kg/L of nitrogen
(tables of the Statebourne manual and of cryogenic suppliers); fill from 30 to 55 cm as in the
operating procedure of KI Biobank for a CBS 2300 (molmeth.org 0292). Without a supply a closed
freezer keeps its samples below -130 C for days (fhi.nl). Published curves of an open lid were
not found: time constants and heat leaks are assumed.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from simulators.disturbance import Disturbances
from simulators.process.sensor import Sensor
from simulators.settings import require

LID_OPEN = "lid_open"
SUPPLY_FAILED = "supply_failed"

BOILING_POINT_C = -195.8
LATENT_HEAT_J_PER_KG = 199_100.0
DENSITY_KG_PER_L = 0.808
BOIL_OFF_L_PER_DAY_PER_W = 86_400.0 / LATENT_HEAT_J_PER_KG / DENSITY_KG_PER_L

_VAPOUR_C = -192.0  # assumed: vapour between the racks, a little above the liquid
_TAU_MIX_S = 600.0  # assumed: the top follows the racks
_TAU_LID_S = 1_200.0  # assumed: the top follows the room while the lid is open
_TAU_STATIC_S = 15_000.0  # assumed: the top follows the room through the closed lid
_TAU_COOL_S = 4.0 * 3600.0  # assumed: the racks follow the vapour
_TAU_LOAD_S = 20.0 * 3600.0  # assumed: the racks follow the top
_TAU_DRY_S = 20.0 * 86_400.0  # assumed: dry racks follow the room through the insulation
_LID_HEAT_W_PER_K = 0.6  # assumed: heat that enters through the open lid

_LITRES_PER_CM = 5.0  # assumed: 0.5 m2 of liquid surface
_FILL_L_PER_S = 4.0 / 60.0  # assumed: 4 L/min through the fill valve
_TRANSFER_LINE_TAU_S = 180.0  # assumed: how fast the fill line cools and warms

_PROBE_LAG_S = 10.0  # assumed: a sheathed Pt100 in cold gas
_PROBE_NOISE_C = 0.02  # assumed

_STEP_MAX_S = 5.0  # far below the shortest time constant


@dataclass(frozen=True, slots=True, kw_only=True)
class Ln2FreezerSettings:
    """One freezer. Sizes are assumed and of usual order."""

    level_cm: float = 45.0
    """Level at the start of the run."""
    fill_start_cm: float = 30.0
    fill_stop_cm: float = 55.0
    static_heat_leak_w: float = 10.0
    ambient_c: float = 20.0

    def __post_init__(self) -> None:
        require(0.0 <= self.level_cm <= 100.0, "level_cm", "must be 0 to 100")
        require(self.fill_start_cm > 0.0, "fill_start_cm", "must be positive")
        require(self.fill_stop_cm > self.fill_start_cm, "fill_stop_cm", "must exceed fill_start_cm")
        require(self.static_heat_leak_w > 0.0, "static_heat_leak_w", "must be positive")


class Ln2Freezer:
    """See the module text. `true_...` are the nodes; the other temperatures are Pt100 readings."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (LID_OPEN, SUPPLY_FAILED)

    def __init__(self, settings: Ln2FreezerSettings, rng: Random) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)
        self._settings = settings
        self._liquid_l = settings.level_cm * _LITRES_PER_CM
        self.filling = False
        self.boil_off_l_per_day = settings.static_heat_leak_w * BOIL_OFF_L_PER_DAY_PER_W
        self.true_top_c, self.true_rack_c = self._settled()
        self._line_c = settings.ambient_c

        def probe(value_c: float) -> Sensor:
            return Sensor(value_c, lag_s=_PROBE_LAG_S, noise=_PROBE_NOISE_C, rng=rng)

        self._top_probe = probe(self.true_top_c)
        self._rack_probe = probe(self.true_rack_c)
        self._line_probe = probe(self._line_c)
        self._ambient_probe = probe(settings.ambient_c)

    @property
    def top_c(self) -> float:
        """Vapour under the lid."""
        return self._top_probe.value

    @property
    def rack_c(self) -> float:
        """Upper shelf of the racks."""
        return self._rack_probe.value

    @property
    def transfer_line_c(self) -> float:
        """Fill line behind the valve: cold only while nitrogen flows."""
        return self._line_probe.value

    @property
    def ambient_c(self) -> float:
        """Room beside the freezer."""
        return self._ambient_probe.value

    @property
    def level_cm(self) -> float:
        return self._liquid_l / _LITRES_PER_CM

    @property
    def liquid_l(self) -> float:
        return self._liquid_l

    def step(self, dt_s: float) -> None:
        pieces = math.ceil(dt_s / _STEP_MAX_S)
        for _ in range(pieces):
            self._step_temperatures(dt_s / pieces)
            self._step_liquid(dt_s / pieces)
        self._top_probe.follow(self.true_top_c, dt_s)
        self._rack_probe.follow(self.true_rack_c, dt_s)
        self._line_probe.follow(self._line_c, dt_s)
        self._ambient_probe.follow(self._settings.ambient_c, dt_s)

    def _settled(self) -> tuple[float, float]:
        """Top and rack temperature of a closed freezer that holds liquid, long after a fill."""
        ambient_c = self._settings.ambient_c
        top_weight = _TAU_STATIC_S / (_TAU_MIX_S + _TAU_STATIC_S)
        rack_weight = _TAU_LOAD_S / (_TAU_COOL_S + _TAU_LOAD_S)
        # Ttop = w1 Track + (1 - w1) Tambient and Track = w2 Tvapour + (1 - w2) Ttop
        rack_c = (
            rack_weight * _VAPOUR_C + (1.0 - rack_weight) * (1.0 - top_weight) * ambient_c
        ) / (1.0 - (1.0 - rack_weight) * top_weight)
        return top_weight * rack_c + (1.0 - top_weight) * ambient_c, rack_c

    def _step_temperatures(self, dt_s: float) -> None:
        ambient_c = self._settings.ambient_c
        top_c, rack_c = self.true_top_c, self.true_rack_c
        top_c_per_s = (rack_c - top_c) / _TAU_MIX_S + (ambient_c - top_c) / _TAU_STATIC_S
        if self.disturbances.active(LID_OPEN):
            top_c_per_s += (ambient_c - top_c) / _TAU_LID_S
        rack_c_per_s = (top_c - rack_c) / _TAU_LOAD_S
        if self._liquid_l > 0.0:
            rack_c_per_s += (_VAPOUR_C - rack_c) / _TAU_COOL_S
        else:
            rack_c_per_s += (ambient_c - rack_c) / _TAU_DRY_S
        self.true_top_c += top_c_per_s * dt_s
        self.true_rack_c += rack_c_per_s * dt_s

    def _step_liquid(self, dt_s: float) -> None:
        settings = self._settings
        heat_w = settings.static_heat_leak_w
        if self.disturbances.active(LID_OPEN):
            heat_w += _LID_HEAT_W_PER_K * (settings.ambient_c - self.true_top_c)
        self.boil_off_l_per_day = heat_w * BOIL_OFF_L_PER_DAY_PER_W if self._liquid_l > 0.0 else 0.0
        self._liquid_l = max(0.0, self._liquid_l - self.boil_off_l_per_day * dt_s / 86_400.0)

        if self.level_cm <= settings.fill_start_cm:
            self.filling = True
        elif self.level_cm >= settings.fill_stop_cm:
            self.filling = False
        flowing = self.filling and not self.disturbances.active(SUPPLY_FAILED)
        if flowing:
            self._liquid_l += _FILL_L_PER_S * dt_s
        line_goal_c = BOILING_POINT_C if flowing else settings.ambient_c
        self._line_c += (line_goal_c - self._line_c) * min(1.0, dt_s / _TRANSFER_LINE_TAU_S)

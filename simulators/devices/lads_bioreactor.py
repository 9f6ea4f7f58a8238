"""A stirred bioreactor that speaks LADS: vessel, gas and feed are functional units.

Source: the types of OPC 30500-1 (1.0.0). Assumed: which functions such a device has, their names
and ranges; the stirrer follows its set-point with noise; 5 mL/min of the feed pump is its range.
"""

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from simulators.devices import lads
from simulators.devices.opcua_contract import Object, OpcUaDevice, Unit
from simulators.process.bioreactor import FEED_STOPPED, GAS_SUPPLY_FAILED, Bioreactor

_VESSEL, _GAS, _FEED = "sim:VesselUnitType", "sim:GasUnitType", "sim:FeedUnitType"
_STIRRER_NOISE_RPM = 0.5
_ML_PER_MIN_PER_L_PER_DAY = 1000.0 / 1440.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LadsBioreactorSettings:
    """One device."""

    serial_number: str = "BR-0001"
    stirrer_rpm: float = 60.0


class LadsBioreactor(OpcUaDevice):
    """A device over one culture; see the module text."""

    TYPES: ClassVar = {
        "sim:BioreactorType": "lads:LADSDeviceType",
        _VESSEL: "lads:FunctionalUnitType",
        _GAS: "lads:FunctionalUnitType",
        _FEED: "lads:FunctionalUnitType",
        "sim:PhSensorType": "lads:AnalogScalarSensorFunctionType",
    }

    def __init__(self, settings: LadsBioreactorSettings, culture: Bioreactor, rng: Random) -> None:
        super().__init__()
        self._settings = settings
        self._culture = culture
        self._rng = rng
        self._stirrer_rpm = settings.stirrer_rpm
        self._fed_ml = 0.0

    def step(self, dt_s: float) -> None:
        self._stirrer_rpm = self._settings.stirrer_rpm + self._rng.gauss(0.0, _STIRRER_NOISE_RPM)
        self._fed_ml += self._feed_ml_min * dt_s / 60.0

    @property
    def _feed_ml_min(self) -> float:
        return self._culture.perfusion_l_per_day * _ML_PER_MIN_PER_L_PER_DAY

    def _gas_failed(self) -> bool:
        return self._culture.disturbances.active(GAS_SUPPLY_FAILED)

    def _feed_failed(self) -> bool:
        return self._culture.disturbances.active(FEED_STOPPED)

    def tree(self, name: str) -> Object:
        culture, goals = self._culture, self._culture.settings
        vessel = [
            lads.control(
                "Temperature",
                lambda: culture.temperature_c,
                lambda: goals.temperature_set_point_c,
                lads.CELSIUS,
                (0.0, 60.0),
                target_bounds=(20.0, 42.0),
                alarm=lambda: abs(culture.temperature_c - goals.temperature_set_point_c) > 0.5,
            ),
            lads.control(
                "Ph",
                lambda: culture.ph,
                lambda: goals.ph_set_point,
                lads.PH,
                (0.0, 14.0),
                target_bounds=(6.5, 7.6),
                alarm=lambda: abs(culture.ph - goals.ph_set_point) > 0.2,
            ),
            lads.control(
                "DissolvedOxygen",
                lambda: culture.dissolved_oxygen_pct,
                lambda: goals.dissolved_oxygen_set_point_pct,
                lads.PER_CENT,
                (0.0, 300.0),
                target_bounds=(0.0, 100.0),
                alarm=lambda: culture.dissolved_oxygen_pct < 20.0,
            ),
            lads.control(
                "Stirrer",
                lambda: self._stirrer_rpm,
                lambda: self._settings.stirrer_rpm,
                lads.PER_MINUTE,
                (0.0, 300.0),
            ),
            lads.sensor(
                "PhProbe", lambda: culture.ph, lads.PH, (0.0, 14.0), kind="sim:PhSensorType"
            ),
            # A unit without a UNECE code: a client must not guess.
            lads.sensor(
                "ViableCellDensity",
                lambda: culture.viable_cells_per_ml,
                Unit("", "cells/ml"),
                (0.0, 1.0e8),
            ),
        ]
        gas = [
            lads.two_state("GasSupply", lambda: not self._gas_failed(), ("Failed", "Normal")),
        ]
        feed = [
            lads.control(
                "FeedPump",
                lambda: self._feed_ml_min,
                lambda: self._feed_ml_min,
                Unit("", "ml/min"),
                (0.0, 5.0),
                total=(lambda: self._fed_ml, lads.MILLILITRE),
                state=lambda: "Aborted" if self._feed_failed() else "Running",
                alarm=self._feed_failed,
            )
        ]
        plate = lads.NamePlate(
            manufacturer="Simulated", model="LADS bioreactor",
            serial_number=self._settings.serial_number,
        )  # fmt: skip
        return lads.device(
            name,
            "sim:BioreactorType",
            plate,
            lambda: "Operate",
            lambda: 1 if self._gas_failed() or self._feed_failed() else 0,
            [
                lads.unit("Vessel", _VESSEL, lambda: "Running", vessel),
                lads.unit("Gas", _GAS, lambda: "Aborted" if self._gas_failed() else "Running", gas),
                lads.unit("Feed", _FEED, lambda: "Running", feed),
            ],
        )

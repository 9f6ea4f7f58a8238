"""A closed cell-processing platform that speaks LADS: simulated interface, not vendor-documented.

No maker of such a platform (CliniMACS Prodigy, Cocoon, Sepax and others) publishes an interface.
This one shows how a run would look in the terms of OPC 30500-1 (1.0.0): a programme of four steps
with ActiveProgram, results with job and file, alarms. Everything else is assumed.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulators.devices import lads
from simulators.devices.opcua_contract import Object, OpcUaDevice, Unit, Variable
from simulators.process.cell_processing import STEPS, CellProcessing

_WARM_K = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LadsCellProcessorSettings:
    """One platform."""

    serial_number: str = "CP-0001"
    job_id: str = "JOB-0815"


class LadsCellProcessor(OpcUaDevice):
    """A platform over one run after the other; see the module text."""

    TYPES: ClassVar = {
        "sim:CellProcessorType": "lads:LADSDeviceType",
        "sim:ProcessingUnitType": "lads:FunctionalUnitType",
    }

    def __init__(
        self, settings: LadsCellProcessorSettings, process: CellProcessing, start_utc_s: float
    ) -> None:
        super().__init__()
        self._settings = settings
        self._process = process
        self._start_utc_s = start_utc_s

    def _run_id(self, number: int) -> str:
        return f"RUN-{lads.date_of(self._start_utc_s)}-{number:04d}"

    def _runs(self) -> list[lads.Run]:
        return [
            lads.Run(
                self._run_id(run.number),
                self._settings.job_id,
                self._start_utc_s + run.started_s,
                self._start_utc_s + run.stopped_s,
                f"{run.viable_cells:.3g} viable cells in {run.volume_ml:.1f} ml",
            )
            for run in self._process.ended
        ]

    def _warm(self) -> bool:
        return self._process.temperature_c > self._process.target_temperature_c + _WARM_K

    def _running(self) -> str | None:
        if self._process.step_name is None:
            return "Idle"
        return "Held" if self._process.held else "Execute"

    def _active(self) -> list[Variable]:
        process = self._process

        def shown(name: str, read: object, kind: str) -> Variable:
            return Variable(f"lads:{name}", read, kind, is_property=True)  # type: ignore[arg-type]

        return [
            shown("DeviceProgramRunId", lambda: self._run_id(process.run), "String"),
            shown("CurrentStepName", lambda: process.step_name or "", "LocalizedText"),
            shown("CurrentStepNumber", lambda: process.step_number, "UInt32"),
            shown("CurrentStepRuntime", lambda: process.step_s * 1000.0, "Duration"),
            shown("CurrentRuntime", lambda: process.run_s * 1000.0, "Duration"),
            shown("CurrentPauseTime", lambda: process.paused_s * 1000.0, "Duration"),
            shown("EstimatedRuntime", lambda: process.estimated_run_s * 1000.0, "Duration"),
            shown("EstimatedStepNumbers", lambda: len(STEPS), "UInt32"),
        ]

    def tree(self, name: str) -> Object:
        process = self._process
        functions = [
            lads.control(
                "ChamberTemperature",
                lambda: process.temperature_c,
                lambda: process.target_temperature_c,
                lads.CELSIUS,
                (0.0, 50.0),
                alarm=self._warm,
            ),
            lads.control(
                "Centrifuge",
                lambda: process.speed_rpm,
                lambda: process.target_speed_rpm,
                lads.PER_MINUTE,
                (0.0, 3_000.0),
            ),
            lads.sensor(
                "PumpFlow", lambda: process.flow_ml_min, Unit("", "ml/min"), (0.0, 100.0),
                alarm=lambda: process.held,
            ),
            lads.sensor("BagVolume", lambda: process.volume_ml, lads.MILLILITRE, (0.0, 1_000.0)),
            lads.sensor(
                "ViableCells", lambda: process.viable_cells, Unit("", "cells"), (0.0, 1.0e11)
            ),
        ]  # fmt: skip
        programs = lads.program_manager(["CAR-T"], self._active(), self._runs)
        plate = lads.NamePlate(
            manufacturer="Simulated", model="simulated interface, not vendor-documented",
            serial_number=self._settings.serial_number,
        )  # fmt: skip
        unit = lads.unit(
            "ProcessingUnit",
            "sim:ProcessingUnitType",
            lambda: "Running" if process.step_name is not None else "Stopped",
            functions,
            programs,
            self._running,
        )
        return lads.device(
            name,
            "sim:CellProcessorType",
            plate,
            lambda: "Operate",
            lambda: 1 if process.held else 3 if self._warm() else 0,
            [unit],
        )

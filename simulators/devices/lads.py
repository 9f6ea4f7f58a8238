"""Parts of which LADS devices consist (OPC 30500-1, 1.0.0), by the names of the specification.

Shown is what a client needs: types with their place in the hierarchy, identification, functional
units, functions with units and ranges, state machines, alarm monitors, the active programme and
results. Left out are methods (these devices are run by their process), locks, and optional parts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from simulators.devices.opcua_contract import Alarm, Object, Part, StateMachine, Unit, Variable

CELSIUS, PER_CENT, PH = Unit("CEL", "°C"), Unit("P1", "%"), Unit("Q30", "pH")
PER_MINUTE, LITRE, MILLILITRE = Unit("RPM", "r/min"), Unit("LTR", "l"), Unit("MLT", "ml")

Read = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamePlate:
    """What a device says of itself."""

    manufacturer: str
    model: str
    serial_number: str
    software: str = "1.0.0"


def device(
    name: str,
    kind: str,
    plate: NamePlate,
    state: Callable[[], str],
    health: Callable[[], int],
    units: Sequence[Object],
) -> Object:
    """A LADSDeviceType or a subtype of it."""
    said = [
        _text("di:Manufacturer", plate.manufacturer, "LocalizedText"),
        _text("di:Model", plate.model, "LocalizedText"),
        _text("di:SerialNumber", plate.serial_number),
        _text("di:SoftwareRevision", plate.software),
    ]
    states = ("NORMAL", "FAILURE", "CHECK_FUNCTION", "OFF_SPEC", "MAINTENANCE_REQUIRED")
    return Object(
        f"sim:{name}",
        kind,
        (
            *said,
            Object("di:Identification", "di:FunctionalGroupType", organizes=said),
            Variable("di:DeviceHealth", health, "Int32", states=states, is_enumeration=True),
            StateMachine("lads:DeviceState", "lads:LADSDeviceStateMachineType", state),
            Object("lads:FunctionalUnitSet", "lads:FunctionalUnitSetType", units),
        ),
    )


def unit(
    name: str,
    kind: str,
    state: Callable[[], str],
    functions: Sequence[Object],
    programs: Object | None = None,
    running: Callable[[], str | None] | None = None,
) -> Object:
    """A FunctionalUnitType or a subtype of it; its Operational group shows what functions have."""
    shown = [part for each in functions for part in each.parts if _is_operational(part)]
    inner = StateMachine(
        "lads:RunningStateMachine", "lads:RunningStateMachineType", running or (lambda: None)
    )
    machine = StateMachine(
        "lads:FunctionalUnitState",
        "lads:FunctionalUnitStateMachineType",
        state,
        (inner,) if running else (),
    )
    parts: list[Part] = [
        machine,
        Object("lads:FunctionSet", "lads:FunctionSetType", functions),
        Object("lads:Operational", "di:FunctionalGroupType", organizes=shown),
    ]
    if programs is not None:
        parts.append(programs)
    return Object(f"sim:{name}", kind, parts)


def _is_operational(part: Part) -> bool:
    names = ("lads:SensorValue", "lads:CurrentValue", "lads:TargetValue")
    return isinstance(part, Variable) and part.name in names


def sensor(
    name: str,
    read: Callable[[], float | None],
    unit_: Unit | None,
    bounds: tuple[float, float],
    *,
    kind: str = "lads:AnalogScalarSensorFunctionType",
    alarm: Callable[[], bool] | None = None,
) -> Object:
    """An analogue sensor."""
    value = Variable("lads:SensorValue", read, unit=unit_, range=bounds)
    parts: list[Part] = [_enabled(), value]
    if alarm is not None:
        parts.append(Alarm("lads:AlarmMonitor", "ExclusiveLevelAlarmType", alarm))
    parts.append(Object("lads:Operational", "di:FunctionalGroupType", organizes=(value,)))
    return Object(f"sim:{name}", kind, parts)


def control(
    name: str,
    current: Read,
    target: Read,
    unit_: Unit,
    bounds: tuple[float, float],
    *,
    target_bounds: tuple[float, float] | None = None,
    state: Callable[[], str] = lambda: "Running",
    alarm: Callable[[], bool] | None = None,
    total: tuple[Read, Unit] | None = None,
) -> Object:
    """An analogue control, with a totalizer where `total` is given."""
    values = [
        Variable("lads:CurrentValue", current, unit=unit_, range=bounds),
        Variable("lads:TargetValue", target, unit=unit_, range=target_bounds or bounds),
    ]
    kind = "lads:AnalogControlFunctionType"
    if total is not None:
        kind = "lads:AnalogControlFunctionWithTotalizerType"
        values.append(Variable("lads:TotalizedValue", total[0], unit=total[1]))
    parts: list[Part] = [
        _enabled(),
        *values,
        StateMachine("lads:ControlFunctionState", "lads:ControlFunctionStateMachineType", state),
    ]
    if alarm is not None:
        parts.append(Alarm("lads:AlarmMonitor", "ExclusiveDeviationAlarmType", alarm))
    parts.append(Object("lads:Operational", "di:FunctionalGroupType", organizes=values))
    return Object(f"sim:{name}", kind, parts)


def two_state(name: str, read: Callable[[], bool], states: tuple[str, str]) -> Object:
    """A sensor of two states."""
    value = Variable("lads:SensorValue", read, "Boolean", states=states)
    return Object(f"sim:{name}", "lads:TwoStateDiscreteSensorFunctionType", (_enabled(), value))


def cover(name: str, state: Callable[[], str]) -> Object:
    """A lid or a door."""
    machine = StateMachine("lads:CoverState", "lads:CoverStateMachineType", state)
    return Object(f"sim:{name}", "lads:CoverFunctionType", (_enabled(), machine))


@dataclass(frozen=True, slots=True)
class Run:
    """A programme that has ended."""

    id: str
    job_id: str
    started_utc_s: float
    stopped_utc_s: float
    outcome: str


def program_manager(
    templates: Sequence[str], active: Sequence[Variable], runs: Callable[[], Sequence[Run]]
) -> Object:
    """Templates, the active programme and the results of past ones."""
    return Object(
        "lads:ProgramManager",
        "lads:ProgramManagerType",
        (
            Object("lads:ActiveProgram", "lads:ActiveProgramType", active),
            Object(
                "lads:ProgramTemplateSet",
                "lads:ProgramTemplateSetType",
                [
                    Object(
                        f"sim:{name}",
                        "lads:ProgramTemplateType",
                        (_text("lads:DeviceTemplateId", name),),
                    )
                    for name in templates
                ],
            ),
            Object(
                "lads:ResultSet",
                "lads:ResultSetType",
                grows=lambda: [_result(run) for run in runs()],
            ),
        ),
    )


def _result(run: Run) -> Object:
    return Object(
        f"sim:{run.id}",
        "lads:ResultType",
        (
            _text("lads:DeviceProgramRunId", run.id),
            _text("lads:SupervisoryJobId", run.job_id),
            _text("lads:SupervisoryTaskId", f"{run.job_id}/{run.id}"),
            _text("lads:Description", run.outcome, "LocalizedText"),
            Variable("lads:Started", lambda: run.started_utc_s, "DateTime", is_property=True),
            Variable("lads:Stopped", lambda: run.stopped_utc_s, "DateTime", is_property=True),
            Object(
                "lads:FileSet",
                "lads:ResultFileSetType",
                (
                    Object(
                        "sim:report",
                        "lads:ResultFileType",
                        (
                            _text("lads:Name", f"{run.id}.csv"),
                            _text("lads:MimeType", "text/csv"),
                        ),
                    ),
                ),
            ),
        ),
    )


def _enabled() -> Variable:
    return Variable("lads:IsEnabled", lambda: True, "Boolean", is_property=True)


def _text(name: str, text: str, data_type: str = "String") -> Variable:
    return Variable(name, lambda: text, data_type, is_property=True)


def date_of(utc_s: float) -> str:
    """The day of a moment, as `20261123`."""
    return datetime.fromtimestamp(utc_s, UTC).strftime("%Y%m%d")

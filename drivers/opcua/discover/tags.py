"""What a variable of a device becomes: a tag with name, type, unit and doubts, or nothing; pure.

Roles are read from browse names in the namespace of a specification, never from display names.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Any

from drivers.opcua.address import NodeId
from drivers.opcua.discover.model import DI, LADS, PACKML, UA, AddressSpace, Name, Node, ua, written
from drivers.opcua.discover.units import unit_of
from drivers.opcua.values import KIND_OF
from edgeagent.model.frame import DataType

CONDITION, STATE_VARIABLE = ua(2782), ua(2755)
DURATION, ANALOG_ITEM = ua(290), ua(2368)

_FLOATS = (10, 11)
_TEXTS = (12, 13, 14, 16, 17, 18, 20, 21)
_FREE_TEXTS = (12, 20, 21)
_STRUCTURE = 22

NAME_LENGTH_MAX = 64


class Section(Enum):
    """What a tag is about; a group of the draft each."""

    VALUES = "values"
    STATES = "states"
    PROGRAM = "program"


@dataclass(frozen=True, slots=True)
class Way:
    """A node of a device and how it was reached.

    :ivar parent: the node above it
    :ivar steps: browse names from the device to it
    :ivar unit: name of the functional unit that it is in, or empty
    :ivar is_unique: no other node has these browse names
    """

    node: Node
    parent: Node
    steps: tuple[Name, ...]
    unit: str = ""
    in_program: bool = False
    is_unique: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """One variable that becomes a tag, or would if somebody could say how.

    :ivar type: ``None`` where no tag can hold it as it is; ``doubt`` says why
    :ivar unit: UCUM
    :ivar doubt: what a person has to look at
    :ivar is_free_text: it may hold anything, a person's name too
    """

    name: str
    way: Way
    section: Section
    type: DataType | None
    array: bool = False
    unit: str = "1"
    doubt: str = ""
    description: str = ""
    is_free_text: bool = False


_SUFFIXES: Mapping[Name, str] = {
    (LADS, "RawValue"): "raw",
    (LADS, "TargetValue"): "set_point",
    (LADS, "TotalizedValue"): "total",
    (LADS, "DifferenceValue"): "difference",
    (LADS, "CompensationValue"): "compensation",
    (LADS, "CurrentMode"): "mode",
    (LADS, "IsEnabled"): "enabled",
    (LADS, "ControlFunctionState"): "state",
    (LADS, "FunctionalUnitState"): "state",
    (LADS, "CoverState"): "state",
    (LADS, "RunningStateMachine"): "running",
    (LADS, "AlarmMonitor"): "alarm",
    (PACKML, "BaseStateMachine"): "state",
    (PACKML, "MachineState"): "machine",
    (PACKML, "ExecuteState"): "execute",
    (UA, "AckedState"): "acknowledged",
}
"""What a browse name of a specification adds to a tag's name, where that is not the name itself."""

_SILENT = {
    (LADS, "FunctionalUnitSet"), (LADS, "FunctionSet"), (LADS, "SensorValue"),
    (LADS, "CurrentValue"), (LADS, "Operational"), (LADS, "Configuration"), (LADS, "Calibration"),
    (LADS, "Tuning"), (LADS, "ProgramManager"), (LADS, "ActiveProgram"),
    (LADS, "ControllerModeSet"), (LADS, "TargetValueSet"), (LADS, "ControllerTuningParameter"),
    (DI, "ParameterSet"), (UA, "CurrentState"), (UA, "ActiveState"), (UA, "Id"),
    (PACKML, "Status"), (PACKML, "Admin"),
}  # fmt: skip
"""Steps that do not tell a tag from others."""

_PROPERTIES_THAT_CHANGE = {(LADS, "IsEnabled"), (LADS, "Damping")}
_NAMES_OF_STEPS = {(LADS, "CurrentStepName")}
"""Texts that name a step of a programme, never a person."""

_INTERNAL = {
    (UA, name)
    for name in (
        "AvailableStates", "AvailableTransitions", "ValueAsText", "NodeVersion", "LastTransition",
    )
}  # fmt: skip

_CONDITION_STATES = {
    (UA, name)
    for name in (
        "ActiveState", "AckedState", "ConfirmedState", "EnabledState", "SuppressedState",
        "ShelvingState", "LatchedState", "OutOfServiceState", "SilenceState",
    )
}  # fmt: skip


def machines(space: AddressSpace) -> dict[NodeId, Node]:
    """Return the state machine of each CurrentState."""
    return {
        child: node
        for node in space.nodes.values()
        for child in node.children
        if child in space.nodes and space.nodes[child].name == (UA, "CurrentState")
    }


class Tagger:
    """Makes the tags of one device, each with a name of its own.

    :param units: how many functional units the device has; of several, tags bear the unit's name
    """

    def __init__(self, space: AddressSpace, of_state: Mapping[NodeId, Node], units: int) -> None:
        self._space = space
        self._machines = of_state
        self._units = units
        self._used: set[str] = set()

    def tag(self, way: Way) -> Found | None:
        """Return what a variable becomes, or ``None`` where it is a part or a property."""
        space, node, parent = self._space, way.node, way.parent
        if node.facts is None or node.name in _INTERNAL:
            return None
        names = {parent.name, node.name}
        if space.is_a(parent, CONDITION) or not names.isdisjoint(_CONDITION_STATES):
            is_state = way.steps[-2:] in _ALARM_STATES
            return self._found(way, Section.STATES, DataType.BOOL) if is_state else None
        if parent.facts is not None and space.is_a(parent, STATE_VARIABLE):
            is_state = (parent.name, node.name) == ((UA, "CurrentState"), (UA, "Id"))
            return self._state(way) if is_state else None
        if space.is_a(node, STATE_VARIABLE):
            if node.name != (UA, "CurrentState") or space.child(node, UA, "Id") is not None:
                return None
            doubt = "the server states no Id of the state; its text may be in another language"
            return self._found(way, Section.STATES, DataType.STRING, doubt=doubt)
        if node.is_property and node.name not in _PROPERTIES_THAT_CHANGE and not way.in_program:
            return None
        return self._measured(way)

    def _state(self, way: Way) -> Found:
        """Return the tag of ``CurrentState/Id``, which no language changes."""
        machine = self._machines.get(way.parent.id)
        states = self._space.states_of(machine) if machine is not None else []
        told = ", ".join(f"{written(state.id)} {state.name}" for state in states)
        return self._found(way, Section.STATES, DataType.STRING, description=told)

    def _measured(self, way: Way) -> Found:
        node, facts = way.node, way.node.facts
        assert facts is not None
        section = Section.PROGRAM if way.in_program else Section.VALUES
        wanted, why = _type(facts.kind, facts.rank)
        if not facts.is_readable:
            wanted, why = None, "the user of this session may not read it"
        if wanted is None:
            return self._found(way, section, None, doubt=why)
        names = sorted((facts.states or {}).items())
        told = ", ".join(f"{number} {name}" for number, name in names)
        if section is Section.VALUES and (wanted is DataType.BOOL or names):
            section = Section.STATES
        if facts.rank == 1:
            doubt = "an array as JSON text has no unit; name its elements" if facts.units else ""
            is_free = facts.kind in _TEXTS
            return self._found(
                way, section, DataType.STRING, array=True, doubt=doubt, is_free_text=is_free
            )
        if wanted in (DataType.BOOL, DataType.STRING):
            is_free = facts.kind in _FREE_TEXTS and node.name not in _NAMES_OF_STEPS
            return self._found(way, section, wanted, description=told, is_free_text=is_free)
        unit = unit_of(
            facts,
            is_duration=DURATION in self._space.lineage(facts.data_type),
            needs_unit=not names and (facts.kind in _FLOATS or self._space.is_a(node, ANALOG_ITEM)),
        )
        return self._found(way, section, wanted, unit=unit.ucum, doubt=unit.doubt, description=told)

    def _found(self, way: Way, section: Section, kind: DataType | None, **more: Any) -> Found:
        return Found(self._name(way), way, section, kind, **more)

    def _name(self, way: Way) -> str:
        words = [word for step in way.steps if (word := _word(step))]
        if way.unit and self._units == 1 and len(words) > 1 and words[0] == way.unit:
            del words[0]
        wanted = "_".join(words) or snake(way.steps[-1][1])
        name = wanted[:NAME_LENGTH_MAX].rstrip("_")
        if name in self._used:
            tails = (f"_{number}" for number in count(2))
            names = (wanted[: NAME_LENGTH_MAX - len(tail)] + tail for tail in tails)
            name = next(each for each in names if each not in self._used)
        self._used.add(name)
        return name


_ALARM_STATES: tuple[Sequence[Name], ...] = (
    ((UA, "ActiveState"), (UA, "Id")),
    ((UA, "AckedState"), (UA, "Id")),
)


def _type(kind: int, rank: int) -> tuple[DataType | None, str]:
    """Return the type of a tag that holds a built-in type as it is, or why there is none."""
    if kind == 0:
        return None, "its data type is abstract and it has no value yet; declare its type"
    if rank > 1:
        return None, "a matrix; name its elements"
    if kind == _STRUCTURE:
        return None, "a structure; name its field"
    if kind in _TEXTS:
        return DataType.STRING, ""
    found = next((each for each, number in KIND_OF.items() if number == kind), None)
    return found, "" if found else "no tag can hold its type"


def _word(step: Name) -> str:
    if step in _SILENT:
        return ""
    return _SUFFIXES[step] if step in _SUFFIXES else snake(step[1])


def snake(name: str) -> str:
    """Return a browse name as tags are named: ``CurrentStepName`` → ``current_step_name``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_") or "unnamed"

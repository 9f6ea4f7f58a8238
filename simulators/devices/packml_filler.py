"""A vial filler with a PackML interface (OPC 30050).

Source: names and types of OPC 30050 (1.01). No maker of a filler for cell therapy publishes its
own. Counts are plain numbers of the machine's own namespace: the specification has them as arrays
of structures. Assumed: where the object stands, guard, fill volume.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulators.devices.opcua_contract import Object, OpcUaDevice, StateMachine, Unit, Variable
from simulators.process.vial_filling import VialFilling

_MODES = ("INVALID", "PRODUCE", "MAINTENANCE", "MANUAL")
_PER_MINUTE = Unit("", "1/min")
_IN_BASE = ("Aborting", "Aborted")
_IN_MACHINE = ("Clearing", "Stopped", "Stopping")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackmlFillerSettings:
    """One machine."""

    tag_id: str = "VF-01"


class PackmlFiller(OpcUaDevice):
    """A machine over one line; see the module text."""

    FOLDER: ClassVar[str] = "machinery:Machines"
    TYPES: ClassVar = {"sim:VialFillerType": "packml:PackMLBaseObjectType"}

    def __init__(self, settings: PackmlFillerSettings, line: VialFilling) -> None:
        super().__init__()
        self._settings = settings
        self._line = line

    def _states(self) -> StateMachine:
        """Three machines, one in the other, of which the inner ones may have no state."""
        line = self._line

        def outer() -> str:
            return line.state if line.state in _IN_BASE else "Cleared"

        def machine() -> str | None:
            if line.state in _IN_BASE:
                return None
            return line.state if line.state in _IN_MACHINE else "Running"

        def execute() -> str | None:
            return None if line.state in (*_IN_BASE, *_IN_MACHINE) else line.state

        inmost = StateMachine(
            "packml:ExecuteState", "packml:PackMLExecuteStateMachineType", execute
        )
        inner = StateMachine(
            "packml:MachineState", "packml:PackMLMachineStateMachineType", machine, (inmost,)
        )
        return StateMachine(
            "packml:BaseStateMachine", "packml:PackMLBaseStateMachineType", outer, (inner,)
        )

    def tree(self, name: str) -> Object:
        line = self._line
        goal = line.settings
        status = (
            Variable("packml:MachSpeed", lambda: goal.vials_per_min, "Float", _PER_MINUTE),
            Variable("packml:CurMachSpeed", lambda: line.speed_per_min, "Float", _PER_MINUTE),
            Variable("packml:EquipmentBlocked", lambda: line.blocked, "Boolean"),
            Variable("packml:EquipmentStarved", lambda: line.starved, "Boolean"),
            Variable(
                "packml:UnitModeCurrent", lambda: 1, "Int32", states=_MODES, is_enumeration=True
            ),
        )
        admin = (
            Variable("packml:StateCurrentTime", lambda: int(line.state_s), "Int32"),
            Variable("sim:VialsProcessed", lambda: line.processed, "UInt32"),
            Variable("sim:VialsRejected", lambda: line.rejected, "UInt32"),
        )
        tag_id = self._settings.tag_id
        return Object(
            f"sim:{name}",
            "sim:VialFillerType",
            (
                Variable("packml:TagID", lambda: tag_id, "String", is_property=True),
                self._states(),
                Object("packml:Status", "packml:PackMLStatusObjectType", status),
                Object("packml:Admin", "packml:PackMLAdminObjectType", admin),
                Variable(
                    "sim:LastFill", lambda: line.last_fill_ml, unit=Unit("MLT", "ml"),
                    range=(0.0, 50.0),
                ),
                Variable("sim:GuardOpen", lambda: line.guard_open, "Boolean"),
            ),
        )  # fmt: skip

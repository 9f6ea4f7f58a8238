"""Types of the companion specifications, as far as the simulated devices are of them.

Names, numbers and places in the hierarchy are those of the published node sets (DI 1.04,
LADS 1.0.0, PackML 1.01). Only the types themselves stand here, with the states of state machines:
what their instances consist of is the devices' own.
"""

FINITE_STATE_MACHINE = "FiniteStateMachineType"

OBJECT_TYPES: dict[str, tuple[int, str]] = {
    "di:TopologyElementType": (1001, "BaseObjectType"),
    "di:ComponentType": (15063, "di:TopologyElementType"),
    "di:DeviceType": (1002, "di:ComponentType"),
    "di:FunctionalGroupType": (1005, "FolderType"),
    "lads:LADSDeviceType": (1002, "di:DeviceType"),
    "lads:FunctionalUnitType": (1003, "di:TopologyElementType"),
    "lads:FunctionType": (1004, "di:TopologyElementType"),
    "lads:BaseSensorFunctionType": (1005, "lads:FunctionType"),
    "lads:AnalogSensorFunctionType": (1046, "lads:BaseSensorFunctionType"),
    "lads:AnalogScalarSensorFunctionType": (1016, "lads:AnalogSensorFunctionType"),
    "lads:DiscreteSensorFunctionType": (1012, "lads:BaseSensorFunctionType"),
    "lads:TwoStateDiscreteSensorFunctionType": (1031, "lads:DiscreteSensorFunctionType"),
    "lads:BaseControlFunctionType": (1007, "lads:FunctionType"),
    "lads:AnalogControlFunctionType": (1009, "lads:BaseControlFunctionType"),
    "lads:AnalogControlFunctionWithTotalizerType": (1014, "lads:AnalogControlFunctionType"),
    "lads:CoverFunctionType": (1011, "lads:FunctionType"),
    "lads:SetType": (61, "FolderType"),
    "lads:FunctionalUnitSetType": (1023, "lads:SetType"),
    "lads:FunctionSetType": (1026, "lads:SetType"),
    "lads:ProgramTemplateSetType": (1019, "lads:SetType"),
    "lads:ResultSetType": (1020, "lads:SetType"),
    "lads:ResultFileSetType": (1022, "lads:SetType"),
    "lads:ProgramManagerType": (1006, "di:TopologyElementType"),
    "lads:ActiveProgramType": (1040, "BaseObjectType"),
    "lads:ProgramTemplateType": (1018, "BaseObjectType"),
    "lads:ResultType": (1021, "BaseObjectType"),
    "lads:ResultFileType": (1001, "BaseObjectType"),
    "lads:LADSDeviceStateMachineType": (1039, FINITE_STATE_MACHINE),
    "lads:FunctionalStateMachineType": (1038, FINITE_STATE_MACHINE),
    "lads:FunctionalUnitStateMachineType": (1043, "lads:FunctionalStateMachineType"),
    "lads:ControlFunctionStateMachineType": (1044, "lads:FunctionalStateMachineType"),
    "lads:RunningStateMachineType": (1036, FINITE_STATE_MACHINE),
    "lads:CoverStateMachineType": (1010, FINITE_STATE_MACHINE),
    "packml:PackMLBaseObjectType": (6, "BaseObjectType"),
    "packml:PackMLAdminObjectType": (5, "BaseObjectType"),
    "packml:PackMLStatusObjectType": (4, "BaseObjectType"),
    "packml:PackMLBaseStateMachineType": (3, FINITE_STATE_MACHINE),
    "packml:PackMLMachineStateMachineType": (2, FINITE_STATE_MACHINE),
    "packml:PackMLExecuteStateMachineType": (1, FINITE_STATE_MACHINE),
}
"""Number in the namespace, and supertype."""

STATES: dict[str, dict[str, tuple[int, int]]] = {
    "lads:LADSDeviceStateMachineType": {
        "Initialization": (5177, 1), "Operate": (5178, 2), "Sleep": (5259, 3),
        "Shutdown": (5180, 4),
    },
    "lads:FunctionalStateMachineType": {
        "Aborted": (5160, 1), "Aborting": (5159, 2), "Clearing": (5143, 3), "Stopped": (5085, 4),
        "Running": (5099, 5), "Stopping": (5100, 6),
    },
    "lads:RunningStateMachineType": {
        "Complete": (5128, 1), "Completing": (5127, 2), "Execute": (5168, 3), "Held": (5124, 4),
        "Holding": (5123, 5), "Idle": (5120, 6), "Resetting": (5119, 7), "Starting": (5117, 8),
        "Suspended": (5121, 9), "Suspending": (5118, 10), "Unholding": (5125, 11),
        "Unsuspending": (5122, 12),
    },
    "lads:CoverStateMachineType": {
        "Closed": (5028, 1), "Error": (5050, 2), "Locked": (5049, 3), "Opened": (5025, 4),
        "Closing": (5110, 5), "Locking": (5108, 6), "Opening": (5109, 7), "Unlocking": (5107, 8),
    },
    "packml:PackMLBaseStateMachineType": {
        "Aborting": (61, 8), "Aborted": (62, 9), "Cleared": (71, 19),
    },
    "packml:PackMLMachineStateMachineType": {
        "Clearing": (55, 1), "Stopped": (53, 2), "Stopping": (54, 7), "Running": (75, 18),
    },
    "packml:PackMLExecuteStateMachineType": {
        "Starting": (29, 3), "Idle": (28, 4), "Suspended": (31, 5), "Execute": (36, 6),
        "Holding": (33, 10), "Held": (34, 11), "Unholding": (35, 12), "Suspending": (30, 13),
        "Unsuspending": (32, 14), "Resetting": (27, 15), "Completing": (37, 16),
        "Complete": (38, 17),
    },
}  # fmt: skip
"""Of each type of state machines its states: number of the node, and StateNumber."""

FOLDERS = {"di:DeviceSet": 5001, "machinery:Machines": 1001}
"""Folders below Objects in which devices stand."""


def states_of(kind: str) -> dict[str, tuple[str, int, int]]:
    """The states of a type and its supertypes: its namespace's prefix, node and StateNumber."""
    found: dict[str, tuple[str, int, int]] = {}
    while kind in OBJECT_TYPES:
        prefix = kind.partition(":")[0]
        for name, (node, number) in STATES.get(kind, {}).items():
            found.setdefault(name, (prefix, node, number))
        kind = OBJECT_TYPES[kind][1]
    return found

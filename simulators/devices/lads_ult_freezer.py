"""A ULT freezer that speaks LADS: one functional unit with door, controller and sensors.

Sources: the types of OPC 30500-1 (1.0.0); unit, functions and ranges as those of the freezer of
the public LADS demonstration servers (opcua-lads/lads-server-collection): value -100 to 50,
set-point -86 to -40. Assumed: warm and cold alarm 10 K off the set-point, as in the examples of the
Thermo TSX manual; the room sensor.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulators.devices import lads
from simulators.devices.opcua_contract import Object, OpcUaDevice
from simulators.process.ult_freezer import UltFreezer

_ALARM_K = 10.0
_BOUNDS = (-100.0, 50.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LadsUltFreezerSettings:
    """One freezer."""

    serial_number: str = "FR-0001"


class LadsUltFreezer(OpcUaDevice):
    """The electronics of a cabinet. On a power failure they run from their battery."""

    TYPES: ClassVar = {
        "sim:FreezerDeviceType": "lads:LADSDeviceType",
        "sim:FreezerUnitType": "lads:FunctionalUnitType",
    }

    def __init__(self, settings: LadsUltFreezerSettings, cabinet: UltFreezer) -> None:
        super().__init__()
        self._settings = settings
        self._cabinet = cabinet

    def _off(self) -> bool:
        return abs(self._cabinet.cabinet_c - self._cabinet.settings.set_point_c) > _ALARM_K

    def tree(self, name: str) -> Object:
        cabinet = self._cabinet
        functions = [
            lads.cover("Door", lambda: "Opened" if cabinet.door_open else "Closed"),
            lads.control(
                "TemperatureController",
                lambda: cabinet.cabinet_c,
                lambda: cabinet.settings.set_point_c,
                lads.CELSIUS,
                _BOUNDS,
                target_bounds=(-86.0, -40.0),
                state=lambda: "Running" if cabinet.compressor_running else "Stopped",
                alarm=self._off,
            ),
            lads.sensor(
                "TemperatureSensor", lambda: cabinet.cabinet_c, lads.CELSIUS, _BOUNDS,
                alarm=self._off,
            ),
            lads.sensor("RoomTemperature", lambda: cabinet.ambient_c, lads.CELSIUS, (0.0, 50.0)),
            lads.two_state("Mains", lambda: not cabinet.mains_failed, ("Failed", "Present")),
        ]  # fmt: skip
        plate = lads.NamePlate(
            manufacturer="Simulated", model="LADS ULT freezer",
            serial_number=self._settings.serial_number,
        )  # fmt: skip
        return lads.device(
            name,
            "sim:FreezerDeviceType",
            plate,
            lambda: "Operate",
            lambda: 1 if cabinet.mains_failed else 3 if self._off() else 0,
            [lads.unit("FreezerUnit", "sim:FreezerUnitType", lambda: "Running", functions)],
        )

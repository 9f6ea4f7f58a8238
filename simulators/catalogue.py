"""Which models of processes and instruments a scenario may name, and how each is built."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from simulators.devices.adam_4015 import Adam4015, Adam4015Settings
from simulators.devices.contract import ModbusDevice
from simulators.devices.hamilton_arc_ph import HamiltonArcPh, HamiltonArcPhSettings
from simulators.devices.met_one_6000 import MetOne6000, MetOne6000Settings
from simulators.disturbance import Stepped
from simulators.process.bioreactor import Bioreactor, BioreactorSettings
from simulators.process.clean_room import CleanRoom, CleanRoomSettings
from simulators.process.ln2_freezer import Ln2Freezer, Ln2FreezerSettings
from simulators.wire.modbus_ascii import ASCII
from simulators.wire.modbus_rtu import RTU


@dataclass(frozen=True, slots=True)
class ProcessModel:
    """One model of a process."""

    settings: type[Any]
    build: Callable[[Any, Random], Stepped]
    disturbances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """One make and model of an instrument."""

    settings: type[Any]
    process_model: str
    """The model of the process that this instrument measures."""
    build: Callable[[Any, Any, Random, float], ModbusDevice]
    """From its settings, its process, a generator of its own and the UTC at the start."""
    disturbances: tuple[str, ...]


PROCESS_MODELS = {
    "clean_room": ProcessModel(CleanRoomSettings, CleanRoom, CleanRoom.DISTURBANCES),
    "bioreactor": ProcessModel(BioreactorSettings, Bioreactor, Bioreactor.DISTURBANCES),
    "ln2_freezer": ProcessModel(Ln2FreezerSettings, Ln2Freezer, Ln2Freezer.DISTURBANCES),
}

DEVICE_MODELS = {
    "met_one_6000": DeviceModel(
        MetOne6000Settings, "clean_room", MetOne6000, MetOne6000.DISTURBANCES
    ),
    "hamilton_arc_ph": DeviceModel(
        HamiltonArcPhSettings,
        "bioreactor",
        lambda settings, process, rng, start_utc_s: HamiltonArcPh(settings, process),
        HamiltonArcPh.DISTURBANCES,
    ),
    "adam_4015": DeviceModel(
        Adam4015Settings,
        "ln2_freezer",
        lambda settings, process, rng, start_utc_s: Adam4015(settings, process),
        Adam4015.DISTURBANCES,
    ),
}

SERIAL_KINDS = {"modbus-rtu": RTU, "modbus-ascii": ASCII}
WIRE_KINDS = ("modbus-tcp", *SERIAL_KINDS)

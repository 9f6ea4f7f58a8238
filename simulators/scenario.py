"""Scenarios: what stands in a site, on which wires, and what happens there over time."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from simulators.catalogue import (
    DEVICE_MODELS,
    LINE_KINDS,
    OPCUA_KIND,
    PROCESS_MODELS,
    TEXT_KIND,
    WIRE_KINDS,
)
from simulators.faults import NO_FAULTS, SERIAL_ONLY, TCP_ONLY, Faults
from simulators.strict_yaml import ScenarioError, Section, load
from simulators.wire.modbus_serial import BAUD_RATE
from simulators.world import Event

PORT_FIRST, PORT_LAST = 15_020, 15_040
BAUD_RATE_MIN, BAUD_RATE_MAX = 300, 921_600

_ID = re.compile(r"[a-z0-9][a-z0-9-]*")
_UNIT_IDS = range(1, 248)


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process, with the settings of its model."""

    model: str
    settings: Any


@dataclass(frozen=True, slots=True)
class WireSpec:
    """One wire and what is wrong with it."""

    kind: str
    port: int | None
    """TCP port; None for a serial port."""
    device: str | None
    """File name of a serial port; None for a TCP port."""
    baud_rate: int
    clock_offset_s: float
    """Of an OPC UA server whose clock is wrong."""
    faults: Faults


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One instrument: what it measures, where it hangs, the settings of its model."""

    model: str
    process: str
    wire: str
    unit_id: int
    settings: Any


@dataclass(frozen=True, slots=True)
class Scenario:
    """A checked scenario; every reference in it leads somewhere."""

    name: str
    description: str
    speed: float
    """Simulated seconds per real second."""
    seed: int
    """Of the noise of all sensors and counters."""
    processes: Mapping[str, ProcessSpec]
    wires: Mapping[str, WireSpec]
    devices: Mapping[str, DeviceSpec]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    description: str
    speed: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a device hangs and what it measures."""

    model: str
    process: str
    wire: str
    unit_id: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """Where a wire can be heard."""

    kind: str
    port: int | None = None
    device: str | None = None
    baud_rate: int = BAUD_RATE
    clock_offset_s: float = 3_600.0


def shipped() -> dict[str, str]:
    """Names and descriptions of the scenarios of this package."""
    return {name: load_scenario(name).description for name in _shipped_names()}


def load_scenario(name_or_path: str) -> Scenario:
    """:raises ScenarioError: with one line that says where and why"""
    if name_or_path in _shipped_names():
        file = f"{name_or_path}.yaml"
        text = (resources.files("simulators") / "scenarios" / file).read_text("utf-8")
        return parse(text, file, name_or_path)
    return parse(_read(name_or_path), name_or_path, Path(name_or_path).stem)


def load_faults(path: str, scenario: Scenario) -> Faults:
    """Faults for every wire of a scenario.

    :raises ScenarioError: with one line that says where and why
    """
    section = load(_read(path), path)
    faults = section.build(Faults)
    for wire in scenario.wires.values():
        _require_possible(section, faults, wire.kind)
    return faults


def parse(text: str, file: str, name: str) -> Scenario:
    """:raises ScenarioError: with one line that says where and why"""
    root = load(text, file)
    collections = ("processes", "wires", "devices", "events")
    head = root.build(_Head, besides=collections)
    if head.speed <= 0.0:
        raise root.error("speed", "must be positive")
    root.require("processes", "wires", "devices")
    processes = _processes(root.section("processes"))
    wires = _wires(root.section("wires"))
    devices = _devices(root.section("devices"), processes, wires)
    return Scenario(
        name=name,
        description=head.description,
        speed=head.speed,
        seed=head.seed,
        processes=processes,
        wires=wires,
        devices=devices,
        events=_events(root, processes, devices),
    )


def _shipped_names() -> list[str]:
    folder = resources.files("simulators") / "scenarios"
    files = (entry.name for entry in folder.iterdir())
    return sorted(file.removesuffix(".yaml") for file in files if file.endswith(".yaml"))


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise ScenarioError(f"{path}: {reason}") from None


def _processes(section: Section) -> dict[str, ProcessSpec]:
    found = {}
    for key in _ids(section):
        entry = section.section(key)
        model = _choice(entry, "model", PROCESS_MODELS)
        settings = entry.build(PROCESS_MODELS[model].settings, besides=("model",))
        found[key] = ProcessSpec(model, settings)
    return found


def _wires(section: Section) -> dict[str, WireSpec]:
    found: dict[str, WireSpec] = {}
    for key in _ids(section):
        entry = section.section(key)
        end = entry.build(_End, besides=("faults",))
        _choice(entry, "kind", WIRE_KINDS)
        _check_end(entry, end)
        for other in found.values():
            if end.port is not None and other.port == end.port:
                raise entry.error("port", "another wire has this port")
            if end.device is not None and other.device == end.device:
                raise entry.error("device", "another wire has this serial port")
        faults = NO_FAULTS
        if "faults" in entry.keys:
            faults = entry.section("faults").build(Faults)
            _require_possible(entry.section("faults"), faults, end.kind)
        found[key] = WireSpec(
            end.kind, end.port, end.device, end.baud_rate, end.clock_offset_s, faults
        )
    return found


def _check_end(entry: Section, end: _End) -> None:
    if end.kind != OPCUA_KIND and "clock_offset_s" in entry.keys:
        raise entry.error("clock_offset_s", "only an opcua wire has one")
    if end.kind not in LINE_KINDS:
        for key in ("device", "baud_rate"):
            if key in entry.keys:
                raise entry.error(key, f"only a serial wire has one ({', '.join(LINE_KINDS)})")
        entry.require("port")
    elif (end.port is None) == (end.device is None):
        raise entry.error(None, "needs either a port (of a device server) or a device")
    if end.port is not None and not PORT_FIRST <= end.port <= PORT_LAST:
        raise entry.error("port", f"must be {PORT_FIRST} to {PORT_LAST}")
    if end.device is not None and not _ID.fullmatch(end.device):
        raise entry.error("device", "a name has small letters, digits and hyphens only")
    if not BAUD_RATE_MIN <= end.baud_rate <= BAUD_RATE_MAX:
        raise entry.error("baud_rate", f"must be {BAUD_RATE_MIN} to {BAUD_RATE_MAX}")


def _require_possible(section: Section, faults: Faults, kind: str) -> None:
    if kind == OPCUA_KIND and faults != NO_FAULTS:
        raise section.error(None, "are of replies; what befalls an opcua wire is an event")
    impossible = TCP_ONLY if kind in LINE_KINDS else SERIAL_ONLY
    for fault in sorted(impossible):
        if faults.probability(fault):
            raise section.error(fault.value, f"cannot happen on a wire of kind {kind}")


def _devices(
    section: Section, processes: Mapping[str, ProcessSpec], wires: Mapping[str, WireSpec]
) -> dict[str, DeviceSpec]:
    found: dict[str, DeviceSpec] = {}
    for key in _ids(section):
        entry = section.section(key)
        model = DEVICE_MODELS[_choice(entry, "model", DEVICE_MODELS)]
        place_keys = ("model", "process", "wire", "unit_id")
        settings = entry.build(model.settings, besides=place_keys)
        place = entry.build(_Place, besides=tuple(field.name for field in fields(settings)))
        if key in processes:
            raise section.error(key, "a process has this name")
        if processes.get(place.process, ProcessSpec("", None)).model != model.process_model:
            raise entry.error("process", f"must name a process of model {model.process_model}")
        if place.wire not in wires:
            raise entry.error("wire", f"must be one of {', '.join(wires)}")
        if place.unit_id not in _UNIT_IDS:
            raise entry.error("unit_id", "must be 1 to 247")
        on_text, on_opcua = (wires[place.wire].kind == kind for kind in (TEXT_KIND, OPCUA_KIND))
        if (model.speaks_text, model.speaks_opcua) != (on_text, on_opcua):
            raise entry.error("wire", f"a {place.model} and a wire of this kind do not fit")
        alike = ((o.wire, o.unit_id) == (place.wire, place.unit_id) for o in found.values())
        if not (on_text or on_opcua) and any(alike):
            raise entry.error("unit_id", f"another device on {place.wire} has this one")
        found[key] = DeviceSpec(place.model, place.process, place.wire, place.unit_id, settings)
    return found


def _events(
    root: Section, processes: Mapping[str, ProcessSpec], devices: Mapping[str, DeviceSpec]
) -> tuple[Event, ...]:
    possible = {key: PROCESS_MODELS[spec.model].disturbances for key, spec in processes.items()}
    possible |= {key: DEVICE_MODELS[spec.model].disturbances for key, spec in devices.items()}
    return tuple(_event(section, possible) for section in root.sections("events"))


def _event(section: Section, possible: Mapping[str, tuple[str, ...]]) -> Event:
    event = section.build(Event)
    if event.target not in possible:
        raise section.error("target", f"must be one of {', '.join(possible)}")
    if event.what not in possible[event.target]:
        raise section.error("what", f"must be one of {', '.join(possible[event.target])}")
    if event.at_s < 0.0:
        raise section.error("at_s", "must not be negative")
    if event.for_s is not None and event.for_s <= 0.0:
        raise section.error("for_s", "must be positive")
    if event.every_s is not None and event.every_s < 1.0:
        raise section.error("every_s", "must be at least 1")
    return event


def _ids(section: Section) -> list[str]:
    for key in section.keys:
        if not _ID.fullmatch(key):
            raise section.error(key, "a name has small letters, digits and hyphens only")
    return section.keys


def _choice(entry: Section, key: str, options: Mapping[str, Any] | tuple[str, ...]) -> str:
    chosen = entry.text(key)
    if chosen not in options:
        raise entry.error(key, f"must be one of {', '.join(options)}")
    return chosen

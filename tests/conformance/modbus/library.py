"""Instruments of the library: on which wire each is, and what its process says for some tags."""

import json
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ruamel.yaml import YAML

import drivers.profiles
from drivers.modbus import DRIVER
from edgeagent.driver import Instrument
from edgeagent.model import quality
from edgeagent.model.clock import SystemClock
from simulators.catalogue import DEVICE_MODELS, PROCESS_MODELS, SERIAL_KINDS
from simulators.ledger import Ledger
from simulators.process import humid_air
from simulators.wire.line import Unit
from simulators.wire.modbus_serial import ModbusSerialServer
from simulators.wire.modbus_tcp import ModbusTcpServer
from simulators.wire.serial_port import PtyPort

START_UTC_S = 1_760_000_000.0
BAUD_RATE = 115_200
RUN_S = 130
"""Two samples of a particle counter, and ten seconds of the third."""


@dataclass(frozen=True)
class Case:
    """One instrument: its wire, its place there, and what its process says for some tags."""

    wire: str
    unit_id: int
    says: Mapping[str, Callable[[Any], Any]]
    process: Mapping[str, Any] = field(default_factory=dict)


def _wet(formula):
    return lambda room: formula(room.temperature_c, room.relative_humidity_pct)


CASES = {
    "alicat-mc-modbus": Case(
        "modbus-rtu",
        1,
        {
            "mass_flow": lambda gas: gas.flow_sccm,
            "set_point": lambda gas: 50.0,
            "pressure": lambda gas: 14.62,
            "temperature": lambda gas: gas.temperature_c,
            "gas": lambda gas: 8,
            "valve_drive": lambda gas: gas.valve_pct,
            "valve_held": lambda gas: False,
        },
    ),
    "bronkhorst-modbus": Case(
        "modbus-rtu",
        1,
        {
            "flow": lambda gas: gas.flow_sccm,
            "measure": lambda gas: round(64 * gas.flow_sccm),
            "set_point": lambda gas: 50.0,
            "set_point_raw": lambda gas: 3_200,
            "temperature": lambda gas: gas.temperature_c,
            "capacity": lambda gas: 500.0,
        },
    ),
    "thermo-tsx": Case(
        "modbus-ascii",
        0x19,
        {
            "temperature_tc2": lambda freezer: freezer.cabinet_c,
            "temperature_tc3": lambda freezer: freezer.heat_exchanger_c,
            "temperature_tc4": lambda freezer: freezer.condenser_c,
            "temperature_tc5": lambda freezer: freezer.ambient_c,
            "set_point": lambda freezer: -80.0,
            "warm_alarm_set_point": lambda freezer: -70.0,
            "cold_alarm_set_point": lambda freezer: -90.0,
            "pull_down_reached": lambda freezer: True,
            "door_1_open": lambda freezer: False,
        },
    ),
    "adam-4018": Case(
        "modbus-rtu",
        1,
        {
            "channel_0": lambda freezer: pytest.approx(freezer.chamber_c, abs=500 / 65_536),
            "channel_1": lambda freezer: pytest.approx(freezer.sample_c, abs=500 / 65_536),
            "channel_2": lambda freezer: pytest.approx(freezer.ambient_c, abs=500 / 65_536),
        },
    ),
    "eurotherm-2400": Case(
        "modbus-rtu",
        1,
        {
            "process_value": lambda freezer: freezer.chamber_c,
            "working_set_point": lambda freezer: freezer.set_point_c,
            "target_set_point": lambda freezer: -45.0,
            "output_power": lambda freezer: freezer.valve_pct,
            "sensor_break": lambda freezer: False,
            "alarm_1_set_point": lambda freezer: 30.0,
        },
    ),
    "vaisala-hmp": Case(
        "modbus-rtu",
        240,
        {
            "relative_humidity": lambda room: room.relative_humidity_pct,
            "temperature": lambda room: room.temperature_c,
            "no_errors": lambda room: 1,
            "dew_point": _wet(humid_air.dew_point_c),
            "absolute_humidity": _wet(humid_air.absolute_humidity_g_per_m3),
            "mixing_ratio": _wet(humid_air.mixing_ratio_g_per_kg),
            "wet_bulb_temperature": _wet(humid_air.wet_bulb_c),
            "enthalpy": _wet(humid_air.enthalpy_kj_per_kg),
        },
    ),
    "vaisala-hmdw110": Case(
        "modbus-rtu",
        240,
        {
            "relative_humidity": lambda room: room.relative_humidity_pct,
            "temperature": lambda room: room.temperature_c,
            "no_errors": lambda room: 1,
            "frost_point": _wet(humid_air.dew_point_c),
            "wet_bulb_temperature": _wet(humid_air.wet_bulb_c),
            "enthalpy": _wet(humid_air.enthalpy_kj_per_kg),
        },
    ),
    "vaisala-gmp252": Case(
        "modbus-rtu",
        240,
        {
            "co2": lambda incubator: 10_000 * incubator.co2_pct,
            "co2_not_ready": lambda incubator: False,
            "pressure": lambda incubator: 1013.25,
            "temperature": lambda incubator: 37.0,
            "filtering_factor": lambda incubator: 100,
        },
    ),
    "vaisala-hpp272": Case(
        "modbus-rtu",
        240,
        {
            "h2o2": lambda isolator: isolator.h2o2_ppm,
            "h2o2_locked_by_purge": lambda isolator: False,
            "sensor_vitality": lambda isolator: 92.0,
            "purge": lambda isolator: 0,
            "purge_interval": lambda isolator: 1_440,
        },
        process={"dry_s": 10.0},
    ),
    "lighthouse-remote": Case(
        "modbus-ascii",
        1,
        {
            "timestamp": lambda room: START_UTC_S + 120,
            "clock": lambda room: START_UTC_S + 130,
            "sample_time": lambda room: 60,
            "record_count": lambda room: 2,
            "count_channel_1": lambda room: pytest.approx(cubic_feet(room, 1), rel=0.2),
            "flow": lambda room: 1.0,
            "running": lambda room: True,
        },
        process={"people": 1},
    ),
    "pms-airnet-2": Case(
        "modbus-tcp",
        1,
        {
            "timestamp": lambda room: START_UTC_S + 120,
            "sample_time": lambda room: 60.0,
            "volume": lambda room: 1.0,
            "flow": lambda room: 1.0,
            "channels": lambda room: 4,
            "count_channel_2": lambda room: pytest.approx(cubic_feet(room, 1), rel=0.2),
        },
        process={"people": 1},
    ),
    "dwyer-ms2": Case(
        "modbus-rtu",
        127,
        {
            "pressure": lambda room: room.differential_pressure_pa,
            "pressure_integer": lambda room: round(room.differential_pressure_pa),
            "sensor_operational": lambda room: 1,
        },
    ),
    "hamilton-arc-do": Case(
        "modbus-rtu",
        2,
        {
            "oxygen": lambda reactor: reactor.dissolved_oxygen_pct,
            "oxygen_unit": lambda reactor: 32,
            "temperature": lambda reactor: reactor.temperature_c,
            "oxygen_error": lambda reactor: False,
            "sensor_quality": lambda reactor: 100.0,
        },
    ),
}


def cubic_feet(room, volume):
    """Particles of 0.5 um and larger that so much of the room holds."""
    return room.particles_05um_per_m3 * 0.0283168 * volume


def load(name):
    """A profile that ships."""
    path = Path(drivers.profiles.__file__).parent / f"{name}.yaml"
    return DRIVER.profile.model_validate(YAML(typ="safe", pure=True).load(path.read_text()))


def built(name, settings=None):
    """The process of a case and its simulated instrument, at the start."""
    case, kind = CASES[name], DEVICE_MODELS[name.replace("-", "_")]
    model = PROCESS_MODELS[kind.process_model]
    process = model.build(model.settings(**case.process), Random(4711))
    device = kind.build(kind.settings(**settings or {}), process, Random(1), START_UTC_S)
    return process, device


@dataclass
class Stand:
    """One simulated instrument on a wire of its own, and the driver that reads it."""

    process: Any
    device: Any
    instrument: Instrument
    driver: Any
    identity: Any

    async def values(self) -> dict[str, Any]:
        """All tags of all groups, in engineering units; none may fail."""
        read = {}
        for group in self.instrument.groups:
            frame = await self.driver.poll(group)
            assert (frame.status, frame.present) == (quality.GOOD, None), frame.group
            for tag, raw in zip(group.tags, frame.values, strict=True):
                numerator, shift, denominator = tag.scale
                plain = (numerator, shift, denominator) == (1, 0, 1)
                read[tag.name] = raw if plain else (raw * numerator + shift) / denominator
        return read


@asynccontextmanager
async def stand(name, folder, *, wire=None, device=None, run_s=RUN_S):
    """The instrument after `run_s` seconds of its process, connected."""
    case = CASES[name]
    wire = wire or case.wire
    process, simulated = built(name, device)
    for _ in range(run_s):
        process.step(1.0)
        simulated.step(1.0)
    units = {case.unit_id: Unit(name, simulated)}
    ledger = Ledger(folder / "asked.jsonl")
    if wire == "modbus-tcp":
        server = ModbusTcpServer(name, units, ledger=ledger)
    else:
        server = ModbusSerialServer(
            name,
            units,
            framing=SERIAL_KINDS[wire],
            port=PtyPort(folder / "line"),
            baud_rate=BAUD_RATE,
            ledger=ledger,
        )
    await server.start()
    try:
        profile = load(name)
        settings = DRIVER.instrument_settings(unit_id=case.unit_id)
        instrument = Instrument(name, profile, settings, profile.schemas(name, {}))
        link = link_to(server.endpoint, wire)
        driver = DRIVER.open(link, [instrument], SystemClock())
        (identity,) = await driver.connect()
        try:
            yield Stand(process, simulated, instrument, driver, identity)
        finally:
            await driver.close()
    finally:
        await server.stop()
        ledger.close()


def functions_asked(folder):
    """Every function that went over the wire of a stand."""
    lines = (folder / "asked.jsonl").read_text().splitlines()
    return {json.loads(line)["function"] for line in lines}


def link_to(end, wire):
    if wire == "modbus-tcp":
        return DRIVER.link_settings(host=end["host"], port=end["port"], timeout="10 s")
    # A pseudo-terminal has no parity and 8 data bits, whatever the real line has.
    return DRIVER.link_settings(
        framing=wire.removeprefix("modbus-"),
        device=end["device"],
        baud_rate=BAUD_RATE,
        parity="none",
        data_bits=8,
        timeout="1 s",
        slowest_reply="1 s",
    )

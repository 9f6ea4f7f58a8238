"""Every profile for lines of text, with the simulator that it reads, and what is expected of it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from ruamel.yaml import YAML

import drivers.profiles
from drivers.serial_line import DRIVER
from edgeagent.driver import Instrument
from simulators.catalogue import DEVICE_MODELS, PROCESS_MODELS

PROFILES = Path(drivers.profiles.__file__).parent
WARMED_UP_S = 20.0


@dataclass(frozen=True)
class Case:
    """A profile and its simulator."""

    profile: str
    model: str
    keys: dict[str, Any] = field(default_factory=dict)
    address: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    values: dict[str, Callable[[Any], bool] | Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.profile + "".join(f"-{key}" for key in self.keys)


def near(wanted: float, by: float) -> Callable[[float], bool]:
    return lambda value: abs(value - wanted) <= by


POLLED = (
    Case(
        "mettler-mt-sics",
        "mettler_sics",
        facts={"serial_number": "B021002593", "model": "MS4002S 4200.00 g"},
        values={"weight": near(85.7, 0.1), "stable": False},
    ),
    Case(
        "sartorius-sbi",
        "sartorius_sbi",
        facts={"serial_number": "15804711", "model": "CP3202S"},
        values={"weight": near(85.7, 0.1)},
    ),
    Case(
        "sartorius-sbi", "sartorius_sbi", {"long_lines": False}, values={"weight": near(85.7, 0.1)}
    ),
    Case(
        "watson-marlow-620",
        "watson_marlow",
        facts={"model": "620Du", "tube": "9.6MM"},
        values={
            "speed": 40.0,
            "running": True,
            "clockwise": True,
            "millilitres_per_turn": 2.5,
            "tacho": 10_982 * 20 * 40 // 60,
        },
    ),
    Case(
        "watson-marlow-620",
        "watson_marlow",
        {"type": "505Di", "address": 16},
        address="16",
        facts={"model": "505Di"},
        values={"speed": 40.0},
    ),
    Case(
        "watson-marlow-323",
        "watson_marlow",
        {"type": "323Du"},
        facts={"model": "323Du"},
        values={"speed": 40.0, "running": True},
    ),
    Case(
        "ismatec-reglo-icc",
        "ismatec_reglo_icc",
        facts={"protocol_version": "2"},
        values={"clockwise": True, "mode": "L"},
    ),
    Case(
        "huber-pb",
        "huber_pb",
        values={
            "internal": near(1869, 10),
            "set_point": 400,
            "temperature_control": 1,
            "circulating": True,
            "error": False,
            "power": -800,
            "water_pressure": 64_536,
        },
    ),
    Case(
        "thermo-heracell-vios",
        "heracell",
        facts={"firmware": "50111927"},
        values={
            "temperature": near(370, 3),
            "co2": near(50, 3),
            "event": 1,
            "co2_cylinder_a_active": True,
            "co2_cylinder_b_active": False,
            "co2_cylinder_a_pressure_ok": True,
        },
    ),
    Case("ami-186", "ami_186", values={"level": near(45.0, 0.2), "fill_a": 55.0, "fill_b": 30.0}),
    Case(
        "lakeshore-218",
        "lakeshore_218",
        facts={"manufacturer": "LSCI", "model": "MODEL218E", "serial_number": "21EA4F"},
        values={
            "input_2": near(82.6, 1.0),
            "input_5": 0.0,
            "input_1_status": 0,
            "input_5_status": 128,
        },
    ),
    Case(
        "adam-4015-ascii",
        "adam_4015_ascii",
        {"address": "0A"},
        address="0A",
        facts={"module_name": "4015", "version": "A2.00"},
        values={"channel_1": near(-190.5, 1.0), "channel_4": None},
    ),
    Case(
        "alicat-mc",
        "alicat_mc",
        {"address": "C"},
        address="C",
        facts={"make": "ALICAT SCIENTIFIC", "serial_number": "184533", "firmware": "10v20.0-R24"},
        values={"mass_flow": near(50.0, 1.0), "set_point": 50.0, "pressure": 14.62, "gas": "N2"},
    ),
    Case(
        "bronkhorst-propar",
        "bronkhorst_propar",
        facts={"serial_number": "M17200812B", "model": "F-201CV-500-RAD", "firmware": "V1.12"},
        values={"flow": near(50.0, 1.0), "measure": near(3200, 50), "set_point": 3200},
    ),
    Case(
        "thermo-cryoextra",
        "cryoextra",
        facts={"firmware": "2.07"},
        values={"audible_alarm": True, "level_offset": -0.5},
    ),
)

LISTENED = (
    Case("sartorius-sbi-print", "sartorius_sbi", {"auto_print": True}),
    Case("barcode-scanner", "barcode_scanner"),
)


def load(name: str) -> Any:
    """Return a profile that ships."""
    text = (PROFILES / f"{name}.yaml").read_text(encoding="utf-8")
    return DRIVER.profile.model_validate(YAML(typ="safe", pure=True).load(text))


QUICK = {"timeout": "300 ms", "deadline": "300 ms", "slowest_reply": "300 ms"}
PATIENT = {"timeout": "20 s", "deadline": "20 s", "slowest_reply": "20 s"}
"""A reply is expected: only a broken driver lets this pass. See :func:`unhurried`."""


def quick(profile: Any, times: dict[str, str] = QUICK) -> Any:
    """Return the profile with other times: a simulator on loopback needs less."""
    stated = profile.model_dump(exclude_unset=True)
    stated["serial_line"] |= times
    stated["serial_line"].pop("pause_between_requests", None)
    for command in stated["commands"].values():
        command.pop("timeout", None)
    for group in stated["groups"].values():
        group["period"] = "1 s"
    return DRIVER.profile.model_validate(stated)


def instrument(
    case: Case, name: str = "a", times: dict[str, str] = QUICK, **keys: Any
) -> Instrument:
    """Return the instrument of a case, with other times than the profile's."""
    profile = quick(load(case.profile), times)
    settings = DRIVER.instrument_settings(address=case.address, **keys)
    return Instrument(name, profile, settings, profile.schemas(name, {}))


def device(case: Case) -> tuple[Any, Any]:
    """Return the simulator of a case and its process, which has run for a moment."""
    model = DEVICE_MODELS[case.model]
    process_model = PROCESS_MODELS[model.process_model]
    process = process_model.build(process_model.settings(), Random(1))
    made = model.build(model.settings(**case.keys), process, Random(2), 1_795_000_000.0)
    for _ in range(int(WARMED_UP_S)):
        process.step(1.0)
        made.step(1.0)
    return made, process


def unhurried(driver: Any) -> Any:
    """Let a driver that waits long for replies not wait as long for silence."""
    for device in driver._devices.values():
        device.station = replace(device.station, slowest_s=0.05)
    return driver

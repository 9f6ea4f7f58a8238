"""Platforms without an interface: they write a run report into a folder, well or badly.

Simulated interface, not vendor-documented: a freezer's protocol as CSV, a cell processor's report
as XML, an apheresis system's record as JSON.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from random import Random
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

from simulators.process.controlled_rate_freezer import ControlledRateFreezer


class Manner(StrEnum):
    """How a platform puts a file into the folder."""

    ATOMIC = "atomic"
    """Under another name first, then renamed."""
    IN_PIECES = "in_pieces"
    """Piece by piece, with pauses, a line or a character cut."""
    RENAMED_LATE = "renamed_late"
    """Long there under a name with which nobody looks for it."""
    TWICE = "twice"
    """Whole, and soon once more the same under another name."""
    REWRITTEN = "rewritten"
    """Emptied and written again, the same."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One row: when, and what was measured."""

    utc_s: float
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one platform."""

    serial_number: str
    software: str
    samples: tuple[Sample, ...]
    person: str = ""
    """Number of a patient or a donor, which such reports contain."""


def freezer_run(
    process: ControlledRateFreezer, start_utc_s: float, rows: int, serial_number: str
) -> Run:
    """One run of a controlled-rate freezer: set-point, chamber, sample, a row every ten seconds."""
    samples = []
    for row in range(rows):
        process.step(10.0)
        values = (process.set_point_c, process.chamber_c, process.sample_c)
        samples.append(Sample(start_utc_s + 10.0 * row, values))
    return Run(serial_number, "3.1", tuple(samples))


def freezer_csv(run: Run, zone: str = "Europe/Berlin") -> str:
    """The protocol as a program of a German Windows writes it."""
    lines = [
        "Device;CRF-100",
        f"Serial number;{run.serial_number}",
        f"Software;{run.software}",
        "",
        "Date;Time;Set point [°C];Chamber [°C];Sample [°C];LN2 valve",
    ]
    for sample in run.samples:
        at = datetime.fromtimestamp(sample.utc_s, ZoneInfo(zone))
        numbers = ";".join(map(_with_comma, sample.values))
        valve = "open" if sample.values[1] > sample.values[0] else "closed"
        lines.append(f"{at:%d.%m.%Y;%H:%M:%S};{numbers};{valve}")
    return "\r\n".join(lines) + "\r\n"


def _with_comma(value: float) -> str:
    return "---" if math.isnan(value) else f"{value:.2f}".replace(".", ",")


def processing_xml(run: Run) -> str:
    """The report of a cell processor: temperature, centrifuge, pump, step."""
    rows = []
    for sample in run.samples:
        at = datetime.fromtimestamp(sample.utc_s, UTC).astimezone(ZoneInfo("Europe/Berlin"))
        temperature, speed, flow, step = sample.values
        rows.append(
            f'      <Sample time="{at.isoformat()}">'
            f'<Temperature unit="°C">{temperature:.2f}</Temperature>'
            f'<Centrifuge unit="rpm">{speed:.0f}</Centrifuge>'
            f'<PumpFlow unit="mL/min">{flow:.1f}</PumpFlow><Step>{step:.0f}</Step></Sample>'
        )
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<RunReport xmlns="urn:simulated:run-report">',
            f"  <Device><Model>CPP-7</Model><SerialNumber>{run.serial_number}</SerialNumber>"
            f"<Software>{run.software}</Software></Device>",
            f"  <Patient>{escape(run.person)}</Patient>",
            f"  <Donation>{escape(run.person)}</Donation>",
            "  <Samples>",
            *rows,
            "  </Samples>",
            "</RunReport>",
        ]
    )


def apheresis_json(run: Run) -> str:
    """The record of an apheresis system: inlet flow, collected volume, interface, air."""
    samples = [
        {
            "at": (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=s.utc_s)).isoformat(),
            "inletFlow": s.values[0],
            "collectedVolume": s.values[1],
            "interface": {"position": s.values[2]},
            "alarms": {"air": bool(s.values[3])},
        }
        for s in run.samples
    ]
    device = {"model": "APH-2", "serialNumber": run.serial_number, "software": run.software}
    record = {"device": device, "donor": {"id": run.person}, "procedure": {"samples": samples}}
    return json.dumps(record, indent=1)


def deliver(folder: Path, name: str, content: bytes, manner: Manner, rng: Random) -> Iterator[None]:
    """Put a file into the folder, step by step; the caller lets time pass between the steps."""
    goal, aside = folder / name, folder / f".{name}.part"
    match manner:
        case Manner.ATOMIC | Manner.RENAMED_LATE:
            aside.write_bytes(content)
            if manner is Manner.RENAMED_LATE:
                yield
            aside.replace(goal)
        case Manner.IN_PIECES:
            yield from _in_pieces(goal, content, rng)
        case Manner.TWICE:
            goal.write_bytes(content)
            yield
            (folder / f"copy-of-{name}").write_bytes(content)
        case Manner.REWRITTEN:
            goal.write_bytes(content)
            yield
            goal.write_bytes(b"")
            yield
            goal.write_bytes(content)


def _in_pieces(goal: Path, content: bytes, rng: Random) -> Iterator[None]:
    ends: Sequence[int] = sorted(rng.randrange(len(content) + 1) for _ in range(4))
    start = 0
    for end in (*ends, len(content)):
        with goal.open("ab") as file:
            file.write(content[start:end])
        start = end
        yield

"""The truth ledger: what the instruments said, written before anybody could hear it.

One JSON object per line, appended and flushed before the reply leaves. A test compares what
arrived at the far end with these lines; a line may lack its arrival, never the other way round.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from simulators.faults import Fault


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what the instrument replied, before any fault of the wire."""

    wire: str
    device: str | None
    """None when no instrument has this unit identifier."""
    unit: int
    function: int
    address: int | None
    count: int | None
    reply: bytes
    """Protocol data unit, without framing; empty where the instrument was silent."""
    fault: Fault | None
    """What the wire does to the reply."""


class Ledger:
    """An append-only file of exchanges; `n` runs on where an existing file ends."""

    def __init__(self, path: Path, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._file = path.open("a+b")
        self._file.seek(0)
        self._written = sum(1 for _ in self._file)

    def write(self, exchange: Exchange) -> None:
        """Append one line; it is with the operating system when this returns."""
        self._append(
            {
                "wire": exchange.wire,
                "device": exchange.device,
                "unit": exchange.unit,
                "function": exchange.function,
                "address": exchange.address,
                "count": exchange.count,
                "reply": exchange.reply.hex(),
                "fault": exchange.fault,
            }
        )

    def said(self, wire: str, device: str, source_ns: int, values: Mapping[str, object]) -> None:
        """Append what a device pushes: values by the path of their node, and its own time."""
        self._append(
            {"wire": wire, "device": device, "source_ns": source_ns, "values": dict(values)}
        )

    def _append(self, facts: dict[str, object]) -> None:
        self._written += 1
        line = {"n": self._written, "realtime_ns": self._clock_ns(), **facts}
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

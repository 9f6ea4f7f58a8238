"""The figures of a run: for people as tables, ratios first; for programs as JSON."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import Case, Sample
from bench.side import JournalFigures

AGENT, SCRIPT = "agent", "script"
DELIVERED_MIN = 0.97  # below this a side did not keep up, and its CPU per value means nothing
OTHERS_CORES_MAX = 0.25  # above this the rest of the machine disturbs


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, smallest and largest of a figure over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Spread":
        """Summarise at least one number."""
        return cls(median(numbers), min(numbers), max(numbers))

    def text(self, digits: int) -> str:
        """Return it for people: ``0.85 (0.82-0.91)``, of a single round just ``0.85``."""
        if self.low == self.high:
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def chosen(samples: Iterable[Sample], load: str, side: str) -> list[Sample]:
    """Return the windows of one side under one load, by round."""
    mine = (sample for sample in samples if (sample.load, sample.side) == (load, side))
    return sorted(mine, key=lambda sample: sample.round)


def loads_of(samples: Iterable[Sample]) -> list[str]:
    """Return the names of the loads, in the order in which they were measured."""
    return list(dict.fromkeys(sample.load for sample in samples))


def ratio(samples: Sequence[Sample], load: str, figure: Callable[[Sample], float]) -> Spread | None:
    """Return agent / script of a figure, round by round; ``None`` unless both were measured."""
    pairs = zip(chosen(samples, load, AGENT), chosen(samples, load, SCRIPT), strict=False)
    ratios = [figure(agent) / figure(script) for agent, script in pairs if figure(script)]
    return Spread.of(ratios) if ratios else None


FIGURES: dict[str, tuple[Callable[[Sample], float], int]] = {
    "edge CPU-s/M": (lambda sample: sample.edge_per_million, 2),
    "consumer CPU-s/M": (lambda sample: sample.consumer_per_million, 2),
    "broker CPU-s/M": (lambda sample: sample.broker_per_million, 2),
    "p50 ms": (lambda sample: sample.p50_ms, 1),
    "p99 ms": (lambda sample: sample.p99_ms, 1),
    "edge RSS MB": (lambda sample: sample.edge_rss / 1e6, 0),
    "delivered": (lambda sample: sample.delivered, 3),
}
"""Column title, how to get it, digits after the point."""

RATIOS = ("edge CPU-s/M", "consumer CPU-s/M", "broker CPU-s/M", "p50 ms", "p99 ms")


def bytes_per_value(journal: JournalFigures) -> dict[str, float]:
    """Return what one value costs in the journal, part by part, in bytes."""
    values = max(journal.values, 1)
    return {
        "bodies": journal.bodies / values,
        "rows": journal.table / values,
        "evidence": journal.evidence / values,
        "file": journal.file / values,
    }


def warnings(samples: Iterable[Sample]) -> list[str]:
    """Return what makes windows doubtful, in words."""
    doubts = []
    for sample in samples:
        where = f"{sample.side}, {sample.load}, round {sample.round}"
        others_cores = sample.others_cpu_s / sample.window_s
        if sample.delivered < DELIVERED_MIN:
            doubts.append(f"{where}: only {sample.delivered:.0%} of the values arrived")
        if sample.journal and sample.journal.gaps:
            doubts.append(f"{where}: the agent recorded {sample.journal.gaps} gaps")
        if others_cores > OTHERS_CORES_MAX:
            doubts.append(f"{where}: other programs used {others_cores:.1f} cores")
    return doubts


def as_json(case: Case, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return ratios, medians and every window."""
    loads = loads_of(samples)
    ratios = {load: {name: _ratio(samples, load, name) for name in RATIOS} for load in loads}
    sides = {load: {side: _side(samples, load, side) for side in (AGENT, SCRIPT)} for load in loads}
    return {
        "case": {
            "devices": case.devices,
            "period_ms": case.period_ms,
            "seconds": case.seconds,
            "warm_up_s": case.warm_up_s,
        },
        "ratios_agent_to_script": ratios,
        "sides": sides,
        "warnings": warnings(samples),
        "samples": [sample.as_dict() for sample in samples],
    }


def _ratio(samples: Sequence[Sample], load: str, name: str) -> dict[str, float] | None:
    found = ratio(samples, load, FIGURES[name][0])
    return _plain(found) if found else None


def _side(samples: Sequence[Sample], load: str, side: str) -> dict[str, Any] | None:
    mine = chosen(samples, load, side)
    if not mine:
        return None
    figures = {
        name: _plain(Spread.of([get(s) for s in mine])) for name, (get, _) in FIGURES.items()
    }
    journals = [bytes_per_value(s.journal) for s in mine if s.journal]
    size = {part: median(j[part] for j in journals) for part in journals[0]} if journals else None
    return {**figures, "journal_bytes_per_value": size}


def _plain(spread: Spread) -> dict[str, float]:
    return {"median": spread.median, "low": spread.low, "high": spread.high}


def show(console: Console, samples: Sequence[Sample]) -> None:
    """Print the tables."""
    for load in loads_of(samples):
        console.print(_table(samples, load))
        _show_journal(console, chosen(samples, load, AGENT))
    sync = [sample.sync for sample in samples]
    p50 = Spread.of([one.p50_ms for one in sync]).text(2)
    p99 = Spread.of([one.p99_ms for one in sync]).text(2)
    console.print(f"fdatasync of 16 KiB in the same folder, ms: p50 {p50}, p99 {p99}")
    for doubt in warnings(samples):
        console.print(f"[yellow]doubtful:[/] {doubt}")


def _table(samples: Sequence[Sample], load: str) -> Table:
    table = Table(title=f"replies {load}: median of the rounds (smallest-largest)")
    for title in ("", "agent / script", AGENT, SCRIPT):
        table.add_column(title)
    for name, (figure, digits) in FIGURES.items():
        found = ratio(samples, load, figure) if name in RATIOS else None
        cells = [_cell(chosen(samples, load, side), figure, digits) for side in (AGENT, SCRIPT)]
        table.add_row(name, found.text(2) if found else "", *cells)
    return table


def _cell(mine: Sequence[Sample], figure: Callable[[Sample], float], digits: int) -> str:
    return Spread.of([figure(sample) for sample in mine]).text(digits) if mine else ""


def _show_journal(console: Console, mine: Sequence[Sample]) -> None:
    sizes = [bytes_per_value(sample.journal) for sample in mine if sample.journal]
    if sizes:
        parts = {part: median(size[part] for size in sizes) for part in sizes[0]}
        console.print(
            f"journal, bytes per value: bodies {parts['bodies']:.2f}, with rows and pages"
            f" {parts['rows']:.2f}; evidence {parts['evidence']:.2f}; file {parts['file']:.2f}"
        )

"""One window of one side: who used how much CPU for how many values, and how late they were."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench.commits import latencies_ms, percentile, read_commits, within
from bench.disk import SyncTime, measure_sync
from bench.processes import cpu_s, machine_busy_s, memory
from bench.side import JournalFigures, Running, Side
from bench.world import VALUES_PER_REPLY, Load, World, world


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured, on both sides alike."""

    devices: int
    period_ms: int
    seconds: float
    warm_up_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One window of one side.

    :ivar values: values that the consumer committed in the window
    :ivar delivered: ``values`` as a share of what the devices were to be asked for
    :ivar edge_cpu_s: CPU-seconds of the agent or the script with all it started; ``consumer``,
        ``broker`` and ``farm`` alike; ``others_cpu_s``: what the rest of the machine used
    :ivar p50_ms: from the device's answer to the consumer's commit; ``p99_ms`` alike
    :ivar edge_rss: bytes resident at the end of the window; ``peak`` since it started
    """

    side: str
    load: str
    round: int
    window_s: float
    values: int
    delivered: float
    edge_cpu_s: float
    consumer_cpu_s: float
    broker_cpu_s: float
    farm_cpu_s: float
    others_cpu_s: float
    p50_ms: float
    p99_ms: float
    edge_rss: int
    edge_rss_peak: int
    consumer_rss: int
    sync: SyncTime
    journal: JournalFigures | None

    @property
    def edge_per_million(self) -> float:
        """CPU-seconds of the edge per million values."""
        return self.edge_cpu_s / self.values * 1e6 if self.values else float("nan")

    @property
    def consumer_per_million(self) -> float:
        """CPU-seconds of the consumer per million values."""
        return self.consumer_cpu_s / self.values * 1e6 if self.values else float("nan")

    @property
    def broker_per_million(self) -> float:
        """CPU-seconds of the broker per million values."""
        return self.broker_cpu_s / self.values * 1e6 if self.values else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON, ratios of the window included."""
        journal = self.journal._asdict() if self.journal else None
        return asdict(self) | {
            "sync": self.sync._asdict(),
            "journal": journal,
            "edge_cpu_s_per_million": self.edge_per_million,
            "consumer_cpu_s_per_million": self.consumer_per_million,
            "broker_cpu_s_per_million": self.broker_per_million,
        }


class _Meters(NamedTuple):
    """CPU-seconds that each program, and the whole machine, have used so far."""

    edge: float
    consumer: float
    broker: float
    farm: float
    bench: float
    machine: float


def measure(name: str, side: Side, case: Case, load: Load, number: int, folder: Path) -> Sample:
    """Start everything afresh in ``folder``, measure one window, stop everything."""
    folder.mkdir()
    sync = measure_sync(folder)
    with world(folder, case.devices, case.period_ms, load, seed=number) as ground:
        running = side(ground)
        try:
            _pass_time(case.warm_up_s, running)
            start_utc_ns, before = time.time_ns(), _read(ground, running)
            _pass_time(case.seconds, running)
            end_utc_ns, after = time.time_ns(), _read(ground, running)
            edge_memory, consumer_memory = memory(running.edge.pid), memory(running.consumer.pid)
        finally:
            running.stop()
    commits = within(read_commits(running.commits), start_utc_ns, end_utc_ns)
    late_ms = latencies_ms(commits)
    window_s = (end_utc_ns - start_utc_ns) / 1e9
    values = len(commits) * VALUES_PER_REPLY
    used = _Meters(*(end - start for start, end in zip(before, after, strict=True)))
    return Sample(
        side=name,
        load=load.name,
        round=number,
        window_s=window_s,
        values=values,
        delivered=values / (ground.nominal_values_per_s * window_s),
        edge_cpu_s=used.edge,
        consumer_cpu_s=used.consumer,
        broker_cpu_s=used.broker,
        farm_cpu_s=used.farm,
        others_cpu_s=max(0.0, used.machine - sum(used[:-1])),
        p50_ms=percentile(late_ms, 50),
        p99_ms=percentile(late_ms, 99),
        edge_rss=edge_memory.now,
        edge_rss_peak=edge_memory.peak,
        consumer_rss=consumer_memory.now,
        sync=sync,
        journal=running.journal_figures(),
    )


def _pass_time(seconds: float, running: Running) -> None:
    time.sleep(seconds)
    running.check()


def _read(ground: World, running: Running) -> _Meters:
    return _Meters(
        cpu_s(running.edge.pid),
        cpu_s(running.consumer.pid),
        cpu_s(ground.broker.pid),
        cpu_s(ground.farm.pid),
        time.process_time(),
        machine_busy_s(),
    )

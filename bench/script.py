"""One side: the script (``naive.py``) and its consumer (``sink.py``)."""

import sys
from pathlib import Path

from bench.processes import Program
from bench.side import Running
from bench.world import World

NAIVE = Path(__file__).with_name("naive.py")


def start_script(world: World) -> Running:
    """Start the sink, then the script."""
    commits = world.folder / "commits.bin"
    port = str(world.broker_port)
    sink = [sys.executable, "-m", "bench.sink", "--broker-port", port]
    sink += ["--database", str(world.folder / "sink.db"), "--commit-log", str(commits)]
    consumer = Program("sink", sink, world.folder)
    script = [sys.executable, str(NAIVE), "--broker-port", port]
    script += ["--period-ms", str(world.period_ms), *map(str, world.device_ports)]
    return Running(Program("naive", script, world.folder), consumer, commits)

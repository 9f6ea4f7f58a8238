"""What both sides stand on: a fresh device farm, a fresh broker and a folder, for one window."""

import contextlib
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.build import compiled
from bench.processes import Program, wait_until

INTEGERS, FLOATS = 52, 22
VALUES_PER_REPLY = 1 + INTEGERS + FLOATS
"""Of farm.c: the answer time, integers, floats."""

BROKER_CONFIGURATION = """\
user root
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
persistence true
persistence_location {folder}/
"""
"""``user`` only matters to root, who would else become somebody who cannot write here."""


@dataclass(frozen=True, slots=True)
class Load:
    """How the devices answer.

    :ivar delay_ms: bounds over which the time to a reply is spread; ``None`` means at once
    """

    name: str
    delay_ms: tuple[float, float] | None


AT_ONCE = Load("at once", None)
SPREAD = Load("spread", (5, 50))


@dataclass(frozen=True, slots=True)
class World:
    """A running farm and broker, for one side at a time.

    :ivar folder: where everything of this window is written; the disk that is measured
    :ivar device_ports: Modbus TCP ports of 127.0.0.1, one per device
    """

    folder: Path
    farm: Program
    broker: Program
    broker_port: int
    device_ports: tuple[int, ...]
    period_ms: int

    @property
    def nominal_values_per_s(self) -> float:
        """Values per second when no poll is missed."""
        return len(self.device_ports) * VALUES_PER_REPLY * 1000 / self.period_ms


@contextlib.contextmanager
def world(folder: Path, devices: int, period_ms: int, load: Load, seed: int) -> Iterator[World]:
    """Start a farm and a broker; stop both at the end."""
    farm = start_farm(folder, devices, load, seed)
    try:
        ports = tuple(farm.ready()["ports"])
        broker_port = free_port()
        broker = start_broker(folder, broker_port)
        try:
            wait_until(lambda: _listening(broker_port), "mosquitto listens")
            yield World(folder, farm, broker, broker_port, ports, period_ms)
        finally:
            broker.stop()
    finally:
        farm.stop()


def start_farm(folder: Path, devices: int, load: Load, seed: int) -> Program:
    """Start the devices."""
    program = str(compiled(Path(__file__).with_name("farm.c")))
    arguments = [program, "--ports", str(devices), "--seed", str(seed)]
    if load.delay_ms is not None:
        arguments += ["--delay-ms", *map(str, load.delay_ms)]
    return Program("farm", arguments, folder, ready_line=True)


def start_broker(folder: Path, port: int) -> Program:
    """Start mosquitto with nothing limited that would favour one side."""
    path = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if path is None:
        raise RuntimeError("the bench needs a broker: apt-get install -y mosquitto")
    configuration = folder / "mosquitto.conf"
    configuration.write_text(BROKER_CONFIGURATION.format(port=port, folder=folder))
    return Program("mosquitto", [path, "-c", str(configuration)], folder)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listening(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        time.sleep(0.02)
        return False

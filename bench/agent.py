"""One side: the agent and its receiver, as they are installed and started by their users.

Everything here that knows the agent's command line, files or tables stands in this module.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import apsw

from bench.processes import Program
from bench.side import JournalFigures, Running
from bench.world import FLOATS, INTEGERS, VALUES_PER_REPLY, World

SITE = "bench"
CONSUMER = "bench"
PROFILE = "bench-farm"
JOURNAL = "journal.sqlite"
EXPECTED_GAPS = ("first_value", "agent_stopped")

EDGEAGENT = (sys.executable, "-c", "from edgeagent.cli import main; main()")
"""The console script ``edgeagent`` of this very interpreter, wherever it is installed."""


def start_agent(world: World) -> Running:
    """Enrol the consumer, start the receiver, then the agent."""
    site_file = write_site(world)
    commits = world.folder / "commits.bin"
    enrol = ["consumer", "enrol", CONSUMER, "--config", str(site_file), "--reason", "bench"]
    _once("enrol", enrol, world.folder)
    receiver = [sys.executable, "-m", "bench.receiver", str(commits)]
    receiver += ["--broker", broker_url(world), "--consumer", CONSUMER, "--site", SITE]
    receiver += ["--database", f"sqlite:///{world.folder / 'received.db'}"]
    consumer = Program("receiver", receiver, world.folder)
    agent = Program("agent", [*EDGEAGENT, "run", "--config", str(site_file)], world.folder)
    journal = world.folder / "state" / JOURNAL
    return Running(agent, consumer, commits, partial(journal_figures, journal))


def _once(name: str, arguments: Sequence[str], folder: Path) -> None:
    """Run one command of the agent to its end."""
    with (folder / f"{name}.log").open("wb") as log:
        status = subprocess.run([*EDGEAGENT, *arguments], stdout=log, stderr=log, check=False)
    if status.returncode:
        words = (folder / f"{name}.log").read_text(errors="replace").strip()
        raise RuntimeError(f"edgeagent {' '.join(arguments)}: {words}")


def broker_url(world: World) -> str:
    """Return the broker's address as the agent writes it."""
    return f"mqtt://127.0.0.1:{world.broker_port}"


def write_site(world: World) -> Path:
    """Write the site file and the profile of the farm's devices; return the site file."""
    profiles = world.folder / "profiles"
    profiles.mkdir()
    (profiles / f"{PROFILE}.yaml").write_text(profile_text(world.period_ms))
    links = ["links:"]
    instruments = ["instruments:"]
    for index, port in enumerate(world.device_ports):
        links.append(f"  line-{index}: {{driver: modbus, host: 127.0.0.1, port: {port}}}")
        instruments.append(f"  device-{index}: {{profile: {PROFILE}, link: line-{index}}}")
    head = _SITE_HEAD.format(
        site=SITE, state=world.folder / "state", profiles=profiles, broker=broker_url(world)
    )
    site_file = world.folder / "site.yaml"
    site_file.write_text("\n".join((head, *links, *instruments, "")))
    return site_file


def profile_text(period_ms: int) -> str:
    """Return the profile of one device of the farm; the registers are those of ``farm.c``.

    Every tag has a valid range, so that the agent's check of ranges is part of what is measured.
    """
    tags = [_tag("answered", 0, "UINT64", ", unit: ns")]
    for i in range(INTEGERS):
        more = ", unit: Cel, scale: 1/10, range: {low: -20, high: 80}"
        tags.append(_tag(f"i{i:02}", 4 + i, "INT16", more))
    for j in range(FLOATS):
        more = ", unit: Cel, range: {low: 0, high: 60}"
        tags.append(_tag(f"f{j:02}", 4 + INTEGERS + 2 * j, "FLOAT32", more))
    return "\n".join((_PROFILE_HEAD.format(profile=PROFILE, period_ms=period_ms), *tags, ""))


def _tag(name: str, address: int, data_type: str, more: str) -> str:
    return f"      {name}: {{address: {address}, type: {data_type}{more}}}"


_SITE_HEAD = """\
site: {site}
state_dir: {state}
profile_dirs: [{profiles}]
broker: {{url: "{broker}"}}"""

_PROFILE_HEAD = """\
profile: {profile}
version: 1.0.0
make: edgeagent
model: bench farm
device_class: test
driver: modbus
source:
  - {{manual: bench/farm.c, confidence: simulated-only}}
identity_unavailable: a test device that answers one block of registers and nothing else
modbus: {{address_base: 0-based, byte_order: ABCD}}
groups:
  block:
    period: {period_ms} ms
    tags:"""


def journal_figures(path: Path) -> JournalFigures:
    """Return what a stopped agent's journal costs; moves the write-ahead log into the file."""
    journal = apsw.Connection(str(path))
    try:
        journal.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        records = dict(_records(journal))
        gaps = sum(cause not in EXPECTED_GAPS for cause in _gap_causes(journal))
        pages = dict(journal.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))
    finally:
        journal.close()
    frames, bodies = records.pop("F", (0, 0))
    return JournalFigures(
        values=frames * VALUES_PER_REPLY,
        bodies=bodies,
        table=pages.get("data", 0) - sum(size for _, size in records.values()),
        evidence=pages.get("evidence", 0),
        file=path.stat().st_size,
        gaps=gaps,
    )


def _gap_causes(journal: apsw.Connection) -> Iterator[str]:
    """Yield the cause of each gap record (``docs/mqtt.md``, position 7)."""
    gaps = """SELECT body FROM data WHERE substr(body, 1, 4) = CAST('["G"' AS BLOB)"""
    for (body,) in journal.execute(gaps):
        yield json.loads(body)[7]


def _records(journal: apsw.Connection) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield by kind of record in the data lane: how many, and the bytes of their bodies."""
    for kind, count, size in journal.execute(
        "SELECT substr(body, 3, 1), count(*), sum(length(body)) FROM data GROUP BY 1"
    ):
        yield bytes(kind).decode(), (count, size)

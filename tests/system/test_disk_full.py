"""A full disk, a hundred times: nothing unreceived is lost, what is critical goes on, all heals."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.system.chain import CONSUMER, Chain, by_device, check_against_ledger, wait_until
from tests.system.disk_full import SCENARIOS
from tests.system.ledger import LedgerSlave

WORKERS = 4
RUNS = 100


def runs(directory: Path, first: int, last: int, *mutation: str) -> Sequence[dict[str, Any]]:
    """Run these seeds in processes side by side, each with mounts that no one else sees."""
    assert shutil.which("unshare"), "apt-get install util-linux"
    bounds = [first + (last - first) * part // WORKERS for part in range(WORKERS + 1)]
    workers = []
    for number in range(WORKERS):
        mountpoint = directory / f"disk-{number}"
        mountpoint.mkdir()
        seeds = [str(bounds[number]), str(bounds[number + 1])]
        module = [sys.executable, "-m", "tests.system.disk_full", str(mountpoint), *seeds]
        command = ["unshare", "--mount", "--map-root-user", *module, *mutation]
        pipe: Any = subprocess.PIPE
        workers.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True))
    said: list[str] = []
    try:
        for worker in workers:
            output, errors = worker.communicate(timeout=110)
            assert worker.returncode == 0, errors[-2000:]
            said += output.splitlines()
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    return [json.loads(line) for line in said]


def test_a_hundred_full_disks(tmp_path: Path) -> None:
    """Goal: no unreceived record is lost, critical tags and alarms go on, all resumes by itself.

    Method: seeds on tmpfs disks of 12 to 16 MB; see :class:`tests.system.disk_full.Run`. Each run
    must have paused; some must have used up the reserve, and some the memory behind it.
    """
    done = runs(tmp_path, 0, RUNS)
    assert len(done) == RUNS
    faulty = [f"seed {run['seed']}: {run['faults'][:3]}" for run in done if run["faults"]]
    assert not faulty, "\n".join(faulty)
    paused = [run for run in done if set(run["storing"]) - {"ALL"}]
    assert len(paused) == RUNS
    assert {run["scenario"] for run in done if "RESERVED" in run["storing"]} == set(SCENARIOS)
    assert {run["scenario"] for run in done if run["overflowed"]} == {"reserve"}
    assert sum("NOTHING" in run["storing"] for run in done) >= RUNS // 10
    assert sum(run["purged"] > 0 for run in done) >= RUNS // 2


def test_a_purge_that_ignores_one_consumer_is_caught(tmp_path: Path) -> None:
    done = runs(tmp_path, 0, 16, "purge")
    caught = [run for run in done if any("was never received" in f for f in run["faults"])]
    assert len(caught) >= 4


def test_critical_tags_that_do_not_go_on_are_caught(tmp_path: Path) -> None:
    done = runs(tmp_path, 0, 8, "critical")
    caught = [run for run in done if any("is critical and not held" in f for f in run["faults"])]
    assert len(caught) >= 4


def test_a_journal_that_stays_paused_is_caught(tmp_path: Path) -> None:
    done = runs(tmp_path, 0, 4, "resume")
    assert all(any("not healed" in fault for fault in run["faults"]) for run in done)


# -- the whole chain, as processes -----------------------------------------------------------------


class CriticalCounter(LedgerSlave):
    """Slaves of whose many tags the counter is critical."""

    def site_sections(self) -> str:
        links, _, instruments = super().site_sections().partition("instruments:")
        instruments = instruments.replace("}\n", ", critical: [counter]}\n")
        return f"journal: {{reserve: 32 MB}}\n{links}instruments:{instruments}"


def start_on_a_small_disk(chain: Chain) -> None:
    """Have the agent run with its state on a tmpfs, in a mount namespace of its own."""
    chain.state_dir.mkdir()
    python = f'"{sys.executable}" -m edgeagent'
    config = f'--config "{chain.config}"'
    steps = [
        "mount -t tmpfs -o size=80m tmpfs $0",
        f"{python} consumer enrol {CONSUMER} --reason t {config}",
        f"exec {python} run {config}",
    ]
    script = " && ".join(steps)
    chain.agent.command = ["unshare", "--mount", "--map-root-user", "sh", "-c", script]
    chain.agent.command.append(str(chain.state_dir))


def fill(file: Path) -> None:
    """Write until there is no space."""
    with file.open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(1 << 16))


def test_a_full_disk_in_the_whole_chain(tmp_path: Path) -> None:
    """Goal: on a full disk critical tags and alarms reach the centre, and all else when it ends.

    Method: a file fills the agent's disk for a while. Meanwhile the receiver must get new counters
    (critical) and no other values; in the end each reply is held, but for the ordinary tags of
    those that fell into a gap, and no counter is missing.
    """
    slave = CriticalCounter(tmp_path / "ledger", 4)
    chain = Chain(tmp_path, period="50 ms", slave=slave)
    start_on_a_small_disk(chain)
    with chain:
        log = chain.agent.log
        wait_until("ready", lambda: log.exists() and "agent.ready" in log.read_text())
        filler = Path(f"/proc/{chain.agent.pid}/root{chain.state_dir}/filler")
        now = chain.answers()
        wait_until("values", lambda: chain.answers() > now + 100)
        fill(filler)
        wait_until("the disk is full", lambda: "journal.full" in log.read_text())
        before = len(partial(chain))
        wait_until("critical values at the centre", lambda: len(partial(chain)) > before + 100)
        assert log.read_text().count("journal.full") == 1, "one clear line, not one a second"
        filler.unlink()
        wait_until("the journal resumes", lambda: "journal.resumed" in log.read_text())
        now = chain.answers()
        wait_until("values go on", lambda: chain.answers() > now + 100)
        assert chain.agent.stop() == 0
        wait_until("the receiver says so", lambda: "agent.stopped" in events(chain))
        assert {"journal.full", "journal.resumed"} <= set(events(chain))
        check_counters(chain)


def events(chain: Chain) -> list[str]:
    return [body[5] for body in chain.bodies("event") if body[0] == "E"]


def partial(chain: Chain) -> list[list[Any]]:
    """Return the frames at the centre of which only the counter is there."""
    return [body for body in chain.bodies() if body[0] == "F" and body[8] == [0]]


def check_counters(chain: Chain) -> None:
    held, answers = by_device(chain.bodies()), chain.slave.answers()
    for device in held.values():
        counters = {frame[11][0] for frame in device.frames}
        assert counters >= set(range(min(counters), max(counters) + 1)), "a critical value is lost"
        only = [frame for frame in device.frames if frame[8] is not None]
        assert only
        assert all(frame[8] == [0] and len(frame[11]) == 1 for frame in only)
        device.frames[:] = [frame for frame in device.frames if frame[8] is None]
        assert "journal_full" in {gap.cause for gap in device.gaps}
    assert check_against_ledger(held, answers) > 1000

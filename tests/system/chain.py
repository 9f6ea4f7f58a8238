"""The whole chain as real processes: slave, broker, agent, receiver; each can be killed.

The truth is the slave's ledger. Nothing here believes a counter of the agent or the receiver.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Protocol

from tests.brokers import Mosquitto
from tests.system import ledger
from tests.system.ledger import Answer, LedgerSlave

SITE = "chain"
CONSUMER = "central"
WAIT_S = 60.0


def wait_until(what: str, holds: Any, timeout_s: float = WAIT_S) -> None:
    """Wait for a condition; fail by its name."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


def answers(config: Path) -> bool:
    """Return whether an agent runs that answers; its health may be at fault (3)."""
    command = [sys.executable, "-m", "edgeagent", "status", "--json", "--config", str(config)]
    return subprocess.run(command, capture_output=True, check=False).returncode in (0, 3)


class Part:
    """One of our processes, started again and again with the same arguments."""

    def __init__(self, name: str, directory: Path, *arguments: str) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self.command = [sys.executable, "-m", "edgeagent", *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def start(self) -> None:
        self._output = self.log.open("ab")
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output
        )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._closed()

    def stop(self, timeout_s: float = 20.0) -> int:
        """Ask it to end (SIGTERM); return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout_s)
        self._closed()
        return code

    def _closed(self) -> None:
        if self._output is not None:
            self._output.close()


class Gap(NamedTuple):
    """A closed or open gap as the receiver holds it; times are UTC, infinite where open."""

    cause: str
    since_ns: float
    until_ns: float


class Slaves(Protocol):
    """Devices that keep a ledger, and the parts of a site file that lead to them."""

    ledger: Path

    def __enter__(self) -> Any: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def answers(self) -> list[Answer]: ...

    def profile_text(self, period: str) -> str: ...

    def site_sections(self) -> str: ...


class Chain:
    """Everything between ``devices`` slaves and a SQLite database."""

    def __init__(
        self,
        directory: Path,
        *,
        devices: int = 0,
        period: str,
        database: str = "",
        slave: Slaves | None = None,
    ) -> None:
        """Prepare; nothing runs before ``with``.

        :param devices: how many TCP slaves; or give others as ``slave``
        """
        self.directory = directory
        self.state_dir = directory / "state"
        self.database = directory / "central.sqlite"
        self.slave = slave or LedgerSlave(directory / "ledger", devices)
        self.broker = Mosquitto(directory, settings=["persistence false", "log_type notice"])
        self.config = directory / "site.yaml"
        self.broker_text = f"{{url: '{self.broker.url}'}}"
        self._period = period
        url = database or f"sqlite:///{self.database}"
        config = ["--config", str(self.config)]
        self.agent = Part("agent", directory, "run", *config)
        receive = ["receive", "--broker", self.broker.url, "--site", SITE, "--consumer", CONSUMER]
        self.receiver = Part("receiver", directory, *receive, "--database", url, "--json")

    def __enter__(self) -> "Chain":
        self.slave.__enter__()
        self.broker.start()
        profiles = self.directory / "profiles"
        profiles.mkdir(exist_ok=True)
        (profiles / f"{ledger.PROFILE}.yaml").write_text(self.slave.profile_text(self._period))
        self.config.write_text(
            f"site: {SITE}\nstate_dir: state\nprofile_dirs: [profiles]\n"
            f"broker: {self.broker_text}\n"
            "stream: {head_every: 1 s, resend_after: 2 s}\n"
            f"{self.slave.site_sections()}"
        )
        edgeagent("consumer", "enrol", CONSUMER, "--reason", "test", "--config", str(self.config))
        self.receiver.start()
        self.agent.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for part in (self.agent, self.receiver):
            part.kill()
        self.broker.kill()
        self.slave.__exit__(kind, error, trace)

    def start_agent(self) -> None:
        """Start the agent and wait until it answers."""
        self.agent.start()
        wait_until("the agent answers", lambda: answers(self.config))

    def status(self) -> Any:
        """Return the running agent's status."""
        command = [sys.executable, "-m", "edgeagent", "status", "--json"]
        done = subprocess.run(
            [*command, "--config", str(self.config)], capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, 3), f"{done.returncode}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def broker_clients(self) -> int:
        """Return how many clients have connected to the broker, from its log."""
        return self.broker.log.read_text().count("New client connected")

    def answers(self) -> int:
        """Return how many requests the slaves have answered, from the ledger's size."""
        path = self.slave.ledger
        return path.stat().st_size // ledger._ANSWER.size if path.exists() else 0

    def finish(self, attempts: int = 5) -> None:
        """Stop the agent cleanly, again until the receiver holds the whole journal."""
        for _ in range(attempts):
            assert self.agent.stop() == 0, self.agent.log.read_text()[-2000:]
            prefixes = self._prefixes()
            if all(prefixes.get(key, 0) >= head for key, head in self._heads().items()):
                return
            self.start_agent()
        raise AssertionError(f"receiver {self._prefixes()}, journal {self._heads()}")

    def journal_bodies(self) -> set[str]:
        """Return every body in the journal, all epochs and lanes, as it would be sent."""
        config = ["--config", str(self.config)]
        lines: set[str] = set()
        for epoch, lane in self._heads():
            chosen = ["--epoch", epoch, "--lane", lane]
            exported = edgeagent("journal", "export", *chosen, *config).splitlines()
            lines |= {line for line in exported if line.startswith("[")}
        return lines

    def _heads(self) -> dict[tuple[str, str], int]:
        found = json.loads(edgeagent("journal", "status", "--json", "--config", str(self.config)))
        return {
            (epoch["epoch"], lane): held["highest"]
            for epoch in found["epochs"]
            for lane, held in epoch["lanes"].items()
        }

    def _prefixes(self) -> dict[tuple[str, str], int]:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as held:
            rows = held.execute("SELECT epoch, lane, upto FROM prefix WHERE branch = 0").fetchall()
        return {(epoch, lane): upto for epoch, lane, upto in rows}

    # -- what the receiver holds ---------------------------------------------------------------

    def bodies(self, lane: str = "data") -> Iterator[list[Any]]:
        """Yield the bodies that the receiver holds, epoch by epoch, in order."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as held:
            epochs = held.execute("SELECT epoch FROM record GROUP BY epoch ORDER BY min(utc_ns)")
            for (epoch,) in epochs.fetchall():
                rows = held.execute(
                    "SELECT body FROM record WHERE epoch = ? AND lane = ? ORDER BY branch, seq",
                    (epoch, lane),
                )
                for (body,) in rows:
                    yield json.loads(body)


def edgeagent(*arguments: str, code: int = 0) -> str:
    """Run a command of ours; return what it printed."""
    command = [sys.executable, "-m", "edgeagent", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


class Held(NamedTuple):
    """What a receiver holds of one device: frames in order, and gaps."""

    frames: list[list[Any]]
    gaps: list[Gap]


def by_device(bodies: Iterator[list[Any]]) -> dict[str, Held]:
    """Return what is held, by instrument, read as docs/mqtt.md says."""
    held: dict[str, Held] = defaultdict(lambda: Held([], []))
    schemas: dict[int, str] = {}
    open_gaps: dict[int, tuple[str, Gap]] = {}
    for body in bodies:
        if body[0] == "S":
            schemas[body[2]] = body[5]["instrument"]
        elif body[0] == "F":
            held[schemas[body[2]]].frames.append(body)
        elif body[0] == "G":
            _, _, schema, _, _, _, number, cause, since, until, _, _ = body[:12]
            gap = Gap(
                cause,
                since[0] if since else float("-inf"),
                until[0] if until else float("inf"),
            )
            open_gaps[number] = (schemas[schema], gap)
    for instrument, gap in open_gaps.values():
        held[instrument].gaps.append(gap)
    return held


def check_against_ledger(held: dict[str, Held], answers: Sequence[Answer]) -> int:
    """Prove that every counted reply is held unaltered and in order, or lies inside a gap.

    Return the number of values held.
    """
    replies: dict[int, dict[int, int]] = defaultdict(dict)
    for answer in answers:
        if answer.counted:
            replies[answer.port_index][answer.k] = answer.realtime_ns
    values = 0
    for port_index, sent in replies.items():
        name = ledger.instrument_name(port_index)
        mine = held[name]
        counters = [frame[11][0] for frame in mine.frames]
        assert counters == sorted(set(counters)), f"{name}: out of order or twice"
        assert set(counters) <= sent.keys(), f"{name}: holds what was never sent"
        for frame, k in zip(mine.frames, counters, strict=True):
            wrong = ledger.differences(port_index, k, frame[11], frame[7])
            assert not wrong, f"{name} reply {k}: {wrong}"
            values += len(frame[11])
        for k in sent.keys() - set(counters):
            inside = any(gap.since_ns < sent[k] < gap.until_ns for gap in mine.gaps)
            assert inside, f"{name}: reply {k} is lost without a gap"
    return values

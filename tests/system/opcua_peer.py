"""node-opcua as a process: an OPC UA server that we did not write, whose ledger is the truth."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

SCRIPT = Path(__file__).with_name("opcua_server.mjs")
MODULES = SCRIPT.with_name("opcua") / "node_modules"
URI = "urn:edgeagent:test"
READY_WITHIN_S = 60.0


class Tick(NamedTuple):
    """One value of a counter, as the server set it."""

    value: int
    source_ns: int


class NodeServer:
    """One server that can be frozen, killed and started again on the same port and ledger."""

    def __init__(self, directory: Path, script: Path = SCRIPT, **options: Any) -> None:
        node = shutil.which("node")
        assert node, "node is not installed; type: apt-get install nodejs npm"
        assert MODULES.is_dir(), "node-opcua is missing; type: scripts/setup test"
        self.ledger = directory / "ledger"
        self.log = directory / "server.log"
        self.port = 0
        self._node = node
        self._script = script
        self._options = {"ledger": str(self.ledger), "pki": str(directory / "pki")} | options
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}"

    def __enter__(self) -> "NodeServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start; counters go on where the ledger ends."""
        first = max((tick.value for tick in self.ticks(0)), default=0) + 1
        options = json.dumps(self._options | {"port": self.port, "first": first})
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [self._node, str(self._script), options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.port = int(self._said("ready ").split()[1])

    def _said(self, begin: str) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            line = self._process.stdout.readline()
            assert line, f"the server ended:\n{self.log.read_text()[-2000:]}"
            if line.startswith(begin):
                return line
        raise AssertionError(f"the server did not say {begin!r}")

    def order(self, word: str) -> None:
        """Let the server do something (see the script), and wait until it is done."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        self._said("done")

    def freeze(self) -> None:
        """Stop the process where it stands (SIGSTOP)."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None

    def ticks(self, counter: int) -> list[Tick]:
        """Return what a counter was, from the ledger."""
        if not self.ledger.exists():
            return []
        found = []
        for line in self.ledger.read_text().splitlines():
            which, value, at_ms = line.split()
            if int(which) == counter:
                found.append(Tick(int(value), int(at_ms) * 10**6))
        return found

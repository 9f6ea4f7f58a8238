"""Child processes of the bench: started, measured from outside, stopped by their own id."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

STOP_WITHIN_S = 10.0


class Memory(NamedTuple):
    """Resident memory of a process tree, in bytes, shared pages counted in each process."""

    now: int
    peak: int


class Program:
    """One child process and whatever it starts.

    :ivar log: file that holds what it printed; of a program with a ready line, its errors only
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        ready_line: bool = False,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if ready_line else log,
                stderr=log,
                cwd=Path(__file__).parent.parent,
                env={**os.environ, **(environment or {})},
            )

    @property
    def pid(self) -> int:
        """Process id of the root of the tree."""
        return self._process.pid

    def ready(self) -> dict[str, Any]:
        """Wait for the line of JSON by which the program says that it is ready."""
        assert self._process.stdout is not None, "started without ready_line"
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended before it was ready: {self.last_words()}")
        announced: dict[str, Any] = json.loads(line)
        return announced

    def check(self) -> None:
        """Raise :class:`RuntimeError` if it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(
                f"{self.name} ended with status {self._process.returncode}: {self.last_words()}"
            )

    def last_words(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-2000:].strip() or "(no output)"

    def stop(self) -> None:
        """Ask it to stop; kill it when it does not within :data:`STOP_WITHIN_S`."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise RuntimeError(f"{self.name} did not stop: {self.last_words()}") from None
        if self._process.stdout is not None:
            self._process.stdout.close()


def tree(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread may end meanwhile
            for child in children.read_text().split():
                yield from tree(int(child))


def cpu_s(pid: int) -> float:
    """Return the seconds that the living threads of a process tree have run so far.

    From the scheduler's own account, not from clock ticks. The time of a thread that ends inside
    a window is lost; neither side starts threads while it works.
    """
    total_ns = 0
    for process in tree(pid):
        for account in Path(f"/proc/{process}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total_ns += int(account.read_text().split()[0])
    return total_ns / 1e9


def memory(pid: int) -> Memory:
    """Return the resident memory of a process tree."""
    now = peak = 0
    for process in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    now += int(line.split()[1]) * 1024
                elif line.startswith("VmHWM:"):
                    peak += int(line.split()[1]) * 1024
    return Memory(now, peak)


def machine_busy_s() -> float:
    """Return the CPU-seconds that all processors have worked or lost to the host since boot."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    ticks_per_s: int = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq + steal) / ticks_per_s


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Wait until a condition holds.

    :raises RuntimeError: if it does not within ``seconds``
    """
    deadline_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)

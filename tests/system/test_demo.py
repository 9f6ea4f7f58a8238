"""The main job as a newcomer runs it: simulators, broker, agent, receiver; nothing lost.

Method: run `edgeagent demo` as a process, with each kind of broker, and believe its last line only
as far as the lines before it fit.
"""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

DEMO = [sys.executable, "-m", "edgeagent", "demo"]


@pytest.mark.parametrize("broker", [[], ["--embedded"]], ids=["mosquitto", "embedded"])
def test_demo_delivers_everything(broker: list[str]) -> None:
    done = subprocess.run(
        [*DEMO, "--seconds", "6", "--json", *broker],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *rows, summary = map(json.loads, done.stdout.splitlines())
    assert set(summary) == {"acquired", "delivered", "lost", "duplicates", "gaps"}
    assert summary["lost"] == 0
    assert summary["gaps"] == 0
    assert summary["acquired"] == summary["delivered"] >= rows[-1]["frames"] > 10
    assert rows[-1]["links_up"] == rows[-1]["links"] == 4
    assert rows[-1]["receipts"] > 0


def test_demo_shows_values_on_a_terminal_and_ends_at_ctrl_c() -> None:
    """Goal: what a person sees in 80 columns has values, units, links, lag and receipts."""
    parent, child = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "50"}
    process = subprocess.Popen(DEMO, stdin=child, stdout=child, stderr=child, env=env)
    os.close(child)
    shown = ""
    deadline = time.monotonic() + 60
    wanted = ("Cel", "[pH]", "freezer-temperatures-1", "link-1", "receiver", "receipts", "behind")
    while time.monotonic() < deadline and not all(word in shown for word in wanted):
        shown += read_some(parent)
    assert all(word in shown for word in wanted), shown[-4000:]
    process.send_signal(signal.SIGINT)
    while process.poll() is None and time.monotonic() < deadline:
        shown += read_some(parent)
    assert process.wait(20) == 0
    shown += read_some(parent)
    summary = json.loads(re.findall(r"\{\"acquired.*?\}", shown)[-1])
    assert summary["lost"] == 0
    os.close(parent)


def read_some(terminal: int) -> str:
    ready, _, _ = select.select([terminal], [], [], 0.2)
    if not ready:
        return ""
    try:
        return os.read(terminal, 65536).decode(errors="replace")
    except OSError:
        return ""

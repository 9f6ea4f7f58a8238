"""Bad days, with real processes: rolled-back journal, second agent, broker that refuses.

Each keeps the promise (checked against the slave's ledger) and says what is wrong in one line.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.brokers import Mosquitto
from tests.system.chain import (
    SITE,
    Chain,
    by_device,
    check_against_ledger,
    edgeagent,
    wait_until,
)

DEVICES = 4


def events(chain: Chain) -> list[str]:
    return [body[5] for body in chain.bodies("event") if body[0] == "E"]


def test_a_rolled_back_journal_swallows_nothing(tmp_path: Path) -> None:
    """Goal: an old copy of the journal comes back while the agent is stopped.

    Method: copy the state, let the receiver get further, put the copy back, start. What the copy
    lost the receiver holds already; what is read from now on must arrive, under a new epoch.
    """
    with Chain(tmp_path, devices=DEVICES, period="50 ms") as chain:
        wait_until("values", lambda: chain.answers() > 200)
        chain.finish()
        shutil.copytree(chain.state_dir, tmp_path / "old")
        chain.start_agent()
        now = chain.answers()
        wait_until("values that the copy has not", lambda: chain.answers() > now + 200)
        chain.finish()
        shutil.rmtree(chain.state_dir)
        (tmp_path / "old").rename(chain.state_dir)
        chain.start_agent()
        wait_until("a new epoch", lambda: chain.status()["journal"]["epochs"] == 2)
        now = chain.answers()
        wait_until("values in the new epoch", lambda: chain.answers() > now + 200)
        chain.finish()
        assert "epoch.opened" in events(chain)
        assert {"record.conflict", "epoch.opened"} <= receiver_events(chain)
        held = {json.dumps(b, separators=(",", ":"), ensure_ascii=False) for b in chain.bodies()}
        journal = {line for line in chain.journal_bodies() if line[2] == "G"}
        assert journal <= held, "what the rolled-back journal wrote anew is held beside the first"
        check_against_ledger(by_device(chain.bodies()), chain.slave.answers())


def receiver_events(chain: Chain) -> set[str]:
    """Return the kinds of events that the receiver recorded itself."""
    with closing(sqlite3.connect(chain.database)) as held:
        return {kind for (kind,) in held.execute("SELECT type FROM event")}


def test_a_second_agent_is_refused(tmp_path: Path) -> None:
    with Chain(tmp_path, devices=1, period="100 ms") as chain:
        wait_until("values", lambda: chain.answers() > 5)
        command = [sys.executable, "-m", "edgeagent", "run", "--config", str(chain.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 75
        assert done.stderr.count("\n") == 1, done.stderr
        assert "another agent is running" in done.stderr
        assert chain.agent.running


def test_a_state_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    site = tmp_path / "site.yaml"
    site.write_text(SITE_TEXT.format(state="file/state", broker="mqtt://127.0.0.1:1"))
    command = [sys.executable, "-m", "edgeagent", "run", "--config", str(site)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 73
    assert done.stderr.count("\n") == 1, done.stderr
    assert "state_dir cannot be written" in done.stderr


def test_a_broker_that_refuses_the_login(tmp_path: Path) -> None:
    """Goal: a wrong password stops delivery, says so, and costs no value."""
    (tmp_path / "password").write_text("wrong\n")
    with Mosquitto(tmp_path, users={"berlin": "right"}) as broker:
        chain = Chain(tmp_path, devices=1, period="50 ms")
        chain.broker_text = f"{{url: '{broker.url}', username: berlin, password_file: password}}"
        with chain:
            wait_until("values", lambda: chain.answers() > 20)
            wait_until("the refusal", lambda: chain.status()["delivery"]["state"] == "down")
            status = chain.status()
            assert "check username, password_file" in status["delivery"]["cause"]
            assert status["journal"]["frames"] > 10
            lines = [line for line in chain.agent.log.read_text().splitlines() if "broker" in line]
            assert len([line for line in lines if json.loads(line)["event"] == "broker.down"]) == 1
            assert chain.agent.stop() == 0


SITE_TEXT = """\
site: test
state_dir: {state}
broker: {{url: "{broker}"}}
links:
  gateway: {{driver: modbus, host: 127.0.0.1, port: 1}}
instruments:
  freezer: {{profile: adam-4015, link: gateway}}
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["status"], 69),
        (["watch", "--once"], 69),
        (["journal", "status"], 74),
        (["journal", "verify"], 74),
    ],
)
def test_without_an_agent_a_command_says_so(tmp_path: Path, command: list[str], code: int) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(SITE_TEXT.format(state="state", broker="mqtt://127.0.0.1:1"))
    arguments = [sys.executable, "-m", "edgeagent", *command, "--config", str(site)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_consumers_while_stopped_and_while_running(tmp_path: Path) -> None:
    """Goal: the same command works on the journal and through the agent, and is on record."""
    with Chain(tmp_path, devices=1, period="100 ms") as chain:
        config = ["--config", str(chain.config)]
        wait_until("values", lambda: chain.answers() > 5)
        edgeagent("consumer", "suspend", "central", "--reason", "maintenance", *config)
        rows = json.loads(edgeagent("consumer", "list", "--json", *config))
        assert [(row["consumer"], row["state"]) for row in rows] == [("central", "suspended")]
        edgeagent("consumer", "suspend", "central", "--reason", "again", *config, code=2)
        edgeagent("consumer", "resume", "central", "--reason", "done", *config)
        chain.finish()
        edgeagent("consumer", "retire", "central", "--reason", "end", *config)
        rows = json.loads(edgeagent("consumer", "list", "--json", *config))
        assert rows[0]["state"] == "retired"
        exported = edgeagent("journal", "export", "--lane", "event", *config)
        acts = [json.loads(line)[6] for line in exported.splitlines() if '"consumer.' in line[:90]]
        assert [act["after"] for act in acts] == ["enrolled", "suspended", "enrolled", "retired"]
        assert all(act["who"] and act["reason"] for act in acts)
        verified = edgeagent("journal", "verify", *config)
        assert "intact" in verified
        assert SITE in exported

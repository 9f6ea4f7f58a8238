"""Reload: all of it or nothing, and no more than changed; real processes, checked by the ledger."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.system import ledger
from tests.system.chain import Chain, by_device, check_against_ledger, edgeagent, wait_until

DEVICES = 4


def audit(chain: Chain, event: str) -> list[dict[str, Any]]:
    """Return the facts of one type of event, as the receiver holds them."""
    return [body[6] for body in chain.bodies("event") if body[0] == "E" and body[5] == event]


def reload(chain: Chain, reason: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeagent", "reload", "--json", "--reason", reason]
    done = subprocess.run(
        [*command, "--config", str(chain.config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_only_what_changed_is_touched_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    """Goal: one link is stated otherwise, one is gone, one is new; the others miss no poll.

    Method: reload under load, then with three bad files. The ledger decides what was missed; the
    audit trail says who, why, and from which configuration to which.
    """
    with Chain(tmp_path, devices=DEVICES, period="50 ms") as chain:
        wait_until("values", lambda: chain.answers() > 100)
        before = chain.config.read_text()
        first = chain.status()["configuration"]
        changed = before.replace(
            f"port: {chain.slave.ports[1]}}}", f"port: {chain.slave.ports[1]}, timeout: 2 s}}"
        )
        for line in (
            f"  line-2: {{driver: modbus, host: 127.0.0.1, port: {chain.slave.ports[2]}}}",
            f"  {ledger.instrument_name(2)}: {{profile: {ledger.PROFILE}, link: line-2}}",
        ):
            assert line in changed
            changed = changed.replace(line + "\n", "")
        chain.config.write_text(changed)
        done = json.loads(reload(chain, "slower network, line 2 moved out").stdout)
        assert (done["restarted"], done["stopped"]) == (["line-1"], ["line-2"])
        assert (done["kept"], done["delivery"]) == (["line-0", "line-3"], "untouched")
        assert done["before"] == first != done["after"] == chain.status()["configuration"]

        for bad, said in (
            (changed + "nonsense: 1\n", "nonsense"),
            (changed.replace("profile: ", "profile: no-such-", 1), "no-such-"),
            (changed.replace("links:", "links: ["), "no valid YAML"),
            (changed.replace("site: chain", "site: other"), "systemctl restart edgeagent"),
        ):
            chain.config.write_text(bad)
            refused = reload(chain, "a slip", code=78)
            assert said in refused.stderr, refused.stderr
            assert "stays in force" in refused.stderr
            assert chain.status()["configuration"] == done["after"]

        chain.config.write_text(before)
        back = json.loads(reload(chain, "back again").stdout)
        assert (back["started"], back["restarted"]) == (["line-2"], ["line-1"])
        now = chain.answers()
        wait_until("values after that", lambda: chain.answers() > now + 100)
        connects = {link["link"]: link["connects"] for link in chain.status()["links"]}
        assert (connects["line-0"], connects["line-3"]) == (1, 1)
        chain.finish()
        held = by_device(chain.bodies())
        check_against_ledger(held, chain.slave.answers())
        for index in (0, 3):
            causes = {gap.cause for gap in held[ledger.instrument_name(index)].gaps}
            expected = {"first_value", "agent_stopped", "overrun"}  # a busy machine may be late
            assert causes <= expected, "an untouched link missed a poll"
        for index in (1, 2):
            causes = [gap.cause for gap in held[ledger.instrument_name(index)].gaps]
            assert "reconfigured" in causes
        taken = audit(chain, "configuration.reloaded")
        assert [(t["before"], t["after"]) for t in taken] == [
            (first, done["after"]), (done["after"], first)
        ]  # fmt: skip
        assert {t["reason"] for t in taken} == {"slower network, line 2 moved out", "back again"}
        refused_acts = audit(chain, "configuration.refused")
        assert len(refused_acts) == 4
        assert all(each["who"] and each["uid"] == os.getuid() for each in taken + refused_acts)


def test_a_signal_reloads_and_changed_broker_settings_need_one_new_connection(
    tmp_path: Path,
) -> None:
    with Chain(tmp_path, devices=1, period="50 ms") as chain:
        wait_until("values", lambda: chain.answers() > 50)
        wait_until("delivery", lambda: chain.status()["delivery"]["state"] == "up")
        connected = chain.broker_clients()
        text = chain.config.read_text()
        other = text.replace(chain.broker_text, chain.broker_text[:-1] + ", keepalive: 20 s}")
        chain.config.write_text(other)
        os.kill(chain.agent.pid, signal.SIGHUP)
        wait_until("a new connection", lambda: chain.broker_clients() > connected)
        now = chain.answers()
        wait_until("values after that", lambda: chain.answers() > now + 50)
        chain.finish()
        assert [t["delivery"] for t in audit(chain, "configuration.reloaded")] == ["restarted"]
        assert [t["reason"] for t in audit(chain, "configuration.reloaded")] == ["SIGHUP"]
        check_against_ledger(by_device(chain.bodies()), chain.slave.answers())


def test_a_password_that_was_exchanged_under_its_name_is_used(tmp_path: Path) -> None:
    """Goal: the same file name, another content: delivery connects anew."""
    with Chain(tmp_path, devices=1, period="50 ms") as chain:
        wait_until("values", lambda: chain.answers() > 20)
        secret = tmp_path / "password"
        secret.write_text("one\n")
        text = chain.config.read_text()
        broker = chain.broker_text[:-1] + ", username: u, password_file: password}"
        chain.config.write_text(text.replace(chain.broker_text, broker))
        assert json.loads(reload(chain, "a login").stdout)["delivery"] == "restarted"
        assert json.loads(reload(chain, "nothing").stdout)["delivery"] == "untouched"
        secret.write_text("two\n")
        assert json.loads(reload(chain, "rotated").stdout)["delivery"] == "restarted"


def test_status_and_reload_find_the_agent_although_the_file_is_broken(tmp_path: Path) -> None:
    with Chain(tmp_path, devices=1, period="50 ms") as chain:
        wait_until("values", lambda: chain.answers() > 20)
        chain.config.write_text(chain.config.read_text() + "half: [a\n")
        assert chain.status()["running"]
        assert "no valid YAML" in reload(chain, "oops", code=78).stderr
        edgeagent("check", "--config", str(chain.config), code=78)

"""``edgeagent status`` and ``edgeagent metrics``: what an operator reads, and the exit code.

Method: the commands as they are, with the running agent's answer put in place of its socket.
"""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from edgeagent.cli import main
from edgeagent.operate.facts import ClockFacts
from edgeagent.operate.health import health
from tests.unit.operate.healthy import HEALTHY, LINK, facts

UNKNOWN_CLOCK = facts(clock=ClockFacts("unknown", "none", None, None))
LINK_DOWN = replace(UNKNOWN_CLOCK, links=(replace(LINK, state="down", cause="refused"),))


def answer(measured):
    """What the agent answers, with the health of these facts."""
    return {
        "site": "berlin-1",
        "agent": "0.1.0",
        "configuration": "c0ffee",
        "at_utc_ns": 0,
        "health": health(measured).stated(),
        "journal": {
            "epoch": "0192a6e4", "bytes": 10**6, "full_since_utc_ns": None,
            "highest": {"data": 7, "event": 2},
        },
        "delivery": {
            "broker": "mqtt://b", "state": "up", "cause": None, "messages": 1, "receipts": 1,
            "consumers": [],
        },
        "links": [],
        "gaps": {"open": 0, "opened": 0},
        "groups": [],
    }  # fmt: skip


@pytest.fixture
def status(monkeypatch, tmp_path):
    """Run ``edgeagent status`` on an agent that measured these facts."""
    site = tmp_path / "site.yaml"
    site.touch()

    def run(measured, *options):
        monkeypatch.setattr("edgeagent.cli.status.ask", lambda *_: answer(measured))
        monkeypatch.setenv("COLUMNS", "100")
        return CliRunner().invoke(main, ["status", "--config", str(site), *options])

    return run


@pytest.mark.parametrize(("measured", "code"), [(HEALTHY, 0), (UNKNOWN_CLOCK, 0), (LINK_DOWN, 3)])
def test_the_exit_code_says_fault_and_a_warning_is_none(status, measured, code):
    assert status(measured).exit_code == code
    found = status(measured, "--json")
    assert found.exit_code == code
    assert json.loads(found.output)["health"] == health(measured).stated(), "the data come anyway"


def test_one_line_is_enough_when_all_is_well(status):
    shown = status(HEALTHY).output.splitlines()
    assert [line for line in shown if "check" in line] == ["health    ok 13 of 13 checks ok"]


def test_what_is_wrong_is_spelt_out_worst_first_with_its_mend(status):
    shown = status(LINK_DOWN).output
    assert "\x1b[" not in shown, "readable without colour"
    words = " ".join(shown.split())
    assert "health fault 11 of 13 checks ok" in words
    fault = words.index("fault links: 1 of 1 not up: gateway down")
    warning = words.index("warning clock: unknown; time service never answered mend: install")
    assert fault < warning
    assert "mend: check power, cable and address" in words
    assert "polling" not in words


def test_metrics_are_printed_as_they_come(monkeypatch, tmp_path):
    site = tmp_path / "site.yaml"
    site.touch()
    text = "# TYPE edgeagent_broker_up gauge\nedgeagent_broker_up 1.0\n"
    monkeypatch.setattr("edgeagent.cli.metrics.ask_text", lambda *_: text)
    found = CliRunner().invoke(main, ["metrics", "--config", str(site)])
    assert (found.exit_code, found.output) == (0, text)

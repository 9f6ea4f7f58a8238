"""Health of a real agent: what monitoring reads, and what the centre knows when it is silent.

Method: slave, broker, agent and receiver as processes of their own; the agent is held (SIGSTOP), so
that it says nothing and nothing breaks.
"""

import asyncio
import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.consumers import Consumer, until
from tests.system.chain import CONSUMER, SITE, Chain, edgeagent, wait_until


def series(chain: Chain) -> dict[tuple[Any, ...], float]:
    """Return what a Prometheus server would read."""
    text = edgeagent("metrics", "--config", str(chain.config))
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_monitoring_reads_what_goes_on(tmp_path: Path) -> None:
    frames = ("edgeagent_frames_total", ("link", "line-1"))
    lag = ("edgeagent_delivery_lag_seconds", ("consumer", CONSUMER), ("lane", "data"))
    with Chain(tmp_path, devices=2, period="100 ms") as chain:
        wait_until("the agent answers", (chain.state_dir / "control.sock").exists)
        before = series(chain)
        wait_until("more values", lambda: series(chain)[frames] >= before[frames] + 20)
        found = series(chain)
        assert found["edgeagent_broker_up",] == 1
        assert found["edgeagent_gaps_open", ("cause", "timeout")] == 0
        assert found["edgeagent_journal_commit_seconds_count",] > 20
        assert found["process_resident_memory_bytes",] > 1e6
        wait_until("receipts come", lambda: series(chain)[lag] < 5)

        chain.receiver.kill()
        wait_until("the lag grows", lambda: series(chain)[lag] > 3)
        checks = {check["name"]: check["text"] for check in chain.status()["health"]["checks"]}
        assert checks["delivery"].startswith(f"{CONSUMER}")
        assert "oldest" in checks["delivery"]


async def test_silence_is_known_at_the_centre_without_configuration(tmp_path: Path) -> None:
    with Chain(tmp_path, devices=1, period="200 ms") as chain:
        async with Consumer(chain.broker.port, SITE, "alarm-desk") as desk:
            desk.receipts = desk.answers_heads = False

            def heads() -> list[dict[str, Any]]:
                return [message.json for message in desk.on("head")]

            await until("heads", lambda: len(heads()) > 4)
            os.kill(chain.agent.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(0.5)  # what is on its way
                said = heads()
                for head, following in pairwise(said):
                    assert following["at"] <= head["next_by"], "no false alarm while it runs"
                await until("it is overdue", lambda: time.time_ns() > said[-1]["next_by"])
                assert heads() == said, "silence, and the desk knows it"
            finally:
                os.kill(chain.agent.pid, signal.SIGCONT)
            await until("it is back", lambda: heads()[-1]["next_by"] > time.time_ns())
            await until(
                "health says what was missed",
                lambda: "polling" in heads()[-1]["health"]["checks"],
            )

            assert chain.agent.stop() == 0
            await until("the last word", lambda: heads()[-1]["state"] == "stopped")
            chain.start_agent()
            await until("it runs", lambda: heads()[-1]["state"] == "running")


@pytest.mark.parametrize("command", ["status", "metrics"])
def test_a_stopped_agent_is_no_empty_success(tmp_path: Path, command: str) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("site: s\nstate_dir: state\n")
    assert edgeagent(command, "--config", str(site), code=69) == ""

"""The real agent, killed with kill -9 under a 10 Hz subscription, goes on without a hole.

Method: `edgeagent run` as a process against node-opcua; no broker is there, for the journal is what
counts. Each value of the server's ledger is in it exactly once and in order, or inside a gap.
"""

import json
from types import SimpleNamespace

import pytest

from tests.conformance.opcua.server import URI
from tests.system.chain import Part, answers, edgeagent, wait_until
from tests.system.opcua_line import Line
from tests.system.opcua_peer import NodeServer

PROFILE = {
    "profile": "ledger",
    "version": "1.0.0",
    "make": "Acme",
    "model": "L1",
    "device_class": "test",
    "driver": "opcua",
    "source": [{"manual": "none", "confidence": "simulated-only"}],
    "opcua": {"namespaces": {"t": URI}},
    "identity": {"serial_number": {"node": "/t:Device/t:serial"}},
    "groups": {
        "all": {
            "period": "100 ms",
            "every_change": True,
            "tags": {f"c{i}": {"type": "INT64", "node": f"nsu=t;s=c{i}"} for i in (0, 1)},
        }
    },
}


class Agent:
    """The agent as a process, and what its journal holds."""

    def __init__(self, directory, server: NodeServer) -> None:
        (directory / "ledger.yaml").write_text(json.dumps(PROFILE))
        self.config = directory / "site.yaml"
        site = {
            "site": "hall",
            "state_dir": "state",
            "profile_dirs": ["."],
            "broker": {"url": "mqtt://127.0.0.1:9"},
            "links": {"ua": {"driver": "opcua", "url": server.url, "security": "none"}},
            "instruments": {"device": {"profile": "ledger", "link": "ua", "serial_number": "SN-1"}},
        }
        self.config.write_text(json.dumps(site))
        self.process = Part("agent", directory, "run", "--config", str(self.config))

    def line(self) -> Line:
        """Return the journal's data records, read while no agent runs."""
        export = edgeagent("journal", "export", "--lane", "data", "--config", str(self.config))
        bodies = [line.encode() for line in export.splitlines() if line.startswith("[")]
        journal = SimpleNamespace(bodies=lambda lane: bodies)
        return Line(journal, None, SimpleNamespace(status=None))


def killed(directory, kills: int, ticks: int) -> None:
    with NodeServer(directory) as server:
        agent = Agent(directory, server)
        for number in range(kills + 1):
            last = server.ticks(0)[-1].value + ticks
            agent.process.start()
            wait_until("ticks", lambda last=last: server.ticks(0)[-1].value > last)
            if number < kills:
                agent.process.kill()
        wait_until("the agent answers", lambda: answers(agent.config))
        assert agent.process.stop() == 0, agent.process.log.read_text()[-2000:]
        line = agent.line()
        held = line.values(0)
        assert len(held) > ticks
        for tag in (0, 1):
            lost = line.judge(server.ticks(tag), tag)
            assert lost == 0, f"{lost} of {held[-1] - held[0]} are in gaps: {line.gaps()}"


def test_a_killed_agent_finds_its_subscription_again(tmp_path):
    killed(tmp_path, 1, 25)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_an_agent_that_is_killed_twenty_times_has_no_hole(tmp_path):
    killed(tmp_path, 20, 60)

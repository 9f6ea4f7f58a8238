"""The ends of certificates are events, each stage once, also over a restart of the agent."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from edgeagent.operate.expiry import Expiries, Expiring, keep_expiries
from edgeagent.pki.folder import Folder, put
from tests.authority import Authority, certificate
from tests.clocks import START_UTC_NS, ManualClock
from tests.fakes import TapeJournal, TapeRecorder

DAY_S = 86_400


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "pki")


class Recorder(TapeRecorder):
    async def committed(self):
        """Everything is, at once."""


class Agent:
    def __init__(self, folder, clock):
        self.folder, self.clock = folder, clock
        self.recorder = Recorder(TapeJournal(), clock)
        self.expiries = Expiries()

    @asynccontextmanager
    async def running(self):
        task = asyncio.create_task(keep_expiries(self.folder, self.recorder, self.expiries))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def looks(self):
        """Let it look, and see that it is done: when it takes up the next call, it has looked."""
        async with asyncio.timeout(20):
            for _ in range(2):
                self.expiries.changed.set()
                while self.expiries.changed.is_set():  # noqa: ASYNC110 - cleared by the task
                    await asyncio.sleep(0.002)

    def said(self):
        """Return and forget what was reported: days and severity."""
        events, self.recorder.events = self.recorder.events, []
        return [(facts["days"], severity) for _, severity, facts in events]


async def test_each_stage_is_an_event_once(folder):
    put(folder, certificate(days=100), "trusted")
    clock = ManualClock()
    agent = Agent(folder, clock)
    seen = []
    async with agent.running():
        for _ in range(104):
            await agent.looks()
            seen += agent.said()
            clock.advance(DAY_S)
    assert seen == [
        (60, "warning"), (30, "warning"), (14, "warning"), (7, "warning"), (1, "alarm"),
        (0, "alarm"),
    ]  # fmt: skip
    again = Agent(folder, clock)
    async with again.running():
        await again.looks()
    assert again.said() == [], "not again after a restart"


async def test_an_agent_that_was_away_reports_the_last_stage_alone(folder):
    put(folder, certificate(days=5), "own")
    (folder.place("own") / next(folder.place("own").iterdir()).name).rename(folder.own_certificate)
    agent = Agent(folder, ManualClock())
    async with agent.running():
        await agent.looks()
    assert agent.said() == [(7, "warning")]


async def test_what_was_rejected_does_not_matter_and_what_is_renewed_is_counted_anew(folder):
    put(folder, certificate(days=1), "rejected")
    agent = Agent(folder, ManualClock())
    async with agent.running():
        await agent.looks()
        assert (agent.said(), agent.expiries.found) == ([], ())
        put(folder, certificate(days=20), "trusted")
        await agent.looks()
        put(folder, certificate(days=20), "trusted")
        await agent.looks()
    assert agent.said() == [(30, "warning")] * 2


async def test_by_a_clock_that_is_known_to_be_wrong_nothing_is_reported(folder):
    put(folder, certificate(days=-5), "trusted")
    agent = Agent(folder, ManualClock())
    agent.recorder.set_context({"clock": {"state": "unsynced"}})
    async with agent.running():
        await agent.looks()
        assert agent.said() == []
        assert len(agent.expiries.found) == 1, "health shows it, with the clock as the reason"
        agent.recorder.set_context({"clock": {"state": "synced"}})
        await agent.looks()
    assert agent.said() == [(0, "alarm")]


async def test_of_a_revocation_list_only_the_end_counts(folder):
    authority = Authority()
    put(folder, authority.certificate, "trusted")
    folder.place("crl").mkdir()
    (folder.place("crl") / "ca.crl").write_bytes(authority.revokes(days=5))
    clock = ManualClock()
    agent = Agent(folder, clock)
    async with agent.running():
        await agent.looks()
        assert agent.said() == []
        clock.advance(6 * DAY_S)
        await agent.looks()
    assert agent.said() == [(0, "alarm")]


async def test_a_spoilt_memory_of_what_was_reported_does_no_harm(folder):
    put(folder, certificate(days=20), "trusted")
    for content in (b"", b"[1]", b"{", b'{"a": "b"}', b"\xff"):
        (folder.root / "expiry.json").write_bytes(content)
        agent = Agent(folder, ManualClock())
        async with agent.running():
            await agent.looks()
        assert agent.said() == [(30, "warning")]


@pytest.mark.parametrize(("days", "stage"), [(61, None), (60, 60), (59, 60), (1, 1), (0, 0)])
def test_the_stage_is_the_last_that_was_passed(days, stage):
    each = Expiring("own", "CN=a", "00", START_UTC_NS + days * DAY_S * 10**9)
    assert each.stage_d(START_UTC_NS) == stage

"""Starting again over a real journal: what was known is found, what a kill left unsaid is said.

Method: an agent's acquisition over a journal on disk, ended and begun again, with a clock by hand.
"""

import asyncio
from contextlib import asynccontextmanager

import apsw
import pytest

from edgeagent.acquire.acquisition import Acquisition
from edgeagent.journal import Journal, Recorder
from edgeagent.journal.journal import FILE_NAME
from edgeagent.model.frame import Frame
from edgeagent.model.record import Entry, Lane, decode_json
from tests.clocks import ManualClock
from tests.fakes import group_of, instrument_of
from tests.unit.acquire.timeline import Timeline

PROBE, SCALE = group_of("probe"), group_of("scale", tags=1)
WIDER = group_of("scale", tags=2)


class Agent:
    """One life of an agent: from its start to its end, of whatever kind."""

    def __init__(self, recorder: Recorder, clock: ManualClock, groups) -> None:
        self.recorder, self.clock, self.groups = recorder, clock, groups
        self.acquisition = Acquisition(recorder, [instrument_of(group) for group in groups])

    async def tick(self, *but) -> None:
        self.clock.advance(1)
        for group in set(self.groups) - set(but):
            at = self.recorder.now()
            self.acquisition.take(Frame(group, (1.5,) * len(group.tags), *at))
        for group in but:
            self.acquisition.miss(group, "timeout", None)
        await self.recorder.flush()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def live(tmp_path, clock):
    """Begin an agent on the same state directory; leaving the block is its kill."""

    @asynccontextmanager
    async def begin(*groups):
        journal = await Journal.open(tmp_path, clock)
        recorder = Recorder(journal, clock, commit_within_s=0.001, held_bytes_max=10**6)
        await recorder.load()
        recorder.set_context({"boot_id": clock.boot_id})
        agent = Agent(recorder, clock, groups)
        await agent.acquisition.begin()  # before this life's own context is in the journal
        committing = asyncio.create_task(recorder.run())
        try:
            await recorder.flush()
            yield agent
        finally:
            committing.cancel()
            await asyncio.gather(committing, return_exceptions=True)
            await journal.close()

    return begin


async def bodies_of(agent, lane=Lane.DATA):
    journal = agent.recorder.journal
    entries: list[Entry] = []
    while found := await journal.read(
        journal.epoch, lane, entries[-1].seq if entries else 0, bytes_max=10**6
    ):
        entries += found
    return [entry.body for entry in entries]


async def judged(agent):
    """The causes of the open gaps, after the whole lane was judged."""
    judge = Timeline()
    judge.feed(await bodies_of(agent))
    return sorted(gap.cause for gap in judge.finish().values())


async def test_a_kill_a_stop_and_a_reboot(live, clock):
    async with live(PROBE, SCALE) as agent:
        assert await judged(agent) == ["first_value", "first_value"]
        for _ in range(3):
            await agent.tick()
        assert await judged(agent) == []
    async with live(PROBE, SCALE) as agent:
        assert await judged(agent) == ["agent_killed", "agent_killed"]
        await agent.tick()
        agent.acquisition.stop()
        await agent.recorder.flush()
    clock.reboot()
    clock.advance(20)
    async with live(PROBE, SCALE) as agent:
        assert await judged(agent) == ["agent_stopped", "agent_stopped"]
        await agent.tick(SCALE)
        assert await judged(agent) == ["agent_stopped"]
        assert await bodies_of(agent, Lane.EVENT) != []


async def test_two_reboots_without_a_value_between(live, clock):
    """The gap began two boots ago: its boot time must not come back to life."""
    async with live(PROBE) as agent:
        await agent.tick()
        await agent.tick(PROBE)
    for _ in range(2):
        clock.reboot()
        async with live(PROBE) as agent:
            assert await judged(agent) == ["timeout"]
    async with live(PROBE) as agent:
        await agent.tick()
        assert await judged(agent) == []


async def test_a_schema_keeps_its_number_and_a_changed_one_gets_its_own(live):
    async with live(PROBE, SCALE) as agent:
        first = agent.acquisition.schema_numbers()
        await agent.tick()
    async with live(SCALE, PROBE) as agent:
        assert agent.acquisition.schema_numbers() == first
        await agent.tick()
    async with live(WIDER) as agent:
        assert agent.acquisition.schema_numbers() == {WIDER: 3}
        events = [decode_json(body) for body in await bodies_of(agent, Lane.EVENT)]
        retired = [event[6]["group"] for event in events if event[5] == "schema.retired"]
        assert retired == ["probe/all", "scale/all"]
        assert await judged(agent) == ["first_value"]
        await agent.tick()
    async with live(WIDER) as agent:
        events = [decode_json(body) for body in await bodies_of(agent, Lane.EVENT)]
        assert len([event for event in events if event[5] == "schema.retired"]) == 2
        assert await judged(agent) == ["agent_killed"]


async def test_a_start_reads_on_from_the_last_checkpoint(live, clock, monkeypatch):
    async with live(PROBE) as agent:
        for _ in range(70):
            await agent.tick()
        await agent.tick(PROBE)
    read = []
    original = Journal.read

    async def watched(self, epoch, lane, after, **limits):
        read.append(after)
        return await original(self, epoch, lane, after, **limits)

    monkeypatch.setattr(Journal, "read", watched)
    async with live(PROBE) as agent:
        assert min(read) > 30
        monkeypatch.undo()
        assert await judged(agent) == ["timeout"]


async def test_a_damaged_record_keeps_no_agent_from_starting(live, tmp_path):
    async with live(PROBE) as agent:
        await agent.tick()
        await agent.tick()
    with apsw.Connection(str(tmp_path / FILE_NAME)) as db:
        db.execute("DELETE FROM checkpoint")
        db.execute("UPDATE data SET body = x'00' WHERE key = (SELECT max(key) FROM data)")
    async with live(PROBE) as agent:
        await agent.tick()
        causes = [
            gap.cause for gap in agent.acquisition.continuity.lines["probe/all"].gaps.values()
        ]
        assert causes == []


async def test_the_latest_values_are_there_for_people(live):
    async with live(PROBE) as agent:
        assert agent.acquisition.latest == {}
        await agent.tick()
        frame, conditioned = agent.acquisition.latest["probe/all"]
        assert (frame.group, conditioned.values) == (PROBE, [1.5, 1.5])
        assert agent.acquisition.frames == 1
        assert agent.acquisition.groups == (PROBE,)
        assert agent.acquisition.link("x") is agent.acquisition.link("x")
        assert agent.acquisition.link("x").state == "connecting"

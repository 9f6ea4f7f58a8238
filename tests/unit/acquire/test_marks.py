"""How far a driver has come is told to the next agent, exactly as far as it was stored.

Method: a scripted driver that marks its frames and the real recorder over a slow journal in memory,
on virtual time; and any sequence of marks, restarts and checkpoints.
"""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.acquire.continuity import Continuity
from edgeagent.driver import Identity
from edgeagent.journal import Storing
from edgeagent.model.frame import Origin
from edgeagent.model.record import Entry
from tests.fakes import (
    LoopClock,
    ScriptedSubscribed,
    SlowJournal,
    bench_of,
    group_of,
    instrument_of,
)

RUN = group_of("freezer", "run", period_ns=0)


class Marking(ScriptedSubscribed):
    """A driver of reports; ``marks`` is what it was told."""

    marks = None

    def take_up(self, marks):
        self.marks = marks


def marking() -> Marking:
    return Marking([instrument_of(RUN)], LoopClock())


def row(link, number: int, *marks):
    return link.frame(RUN, values=(float(number), 0.0), origin=Origin.BACKFILL, marks=marks)


@pytest.mark.looptime
async def test_the_next_agent_is_told_what_was_stored():
    journal = SlowJournal()
    link = marking()
    async with bench_of(journal, link=link) as bench:
        await asyncio.sleep(0.1)
        assert link.marks == {RUN: {}}
        link.queue.put_nowait([row(link, 1, ("a", "1")), row(link, 2, ("b", "1"), ("a", None))])
        await asyncio.sleep(1)
        assert [json.loads(body)[14] for body in journal.bodies() if body[2:3] == b"F"] == [
            {"a": "1"},
            {"b": "1", "a": None},
        ]
        assert bench.acquisition.link("link").connects == 1
    after = marking()
    async with bench_of(journal, link=after):
        await asyncio.sleep(0.1)
        assert after.marks == {RUN: {"b": "1"}}


@pytest.mark.looptime
async def test_who_is_there_may_be_said_while_the_link_is_up():
    link = marking()
    async with bench_of(link=link) as bench:
        other = Identity("freezer", (("serial_number", "7"),), ("serial_number is '7'",))
        link.queue.put_nowait([other, row(link, 1)])
        await asyncio.sleep(1)
        assert "identity.mismatch" in bench.events()
        assert not bench.acquisition.commissioned("freezer")
        (frame,) = bench.frames(RUN)
        assert frame[7] == 0x4000_0000


@pytest.mark.looptime
async def test_history_waits_where_it_is_kept_while_the_journal_is_full():
    link = marking()
    async with bench_of(link=link) as bench:
        await asyncio.sleep(0.1)
        bench.recorder.store(Storing.RESERVED, "the budget is used up")
        link.queue.put_nowait([row(link, 1, ("a", "1"))])
        await asyncio.sleep(30)
        assert bench.frames(RUN) == []
        assert link.acknowledged == []
        bench.recorder.store(Storing.ALL, "there is room again")
        await asyncio.sleep(5)
        assert [frame[11][0] for frame in bench.frames(RUN)] == [1.0]
        assert not any(gap[1] == "journal_full" for gap in bench.gaps(RUN))


steps = st.tuples(st.sampled_from("abc"), st.none() | st.sampled_from("123"))


@given(st.lists(steps, max_size=12), st.integers(0, 12))
def test_a_checkpoint_and_what_is_behind_it_give_the_same_marks(changes, checkpoint_at):
    groups = {3: ("freezer/run", 1)}
    live, known = Continuity(), {}
    saved, behind = live.snapshot(), []
    for number, (key, word) in enumerate(changes, 1):
        live.mark("freezer/run", {key: word})
        known = {k: w for k, w in {**known, key: word}.items() if w is not None}
        marks = json.dumps({key: word})
        body = f'["F",{number},3,1,5,5,1,0,null,7,null,[1.0],null,null,{marks}]'.encode()
        behind.append(Entry(number, body))
        if number == checkpoint_at:
            saved, behind = live.snapshot(), []
    restored = Continuity()
    restored.restore(saved, behind, groups)
    assert restored.marks.get("freezer/run", {}) == known

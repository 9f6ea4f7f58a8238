"""A device that pushes: all is kept in order, and nothing is acknowledged that could be lost.

Method: a scripted driver and the real recorder over a slow journal in memory, on virtual time.
"""

import asyncio

import pytest

from edgeagent.driver import LinkLost
from edgeagent.model.frame import Loss
from tests.fakes import (
    LoopClock,
    ScriptedSubscribed,
    SlowJournal,
    Step,
    bench_of,
    group_of,
    instrument_of,
)
from tests.unit.acquire.timeline import Timeline

pytestmark = pytest.mark.looptime

DOOR, LEVEL = group_of("tank", "door", period_ns=0), group_of("tank", "level", period_ns=0)


def subscribed(plan=None) -> ScriptedSubscribed:
    return ScriptedSubscribed([instrument_of(DOOR, LEVEL)], LoopClock(), plan)


def numbered(link, group, number):
    return link.frame(group, values=(float(number), 0.0))


def numbers(bench, group):
    return [frame[11][0] for frame in bench.frames(group)]


async def test_what_is_pushed_is_kept_in_order():
    link = subscribed()
    async with bench_of(link=link) as bench:
        for number in range(0, 90, 3):
            link.queue.put_nowait([numbered(link, DOOR, number + index) for index in range(3)])
            await asyncio.sleep(0.007)
        await asyncio.sleep(1)
        assert numbers(bench, DOOR) == list(range(90))
        assert bench.acquisition.link("link").frames == 90


@pytest.mark.parametrize("commit_takes_s", [0.0, 0.001, 0.05, 0.7])
async def test_nothing_is_acknowledged_before_it_is_durable(commit_takes_s):
    link = subscribed()
    async with bench_of(SlowJournal(commit_takes_s), link=link) as bench:

        async def look(upto):
            durable = numbers(bench, DOOR)
            assert upto.values[0] in durable, "the device may forget what is on no disk"
            await asyncio.sleep(0.003)

        link.on_committed = look
        for number in range(200):
            link.queue.put_nowait([numbered(link, DOOR, number)])
            await asyncio.sleep(0.011 if number % 7 else 0.2)
        await asyncio.sleep(3)
        upto = [frame.values[0] for _, frame in link.acknowledged]
        assert upto == sorted(upto)
        assert upto[-1] == 199
        assert not bench.links["link"].done()
        assert bench.acquisition.link("link").connects == 1


async def test_a_lost_link_is_a_gap_until_the_next_value():
    link = subscribed()
    async with bench_of(link=link) as bench:
        link.queue.put_nowait([numbered(link, DOOR, 1), numbered(link, LEVEL, 1)])
        await asyncio.sleep(1)
        link.queue.put_nowait(LinkLost("session closed"))
        await asyncio.sleep(5)
        assert bench.gaps(DOOR)[2:] == [(3, "link_lost", False, "session closed")]
        link.queue.put_nowait([numbered(link, DOOR, 2)])
        await asyncio.sleep(1)
        assert bench.gaps(DOOR)[3:] == [(3, "link_lost", True, "session closed")]
        assert bench.gaps(LEVEL)[2:] == [(4, "link_lost", False, "session closed")]
        calls = [call for _, call in link.calls]
        assert calls == ["connect", "close", "connect"]
        judge = Timeline()
        judge.feed(bench.journal.bodies())
        assert len(judge.finish()) == 1


async def test_what_came_just_before_the_link_was_lost_is_kept():
    link = subscribed()
    async with bench_of(link=link) as bench:
        link.queue.put_nowait([numbered(link, DOOR, 1)])
        link.queue.put_nowait(LinkLost("gone"))
        await asyncio.sleep(1)
        assert numbers(bench, DOOR) == [1]


async def test_losses_are_gaps_with_the_bounds_that_the_device_knows():
    link = subscribed()
    async with bench_of(link=link) as bench:
        link.queue.put_nowait([numbered(link, DOOR, 1), numbered(link, LEVEL, 1)])
        await asyncio.sleep(1)
        utc_ns = link.clock.utc_ns()
        bounded = Loss(DOOR, "bad_reply", utc_ns - 10**9, utc_ns, None, "queue overflow")
        open_end = Loss(LEVEL, "refused", utc_ns, None, (1,), "node is gone")
        link.queue.put_nowait([bounded, numbered(link, DOOR, 2), open_end])
        await asyncio.sleep(1)
        (gap,) = [g for g in bench.records("G") if g[11] == "queue overflow"]
        assert gap[8:10] == [[utc_ns - 10**9, None], [utc_ns, None]]
        (gone,) = [g for g in bench.records("G") if g[11] == "node is gone"]
        assert gone[7:11] == [
            "refused",
            [bench.frames(LEVEL)[0][4], bench.frames(LEVEL)[0][5]],
            None,
            [1],
        ]
        order = [record[0] for record in bench.records() if record[4] > utc_ns - 1]
        assert order == ["G", "F", "G"]
        link.queue.put_nowait([link.frame(LEVEL)])
        await asyncio.sleep(1)
        assert bench.gaps(LEVEL)[-1][1:] == ("refused", True, "node is gone")


async def test_a_full_journal_leaves_with_the_device_what_it_cannot_take():
    """What the agent drops, the device would have kept: so it is not asked, nor told to forget."""
    wide = group_of("tank", "wide", tags=500, period_ns=0)
    link = ScriptedSubscribed([instrument_of(wide)], LoopClock())
    async with bench_of(link=link) as bench:
        bench.journal.full = True
        for number in range(100):
            link.queue.put_nowait([link.frame(wide, values=(float(number), *([0.0] * 499)))])
        await asyncio.sleep(60)
        assert not bench.recorder.accepting
        assert link.queue.qsize() > 20
        assert link.acknowledged == []
        bench.journal.full = False
        await asyncio.sleep(60)
        assert numbers(bench, wide) == list(range(100))
        assert [gap[1] for gap in bench.gaps(wide)] == ["first_value"] * 2
        assert link.acknowledged[-1][1].values[0] == 99


async def test_a_defect_of_the_driver_is_noted_and_survived():
    link = subscribed()
    async with bench_of(link=link) as bench:
        link.queue.put_nowait(KeyError("node"))
        await asyncio.sleep(3)
        link.queue.put_nowait([numbered(link, DOOR, 1)])
        await asyncio.sleep(1)
        assert numbers(bench, DOOR) == [1]
        assert bench.acquisition.link("link").connects == 2
        assert bench.acquisition.link("link").state == "up"


async def test_a_link_that_is_lost_while_it_is_told_what_is_durable_comes_up_again():
    link = subscribed()
    async with bench_of(link=link) as bench:

        async def refuse(_):
            link.on_committed = None
            raise LinkLost("gone while acknowledging")

        link.on_committed = refuse
        link.queue.put_nowait([numbered(link, DOOR, 1)])
        await asyncio.sleep(5)
        link.queue.put_nowait([numbered(link, DOOR, 2)])
        await asyncio.sleep(1)
        assert numbers(bench, DOOR) == [1, 2]
        assert bench.gaps(DOOR)[2][1] == "link_lost"


@pytest.mark.parametrize("moment_s", [0.005, 0.5, 1.01, 1.03, 1.2])
async def test_cancelling_is_clean_at_any_moment(moment_s):
    link = subscribed()
    async with bench_of(SlowJournal(0.1), link=link) as bench:
        asyncio.get_running_loop().call_later(
            1.0, lambda: link.queue.put_nowait([numbered(link, DOOR, 1)])
        )
        await asyncio.sleep(moment_s)
        bench.links["link"].cancel()
        with pytest.raises(asyncio.CancelledError):
            await bench.links["link"]
        assert link.calls[-1][1] == "close"
        assert len(asyncio.all_tasks()) == 2  # this test and the recorder


async def test_connecting_that_fails_is_tried_again():
    def plan(call, at_s):
        return Step(error=LinkLost("refused")) if call == "connect" and at_s < 3 else None

    link = subscribed(plan)
    async with bench_of(link=link) as bench:
        link.queue.put_nowait([numbered(link, DOOR, 1)])
        await asyncio.sleep(20)
        assert numbers(bench, DOOR) == [1]
        assert bench.gaps(DOOR) == [(1, "first_value", False, None), (1, "first_value", True, None)]


async def test_what_was_taken_is_said_to_be_durable_before_the_link_is_opened_again():
    """Else the device would give it again, and it would be stored twice."""
    link = subscribed()
    async with bench_of(SlowJournal(0.3), link=link) as bench:
        link.queue.put_nowait([numbered(link, DOOR, 1), numbered(link, DOOR, 2)])
        await asyncio.sleep(0)
        link.queue.put_nowait(LinkLost("cut"))
        await asyncio.sleep(5)
        assert [frame.values[0] for _, frame in link.acknowledged] == [2.0]
        (said_s, _), *_ = link.acknowledged
        assert said_s < link.times("connect")[1]
        assert numbers(bench, DOOR) == [1, 2]


async def test_a_driver_is_told_what_an_agent_before_has_stored():
    journal = SlowJournal()
    link = subscribed()
    async with bench_of(journal, link=link):
        link.queue.put_nowait([link.frame(DOOR, values=(1.0, 2.0), source_utc_ns=700)])
        await asyncio.sleep(1)
        assert link.durable == {DOOR: [None, None], LEVEL: [None, None]}
    again = subscribed()
    async with bench_of(journal, link=again):
        await asyncio.sleep(1)
        assert again.durable == {DOOR: [700, 700], LEVEL: [None, None]}

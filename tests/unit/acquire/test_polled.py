"""One owner task per polled link: it connects, identifies, polls on the grid, and backs off alone.

Method: scripted drivers and the real recorder over a journal in memory, all on virtual time.
"""

import asyncio
from itertools import pairwise
from random import Random

import pytest

from edgeagent.driver import BadReply, Identity, LinkLost
from edgeagent.model.backoff import backoff_s
from edgeagent.model.errors import JournalFailed
from edgeagent.model.record import Lane
from tests.fakes import (
    LoopClock,
    ScriptedPolled,
    SlowJournal,
    Step,
    bench_of,
    group_of,
    instrument_of,
)
from tests.unit.acquire.timeline import Timeline

pytestmark = pytest.mark.looptime

PROBE, SCALE, OVEN = group_of("probe"), group_of("scale"), group_of("oven")
DEAD = Step(0.5, BadReply("timeout", "no answer in 0.5 s"))


def polled(*groups, plan=None) -> ScriptedPolled:
    """A link with one instrument for each group."""
    return ScriptedPolled([instrument_of(group) for group in groups], LoopClock(), plan)


def only_when(what, until_s, step, since_s=0.0):
    """A plan that does ``step`` for some calls and some time."""
    return lambda call, at_s: step if call.startswith(what) and since_s <= at_s < until_s else None


async def test_polls_stand_on_one_grid_over_links_and_periods():
    fast = group_of("fast", period_ns=10**9 // 4)
    one, other = polled(PROBE, fast), polled(SCALE, plan=only_when("connect", 1, Step(0.3)))
    async with bench_of(one=one, other=other) as bench:
        await asyncio.sleep(5.1)
        at_probe = [s for s in one.times("poll:probe") if s > 0.5]
        at_scale = [s for s in other.times("poll:scale") if s > 0.5]
        assert at_probe == pytest.approx([1, 2, 3, 4, 5])
        assert at_scale == pytest.approx([1, 2, 3, 4, 5])
        assert [s for s in one.times("poll:fast") if s >= 1][:5] == pytest.approx(
            [1.01, 1.25, 1.5, 1.75, 2.01]
        )
        assert len(bench.frames(fast)) == 21
        assert bench.acquisition.link("one").state == "up"


@pytest.mark.looptime(start=5000)
async def test_the_first_values_come_at_once_and_not_after_a_period():
    slow = group_of("slow", period_ns=4 * 3600 * 10**9)
    link = polled(slow)
    async with bench_of(link=link) as bench:
        await asyncio.sleep(1)
        assert len(bench.frames(slow)) == 1
        assert bench.acquisition.link("link").late_s < 1


async def test_connecting_backs_off_with_jitter():
    link = polled(PROBE, plan=only_when("connect", 1000, Step(0.0, LinkLost("refused"))))
    async with bench_of(link=link) as bench:
        await asyncio.sleep(300)
        random = Random(bench.seed)
        for attempt, (one_s, next_s) in enumerate(pairwise(link.times("connect")), 1):
            close_s = 0.01
            waited_s = close_s + backoff_s(attempt, random.random())
            assert next_s - one_s == pytest.approx(waited_s, abs=1e-5)
        assert len(link.times("close")) == pytest.approx(len(link.times("connect")), abs=1)
        assert bench.gaps(PROBE) == [(1, "first_value", False, None)]
        status = bench.acquisition.link("link")
        assert (status.state, status.cause, status.connects) == ("down", "refused", 0)


async def test_a_link_that_worked_begins_its_back_off_anew():
    cut = LinkLost("reset by peer")

    def plan(call, at_s):
        if call == "connect" and at_s < 60:
            return Step(error=LinkLost("refused"))
        return Step(error=cut) if call.startswith("poll") and 100 <= at_s < 101 else None

    link = polled(PROBE, plan=plan)
    async with bench_of(link=link) as bench:
        await asyncio.sleep(110)
        again = next(at_s for at_s in link.times("connect") if at_s > 100)
        assert again - 100 < 0.1 + backoff_s(1, 1.0)
        assert bench.gaps(PROBE)[2:] == [
            (2, "link_lost", False, "reset by peer"),
            (2, "link_lost", True, "reset by peer"),
        ]
        assert bench.acquisition.link("link").connects > 1


async def test_identity_comes_before_data_after_every_reconnect():
    def plan(call, at_s):
        if call == "connect" and at_s > 5:
            return Step(answer=(Identity("probe"),))
        if call == "identify:scale" and at_s < 8:
            return Step(error=BadReply("timeout", "no answer"))
        return Step(error=LinkLost("gone")) if call.startswith("poll") and 5 <= at_s < 6 else None

    link = polled(PROBE, SCALE, plan=plan)
    async with bench_of(link=link) as bench:
        await asyncio.sleep(20)
        calls = [call for at_s, call in link.calls if at_s > 4.5]
        assert calls[:2] == ["poll:probe/all", "close"]
        assert calls[2] == "connect"
        about_scale = [call for call in calls if call.endswith(("scale", "scale/all"))]
        assert about_scale[0] == "identify:scale"
        first_poll = about_scale.index("poll:scale/all")
        assert set(about_scale[:first_poll]) == {"identify:scale"}
        assert set(about_scale[first_poll:]) == {"poll:scale/all"}
        assert bench.gaps(SCALE)[-1][1:3] == ("link_lost", True)


async def test_a_dead_unit_backs_off_alone_and_costs_its_neighbours_no_tick():
    link = polled(
        SCALE,
        PROBE,
        OVEN,
        plan=lambda call, _: DEAD if call.endswith(("scale", "scale/all")) else None,
    )
    async with bench_of(link=link) as bench:
        await asyncio.sleep(120.9)
        for group in (PROBE, OVEN):
            ticks = {int(at_s) for at_s in link.times(f"poll:{group}")}
            assert ticks == set(range(121))
            assert [gap[1] for gap in bench.gaps(group)] == ["first_value"] * 2
        tried = link.times("poll:scale") + link.times("identify:scale")
        assert 5 <= len(tried) <= 20
        assert bench.gaps(SCALE) == [(1, "first_value", False, None)]
        assert bench.acquisition.link("link").silent == {"scale": "no answer in 0.5 s"}
        assert bench.acquisition.link("link").state == "up"


async def test_who_is_known_to_be_silent_is_asked_last():
    """Its time-out, as long as a whole period, makes no neighbour miss a tick, nor be late."""
    slow = Step(1.0, BadReply("timeout", "no answer in 1 s"))
    link = polled(
        SCALE, PROBE, plan=lambda call, _: slow if call.endswith(("scale", "scale/all")) else None
    )
    async with bench_of(link=link):
        await asyncio.sleep(60.5)
        ticks = [int(at_s) for at_s in link.times("poll:probe")]
        assert sorted(set(ticks)) == list(range(1, 61))


async def test_two_dead_units_are_not_both_asked_in_one_tick():
    slow = Step(1.0, BadReply("timeout", "no answer in 1 s"))
    link = polled(
        SCALE, OVEN, PROBE, plan=lambda call, _: None if call.endswith("probe/all") else (
            slow if call.startswith(("poll", "identify")) else None
        )
    )  # fmt: skip
    async with bench_of(link=link) as bench:
        await asyncio.sleep(60.5)
        ticks = {int(at_s) for at_s in link.times("poll:probe")}
        assert ticks >= set(range(3, 61))
        assert [g for g in bench.gaps(PROBE) if g[1] == "overrun"][1:] == []


@pytest.mark.parametrize("dead", [1, 5])
async def test_neighbours_of_dead_units_keep_their_period_and_lose_nothing_else(dead):
    """An attempt costs three periods, as on a serial line that must be silent after it."""
    groups = [group_of(f"dead-{n}") for n in range(dead)]
    slow = Step(3.0, BadReply("timeout", "no answer"))
    link = polled(*groups, PROBE, plan=lambda call, _: slow if ":dead" in call else None)
    async with bench_of(link=link) as bench:
        await asyncio.sleep(1000)
        polls = [at_s for at_s in link.times("poll:probe") if at_s > 30]
        mean_s = (polls[-1] - polls[0]) / (len(polls) - 1)
        assert 1.0 <= mean_s <= 1.1
        causes = {gap[1] for gap in bench.gaps(PROBE)}
        assert causes == {"first_value", "overrun"}
        for group in groups:  # and each gets its turn
            assert len(link.times(f"identify:{group.instrument}")) >= 2


async def test_a_silent_instrument_is_asked_in_the_free_time_of_its_neighbours():
    """Neighbours are due every 10 s; an attempt takes 4 s: none of theirs is ever late."""
    calm = group_of("calm", period_ns=10 * 10**9)
    slow = Step(4.0, BadReply("timeout", "no answer"))
    link = polled(
        PROBE, calm, plan=lambda call, _: slow if call.endswith(("probe", "probe/all")) else None
    )
    async with bench_of(link=link):
        await asyncio.sleep(1000)
        assert len(link.times("identify:probe")) >= 8
        assert link.times("poll:calm")[1:] == pytest.approx(range(10, 1000, 10))


async def test_a_silent_instrument_that_fits_nowhere_is_asked_all_the_same():
    busy = Step(0.4)
    slow = Step(0.8, BadReply("timeout", "no answer"))
    link = polled(
        SCALE,
        PROBE,
        plan=lambda call, _: slow if "scale" in call else busy if ":" in call else None,
    )
    async with bench_of(link=link):
        await asyncio.sleep(200)
        assert len(link.times("identify:scale")) >= 8


async def test_one_lost_reply_keeps_nobody_waiting_for_long():
    """It is no probe of a dead unit, so it is not held against the share of the silent."""
    lost = Step(3.0, BadReply("timeout", "no answer"))
    link = polled(PROBE, SCALE, plan=only_when("poll:probe", 11, lost, since_s=9.5))
    async with bench_of(link=link):
        await asyncio.sleep(40)
        asked_again = [at_s for at_s in link.times("poll:probe") if at_s > 11]
        assert asked_again[0] < 16


async def test_every_group_of_a_silent_instrument_is_in_a_gap():
    """The slow group is due while its instrument backs off: it has no value, so it has a gap."""
    fast, slow = group_of("probe", "fast"), group_of("probe", "slow", period_ns=10 * 10**9)
    link = ScriptedPolled([instrument_of(fast, slow), instrument_of(SCALE)], LoopClock())
    link.plan = lambda call, at_s: DEAD if "probe" in call and 3 <= at_s < 29 else None
    async with bench_of(link=link) as bench:
        await asyncio.sleep(60)
        opened = [gap for gap in bench.gaps(slow)[2:] if not gap[2]]
        assert [gap[1] for gap in opened] == ["timeout"]
        judge = Timeline()
        judge.feed(bench.journal.bodies())
        assert judge.finish() == {}


async def test_one_that_comes_back_is_identified_before_its_value():
    link = polled(PROBE, SCALE)
    link.plan = lambda call, at_s: DEAD if "scale" in call and at_s < 10 else None
    async with bench_of(link=link) as bench:
        await asyncio.sleep(60)
        about = [call for _, call in link.calls if "scale" in call]
        back = len(about) - about[::-1].index("identify:scale")
        assert set(about[back:]) == {"poll:scale/all"}
        assert bench.gaps(SCALE) == [
            (2, "first_value", False, None),
            (2, "first_value", True, None),
        ]
        assert bench.acquisition.link("link").silent == {}


async def test_when_all_are_silent_the_link_is_opened_anew():
    link = polled(PROBE, SCALE, plan=lambda call, _: DEAD if call[:4] in ("poll", "iden") else None)
    async with bench_of(link=link) as bench:
        await asyncio.sleep(60)
        assert len(link.times("connect")) > 3
        asked = [call for _, call in link.calls]
        for start, end in pairwise(i for i, call in enumerate(asked) if call == "connect"):
            each = [call.split(":")[1].split("/")[0] for call in asked[start + 1 : end - 1]]
            assert each.count("probe") >= 3
            assert each.count("scale") >= 3
            assert asked[end - 1] == "close"
        assert bench.acquisition.link("link").connects == len(link.times("connect"))


async def test_a_bad_reply_is_a_gap_but_no_silence():
    refused = Step(error=BadReply("refused", "illegal data address"))
    link = polled(PROBE, plan=only_when("poll", 7.5, refused, since_s=2.5))
    async with bench_of(link=link) as bench:
        await asyncio.sleep(10)
        assert bench.gaps(PROBE)[2:] == [
            (2, "refused", False, "illegal data address"),
            (2, "refused", True, "illegal data address"),
        ]
        assert len(link.times("poll")) == 10
        assert link.times("identify") == []
        assert bench.acquisition.link("link").failures == 5


async def test_an_overrun_is_a_gap_before_the_frame_that_took_so_long():
    """The reply of tick 3 comes at 7.2: ticks 4, 5 and 6 are missed, 7 is late, 8 is in time."""
    link = polled(PROBE, plan=only_when("poll", 3.5, Step(4.2), since_s=2.5))
    async with bench_of(link=link) as bench:
        await asyncio.sleep(12)
        assert link.times("poll") == pytest.approx([0.01, 1, 2, 3, 7.2, 8, 9, 10, 11])
        assert bench.gaps(PROBE)[2:] == [(2, "overrun", True, "3 ticks")]
        (gap,) = [record for record in bench.records("G") if record[7] == "overrun"]
        times = [frame[5] for frame in bench.frames(PROBE)]
        assert gap[8][1] == times[2]
        assert gap[9][1] == times[3]
        assert bench.acquisition.link("link").skipped == 3


async def test_who_waits_for_a_slow_neighbour_has_the_gap_as_well():
    link = polled(PROBE, SCALE, plan=only_when("poll:probe", 3.5, Step(4.2), since_s=2.5))
    async with bench_of(link=link) as bench:
        await asyncio.sleep(12)
        assert bench.gaps(SCALE)[2:] == [(4, "overrun", True, "3 ticks")]
        judge = Timeline(late=3)
        judge.feed(bench.journal.bodies())
        assert judge.finish() == {}


async def test_a_defect_of_one_driver_stops_no_other():
    bad = polled(PROBE, plan=only_when("poll", 4.5, Step(error=ValueError("seven")), since_s=2.5))
    good = polled(SCALE)
    async with bench_of(bad=bad, good=good) as bench:
        await asyncio.sleep(10)
        assert bench.gaps(PROBE)[2:4] == [
            (3, "internal_error", False, "ValueError: seven"),
            (3, "internal_error", True, "ValueError: seven"),
        ]
        assert len(bench.frames(SCALE)) == 10
        assert len(bench.frames(PROBE)) >= 7


async def test_a_defect_in_connect_and_in_close_is_survived():
    def plan(call, at_s):
        if at_s < 3 and call in ("connect", "close"):
            return Step(error=RuntimeError(call))
        return Step(30.0) if call == "close" and at_s < 6 else None

    link = polled(PROBE, plan=plan)
    async with bench_of(link=link) as bench:
        await asyncio.sleep(20)
        assert len(bench.frames(PROBE)) >= 5
        assert not bench.links["link"].done()


async def test_a_close_that_hangs_is_given_up():
    def plan(call, at_s):
        if call.startswith("poll") and at_s < 1:
            return Step(error=LinkLost("gone"))
        return Step(1000.0) if call == "close" and at_s < 1 else None

    link = polled(PROBE, plan=plan)
    async with bench_of(link=link) as bench:
        await asyncio.sleep(5)
        assert len(bench.frames(PROBE)) >= 1


async def test_a_full_journal_is_a_gap_and_then_values_again():
    wide = group_of("wide", tags=500)
    link = polled(wide)
    async with bench_of(SlowJournal(), link=link) as bench:
        await asyncio.sleep(3.5)
        bench.journal.full = True
        await asyncio.sleep(200)
        assert not bench.recorder.accepting
        held = bench.acquisition.frames
        bench.journal.full = False
        await asyncio.sleep(3)
        assert bench.recorder.accepting
        causes = [gap[1:3] for gap in bench.gaps(wide)[2:]]
        assert causes == [("journal_full", False), ("journal_full", True)]
        assert len(bench.frames(wide)) == bench.acquisition.frames >= held + 2
        assert "journal.resumed" in bench.events()
        judge = Timeline()
        judge.feed(bench.journal.bodies())
        judge.finish()


async def test_a_journal_that_cannot_be_mended_ends_the_link_loudly():
    link = polled(PROBE)
    async with bench_of(link=link) as bench:
        await asyncio.sleep(2)

        def fail(*_):
            raise JournalFailed("cannot be written")

        bench.acquisition.take = fail
        await asyncio.sleep(2)
        assert isinstance(bench.links["link"].exception(), JournalFailed)
        assert link.calls[-1][1] == "close"


@pytest.mark.parametrize("moment_s", [0.005, 0.015, 0.5, 3.005, 5.005, 5.02, 5.1])
async def test_cancelling_is_clean_at_any_moment(moment_s):
    """While it connects, polls, waits for a tick, closes or backs off."""
    link = polled(
        PROBE, SCALE, plan=only_when("poll", 6, Step(error=LinkLost("gone")), since_s=4.5)
    )
    async with bench_of(link=link) as bench:
        await asyncio.sleep(moment_s)
        task = bench.links["link"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert link.calls[-1][1] == "close"
        await bench.recorder.flush()
        assert bench.recorder._polls_due == 0, "the recorder waits for a poll that is gone"


@pytest.mark.parametrize("seed", range(5))
async def test_a_bad_day_is_a_partition(seed):
    """Whatever the drivers do for ten minutes, values and gaps cover the time of each tag.

    Without a missed tick, one value may come at its tick and the next nearly two periods late.
    """
    random = Random(seed)
    errors = [
        LinkLost("gone"),
        BadReply("timeout", "none"),
        BadReply("refused", "no"),
        ValueError("defect"),
    ]
    weather = [random.random() ** 4 for _ in range(60)]

    def plan(call, at_s):
        if random.random() > weather[int(at_s // 10) % 60]:
            if call.startswith("poll") and random.random() < 0.1:
                present = tuple(sorted(random.sample(range(4), random.randrange(5))))
                status = tuple(random.choice([0, 0x80340000]) for _ in range(4))
                values = tuple(1.0 if index in present else None for index in range(4))
                return Step(answer={"present": present, "status": status, "values": values})
            return Step(0.01 if random.random() < 0.95 else random.random() * 5)
        error = random.choice(errors)
        if call == "connect":
            error = LinkLost("refused") if random.random() < 0.5 else error
        return Step(random.random(), error)

    groups = [group_of(f"i{index}", tags=4, period_ns=10**9 * (1 + index)) for index in range(4)]
    one, other = polled(*groups[:2], plan=plan), polled(*groups[2:], plan=plan)
    async with bench_of(one=one, other=other) as bench:
        await asyncio.sleep(600)
        await bench.recorder.flush()
        judge = Timeline(late=3)
        judge.feed(bench.journal.bodies())
        assert len(judge.finish()) == bench.acquisition.continuity.open_count()
        assert judge.values > 1000
        assert 0 <= bench.recorder._polls_due <= len(groups)
        assert bench.events() == []
        assert bench.journal.bodies(Lane.EVENT)[0].startswith(b'["C"')

"""Measuring: from a running agent's journal, links and stream to the facts that health judges.

Method: a real journal on disk under the shipped recorder, acquisition and stream (which reaches no
broker), with a clock by hand; polling on virtual time, with scripted drivers.
"""

import asyncio
from random import Random
from types import SimpleNamespace

import apsw
import pytest

from edgeagent.acquire.acquisition import Acquisition
from edgeagent.driver import BadReply
from edgeagent.journal import Journal, Recorder
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.retention import Retention
from edgeagent.journal.store import Consumer, Cursor
from edgeagent.model.frame import Frame
from edgeagent.model.record import Lane
from edgeagent.model.settings import BrokerSettings, JournalSettings, StreamSettings
from edgeagent.operate.facts import BudgetFacts, LaneLag
from edgeagent.operate.health import health
from edgeagent.operate.measure import LOOP_SAMPLE_S, Vitals, measure, watch_vitals
from edgeagent.operate.metrics import metrics_text
from edgeagent.publish.lossless import LosslessStream
from tests.clocks import ManualClock
from tests.fakes import LoopClock, ScriptedPolled, Step, bench_of, group_of, instrument_of

PROBE, SCALE = group_of("probe"), group_of("scale", tags=1)
BROKER = BrokerSettings(url="mqtt://127.0.0.1:9")


def plan_of(*groups, link="gateway"):
    """What is asked of a site's plan."""
    instruments = tuple(instrument_of(group) for group in groups)
    return SimpleNamespace(
        settings=SimpleNamespace(site="berlin-1", broker=BROKER),
        revision="c0ffee",
        groups=groups,
        links=(
            SimpleNamespace(name=link, instruments=instruments),
            SimpleNamespace(name="spare", instruments=()),
        ),
    )


class Agent:
    """One agent on a journal, without a wire and without a broker."""

    def __init__(self, recorder: Recorder, clock: ManualClock) -> None:
        self.recorder, self.clock, self.journal = recorder, clock, recorder.journal
        self.plan = plan_of(PROBE, SCALE)
        self.acquisition = Acquisition(recorder, [instrument_of(g) for g in self.plan.groups])
        self.stream = LosslessStream(
            "berlin-1", "edge/v1", BROKER, StreamSettings(), recorder, Random(4711)
        )
        self.vitals = Vitals(asyncio.get_running_loop().time())

    async def tick(self, *but) -> None:
        self.clock.advance(1)
        for group in {PROBE, SCALE} - set(but):
            at = self.recorder.now()
            self.acquisition.take(Frame(group, (1.5,) * len(group.tags), *at))
        await self.recorder.flush()

    async def measure(self, budget=None):
        parts = self.recorder, self.acquisition, self.stream, self.vitals
        return await measure("0.1.0", self.plan, *parts, budget)

    async def lags(self):
        """What each consumer lacks, by lane."""
        found = await self.measure()
        return {each.name: {lag.lane: lag for lag in each.lanes} for each in found.consumers}

    def receipted(self, consumer, upto, lane=Lane.DATA, epoch=-1) -> None:
        self.journal.set_cursor(consumer, self.journal.epochs[epoch], lane, Cursor(upto, bytes(32)))


@pytest.fixture
async def agent(tmp_path):
    clock = ManualClock()
    journal = await Journal.open(tmp_path, clock)
    recorder = Recorder(journal, clock, commit_within_s=0.001, held_bytes_max=10**6)
    await recorder.load()
    recorder.set_context({"boot_id": clock.boot_id})
    agent = Agent(recorder, clock)
    await agent.acquisition.begin()
    committing = asyncio.create_task(recorder.run())
    try:
        await recorder.flush()
        yield agent
    finally:
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)
        await journal.close()


async def test_an_agent_that_just_began_is_no_fault(agent):
    agent.acquisition.link("gateway")
    found = health(await agent.measure())
    assert found.state == "warning"
    assert {"links", "gaps", "broker", "consumers", "clock"} == set(found.brief()["checks"])


async def test_what_a_consumer_lacks_and_since_when(agent):
    for name, state in (("central", "enrolled"), ("lab", "suspended"), ("old", "retired")):
        await agent.journal.save_consumer(Consumer(name, state, None))
    for _ in range(10):
        await agent.tick()
    head, events = (agent.journal.heads[lane][0] for lane in Lane)
    lags = await agent.lags()
    assert lags.keys() == {"central", "lab"}, "a retired one is owed nothing"
    assert lags["central"]["data"] == LaneLag("data", head, 10.0)
    assert lags["central"]["event"] == LaneLag("event", events, 10.0)
    agent.receipted("central", head - 2)
    assert (await agent.lags())["central"]["data"] == LaneLag("data", 2, 0.0), "of the last tick"
    agent.receipted("central", head - 3)
    agent.clock.advance(60)
    assert (await agent.lags())["central"]["data"] == LaneLag("data", 3, 61.0)
    agent.receipted("central", head)
    assert (await agent.lags())["central"]["data"] == LaneLag("data", 0, 0.0)


async def test_what_is_left_of_an_older_epoch_is_owed_too(agent):
    await agent.journal.save_consumer(Consumer("central", "enrolled", None))
    await agent.tick()
    before = agent.journal.heads[Lane.DATA][0]
    agent.receipted("central", before - 1)
    agent.clock.advance(100)
    await agent.recorder.new_epoch("for a test")
    await agent.tick()
    agent.receipted("central", agent.journal.heads[Lane.DATA][0] - 1)
    assert (await agent.lags())["central"]["data"] == LaneLag("data", 2, 101.0)
    agent.receipted("central", before, epoch=0)
    assert (await agent.lags())["central"]["data"] == LaneLag("data", 1, 0.0)


async def test_a_damaged_record_hides_its_age_and_nothing_else(agent, tmp_path):
    await agent.journal.save_consumer(Consumer("central", "enrolled", None))
    for _ in range(3):
        await agent.tick()
    agent.receipted("central", 4)
    with apsw.Connection(str(tmp_path / FILE_NAME)) as database:
        database.execute("UPDATE data SET body = x'00' WHERE key & 0xffff = 5")
    head = agent.journal.heads[Lane.DATA][0]
    assert (await agent.lags())["central"]["data"] == LaneLag("data", head - 4, None)
    found = await agent.measure()
    assert "delivery" in health(found).brief()["checks"]
    assert 'edgeagent_delivery_lag_records{consumer="central",lane="data"}' in metrics_text(found)


async def test_open_gaps_and_for_how_long(agent):
    await agent.tick()
    agent.acquisition.miss(SCALE, "timeout", "no answer")
    for _ in range(40):
        await agent.tick(SCALE)
    (gap,) = (await agent.measure()).gaps
    assert (gap.group, gap.cause, gap.age_s, gap.period_s) == ("scale/all", "timeout", 40.0, 1.0)
    agent.clock.step(-3600)
    (gap,) = (await agent.measure()).gaps
    assert gap.age_s == 40.0, "a step of UTC makes no gap younger or older"


async def test_a_group_that_is_neither_read_nor_in_a_gap_is_overdue(agent):
    await agent.tick()
    agent.clock.advance(12.5)
    assert (await agent.measure()).overdue == ()
    await agent.tick(SCALE)
    assert (await agent.measure()).overdue == (("scale/all", 13.5),)
    agent.acquisition.miss(SCALE, "timeout", "no answer")
    assert (await agent.measure()).overdue == (), "a gap says it"


async def test_commits_are_measured_and_one_that_hangs_is_seen(agent):
    await agent.tick()
    commits = (await agent.measure()).journal.commits
    assert commits.count >= 2
    assert 0 < commits.max_s < 5
    agent.recorder.committing_since_s = asyncio.get_running_loop().time() - 30
    assert (await agent.measure()).journal.commits.max_s >= 30


async def test_the_budget_is_what_retention_says(agent, tmp_path):
    retention = Retention(agent.recorder, JournalSettings(), tmp_path)
    state = retention.state()
    assert (await agent.measure(state)).journal.budget is None, "not measured yet"
    measured = state | {"fill_percent": 81.5, "stage": 80, "hours_left": 2.0}
    budget = (await agent.measure(measured)).journal.budget
    assert budget == BudgetFacts(JournalSettings().budget, 0.815, 80, 7200.0)


async def test_a_link_without_instruments_is_nobody_to_wait_for(agent):
    for name in ("gateway", "spare"):
        agent.acquisition.link(name)
    assert [link.name for link in (await agent.measure()).links] == ["gateway"]


# -- on virtual time ---------------------------------------------------------------------------


async def measured(bench, vitals, *groups):
    """The facts of a bench; its journal has no consumers."""
    journal = bench.journal
    journal.consumers, journal.heads = {}, {lane: (0, b"") for lane in Lane}

    async def file_bytes():
        return 0

    journal.file_bytes = file_bytes
    stream = SimpleNamespace(
        status=SimpleNamespace(
            state="up", cause=None, since_utc_ns=0, connects=1, messages=0, records=0, receipts=0,
            refused=0,
        )
    )  # fmt: skip
    plan = plan_of(*groups, link="one")
    return await measure("0.1.0", plan, bench.recorder, bench.acquisition, stream, vitals)


@pytest.mark.looptime
async def test_lateness_is_a_share_of_the_period_and_missed_ticks_are_counted():
    """A poll that takes 2.5 periods: ticks go by, and the next one begins half a period late."""

    def plan(what, at_s):
        return Step(2.5) if what.startswith("poll") and 9.9 < at_s < 10.1 else None

    driver = ScriptedPolled([instrument_of(PROBE)], LoopClock(), plan)
    async with bench_of(one=driver) as bench:
        vitals = Vitals(0.0)
        await asyncio.sleep(9.5)
        (link,) = (await measured(bench, vitals, PROBE)).links
        assert (link.late.count, link.late_max, link.missed) == (9, pytest.approx(0), 0)
        await asyncio.sleep(20)
        (link,) = (await measured(bench, vitals, PROBE)).links
        assert link.late_max == link.late.max_s == pytest.approx(0.5)
        assert link.missed == link.skipped > 0
        await asyncio.sleep(60)
        (link,) = (await measured(bench, vitals, PROBE)).links
        assert (link.late_max, link.missed) == (pytest.approx(0), 0), "what is over is over"
        assert link.skipped > 0


@pytest.mark.looptime
async def test_a_silent_instrument_is_named_with_the_time_since_its_last_value():
    def plan(what, at_s):
        answers = not what.startswith(("poll:scale", "identify:scale")) or at_s < 5.5
        return None if answers else Step(0.1, BadReply("timeout", "no answer in 0.1 s"))

    instruments = [instrument_of(PROBE), instrument_of(SCALE)]
    async with bench_of(one=ScriptedPolled(instruments, LoopClock(), plan)) as bench:
        await asyncio.sleep(45.5)
        facts = await measured(bench, Vitals(0.0), PROBE, SCALE)
        (link,) = facts.links
        assert link.silent == {"scale": (pytest.approx(40.5, abs=0.1), "no answer in 0.1 s")}
        assert [gap.group for gap in facts.gaps] == ["scale/all"]


@pytest.mark.looptime
async def test_vitals_count_the_gaps_of_an_hour_and_the_lag_of_the_loop():
    async with bench_of(one=ScriptedPolled([instrument_of(PROBE)], LoopClock())) as bench:
        vitals = Vitals(0.0)
        bench.links["vitals"] = asyncio.create_task(watch_vitals(vitals, bench.acquisition))
        await asyncio.sleep(10.5)
        facts = await measured(bench, vitals, PROBE)
        assert (facts.gaps_opened, facts.gaps_last_hour) == (1, 0), "the first is no news"
        assert facts.loop_lag.count == pytest.approx(10.5 / LOOP_SAMPLE_S, abs=1)
        assert facts.loop_lag.max_s == pytest.approx(0)
        bench.acquisition.miss(PROBE, "timeout", None)
        bench.journal.mended = 2
        await asyncio.sleep(1)
        facts = await measured(bench, vitals, PROBE)
        assert (facts.gaps_last_hour, facts.journal.mended_today) == (1, 2)

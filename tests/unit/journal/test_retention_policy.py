"""What is decided, over every situation: what may go, what never goes, and what is stored."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.journal import Epoch, Storing, Usage
from edgeagent.journal.policy import (
    HYSTERESIS,
    STAGES,
    YIELD_AT,
    Oldest,
    Pack,
    Purge,
    PurgeReplies,
    Replies,
    Shrink,
    Situation,
    decide,
    fill,
    housekeeping_share,
    room,
)
from edgeagent.model.record import Lane
from edgeagent.model.settings import DAY_NS, JournalSettings

MB = 10**6
SETTINGS = JournalSettings(budget="1 GB", reserve="40 MB", keep="90 d", evidence_keep="30 d")
WHOLE, SHARE = 40 * MB, 10 * MB
NOW = 2_000_000_000 * 10**9
EPOCHS = tuple(Epoch(number, f"uuid-{number}", 0, "test") for number in range(3))
PLENTY = 100_000 * MB


def sizes(high: int = 1_200 * MB) -> st.SearchStrategy[int]:
    edges = [0, SHARE, 2 * SHARE, WHOLE, WHOLE + SHARE, 850 * MB, 980 * MB, 1000 * MB, 1040 * MB]
    return st.one_of(st.integers(0, high), st.sampled_from(edges))


def ages() -> st.SearchStrategy[int]:
    return st.integers(-DAY_NS, 200 * DAY_NS).map(lambda age: NOW - age)


@st.composite
def oldest_of(draw: st.DrawFn, lane: Lane) -> Oldest:
    lowest = draw(st.integers(1, 10**6))
    received = lowest + draw(st.integers(0, 10**6))
    held = received - lowest + 1 + draw(st.integers(0, 10**6))
    return Oldest(draw(st.sampled_from(EPOCHS)), lane, lowest, received, held, draw(ages()))


@st.composite
def replies(draw: st.DrawFn) -> Replies:
    first = draw(st.integers(1, 10**6))
    highest = first + draw(st.integers(0, 10**6))
    held = highest - first + 1 + draw(st.integers(0, 10**6))
    return Replies(draw(st.sampled_from(EPOCHS)), first, highest, held, draw(ages()))


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    file = draw(sizes())
    usage = Usage(file, draw(st.integers(0, file)), draw(st.integers(0, 8 * MB)))
    lanes = [lane for lane in Lane if draw(st.booleans())]
    return Situation(
        usage=usage,
        disk_free=draw(st.one_of(sizes(), st.just(PLENTY))),
        reserve=draw(st.sampled_from([0, 5 * MB, SHARE, WHOLE])),
        stage=draw(st.sampled_from([0, *STAGES])),
        storing=draw(st.sampled_from(Storing)),
        utc_ns=draw(st.sampled_from([None, NOW])),
        oldest=tuple(draw(oldest_of(lane)) for lane in lanes),
        replies=draw(st.none() | replies()),
        rested=draw(st.booleans()),
        shrunk=draw(st.booleans()),
        packable=tuple((lane, draw(st.integers(0, 1000))) for lane in Lane if draw(st.booleans())),
    )


def calm(used: int = 100 * MB, **changes: object) -> Situation:
    """A journal of some size on a large disk, with its reserve."""
    situation = Situation(Usage(used, 0, 0), PLENTY, WHOLE, 0, Storing.ALL, NOW)
    return replace(situation, **changes)  # type: ignore[arg-type]


def young(lane: Lane = Lane.DATA, days: int = 10, received: int = 100_000) -> Oldest:
    return Oldest(EPOCHS[0], lane, 1, received, 200_000, NOW - days * DAY_NS)


def of_replies(days: int = 10) -> Replies:
    return Replies(EPOCHS[0], 1, 100_000, 100_000, NOW - days * DAY_NS)


# -- what may go -------------------------------------------------------------------------------


@given(situations())
def test_only_received_records_ever_go_and_only_the_oldest(now):
    work = decide(now, SETTINGS).work
    if isinstance(work, Purge):
        (rows,) = (r for r in now.oldest if r.lane is work.lane)
        assert work.epoch == rows.epoch
        assert work.lowest == rows.lowest <= work.upto <= rows.received


@given(situations())
def test_records_go_before_their_time_only_under_pressure(now):
    work = decide(now, SETTINGS).work
    if isinstance(work, Purge | PurgeReplies):
        early = work.before_utc_ns is None
        assert early == (work.cause == "budget")
        if early:
            assert fill(now, SETTINGS) >= YIELD_AT
        else:
            assert now.utc_ns is not None, "no age is told by a clock that is known to be wrong"
            keep = SETTINGS.keep if isinstance(work, Purge) else SETTINGS.evidence_keep
            assert work.before_utc_ns == NOW - keep


@given(situations())
def test_under_pressure_replies_yield_before_records_and_older_records_before_younger(now):
    work = decide(now, SETTINGS).work
    if isinstance(work, Purge) and work.cause == "budget" and now.rested:
        assert now.replies is None
        (chosen,) = (rows for rows in now.oldest if rows.lane is work.lane)
        assert chosen.oldest_utc_ns == min(rows.oldest_utc_ns for rows in now.oldest)


@given(situations())
def test_what_is_past_its_time_goes_without_pressure(now):
    past = [r for r in now.oldest if r.oldest_utc_ns < NOW - 92 * DAY_NS]
    if now.utc_ns is not None and past:
        work = decide(now, SETTINGS).work
        assert isinstance(work, Purge | PurgeReplies)
        assert work.cause in ("keep", "evidence_keep")


def test_a_journal_without_pressure_or_age_is_left_alone():
    assert decide(calm(oldest=(young(),), replies=of_replies()), SETTINGS).work is None


@pytest.mark.parametrize("cause", ["budget", "disk"])
def test_pressure_comes_from_the_budget_and_from_the_disk(cause):
    now = calm(900 * MB) if cause == "budget" else calm(100 * MB, disk_free=10 * MB)
    first = decide(replace(now, oldest=(young(),), replies=of_replies()), SETTINGS).work
    assert first == PurgeReplies(EPOCHS[0], 1, 2000, "budget")
    then = decide(replace(now, oldest=(young(),)), SETTINGS).work
    assert then == Purge(EPOCHS[0], Lane.DATA, 1, 4000, "budget")


def test_when_nothing_was_received_nothing_goes():
    assert decide(calm(1100 * MB), SETTINGS).work is None


def test_the_lane_whose_records_are_older_yields_first():
    for days in (5, 20):
        rows = young(Lane.EVENT, days=days), young(Lane.DATA, days=10)
        work = decide(calm(900 * MB, oldest=rows), SETTINGS).work
        assert isinstance(work, Purge)
        assert work.lane is (Lane.DATA if days == 5 else Lane.EVENT)


def test_a_small_piece_waits_until_it_is_worth_an_audit():
    rows = young(received=30)
    assert decide(calm(900 * MB, oldest=(rows,), rested=False), SETTINGS).work is None
    work = decide(calm(900 * MB, oldest=(rows,)), SETTINGS).work
    assert work == Purge(EPOCHS[0], Lane.DATA, 1, 30, "budget")


def test_a_lane_with_a_small_piece_does_not_hold_back_the_other():
    rows = young(Lane.EVENT, days=20, received=30), young()
    work = decide(calm(900 * MB, oldest=rows, rested=False), SETTINGS).work
    assert isinstance(work, Purge)
    assert work.lane is Lane.DATA


# -- what is stored ------------------------------------------------------------------------------


@given(situations())
def test_ordinary_storage_goes_on_only_within_the_budget_and_beside_a_whole_reserve(now):
    decision = decide(now, SETTINGS)
    if decision.storing is Storing.ALL:
        assert now.usage.used_bytes < SETTINGS.budget
        assert decision.reserve == WHOLE
        assert now.disk_free >= WHOLE - now.reserve


@given(situations())
def test_the_journal_never_takes_more_than_the_budget_and_the_reserve(now):
    if now.usage.used_bytes >= SETTINGS.budget + SETTINGS.reserve:
        assert decide(now, SETTINGS).storing is Storing.NOTHING


@given(situations())
def test_the_last_part_of_the_reserve_is_given_up_for_housekeeping_alone(now):
    decision = decide(now, SETTINGS)
    assert decision.reserve <= WHOLE
    if decision.reserve < min(now.reserve, SHARE):
        assert decision.storing is Storing.NOTHING
        assert decision.work is not None


@given(situations())
def test_a_decision_that_changes_nothing_is_made_again(now):
    """Taken up, with the reserve as it was wanted, the same situation gives the same decision."""
    first = decide(now, SETTINGS)
    taken_up = replace(
        now,
        stage=first.stage,
        storing=first.storing,
        disk_free=now.disk_free + now.reserve - first.reserve,
        reserve=first.reserve,
    )
    if taken_up.disk_free >= 0:
        then = decide(taken_up, SETTINGS)
        assert then.storing is first.storing
        assert (then.stage, then.reserve) == (first.stage, first.reserve)


@given(situations())
def test_with_room_again_everything_is_stored_whatever_was_before(now):
    there = replace(now, usage=Usage(900 * MB, 0, 0), disk_free=PLENTY)
    decision = decide(there, SETTINGS)
    assert (decision.storing, decision.reserve) == (Storing.ALL, WHOLE)


def test_a_full_budget_pauses_and_resumes_with_some_distance():
    def storing(used: int, before: Storing) -> Storing:
        return decide(calm(used * MB, storing=before), SETTINGS).storing

    assert storing(999, Storing.ALL) is Storing.ALL
    assert storing(1000, Storing.ALL) is Storing.RESERVED
    assert storing(985, Storing.RESERVED) is Storing.RESERVED
    assert storing(979, Storing.RESERVED) is Storing.ALL
    assert storing(1039, Storing.RESERVED) is Storing.RESERVED
    assert storing(1040, Storing.RESERVED) is Storing.NOTHING
    assert storing(1035, Storing.NOTHING) is Storing.NOTHING
    assert storing(1029, Storing.NOTHING) is Storing.RESERVED


def test_a_disk_that_cannot_hold_the_reserve_is_full():
    now = calm(reserve=SHARE, storing=Storing.RESERVED, disk_free=39 * MB)
    decision = decide(now, SETTINGS)
    assert (decision.storing, decision.reserve) == (Storing.RESERVED, SHARE)
    decision = decide(replace(now, disk_free=40 * MB), SETTINGS)
    assert (decision.storing, decision.reserve) == (Storing.ALL, WHOLE)


def test_free_pages_go_back_to_a_disk_that_lacks_them():
    now = calm(reserve=SHARE, storing=Storing.RESERVED, disk_free=0)
    now = replace(now, usage=Usage(500 * MB, 300 * MB, 0))
    assert decide(now, SETTINGS).work == Shrink()
    assert decide(replace(now, shrunk=True), SETTINGS).work is None
    assert decide(calm(usage=now.usage), SETTINGS).work is None, "the journal will use them"


@given(situations())
def test_packing_comes_last_and_never_when_nothing_can_be_written(now):
    decision = decide(now, SETTINGS)
    if isinstance(decision.work, Pack):
        assert decision.storing is not Storing.NOTHING
        assert decide(replace(now, packable=()), SETTINGS).work is None
        assert (decision.work.lane, decision.work.keep_newest) in now.packable


# -- stages --------------------------------------------------------------------------------------


@given(situations())
def test_a_stage_is_reached_at_once_and_left_with_hysteresis(now):
    full, stage = fill(now, SETTINGS), decide(now, SETTINGS).stage
    assert stage in (0, *STAGES)
    assert stage >= max((s for s in STAGES if full >= s), default=0)
    assert not stage or full >= stage - HYSTERESIS
    assert stage <= max(now.stage, max((s for s in STAGES if full >= s), default=0))


def test_a_stage_does_not_flicker_at_its_edge():
    def stage(used: int, before: int) -> int:
        return decide(calm(used * MB, stage=before), SETTINGS).stage

    assert [stage(used, 0) for used in (799, 800, 899, 900, 950)] == [0, 80, 80, 90, 95]
    assert [stage(used, 90) for used in (899, 881, 879, 781, 779)] == [90, 90, 80, 80, 0]


def test_the_disk_counts_when_it_has_less_room_than_the_budget():
    assert fill(calm(100 * MB), SETTINGS) == 10
    assert fill(calm(100 * MB, disk_free=25 * MB), SETTINGS) == 80
    assert fill(calm(100 * MB, disk_free=25 * MB, reserve=SHARE), SETTINGS) == 100
    assert room(calm(100 * MB, disk_free=60 * MB, reserve=SHARE), SETTINGS) == 30 * MB
    assert housekeeping_share(WHOLE) == SHARE

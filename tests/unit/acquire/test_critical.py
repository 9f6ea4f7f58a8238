"""When the journal is full: critical tags go on, others are in a gap, live values are all there.

Method: acquisition over a journal of lists; the recorder says what may be stored.
"""

from dataclasses import replace

import pytest

from edgeagent.acquire.acquisition import Acquisition
from edgeagent.journal import Storing
from edgeagent.model import quality
from edgeagent.model.frame import DataType, Frame, GroupSchema, TagSchema
from edgeagent.model.record import decode_json
from tests.clocks import ManualClock
from tests.fakes import TapeJournal, TapeRecorder, instrument_of
from tests.unit.acquire.timeline import Timeline

NUMBER = DataType.FLOAT64
TAGS = (
    TagSchema("humidity", NUMBER),
    TagSchema("temperature", NUMBER, low=-200, high=-150, critical=True),
    TagSchema("pressure", NUMBER),
    TagSchema("level", NUMBER, critical=True),
)
MIXED = GroupSchema("freezer", "mixed", TAGS, 0, "acme", "1.0.0")
PLAIN = replace(MIXED, instrument="room", tags=TAGS[:1])
VITAL = replace(MIXED, instrument="tank", tags=TAGS[1:2])
GROUPS = MIXED, PLAIN, VITAL


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.journal = TapeJournal()
        self.recorder = TapeRecorder(self.journal, self.clock)
        self.acquisition = Acquisition(
            self.recorder,  # type: ignore[arg-type]
            [instrument_of(group) for group in GROUPS],
        )

    def take(self, group: GroupSchema, *values: float | None, **facts: object) -> list[list]:
        """Hand over a frame; return the records that come of it."""
        self.clock.advance(1)
        before = len(self.journal.bodies())
        at = self.recorder.now()
        self.acquisition.take(Frame(group, values, *at, **facts))  # type: ignore[arg-type]
        return [decode_json(body) for body in self.journal.bodies()[before:]]

    def judge(self) -> None:
        judge = Timeline()
        judge.feed(self.journal.bodies())
        judge.finish()


@pytest.fixture
async def bench():
    bench = Bench()
    bench.recorder.set_context({"boot_id": bench.clock.boot_id})
    await bench.acquisition.begin()
    bench.take(MIXED, 40.0, -196.0, 1.0, 0.5)
    bench.take(PLAIN, 40.0)
    bench.take(VITAL, -196.0)
    yield bench
    bench.judge()


def test_a_frame_keeps_its_critical_tags_and_the_others_fall_into_a_gap(bench):
    bench.recorder.storing = Storing.RESERVED
    gap, frame = bench.take(MIXED, 41.0, -100.0, 1.0, 0.6)
    assert gap[0] == "G"
    assert (gap[7], gap[9], gap[10]) == ("journal_full", None, [0, 2])
    assert (frame[0], frame[8], frame[11]) == ("F", [1, 3], [-100.0, 0.6])
    assert frame[7] == [[1, quality.UNCERTAIN_ENGINEERING_UNITS_EXCEEDED]]
    (frame,) = bench.take(MIXED, 42.0, -196.0, 1.0, 0.7)
    assert frame[8] == [1, 3], "the gap is open already"
    bench.recorder.storing = Storing.ALL
    closed, frame = bench.take(MIXED, 43.0, -196.0, 1.0, 0.8)
    assert (closed[0], closed[7], closed[10]) == ("G", "journal_full", [0, 2])
    assert closed[9] is not None
    assert frame[8] is None


def test_a_group_without_critical_tags_pauses_and_one_of_nothing_else_does_not(bench):
    bench.recorder.storing = Storing.RESERVED
    (gap,) = bench.take(PLAIN, 41.0)
    assert (gap[0], gap[7], gap[10]) == ("G", "journal_full", None)
    assert bench.take(PLAIN, 42.0) == []
    (frame,) = bench.take(VITAL, -195.0)
    assert (frame[0], frame[8]) == ("F", None)
    bench.recorder.storing = Storing.ALL
    assert [record[0] for record in bench.take(PLAIN, 43.0)] == ["G", "F"]


def test_live_values_go_on_whatever_is_stored(bench):
    for storing in (Storing.RESERVED, Storing.NOTHING):
        bench.recorder.storing = storing
        for accepting in (True, False):
            bench.recorder.accepting = accepting
            bench.take(PLAIN, 50.0 + storing + accepting)
            frame, conditioned = bench.acquisition.latest[str(PLAIN)]
            assert frame.values == tuple(conditioned.values) == (50.0 + storing + accepting,)
    bench.recorder.storing, bench.recorder.accepting = Storing.ALL, True
    bench.take(PLAIN, 1.0)


def test_with_the_memory_used_up_critical_tags_are_in_a_gap_too(bench):
    bench.recorder.storing, bench.recorder.accepting = Storing.NOTHING, False
    (gap,) = bench.take(MIXED, 41.0, -196.0, 1.0, 0.6)
    assert (gap[7], gap[10]) == ("journal_full", None)
    bench.recorder.accepting = True
    closed, opened, frame = bench.take(MIXED, 42.0, -196.0, 1.0, 0.7)
    assert (closed[10], opened[9], opened[10]) == ([1, 3], None, [0, 2])
    assert frame[8] == [1, 3]
    bench.recorder.storing = Storing.ALL
    bench.take(MIXED, 43.0, -196.0, 1.0, 0.8)


def test_a_critical_tag_that_fails_has_a_gap_of_its_own_cause(bench):
    bench.recorder.storing = Storing.RESERVED
    status = (0, quality.BAD_TIMEOUT, 0, 0)
    records = bench.take(MIXED, 41.0, None, 1.0, 0.6, present=(0, 2, 3), status=status)
    assert [(r[7], r[10]) for r in records[:-1]] == [("journal_full", [0, 2]), ("timeout", [1])]
    assert records[-1][8] == [3]
    bench.recorder.storing = Storing.ALL
    bench.take(MIXED, 41.0, -196.0, 1.0, 0.6)

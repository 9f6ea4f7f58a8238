"""Whatever happens to a site, the time line of each tag is a partition into values and gaps.

Method: any sequence of good, partial and missing polls, overruns, kills, power cuts, stops,
reboots and changed configurations is played to the real acquisition with a journal in memory.
``timeline``, written from the document, judges the decoded bodies alone. And from any checkpoint,
with the records behind it, the state is found again as it was.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeagent.acquire.acquisition import Acquisition
from edgeagent.acquire.continuity import Continuity
from edgeagent.model.frame import Frame, GroupSchema, Loss, Origin
from edgeagent.model.record import Entry, Lane
from tests.clocks import ManualClock
from tests.fakes import TapeJournal, TapeRecorder, at_once, group_of, instrument_of
from tests.unit.acquire.timeline import Timeline

REFUSED, TIMEOUT = 0x80340000, 0x800A0000
WIDE, NARROW = "wide/all", "narrow/all"
GROUPS = {
    WIDE: group_of("wide", tags=3),
    NARROW: group_of("narrow", tags=1),
}
CHANGED = {WIDE: group_of("wide", tags=4), NARROW: replace(GROUPS[NARROW], profile_version="2.0.0")}


class Site:
    """An agent, its machine and its journal; what is done to it is what can happen to it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.journal = TapeJournal()
        self.groups = dict(GROUPS)
        self.durable = {lane: 0 for lane in Lane}
        self.checkpoints: list[tuple[int, bytes]] = []
        self.missing: list[tuple[int, int, int]] = []
        self.start()

    def start(self) -> None:
        self.recorder = TapeRecorder(self.journal, self.clock)
        self.recorder.set_context({"boot_id": self.clock.boot_id})
        instruments = [instrument_of(group) for group in self.groups.values()]
        self.acquisition = Acquisition(self.recorder, instruments)
        at_once(self.acquisition.begin())

    def note(self) -> None:
        """Remember this state as one that a checkpoint could hold."""
        self.checkpoints.append((len(self.journal.lanes[Lane.DATA]), self.state()))

    def expect_gap(self, group: GroupSchema, tags: Iterable[int]) -> None:
        """Remember that these tags were due here and have no value: they must be in a gap now."""
        schema = self.acquisition.schema_numbers()[group]
        position = len(self.journal.lanes[Lane.DATA])
        self.missing += [(position, schema, index) for index in tags]

    def commit(self) -> None:
        self.durable = {lane: len(self.journal.lanes[lane]) for lane in Lane}

    def state(self) -> bytes:
        return self.acquisition.continuity.snapshot()

    # -- what can happen -----------------------------------------------------------------------

    def tick(self, outcomes: dict[str, Any], skipped: int = 0) -> None:
        self.clock.advance(1 + skipped - self.clock.boot % 10**9 / 1e9)
        for key, outcome in outcomes.items():
            if key in self.groups:
                outcome(self, self.groups[key], skipped)

    def save(self) -> None:
        self.commit()
        self.journal.saved = (0, self.durable[Lane.DATA], self.state())

    def lose_tail(self) -> None:
        for lane in Lane:
            del self.journal.lanes[lane][self.durable[lane] :]
        kept = self.durable[Lane.DATA]
        self.checkpoints = [known for known in self.checkpoints if known[0] <= kept]
        self.missing = [known for known in self.missing if known[0] <= kept]

    def restart(self, how: str, down_s: float = 0, groups: dict[str, GroupSchema] | None = None):
        if how == "stop":
            self.acquisition.stop()
            self.commit()
        if how == "power cut":
            self.lose_tail()
        if how in ("power cut", "reboot"):
            self.clock.reboot()
        self.clock.advance(down_s)
        self.groups = dict(self.groups if groups is None else groups)
        self.start()


@dataclass(frozen=True)
class Good:
    """A frame: ``absent`` maps tags without a value to their status."""

    absent: tuple[tuple[int, int], ...] = ()
    origin: Origin = Origin.LIVE

    def __call__(self, site: Site, group: GroupSchema, skipped: int) -> None:
        count = len(group.tags)
        absent = {index: status for index, status in self.absent if index < count}
        present = tuple(index for index in range(count) if index not in absent)
        frame = Frame(
            group,
            tuple(None if index in absent else float(index) for index in range(count)),
            site.clock.utc_ns(),
            site.clock.boot_ns(),
            present=present if absent else None,
            status=tuple(absent.get(index, 0) for index in range(count)) if absent else 0,
            origin=self.origin,
        )
        site.acquisition.take(frame, skipped)
        if self.origin is Origin.LIVE:
            site.expect_gap(group, [i for i, status in absent.items() if status >> 31])


@dataclass(frozen=True)
class Missing:
    """No frame."""

    cause: str

    def __call__(self, site: Site, group: GroupSchema, _: int) -> None:
        site.acquisition.miss(group, self.cause, None)
        site.expect_gap(group, range(len(group.tags)))


@dataclass(frozen=True)
class Lost:
    """A device that pushes says that it has lost values of some tags; the others come."""

    tags: tuple[int, ...]

    def __call__(self, site: Site, group: GroupSchema, skipped: int) -> None:
        tags = tuple(index for index in self.tags if index < len(group.tags))
        site.acquisition.lose(Loss(group, "bad_reply", None, None, tags))
        site.expect_gap(group, tags)
        Good(tuple((index, 0) for index in tags))(site, group, skipped)


def full(site: Site, group: GroupSchema, skipped: int) -> None:
    site.recorder.accepting = False
    Good()(site, group, skipped)
    site.recorder.accepting = True
    site.expect_gap(group, range(len(group.tags)))


absences = st.dictionaries(
    st.integers(0, 3), st.sampled_from([0, REFUSED, TIMEOUT]), max_size=4
).map(lambda found: tuple(sorted(found.items())))
causes = st.sampled_from(["link_lost", "timeout", "refused", "bad_reply", "internal_error"])
outcomes = st.one_of(
    st.just(Good()),
    st.just(Good()),
    absences.map(Good),
    absences.map(Good),
    causes.map(Missing),
    st.sets(st.integers(0, 3)).map(sorted).map(tuple).map(Lost),
    st.just(full),
)
ticks = st.tuples(
    st.just("tick"),
    st.fixed_dictionaries({WIDE: outcomes, NARROW: outcomes}),
    st.sampled_from([0, 0, 0, 1, 5]),
)
configurations = st.sampled_from(
    [
        None,
        None,
        GROUPS,
        {WIDE: GROUPS[WIDE]},
        CHANGED,
        {WIDE: CHANGED[WIDE]},
        {NARROW: GROUPS[NARROW]},
    ]
)
restarts = st.tuples(
    st.just("restart"),
    st.sampled_from(["kill", "power cut", "reboot", "stop"]),
    st.sampled_from([0, 0.5, 3600]),
    configurations,
)
others = st.sampled_from([("save",), ("commit",), ("backfill",), ("step", 3600), ("step", -3600)])
events = st.lists(ticks | ticks | ticks | restarts | others, max_size=25)


def play(site: Site, happenings: list[tuple[Any, ...]]) -> None:
    for kind, *facts in happenings:
        if kind == "step":
            site.clock.step(*facts)
        elif kind == "backfill":
            site.clock.advance(0.01)
            for group in site.groups.values():
                Good(origin=Origin.BACKFILL)(site, group, 0)
        else:
            getattr(site, kind)(*facts)
        site.note()


ONE_GONE = Good(((1, REFUSED),))
ONE_BACK = Good(((0, REFUSED), (2, REFUSED)))
ONLY_NARROW = {NARROW: GROUPS[NARROW]}


def tick(wide: Any, narrow: Any = Good(), skipped: int = 0) -> tuple[Any, ...]:
    return "tick", {WIDE: wide, NARROW: narrow}, skipped


def kill(groups: dict[str, GroupSchema] | None = None) -> tuple[Any, ...]:
    return "restart", "kill", 0, groups


@given(events)
@example([tick(ONE_GONE), kill()])
@example([tick(Good()), tick(Missing("timeout")), tick(ONE_BACK)])
@example([tick(Good()), tick(ONE_BACK, skipped=5)])
@example([tick(Good(), Missing("refused")), kill()])
@example([tick(Good()), kill(ONLY_NARROW), kill(GROUPS)])
@example([tick(Good()), ("backfill",), kill()])
def test_values_and_gaps_are_a_partition(happenings):
    site = Site()
    play(site, happenings)
    judge = Timeline()
    bodies, fed = site.journal.bodies(), 0
    for position, schema, index in site.missing:
        judge.feed(bodies[fed:position])
        fed = position
        assert judge.lines[schema, index].gap is not None, f"tag {index} failed and is in no gap"
    judge.feed(bodies[fed:])
    open_gaps = judge.finish()
    assert len(open_gaps) == site.acquisition.continuity.open_count()
    assert judge.values == sum(map(_present, site.journal.bodies()))


def _present(body: bytes) -> int:
    record = json.loads(body)
    return len(record[11]) if record[0] == "F" and record[6] == 0 else 0


def as_found(state: bytes) -> Any:
    """A state without the order in which things came about."""
    found = json.loads(state)
    for line in found["lines"].values():
        line[3] = sorted(line[3])
    return found


@given(events, st.data())
def test_from_any_checkpoint_the_state_is_found_again(happenings, data):
    site = Site()
    play(site, happenings)
    entries = [Entry(seq, body) for seq, body in enumerate(site.journal.bodies(), 1)]
    groups = {}
    for known in at_once(site.journal.descriptions(Lane.DATA, "S")):
        stated = json.loads(known.content)
        groups[known.number] = f"{stated['instrument']}/{stated['group']}", len(stated["tags"])
    position, state = data.draw(st.sampled_from([(0, None), *site.checkpoints]))
    continuity = Continuity()
    continuity.restore(state, entries[position:], groups)
    assert as_found(continuity.snapshot()) == as_found(site.state())


# -- stories, to the byte ----------------------------------------------------------------------


def told(site: Site, since: int) -> list[Any]:
    """What stands in the journal behind the first ``since`` records, in short."""
    short = []
    for body in site.journal.bodies()[since:]:
        record = json.loads(body)
        if record[0] == "F":
            short.append(("values", record[8]))
        elif record[0] == "G":
            number, cause, begin, end, tags, detail = record[6:12]
            at = [None if b is None else (b[1] or 0) // 10**9 - 3600 for b in (begin, end)]
            short.append((number, cause, *at, tags, detail))
    return short


def test_the_first_value_ends_the_first_gap():
    site = Site()
    site.groups = {WIDE: GROUPS[WIDE]}
    assert told(site, 0) == [
        (1, "first_value", None, None, None, None),
        (2, "first_value", None, None, None, None),
    ]
    before = len(site.journal.bodies())
    site.tick({WIDE: Good()})
    assert told(site, before) == [(1, "first_value", None, 1, None, None), ("values", None)]


def started() -> tuple[Site, int]:
    """A site with one frame of the wide group, at second 1, and its number of records."""
    site = Site()
    site.tick({WIDE: Good()})
    return site, len(site.journal.bodies())


def test_a_link_is_lost_and_one_tag_does_not_come_back():
    site, before = started()
    site.tick({WIDE: Missing("link_lost")})
    site.tick({WIDE: Missing("timeout")})
    site.tick({WIDE: ONE_GONE})
    site.tick({WIDE: ONE_GONE})
    site.tick({WIDE: Good()})
    assert told(site, before) == [
        (3, "link_lost", 1, None, None, None),
        (3, "link_lost", 1, 4, [0, 2], None),
        (4, "refused", 1, None, [1], "bad_node_id_unknown"),
        ("values", [0, 2]),
        ("values", [0, 2]),
        (4, "refused", 1, 6, [1], "bad_node_id_unknown"),
        ("values", None),
    ]


def test_what_was_not_sent_stays_in_the_gap_that_it_was_in():
    site, before = started()
    site.tick({WIDE: Missing("link_lost")})
    site.tick({WIDE: Good(((1, 0),))})
    site.tick({WIDE: Good()})
    assert told(site, before) == [
        (3, "link_lost", 1, None, None, None),
        (3, "link_lost", 1, 3, [0, 2], None),
        (4, "link_lost", 1, None, [1], None),
        ("values", [0, 2]),
        (4, "link_lost", 1, 4, [1], None),
        ("values", None),
    ]


def test_what_was_not_sent_without_a_gap_is_no_gap():
    site, before = started()
    site.tick({WIDE: Good(((1, 0),))})
    assert told(site, before) == [("values", [0, 2])]


def test_an_overrun_is_one_record():
    site, before = started()
    site.tick({WIDE: Good()}, skipped=5)
    assert told(site, before) == [(3, "overrun", 1, 7, None, "5 ticks"), ("values", None)]


def test_a_block_that_is_refused_is_one_gap():
    site, before = started()
    site.tick({WIDE: ONE_BACK})
    assert told(site, before) == [
        (3, "refused", 1, None, [0, 2], "bad_node_id_unknown"),
        ("values", [1]),
    ]


def test_one_status_for_all_holds_for_those_that_are_absent():
    site, before = started()
    group = GROUPS[WIDE]
    frame = Frame(group, (1.0, None, None), 0, 0, present=(0,), status=TIMEOUT)
    site.acquisition.take(frame)
    assert told(site, before)[0] == (3, "timeout", 1, None, [1, 2], "bad_timeout")


def test_the_cause_of_single_tags_follows_from_their_status():
    site, before = started()
    site.tick({WIDE: Good(((0, TIMEOUT), (1, 0x80070000), (2, REFUSED)))})
    assert told(site, before)[:3] == [
        (3, "timeout", 1, None, [0], "bad_timeout"),
        (4, "bad_reply", 1, None, [1], "bad_decoding_error"),
        (5, "refused", 1, None, [2], "bad_node_id_unknown"),
    ]


def test_a_kill_is_a_gap_of_the_tags_that_were_in_none():
    site, before = started()
    site.tick({WIDE: ONE_GONE})
    site.restart("kill")
    site.tick({WIDE: Good()})
    assert told(site, before) == [
        (3, "refused", 1, None, [1], "bad_node_id_unknown"),
        ("values", [0, 2]),
        (4, "agent_killed", 2, None, [0, 2], None),
        (3, "refused", 1, 3, [1], "bad_node_id_unknown"),
        (4, "agent_killed", 2, 3, [0, 2], None),
        ("values", None),
    ]


def test_after_a_reboot_only_utc_says_when_a_gap_began():
    site, before = started()
    site.restart("reboot")
    (opened,) = [json.loads(b) for b in site.journal.bodies()[before:] if b[2:3] == b"G"]
    assert opened[8] == [site.clock.utc, None]


def test_a_stop_is_a_gap_until_the_next_value():
    site, before = started()
    site.restart("stop", down_s=9)
    site.tick({WIDE: Good()})
    assert [kind for kind in told(site, before) if kind[0] != 2] == [
        (3, "agent_stopped", 1, None, None, None),
        (3, "agent_stopped", 1, 11, None, None),
        ("values", None),
    ]


def test_a_kill_is_told_once_and_a_stop_never():
    """A gap that a kill left may stay open for days; a stop and a start in between are no kill."""
    site, _ = started()
    assert site.recorder.events == []
    site.restart("kill")
    assert [event[0] for event in site.recorder.events] == ["agent.killed"]
    for _ in range(2):
        site.restart("stop")
        assert site.recorder.events == []


def test_a_group_that_is_read_no_more_has_no_open_gap():
    site, before = started()
    site.restart("kill", groups=ONLY_NARROW)
    assert told(site, before) == [
        (3, "agent_killed", 1, None, None, None),
        (3, "agent_killed", 1, 1, None, None),
    ]
    assert [event[::2] for event in site.recorder.events] == [
        ("agent.killed", {}),
        ("schema.retired", {"group": WIDE}),
    ]
    assert WIDE not in site.acquisition.continuity.lines
    site.restart("kill", groups=ONLY_NARROW)
    assert site.recorder.events == []


def test_a_changed_profile_begins_a_new_line():
    site, before = started()
    site.restart("stop", groups=CHANGED)
    site.tick({WIDE: Good(), NARROW: Good()})
    assert told(site, before) == [
        (3, "agent_stopped", 1, None, None, None),
        (2, "first_value", None, 1, None, None),
        (3, "agent_stopped", 1, 1, None, None),
        (4, "first_value", None, None, None, None),
        (5, "first_value", None, None, None, None),
        (4, "first_value", None, 2, None, None),
        ("values", None),
        (5, "first_value", None, 2, None, None),
        ("values", None),
    ]


def test_a_full_journal_is_a_gap():
    site, before = started()
    site.tick({WIDE: full})
    site.tick({WIDE: Good()})
    assert told(site, before) == [
        (3, "journal_full", 1, None, None, None),
        (3, "journal_full", 1, 3, None, None),
        ("values", None),
    ]


def test_what_is_filled_in_later_leaves_the_gap_as_it_is():
    site, before = started()
    site.tick({WIDE: Missing("link_lost")})
    site.tick({WIDE: Good(origin=Origin.BACKFILL)})
    assert told(site, before) == [(3, "link_lost", 1, None, None, None), ("values", None)]
    assert site.acquisition.continuity.open_count() == 2


def test_a_loss_that_the_device_bounds_is_one_record_and_spares_what_is_in_a_gap():
    site, before = started()
    site.tick({WIDE: ONE_GONE})
    begun = site.clock.utc - 500
    site.acquisition.lose(Loss(GROUPS[WIDE], "bad_reply", begun, begun + 400, None, "overflow"))
    site.acquisition.lose(Loss(GROUPS[WIDE], "bad_reply", None, begun + 400, (1, 2), None))
    site.acquisition.lose(Loss(GROUPS[WIDE], "bad_reply", None, begun + 400, (1,), None))
    records = [json.loads(body) for body in site.journal.bodies()[before + 2 :]]
    assert [record[6:] for record in records] == [
        [4, "bad_reply", [begun, None], [begun + 400, None], [0, 2], "overflow"],
        [5, "bad_reply", None, [begun + 400, None], [2], None],
    ]


def test_a_loss_without_length_ends_what_is_open_of_its_tags():
    """They are watched again and have not changed: no new value will say so."""
    site, before = started()
    site.tick({WIDE: Missing("link_lost")})
    at = site.clock.utc
    site.acquisition.lose(Loss(GROUPS[WIDE], "link_lost", at, at, (0, 2), "unchanged since"))
    records = [json.loads(body) for body in site.journal.bodies()[before + 1 :]]
    assert [record[6:8] + record[9:11] for record in records] == [
        [3, "link_lost", [at, None], [0, 2]],
        [4, "link_lost", None, [1]],
    ]
    line = site.acquisition.continuity.lines[WIDE]
    assert line.due() == [0, 2]
    site.acquisition.lose(Loss(GROUPS[WIDE], "link_lost", at, at, (1,), "unchanged since"))
    assert line.due() == [0, 1, 2]
    known = line.last
    site.start()
    assert site.acquisition.continuity.lines[WIDE].last == known


def test_the_devices_time_of_each_tags_last_value_is_known_again_after_a_restart():
    site, _ = started()
    group = GROUPS[WIDE]

    def taken(source, present=None):
        values = tuple(1.0 if present is None or i in present else None for i in range(3))
        at = site.clock.utc_ns(), site.clock.boot_ns()
        frame = Frame(group, values, *at, present=present, source_utc_ns=source)
        site.acquisition.take(frame)

    def sources():
        return site.acquisition.continuity.lines[WIDE].sources()

    assert sources() == [None, None, None]
    taken(100)
    assert sources() == [100, 100, 100]
    taken((None, 200, None), (1,))
    taken(300, (2,))
    assert sources() == [100, 200, 300]
    site.start()
    assert sources() == [100, 200, 300]
    taken((400, 500, 600))
    site.start()
    assert sources() == [400, 500, 600]


def test_whole_is_what_a_person_sees_of_a_group():
    site, _ = started()
    line = site.acquisition.continuity.lines[WIDE]
    assert line.whole is None
    site.tick({WIDE: ONE_GONE})
    assert line.whole is None
    assert line.due() == [0, 2]
    site.tick({WIDE: Missing("link_lost")})
    assert line.whole.cause == "link_lost"
    assert (line.due(), site.acquisition.continuity.open_count()) == ([], 3)


def test_a_defect_while_a_frame_is_written_closes_no_gap():
    """Nothing may say that a value came when its frame never reached the journal."""
    site, before = started()
    site.tick({WIDE: Missing("link_lost")})
    frame = Frame(GROUPS[WIDE], (object(), 1.0, 2.0), site.clock.utc_ns(), site.clock.boot_ns())
    with pytest.raises(TypeError):
        site.acquisition.take(frame)
    assert told(site, before) == [(3, "link_lost", 1, None, None, None)]
    assert site.acquisition.continuity.lines[WIDE].whole.number == 3


def test_where_a_damaged_record_hid_the_end_of_a_gap_no_other_schema_inherits_it():
    site, _ = started()
    site.tick({WIDE: Missing("timeout")})
    site.restart("kill", groups=CHANGED)
    site.tick({WIDE: Good()})
    entries = [Entry(seq, body) for seq, body in enumerate(site.journal.bodies(), 1)]
    readable = [entry for entry in entries if not _ends_timeout(json.loads(entry.body))]
    assert len(readable) == len(entries) - 1
    groups = {1: (WIDE, 3), 2: (NARROW, 1), 3: (WIDE, 4), 4: (NARROW, 1)}
    continuity = Continuity()
    continuity.restore(None, readable, groups)
    assert continuity.lines[WIDE].schema == 3
    assert continuity.lines[WIDE].gaps == {}


def _ends_timeout(record: list[Any]) -> bool:
    return record[0] == "G" and record[7] == "timeout" and record[9] is not None

"""The intake: any order, any repetition, any cut into batches, any number of histories.

The truth stands outside the code under test: lists of bodies, and chains computed here with
hashlib alone.
"""

import itertools
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.central import intake as intake_module
from edgeagent.central.intake import Histories, Intake, Taken, fault_of
from edgeagent.model.record import Batch, Lane
from tests.unit.central.memory import MemoryLedger

EPOCH = "0192a7c4-0000-7000-8000-000000000001"


class Truth:
    """One history as the agent wrote it: bodies from record 1 on, and the chain at each."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self.bodies = list(bodies)
        self.chains = [sha256(f"edgeagent/1|{EPOCH}|data".encode()).digest()]
        for body in bodies:
            self.chains.append(sha256(self.chains[-1] + body).digest())

    def __len__(self) -> int:
        return len(self.bodies)

    def batch(self, first: int, last: int, missing: Sequence[int] = ()) -> Batch:
        bodies = [self.bodies[n - 1] for n in range(first, last + 1) if n not in missing]
        return Batch(
            "berlin-1",
            EPOCH,
            Lane.DATA,
            first,
            bodies,
            self.chains[first - 1],
            self.chains[last],
            tuple(missing),
        )


def truth(count: int, mark: str = "") -> Truth:
    return Truth([f"{n}{mark}".encode() for n in range(1, count + 1)])


class Desk(NamedTuple):
    """An intake with what it writes."""

    histories: Histories
    ledger: MemoryLedger

    def take(self, batch: Batch) -> Taken:
        """Take a batch with a new intake each time: nothing but the ledger is remembered."""
        assert fault_of(batch) is None
        return Intake(self.histories, self.ledger).take(batch)

    def state_unavailable(self, first: int, last: int) -> None:
        self.ledger.stated.append((first, last))
        Intake(self.histories, self.ledger).state_unavailable()

    def wanted(self) -> tuple[int, int] | None:
        return Intake(self.histories, self.ledger).wanted()

    def history(self, number: int) -> list[bytes | None]:
        """The bodies of a branch from 1 on, read without the intake's help."""
        branch = self.histories.branches[number]
        shared = self.history(branch.parent)[: branch.fork_seq - 1] if number else []
        return shared + self.ledger.bodies(number, branch.fork_seq, branch.upto)

    def check(self) -> None:
        """Every branch is a prefix without holes, with the chain of its bodies; no row is loose."""
        owned = set()
        for number, branch in self.histories.branches.items():
            bodies = self.history(number)
            assert len(bodies) == branch.upto
            if not branch.holes:
                assert Truth(bodies).chains[-1] == branch.chain
            owned |= {(number, n) for n in range(branch.fork_seq, branch.upto + 1)}
        assert set(self.ledger.records) <= owned
        assert self.histories.waiting == len(self.ledger.waiting)


def desk() -> Desk:
    return Desk(Histories.empty(EPOCH, Lane.DATA), MemoryLedger())


@pytest.fixture(autouse=True)
def _close_marks(monkeypatch):
    """Short tests shall cross stored chain values too."""
    monkeypatch.setattr(intake_module, "MARK_EVERY", 4)


def test_in_order():
    at, told = desk(), truth(20)
    for first in range(1, 20, 2):
        assert at.take(told.batch(first, first + 1)) is Taken.STORED
    assert at.history(0) == told.bodies
    assert at.ledger.events == at.ledger.conflicts == []
    at.check()


def test_repetitions_and_overlaps_change_nothing():
    at, told = desk(), truth(20)
    at.take(told.batch(1, 12))
    for first, last in ((1, 12), (3, 7), (12, 12), (1, 1)):
        assert at.take(told.batch(first, last)) is Taken.DUPLICATE
    assert at.take(told.batch(8, 20)) is Taken.STORED
    assert at.history(0) == told.bodies
    at.check()


def test_a_hole_is_wanted_until_it_is_filled():
    at, told = desk(), truth(20)
    at.take(told.batch(1, 4))
    assert at.wanted() is None
    assert at.take(told.batch(13, 16)) is Taken.WAITING
    assert at.take(told.batch(13, 16)) is Taken.WAITING
    assert at.take(told.batch(9, 10)) is Taken.WAITING
    assert at.wanted() == (5, 8)
    at.take(told.batch(5, 8))
    assert at.histories.branches[0].upto == 10
    assert at.wanted() == (11, 12)
    at.take(told.batch(11, 14))
    assert at.histories.branches[0].upto == 16
    assert at.wanted() is None
    at.check()


@pytest.mark.parametrize(
    "batch",
    [
        truth(9).batch(1, 4)._replace(bodies=[b"1", b"2", b"3", b"five"]),
        truth(9).batch(1, 4)._replace(bodies=[b"1", b"3", b"2", b"4"]),
        truth(9).batch(1, 4)._replace(chain=bytes(32)),
        truth(9).batch(2, 4)._replace(prev=bytes(32)),
        truth(9).batch(2, 4)._replace(first=1),
        truth(9).batch(1, 4)._replace(epoch="0192a7c4-0000-7000-8000-000000000002"),
        truth(9).batch(1, 4)._replace(bodies=[]),
        truth(9).batch(1, 4)._replace(epoch="ep\0och"),
        truth(9).batch(1, 4)._replace(epoch="é"),
        truth(9).batch(1, 4)._replace(first=2**63 - 2),
        truth(9).batch(1, 4, [2])._replace(missing=(7,)),
        truth(9).batch(2, 5, [3, 4])._replace(missing=(3, 3)),
        truth(9).batch(2, 5, [3])._replace(missing=(1,)),
    ],
)
def test_a_batch_that_cannot_be_trusted(batch):
    assert fault_of(batch) is not None


# Conflicts


def forked(shared: int, first: int, second: int) -> tuple[Truth, Truth]:
    """Two histories that agree up to ``shared``."""
    old = truth(first)
    return old, Truth(
        old.bodies[:shared] + [f"{n}'".encode() for n in range(shared + 1, second + 1)]
    )


def test_a_fork_in_the_middle_of_a_batch():
    """The agent's disk went back to 80, its cursor to 70; 71 to 85 come again, changed."""
    old, new = forked(80, 100, 90)
    at = desk()
    at.take(old.batch(1, 100))
    assert at.take(new.batch(71, 85)) is Taken.STORED
    branch = at.histories.branches[1]
    assert (branch.fork_seq, branch.upto, branch.chain) == (81, 85, new.chains[85])
    assert at.histories.active == 1
    assert at.history(0) == old.bodies
    assert at.history(1) == new.bodies[:85]
    assert at.ledger.conflicts == [(81, sha256(b"81").hexdigest(), sha256(b"81'").hexdigest(), 1)]
    # the same again, overlapping it, and going on
    assert at.take(new.batch(71, 85)) is Taken.DUPLICATE
    assert at.take(new.batch(84, 90)) is Taken.STORED
    assert at.history(1) == new.bodies
    assert len(at.ledger.conflicts) == 1
    # what both share does not change in which history the agent lives
    assert at.take(new.batch(10, 20)) is Taken.DUPLICATE
    assert at.histories.active == 1
    at.check()


def test_the_old_history_may_come_back():
    old, new = forked(80, 110, 90)
    at = desk()
    at.take(old.batch(1, 100))
    at.take(new.batch(81, 85))
    assert at.take(old.batch(99, 110)) is Taken.STORED
    assert at.histories.active == 0
    assert at.history(0) == old.bodies
    assert len(at.histories.branches) == 2
    at.check()


def test_a_fork_seen_from_its_far_end_waits_for_its_beginning():
    """Another body under a key, but what lies between is unknown: told, kept, asked for."""
    old, new = forked(80, 100, 95)
    at = desk()
    at.take(old.batch(1, 100))
    assert at.take(new.batch(90, 95)) is Taken.WAITING
    assert [(c.seq, c.branch) for c in at.ledger.conflicts] == [(90, None)]
    assert at.ledger.events == ["batch.unlinked"]
    assert at.wanted() == (85, 89)
    at.take(new.batch(85, 89))
    assert at.wanted() == (75, 84)
    assert at.take(new.batch(75, 84)) is Taken.STORED
    assert at.history(1) == new.bodies
    assert at.ledger.conflicts[-1] == (81, *at.ledger.conflicts[-1][1:3], 1)
    assert not at.ledger.waiting
    at.check()


def test_a_second_history_with_a_hole_of_its_own():
    old, new = forked(80, 100, 99)
    at = desk()
    at.take(old.batch(1, 100))
    at.take(new.batch(80, 85))
    assert at.take(new.batch(90, 99)) is Taken.WAITING
    assert at.wanted() == (86, 89)
    at.take(new.batch(86, 89))
    assert at.history(1) == new.bodies
    assert len(at.ledger.conflicts) == 1
    at.check()


def test_a_fork_of_a_fork_and_one_at_the_same_number():
    old, new = forked(5, 10, 10)
    newest = Truth([*new.bodies[:7], b"8''", b"9''"])
    other = Truth([*old.bodies[:5], b"6*"])
    elder = Truth([*old.bodies[:3], b"4+", b"5+", b"6+"])
    at = desk()
    for each in (old, new, newest, other, elder):
        at.take(each.batch(3, len(each)) if each is not old else each.batch(1, 10))
    assert [at.history(n) for n in range(5)] == [
        each.bodies for each in (old, new, newest, other, elder)
    ]
    parents = [(b.parent, b.fork_seq) for b in at.histories.branches.values()]
    assert parents == [(0, 1), (0, 6), (1, 8), (0, 6), (0, 4)]
    at.check()


def test_equal_bodies_after_a_fork_do_not_confuse():
    """Records 8 to 10 have the same bytes in both histories; only the chain tells them apart."""
    old = truth(10)
    new = Truth([*old.bodies[:6], b"7'", *old.bodies[7:]])
    at = desk()
    at.take(old.batch(1, 10))
    assert at.take(new.batch(8, 10)) is Taken.WAITING
    assert at.ledger.conflicts == []
    at.take(new.batch(5, 7))
    assert at.history(1) == new.bodies
    at.check()


# Lost records


def test_missing_records_are_gone_over_with_the_stated_chain():
    at, told = desk(), truth(12)
    at.take(told.batch(1, 3))
    assert at.take(told.batch(4, 9, [5, 6, 8])) is Taken.STORED
    assert at.ledger.holes == [(0, 5, 6, "missing"), (0, 8, 8, "missing")]
    assert at.ledger.events == ["record.missing"] * 2
    assert at.take(told.batch(4, 9, [5, 6, 8])) is Taken.DUPLICATE
    assert at.take(told.batch(10, 12)) is Taken.STORED
    assert at.histories.branches[0].chain == told.chains[12]
    assert at.history(0) == [n if n not in (b"5", b"6", b"8") else None for n in told.bodies]
    at.check()


def test_a_body_that_the_agent_lost_but_we_hold_stays():
    at, told = desk(), truth(12)
    at.take(told.batch(1, 8))
    assert at.take(told.batch(5, 8, [6])) is Taken.DUPLICATE
    assert at.take(told.batch(6, 12, [6])) is Taken.STORED
    assert at.history(0) == told.bodies
    assert at.ledger.holes == []
    at.check()


def test_a_whole_batch_can_be_missing():
    at, told = desk(), truth(6)
    at.take(told.batch(1, 2))
    at.take(told.batch(3, 5, [3, 4, 5]))
    at.take(told.batch(6, 6))
    assert at.history(0) == [b"1", b"2", None, None, None, b"6"]
    at.check()


def test_a_late_joiner_goes_on_over_what_the_agent_says_is_gone():
    at, told = desk(), truth(20)
    at.take(told.batch(11, 14))
    assert at.wanted() == (1, 10)
    at.state_unavailable(1, 5)
    assert at.histories.branches[0].upto == 0, "only a statement about all of it counts"
    at.state_unavailable(6, 10)
    assert at.histories.branches[0].upto == 14
    assert at.ledger.holes == [(0, 1, 10, "unavailable")]
    at.take(told.batch(15, 20))
    assert at.histories.branches[0].chain == told.chains[20]
    at.check()


def test_the_statement_may_come_before_the_batch():
    at, told = desk(), truth(20)
    at.state_unavailable(1, 10)
    assert at.histories.branches[0].upto == 0
    at.take(told.batch(11, 14))
    assert at.histories.branches[0].upto == 14
    at.check()


def test_lost_records_that_come_after_all_are_proven_and_stored():
    at, told = desk(), truth(20)
    at.take(told.batch(1, 4))
    at.take(told.batch(13, 16))
    at.state_unavailable(5, 12)
    assert at.take(told.batch(7, 8)) is Taken.WAITING, "nothing proves them yet"
    assert at.take(told.batch(9, 14)) is Taken.STORED, "the chain at 14 is known"
    assert at.take(told.batch(3, 6)) is Taken.STORED, "record 3 and 4 are known"
    assert at.history(0) == told.bodies[:16]
    assert not at.ledger.waiting
    wrong = Truth([*told.bodies[:4], *[b"x"] * 12])
    other = desk()
    other.take(told.batch(1, 4))
    other.take(told.batch(13, 16))
    other.state_unavailable(5, 12)
    other.take(wrong.batch(9, 16))
    assert b"x" not in other.history(0)
    at.check()


def test_other_records_inside_a_lost_range_are_not_believed():
    """All that can be compared is the same; only the chain knows that they are others."""
    told = truth(16)
    wrong = Truth([*told.bodies[:4], *[b"x"] * 8, *told.bodies[12:]])
    at = desk()
    at.take(told.batch(1, 4))
    at.take(told.batch(13, 16))
    at.state_unavailable(5, 12)
    assert at.take(wrong.batch(3, 16)) is Taken.WAITING
    assert b"x" not in at.history(0)
    assert at.ledger.events[-1] == "batch.unlinked"
    assert at.take(told.batch(3, 16)) is Taken.STORED
    assert at.history(0) == told.bodies
    at.check()


def test_a_waiting_batch_that_turns_out_to_be_of_another_history_is_told():
    old, new = forked(6, 12, 12)
    at = desk()
    at.take(old.batch(1, 4))
    at.take(new.batch(9, 10))
    assert at.ledger.events == []
    at.take(old.batch(5, 12))
    assert at.ledger.events == ["batch.unlinked"]
    assert [(c.seq, c.branch) for c in at.ledger.conflicts] == [(9, None)]
    at.take(new.batch(5, 8))
    assert at.history(1) == new.bodies[:10]
    at.check()


# Everything at once


@st.composite
def lives(draw) -> list[Truth]:
    """Up to three histories; a small alphabet makes equal bodies after a fork common."""
    found = [draw(st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=14))]
    for _ in range(draw(st.integers(0, 2))):
        origin = draw(st.sampled_from(found))
        shared = draw(st.integers(0, len(origin) - 1))
        rest = draw(st.lists(st.sampled_from([b"a", b"c"]), min_size=1, max_size=9))
        found.append(origin[:shared] + rest)
    return [Truth(bodies) for bodies in found]


@st.composite
def deliveries(draw, histories: list[Truth]) -> list[Batch]:
    """Every history cut into batches twice, differently; all of it in any order."""
    batches = []
    for told in histories * 2:
        cuts = draw(st.sets(st.integers(1, len(told)))) | {0, len(told)}
        edges = sorted(cuts)
        pairs = itertools.pairwise(edges)
        batches += [told.batch(start + 1, end) for start, end in pairs]
    return draw(st.permutations(batches))


@given(st.data())
def test_any_order_any_cut_any_repetition_any_forks(data):
    """Nothing is lost, nothing is invented, and every history ends up whole."""
    histories = data.draw(lives())
    batches = data.draw(deliveries(histories))
    at = desk()
    for batch in batches:
        at.take(batch)
        at.check()
    held = [at.history(number) for number in at.histories.branches]
    for told in histories:
        assert any(bodies[: len(told)] == told.bodies for bodies in held)
    for bodies in held:
        assert any(told.bodies[: len(bodies)] == bodies for told in histories)
    assert not at.ledger.waiting
    before = dict(at.ledger.records)
    conflicts = list(at.ledger.conflicts)
    for batch in batches:
        assert at.take(batch) is Taken.DUPLICATE
    assert at.ledger.records == before
    assert at.ledger.conflicts == conflicts
    at.check()


@given(st.data())
def test_any_order_with_losses(data):
    """Bodies that the agent lost stay unknown, the others are held, and the chain goes on."""
    told = data.draw(st.integers(1, 14).map(truth))
    lost = data.draw(st.sets(st.integers(1, len(told))))
    edges = sorted(data.draw(st.sets(st.integers(1, len(told)))) | {0, len(told)})
    batches = [
        told.batch(start + 1, end, sorted(lost & set(range(start + 1, end + 1))))
        for start, end in itertools.pairwise(edges)
    ]
    at = desk()
    for batch in data.draw(st.permutations(batches * 2)):
        at.take(batch)
        at.check()
    expected = [None if n in lost else told.bodies[n - 1] for n in range(1, len(told) + 1)]
    assert at.history(0) == expected
    assert at.histories.branches[0].chain == told.chains[-1]
    assert not at.ledger.waiting
    assert list(at.histories.branches) == [0]
    # an intact copy turns up: everything is proven and stored
    at.take(told.batch(1, len(told)))
    assert at.history(0) == told.bodies
    at.check()


@given(st.data())
def test_any_order_for_a_late_joiner(data):
    """What the agent says is gone is gone over, once, wherever it lies and whenever it is said."""
    told = truth(data.draw(st.integers(4, 14)))
    first = data.draw(st.integers(1, len(told) - 1))
    last = data.draw(st.integers(first, len(told) - 1))
    edges = sorted(data.draw(st.sets(st.integers(1, len(told)))) | {0, first - 1, last, len(told)})
    pieces = [(start + 1, end) for start, end in itertools.pairwise(edges)]
    steps: list[tuple[int, int] | None] = [p for p in pieces if not first <= p[0] <= last]
    at = desk()
    for step in data.draw(st.permutations([*steps, *steps, None])):
        if step is None:
            at.state_unavailable(first, last)
        else:
            at.take(told.batch(*step))
        at.check()
    assert at.history(0) == [
        None if first <= n <= last else told.bodies[n - 1] for n in range(1, len(told) + 1)
    ]
    assert at.histories.branches[0].chain == told.chains[-1]
    assert at.ledger.holes == [(0, first, last, "unavailable")]

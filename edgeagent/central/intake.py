"""Where a batch belongs, given what is held. Pure logic: what it reads and writes is a Ledger.

A *history* is what one life of a journal wrote into a lane: records 1 to ``upto``, without holes,
with the chain that proves it. Normally a lane has one, branch 0. When a journal was rolled back
and wrote other records under numbers that are held already, the second history becomes a branch:
it shares its parent's records up to its fork and has its own from there on.

A chain value commits to everything before it. So a batch belongs to a history exactly when the
two agree in one chain value that both know; bodies need comparing only to find where two
histories part. A batch that no history reaches yet waits, whole, until one does.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from itertools import count
from typing import Any, NamedTuple, Protocol

from edgeagent.model.record import Batch, Lane, extend_chain, genesis

MARK_EVERY = 256
"""Records between stored chain values: bounds what must be hashed again to check a repetition."""

SEQ_MAX = 2**63 - 1


class Taken(Enum):
    """What became of a batch."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    WAITING = "waiting"


class Conflict(NamedTuple):
    """Two bodies under one key.

    :ivar held: SHA-256 (hexadecimal) of the body held
    :ivar offered: SHA-256 (hexadecimal) of the body now offered
    :ivar branch: where the second history is kept; ``None`` while its beginning is not known
    """

    seq: int
    held: str
    offered: str
    branch: int | None


@dataclass(slots=True)
class Branch:
    """One history of a lane.

    :ivar fork_seq: its first own record; 1 for branch 0
    :ivar upto: its last record
    :ivar chain: h(upto)
    :ivar marked: the last record whose chain value is stored
    :ivar holes: how many ranges it goes on over because the agent said that they are lost
    """

    number: int
    parent: int
    fork_seq: int
    upto: int
    chain: bytes
    marked: int = 0
    holes: int = 0


@dataclass(slots=True)
class Histories:
    """All that is known of one lane of one epoch.

    :ivar active: the branch in which the agent lives, as far as its last batch told
    :ivar waiting: how many batches wait
    """

    epoch: str
    lane: Lane
    branches: dict[int, Branch]
    active: int = 0
    waiting: int = 0

    @classmethod
    def empty(cls, epoch: str, lane: Lane) -> "Histories":
        """Return the histories of a lane of which nothing was received yet."""
        return cls(epoch, lane, {0: Branch(0, 0, 1, 0, genesis(epoch, lane))})


class Ledger(Protocol):
    """What the intake reads and writes: the tables of one lane, inside one transaction."""

    def append(self, branch: int, first: int, bodies: Sequence[bytes | None]) -> None:
        """Store records from ``first`` on; ``None`` where a body was lost."""

    def bodies(self, branch: int, first: int, last: int) -> list[bytes | None]:
        """Return a branch's own bodies of a range, ``None`` where there is none."""

    def mark(self, branch: int, seq: int, chain: bytes) -> None:
        """Store a chain value."""

    def mark_before(self, branch: int, seq: int) -> tuple[int, bytes] | None:
        """Return the branch's last stored chain value at or before ``seq``."""

    def keep(self, batch: Batch) -> bool:
        """Let a batch wait; ``False`` when it waits already."""

    def release(self, batch: Batch) -> None:
        """Forget a waiting batch."""

    def kept(self, first: int, last: int) -> list[Batch]:
        """Return the waiting batches that begin in a range, by their beginning."""

    def kept_after(self, seq: int) -> Batch | None:
        """Return the waiting batch that begins next after ``seq``, the newest if several do."""

    def kept_span(self) -> tuple[int, int]:
        """Return the first beginning and the last end of the waiting batches."""

    def unavailable(self) -> list[tuple[int, int]]:
        """Return the ranges that the agent said it cannot send any more."""

    def hole(self, branch: int, first: int, last: int, cause: str, chain: bytes) -> None:
        """Store that a branch goes on over a range, with the chain value stated at its end."""

    def conflict(self, conflict: Conflict) -> None:
        """Store that two bodies were offered under one key; nothing when it is known."""

    def note(self, event: str, severity: str, text: str, facts: dict[str, Any]) -> None:
        """Store an event for the operator."""


class _Placed(NamedTuple):
    """A batch has its place; waiting batches that begin in ``first`` … ``last`` may follow it."""

    taken: Taken
    first: int = 1
    last: int = 0


class _Fork(NamedTuple):
    seq: int
    branch: Branch


def fault_of(batch: Batch) -> str | None:
    """Return why a batch cannot be trusted, whatever is held; ``None`` when it can."""
    if not batch.bodies and not batch.missing:
        return "it is empty"
    if not is_identifier(batch.epoch):
        return "its epoch is no identifier"
    if batch.last > SEQ_MAX:
        return "its numbers are out of range"
    if batch.first == 1 and batch.prev != genesis(batch.epoch, batch.lane):
        return "it does not start from h(0)"
    missing = batch.missing
    if missing:
        inside = batch.first <= min(missing) and max(missing) <= batch.last
        distinct = len(set(missing)) == len(missing)
        return None if inside and distinct else "its missing numbers are not in its range"
    if extend_chain(batch.prev, batch.bodies) != batch.chain:
        return "its chain does not fit its bodies"
    return None


def is_identifier(text: str) -> bool:
    """Return whether a text can name a site or an epoch in the database and in a topic."""
    return re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text) is not None


class Intake:
    """Takes the batches of one lane of one epoch, in any order, any number of times."""

    def __init__(self, histories: Histories, ledger: Ledger) -> None:
        self._histories = histories
        self._ledger = ledger

    def take(self, batch: Batch) -> Taken:
        """Give a batch in which :func:`fault_of` finds nothing its place, or let it wait."""
        placed = self._place(batch)
        if placed is None:
            self._keep(batch)
            return Taken.WAITING
        self._settle(placed)
        return placed.taken

    def state_unavailable(self) -> None:
        """See whether a history can go on after the agent said what it cannot send any more."""
        self._settle(_Placed(Taken.DUPLICATE))

    def wanted(self) -> tuple[int, int] | None:
        """Return the range without which waiting batches have no place."""
        if not self._histories.waiting:
            return None
        upto = self._active.upto
        ahead = self._ledger.kept_after(upto + 1)
        if ahead is not None:
            return upto + 1, ahead.first - 1
        # Another history, whose fork is not known: look back twice as far each time.
        first, last = self._ledger.kept_span()
        start = max(1, first - max(MARK_EVERY, last - first))
        return (start, first - 1) if first > 1 else None

    # Place

    @property
    def _active(self) -> Branch:
        return self._histories.branches[self._histories.active]

    def _place(self, batch: Batch) -> _Placed | None:
        """Store what a batch adds; ``None`` when no history reaches it."""
        forks: list[_Fork] = []
        active = self._active
        others = (each for each in self._histories.branches.values() if each is not active)
        for branch in (active, *others):
            if batch.first > branch.upto + 1:
                continue
            joint = self._joint(branch, batch)
            if joint == batch.last + 1:
                return self._merge(branch, batch)
            if joint is not None:
                forks.append(_Fork(joint, branch))
        if forks:
            return self._fork(max(forks, key=lambda fork: fork.seq), batch)
        return None

    def _joint(self, branch: Branch, batch: Batch) -> int | None:
        """Return from where on a batch leaves a history: after its end when it does not.

        ``None`` when it does not begin in this history, as far as can be known.
        """
        whole = batch.last + 1
        reach = min(batch.last, branch.upto)
        theirs, ours = _chain_in(batch, reach), self._chain_at(branch, reach)
        if theirs is not None and theirs == ours:
            return whole
        if reach < batch.first or self._chain_at(branch, batch.first - 1) != batch.prev:
            return None
        differs = self._difference(branch, batch)
        if differs is None and theirs is not None and ours is not None:
            return None  # they part inside a range whose bodies are lost
        return whole if differs is None else differs

    def _difference(self, branch: Branch, batch: Batch) -> int | None:
        """Return the first number under which a history and a batch have different bodies."""
        held = self._bodies(branch, batch.first, min(batch.last, branch.upto))
        for seq, ours, theirs in zip(count(batch.first), held, _by_number(batch), strict=False):
            if ours is not None and theirs is not None and ours != theirs:
                return seq
        return None

    def _merge(self, branch: Branch, batch: Batch) -> _Placed:
        """Store what a batch of this history adds at its end, and inside its holes."""
        self._histories.active = branch.number
        before = branch.upto
        filled = self._fill(branch, batch)
        if batch.last > before:
            self._grow(branch, batch)
        elif not filled:
            return _Placed(Taken.DUPLICATE)
        return _Placed(
            Taken.STORED, min([before + 2, *(seq + 1 for seq in filled)]), batch.last + 1
        )

    def _grow(self, branch: Branch, batch: Batch) -> None:
        first = branch.upto + 1
        bodies = batch.bodies if not batch.missing else list(_by_number(batch))
        self._ledger.append(branch.number, first, bodies[first - batch.first :])
        branch.upto, branch.chain = batch.last, batch.chain
        lost = [seq for seq in sorted(batch.missing) if seq >= first]
        for start, end in _runs(lost):
            self._go_over(branch, start, end, "missing", batch.chain)
        if lost or branch.upto - branch.marked >= MARK_EVERY:
            self._mark(branch)

    def _mark(self, branch: Branch) -> None:
        self._ledger.mark(branch.number, branch.upto, branch.chain)
        branch.marked = branch.upto

    def _go_over(self, branch: Branch, first: int, last: int, cause: str, chain: bytes) -> None:
        branch.holes += 1
        self._ledger.hole(branch.number, first, last, cause, chain)
        self._ledger.note(
            f"record.{cause}",
            "alarm",
            f"Records {first} to {last} are lost: the agent says that they are {cause}. "
            "The chain goes on with the value that the agent states.",
            {"first": first, "last": last, "branch": branch.number},
        )

    def _fill(self, branch: Branch, batch: Batch) -> list[int]:
        """Store bodies for numbers that a history went over; return the numbers."""
        if not any(each.holes for each in self._histories.branches.values()):
            return []
        last = min(batch.last, branch.upto)
        held = self._bodies(branch, batch.first, last)
        filled = []
        for seq, ours, theirs in zip(count(batch.first), held, _by_number(batch), strict=False):
            if ours is None and theirs is not None:
                self._ledger.append(self._owner(branch, seq).number, seq, [theirs])
                filled.append(seq)
        if filled:
            text = f"Records {filled[0]} to {filled[-1]} came in after all."
            self._ledger.note("hole.filled", "info", text, {"records": len(filled)})
        return filled

    def _fork(self, fork: _Fork, batch: Batch) -> _Placed:
        """Keep both: open a branch for a history that leaves another one at ``fork.seq``."""
        held = self._bodies(fork.branch, fork.seq, fork.seq)[0]
        parent = fork.branch
        while parent.number and fork.seq <= parent.fork_seq:
            parent = self._histories.branches[parent.parent]
        number = max(self._histories.branches) + 1
        branch = Branch(number, parent.number, fork.seq, fork.seq - 1, b"", fork.seq - 1)
        self._histories.branches[number] = branch
        self._histories.active = number
        self._grow(branch, batch)
        self._conflict(fork.seq, held, batch, number)
        return _Placed(Taken.STORED, fork.seq + 1, batch.last + 1)

    def _conflict(self, seq: int, held: bytes | None, batch: Batch, branch: int | None) -> None:
        offered = next(body for n, body in zip(count(batch.first), _by_number(batch)) if n == seq)
        assert held is not None, "a difference needs a body that is held"
        assert offered is not None, "a difference needs a body that is offered"
        digests = sha256(held).hexdigest(), sha256(offered).hexdigest()
        self._ledger.conflict(Conflict(seq, *digests, branch))

    # Wait

    def _keep(self, batch: Batch) -> None:
        if not self._ledger.keep(batch):
            return
        self._histories.waiting += 1
        if self._reached(batch):
            self._unlinked(batch)
        else:
            self._settle(_Placed(Taken.WAITING))

    def _reached(self, batch: Batch) -> bool:
        return all(batch.first <= each.upto + 1 for each in self._histories.branches.values())

    def _unlinked(self, batch: Batch) -> None:
        """Tell that a batch continues nothing that is held; it may prove that there is a fork."""
        active = self._active
        differs = self._difference(active, batch) if batch.first <= active.upto else None
        if differs is not None:
            self._conflict(differs, self._bodies(active, differs, differs)[0], batch, None)
        self._ledger.note(
            "batch.unlinked",
            "warning",
            f"Records {batch.first} to {batch.last} continue no history that is held; they wait.",
            {"first": batch.first, "last": batch.last},
        )

    def _settle(self, placed: _Placed) -> None:
        """Give waiting batches their place as far as histories have come to reach them."""
        spans = [placed]
        while self._histories.waiting:
            if spans:
                spans += self._follow(spans.pop())
            elif (crossed := self._cross()) is not None:
                spans.append(crossed)
            else:
                break

    def _follow(self, span: _Placed) -> list[_Placed]:
        """Place the waiting batches of a span; return the further spans that this opens."""
        found = []
        for batch in self._ledger.kept(span.first, span.last) if span.first <= span.last else ():
            placed = self._place(batch)
            if placed is not None:
                self._ledger.release(batch)
                self._histories.waiting -= 1
                found.append(placed)
            elif self._reached(batch):
                self._unlinked(batch)
        return found

    def _cross(self) -> _Placed | None:
        """Go on over what the agent said it cannot send any more, to the next waiting batch."""
        branch = self._active
        ahead = self._ledger.kept_after(branch.upto + 1)
        if ahead is None:
            return None
        first, last = branch.upto + 1, ahead.first - 1
        if not _covered(first, last, self._ledger.unavailable()):
            return None
        branch.upto, branch.chain = last, ahead.prev
        self._go_over(branch, first, last, "unavailable", ahead.prev)
        self._mark(branch)
        return _Placed(Taken.STORED, first + 1, last + 1)

    # Look up

    def _owner(self, branch: Branch, seq: int) -> Branch:
        while seq < branch.fork_seq:
            branch = self._histories.branches[branch.parent]
        return branch

    def _bodies(self, branch: Branch, first: int, last: int) -> list[bytes | None]:
        """Return the bodies of a history, wherever on its way they are kept."""
        if last < first:
            return []
        if last < branch.fork_seq:
            return self._bodies(self._histories.branches[branch.parent], first, last)
        own = self._ledger.bodies(branch.number, max(first, branch.fork_seq), last)
        if first >= branch.fork_seq:
            return own
        parent = self._histories.branches[branch.parent]
        return self._bodies(parent, first, branch.fork_seq - 1) + own

    def _chain_at(self, branch: Branch, seq: int) -> bytes | None:
        """Return h(seq) of a history; ``None`` when bodies on the way to it are lost."""
        if seq == branch.upto:
            return branch.chain
        if seq == 0:
            return genesis(self._histories.epoch, self._histories.lane)
        branch = self._owner(branch, seq)
        start, chain = self._ledger.mark_before(branch.number, seq) or (branch.fork_seq - 1, None)
        if chain is None:
            parent = self._histories.branches[branch.parent]
            chain = self._chain_at(parent, start)
        bodies = self._ledger.bodies(branch.number, start + 1, seq)
        known = [body for body in bodies if body is not None]
        if chain is None or len(known) < len(bodies):
            return None
        return extend_chain(chain, known)


def _by_number(batch: Batch) -> Iterator[bytes | None]:
    """Yield the body of each number of a batch's range, ``None`` where it is missing."""
    if not batch.missing:
        yield from batch.bodies
        return
    bodies, missing = iter(batch.bodies), set(batch.missing)
    for seq in range(batch.first, batch.last + 1):
        yield None if seq in missing else next(bodies)


def _chain_in(batch: Batch, seq: int) -> bytes | None:
    """Return h(seq) as a batch implies it; ``None`` behind a missing body."""
    if seq == batch.first - 1:
        return batch.prev
    if seq == batch.last:
        return batch.chain
    if batch.missing and min(batch.missing) <= seq:
        return None
    return extend_chain(batch.prev, batch.bodies[: seq - batch.first + 1])


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of consecutive numbers in a sorted sequence."""
    start = 0
    for index, seq in enumerate(numbers):
        if index + 1 == len(numbers) or numbers[index + 1] != seq + 1:
            yield numbers[start], seq
            start = index + 1


def _covered(first: int, last: int, ranges: Sequence[tuple[int, int]]) -> bool:
    """Return whether ranges together contain all of ``first`` … ``last``."""
    for start, end in sorted(ranges):
        if start <= first <= end:
            first = end + 1
    return first > last

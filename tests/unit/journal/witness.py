"""The truth beside a journal: what it was asked to take, and what it returned for.

Nothing here is asked of the journal: numbers are counted, bodies are composed and chains are
hashed once more, as ``docs/mqtt.md`` says.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeagent.cli.journal import verify_lane
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import Committed, Cursor, Reader
from edgeagent.model.record import (
    Instant,
    Lane,
    Record,
    context_record,
    event_record,
    evidence_text,
    schema_record,
)

AT = Instant(1_795_403_350_123_456_789, 86_400_123_456_789)


def frame(value: float, raw: bytes | None = None) -> Record:
    """A frame of one value, with the raw reply as evidence if it is given."""
    tail = b"1,1,%d,%d,0,0,null,null,null,[%r],null,%b]" % (*AT, value, evidence_text(raw))
    return Record(Lane.DATA, "F", tail, raw if raw and len(raw) > 32 else None)


def event(text: str) -> Record:
    return event_record(1, AT, "agent.started", "info", text, {})


def schema(number: int) -> Record:
    return schema_record(number, AT, {"instrument": "incubator", "group": f"g{number}"})


def context(lane: Lane, number: int) -> Record:
    return context_record(lane, number, AT, {"configuration": f"revision {number}"})


def chain_of(epoch: str, lane: Lane, bodies: Sequence[bytes]) -> bytes:
    """h(n), computed as the document says."""
    chain = hashlib.sha256(f"edgeagent/1|{epoch}|{lane}".encode()).digest()
    for body in bodies:
        chain = hashlib.sha256(chain + body).digest()
    return chain


@dataclass(frozen=True)
class State:
    """All that a journal holds at one moment; epochs by their number."""

    epochs: int = 1
    bodies: Mapping[tuple[int, Lane], tuple[bytes, ...]] = field(default_factory=dict)
    evidence: Mapping[tuple[int, int], bytes] = field(default_factory=dict)
    described: Mapping[tuple[str, str, int], Record] = field(default_factory=dict)
    cursors: Mapping[tuple[str, int, Lane], Cursor] = field(default_factory=dict)
    checkpoint: tuple[int, int, bytes] | None = None

    def with_commit(
        self,
        records: Sequence[Record],
        checkpoint: bytes | None = None,
        cursors: Mapping[tuple[str, int, Lane], Cursor] | None = None,
    ) -> "State":
        """The state behind one commit."""
        epoch, bodies, evidence = self.epochs - 1, dict(self.bodies), dict(self.evidence)
        described = dict(self.described)
        for record in records:
            held = bodies.get((epoch, record.lane), ())
            seq = len(held) + 1
            body = b'["%b",%d,' % (record.kind.encode(), seq) + record.tail
            bodies[epoch, record.lane] = (*held, body)
            if record.evidence is not None:
                evidence[epoch, seq] = record.evidence
            if record.kind in ("S", "C"):
                described[record.kind, record.lane, record.number] = record
        point = self.checkpoint
        if checkpoint is not None:
            point = (epoch, len(bodies.get((epoch, Lane.DATA), ())), checkpoint)
        moved = {**self.cursors, **(cursors or {})}
        return State(self.epochs, bodies, evidence, described, moved, point)

    def with_epoch(self) -> "State":
        """The state behind the opening of an epoch: what is in force stands at its beginning."""
        newest = {
            lane: max((n for kind, of, n in self.described if (kind, of) == ("C", lane)), default=0)
            for lane in Lane
        }
        in_force = [
            record
            for (kind, lane, number), record in sorted(self.described.items())
            if kind == "S" or number == newest[Lane(lane)]
        ]
        opened = State(
            self.epochs + 1,
            self.bodies,
            self.evidence,
            self.described,
            self.cursors,
            self.checkpoint,
        )
        return opened.with_commit(in_force)


def look(directory: Path, vfs: str | None = None) -> State:
    """Return what is found in a directory; fail if anything there contradicts itself."""
    reader = Reader(directory / FILE_NAME, vfs)
    try:
        epochs = reader.epochs()
        bodies: dict[tuple[int, Lane], tuple[bytes, ...]] = {}
        evidence: dict[tuple[int, int], bytes] = {}
        for epoch in epochs:
            for lane in Lane:
                count, faults = verify_lane(reader, epoch, lane)
                assert not faults, faults
                entries = reader.read(epoch, lane, 0, bytes_max=1 << 40)
                assert [entry.seq for entry in entries] == list(range(1, count + 1)), "holes"
                found = tuple(entry.body for entry in entries)
                held = reader.lane_range(epoch, lane)
                assert held.chain == chain_of(epoch.uuid, lane, found)
                if found:
                    bodies[epoch.number, lane] = found
            for seq, raw in reader.evidence(epoch, 0, 1 << 40):
                evidence[epoch.number, seq] = raw
        return State(
            len(epochs),
            bodies,
            evidence,
            _described(reader),
            reader.cursors(),
            reader.checkpoint(),
        )
    finally:
        reader.close()


def _described(reader: Reader) -> dict[tuple[str, str, int], Record]:
    rows = reader._db.execute("SELECT kind, lane, number, tail FROM description")
    return {
        (kind, lane, number): Record(Lane(lane), kind, tail, number=number)
        for kind, lane, number, tail in rows
    }


class Witness:
    """Every state that a journal may be in, by the moment at which it was asked for it.

    A moment is whatever number grows with time, e.g. ``len(disk.log)``.

    :ivar tried: the state that was refused last
    """

    def __init__(self, state: State | None = None) -> None:
        self.states = [state or State()]
        self.asked: list[int] = []
        self.returned: list[int] = []
        self.tried: State | None = None

    @property
    def state(self) -> State:
        return self.states[-1]

    def ask(self, moment: int, after: State) -> None:
        """The journal is asked at this moment to go over into this state."""
        self.asked.append(moment)
        self.states.append(after)

    def took(self, moment: int, committed: Sequence[Committed] = ()) -> None:
        """The journal has returned at this moment: it promises to be in the state asked for."""
        self.returned.append(moment)
        assert len(self.returned) == len(self.asked)
        epoch = self.state.epochs - 1
        for part in committed:
            held = self.state.bodies[epoch, part.lane]
            assert tuple(part.bodies) == held[part.first - 1 :]
            assert part.chain == chain_of(part.epoch, part.lane, held)
            assert part.prev == chain_of(part.epoch, part.lane, held[: part.first - 1])

    def refused(self) -> None:
        """The journal has said that it could not, and that it may be asked again."""
        self.asked.pop()
        self.tried = self.states.pop()

    def possible(self, moment: int) -> list[State]:
        """The states of which one must be found at a moment: nothing promised is missing."""
        promised = sum(at <= moment for at in self.returned)
        begun = sum(at < moment for at in self.asked)
        return self.states[promised : max(promised, begun) + 1]

    def check(self, found: State, moment: int) -> None:
        """Fail if this cannot be what a fault at this moment left."""
        possible = self.possible(moment)
        assert found in possible, explain(found, possible)

    def found(self, state: State, moment: int) -> None:
        """Check what is found after a fault, and go on from there."""
        self.check(state, moment)
        self.states, self.asked, self.returned = [state], [], []


def explain(found: State, possible: Sequence[State]) -> str:
    """Say in a line what is missing or too much."""
    sizes: list[Any] = [
        {f"{epoch}/{lane}": len(bodies) for (epoch, lane), bodies in state.bodies.items()}
        for state in (found, *possible)
    ]
    return f"found {sizes[0]}, may be {sizes[1:]}"

"""The truth beside a journal: what it was asked to take, and what it returned for.

Nothing here is asked of the journal: numbers are counted, bodies are composed and chains are
hashed once more, as ``docs/mqtt.md`` says.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeagent.journal.inspect import verify_lane
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import Committed, Cursor, Epoch, Reader
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


def proved(reader: Reader, epoch: Epoch, lane: Lane) -> tuple[int, list[str]]:
    """What a whole verification of a lane says: how many records it read, and every fault."""
    pieces = list(verify_lane(reader, epoch, lane))
    return sum(p.records for p in pieces), [fault for p in pieces for fault in p.faults]


def chain_of(epoch: str, lane: Lane, bodies: Sequence[bytes]) -> bytes:
    """h(n), computed as the document says."""
    return chain_from(hashlib.sha256(f"edgeagent/1|{epoch}|{lane}".encode()).digest(), bodies)


def chain_from(chain: bytes, bodies: Sequence[bytes]) -> bytes:
    for body in bodies:
        chain = hashlib.sha256(chain + body).digest()
    return chain


@dataclass(frozen=True)
class State:
    """All that a journal holds at one moment; epochs by their number.

    ``bodies`` begin behind the place in ``purged``, which comes with the chain value there.
    """

    epochs: int = 1
    bodies: Mapping[tuple[int, Lane], tuple[bytes, ...]] = field(default_factory=dict)
    evidence: Mapping[tuple[int, int], bytes] = field(default_factory=dict)
    described: Mapping[tuple[str, str, int], Record] = field(default_factory=dict)
    cursors: Mapping[tuple[str, int, Lane], Cursor] = field(default_factory=dict)
    checkpoint: tuple[int, int, bytes] | None = None
    purged: Mapping[tuple[int, str], tuple[int, bytes | None]] = field(default_factory=dict)

    def highest(self, epoch: int, lane: Lane) -> int:
        return self.lowest(epoch, lane) - 1 + len(self.bodies.get((epoch, lane), ()))

    def lowest(self, epoch: int, lane: Lane) -> int:
        return self.purged.get((epoch, lane), (0, None))[0] + 1

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
            seq = self.lowest(epoch, record.lane) + len(held)
            body = b'["%b",%d,' % (record.kind.encode(), seq) + record.tail
            bodies[epoch, record.lane] = (*held, body)
            if record.evidence is not None:
                evidence[epoch, seq] = record.evidence
            if record.kind in ("S", "C"):
                described[record.kind, record.lane, record.number] = record
        after = replace(
            self,
            bodies=bodies,
            evidence=evidence,
            described=described,
            cursors={**self.cursors, **(cursors or {})},
        )
        if checkpoint is None:
            return after
        return replace(after, checkpoint=(epoch, after.highest(epoch, Lane.DATA), checkpoint))

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
        return replace(self, epochs=self.epochs + 1).with_commit(in_force)

    def with_purge(self, epoch: Epoch, lane: Lane, upto: int) -> "State":
        """The state when the records up to here are forgotten, and their raw replies."""
        upto = min(upto, self.highest(epoch.number, lane))
        low = self.lowest(epoch.number, lane)
        if upto < low:
            return self
        key = (epoch.number, lane)
        gone, held = self.bodies[key][: upto - low + 1], self.bodies[key][upto - low + 1 :]
        bodies = {k: v for k, v in self.bodies.items() if k != key} | ({key: held} if held else {})
        chain = chain_from(self.chain_before(epoch, lane), gone)
        after = replace(self, bodies=bodies, purged={**self.purged, key: (upto, chain)})
        return after.with_evidence_purge(epoch, upto) if lane is Lane.DATA else after

    def with_evidence_purge(self, epoch: Epoch, upto: int) -> "State":
        """The state when the raw replies up to here are forgotten."""
        upto = min(upto, self.highest(epoch.number, Lane.DATA))
        key = (epoch.number, "evidence")
        if upto <= self.purged.get(key, (0, None))[0]:
            return self
        evidence = {
            (number, seq): raw
            for (number, seq), raw in self.evidence.items()
            if number != epoch.number or seq > upto
        }
        return replace(self, evidence=evidence, purged={**self.purged, key: (upto, None)})

    def chain_before(self, epoch: Epoch, lane: Lane) -> bytes:
        """The chain value before the oldest record that is held."""
        _, chain = self.purged.get((epoch.number, lane), (0, None))
        return chain or chain_of(epoch.uuid, lane, [])


def look(directory: Path, vfs: str | None = None) -> State:
    """Return what is found in a directory; fail if anything there contradicts itself."""
    reader = Reader(directory / FILE_NAME, vfs)
    try:
        return seen(reader)
    finally:
        reader.close()


def seen(reader: Reader) -> State:
    """Return what a reader sees; fail if anything there contradicts itself."""
    epochs = reader.epochs()
    bodies: dict[tuple[int, Lane], tuple[bytes, ...]] = {}
    evidence: dict[tuple[int, int], bytes] = {}
    purged: dict[tuple[int, str], tuple[int, bytes | None]] = {}
    for epoch in epochs:
        for lane in Lane:
            count, faults = proved(reader, epoch, lane)
            assert not faults, faults
            entries = reader.read(epoch, lane, 0, bytes_max=1 << 40)
            held = reader.lane_range(epoch, lane)
            below, chain = reader.purged(epoch, lane)
            assert held[:2] == (below + 1, below + count)
            assert [entry.seq for entry in entries] == list(range(below + 1, below + count + 1))
            found = tuple(entry.body for entry in entries)
            assert chain is not None
            assert held.chain == chain_from(chain, found)
            if found:
                bodies[epoch.number, lane] = found
            if below:
                purged[epoch.number, lane] = (below, chain)
        if (below := reader.purged(epoch, "evidence"))[0]:
            purged[epoch.number, "evidence"] = below
        for seq, raw in reader.evidence(epoch, 0, 1 << 40):
            evidence[epoch.number, seq] = raw
    return State(
        len(epochs),
        bodies,
        evidence,
        _described(reader),
        reader.cursors(),
        reader.checkpoint(),
        purged,
    )


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
            held, low = self.state.bodies[epoch, part.lane], self.state.lowest(epoch, part.lane)
            before = held[: part.first - low]
            assert tuple(part.bodies) == held[len(before) :]
            start = self.state.chain_before(Epoch(epoch, part.epoch, 0, ""), part.lane)
            assert part.prev == chain_from(start, before)
            assert part.chain == chain_from(part.prev, part.bodies)

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

"""A ledger in memory: the oracle's side of the intake tests."""

from collections.abc import Sequence
from typing import Any

from edgeagent.central.intake import Conflict
from edgeagent.model.record import Batch


class MemoryLedger:
    """The tables of one lane, as plain containers that a test can look into."""

    def __init__(self) -> None:
        self.records: dict[tuple[int, int], bytes] = {}
        self.marks: dict[tuple[int, int], bytes] = {}
        self.waiting: list[Batch] = []
        self.stated: list[tuple[int, int]] = []
        self.holes: list[tuple[int, int, int, str]] = []
        self.conflicts: list[Conflict] = []
        self.events: list[str] = []

    def append(self, branch: int, first: int, bodies: Sequence[bytes | None]) -> None:
        for seq, body in enumerate(bodies, first):
            if body is not None:
                assert (branch, seq) not in self.records, "a key is written once"
                self.records[branch, seq] = body

    def bodies(self, branch: int, first: int, last: int) -> list[bytes | None]:
        return [self.records.get((branch, seq)) for seq in range(first, last + 1)]

    def mark(self, branch: int, seq: int, chain: bytes) -> None:
        self.marks[branch, seq] = chain

    def mark_before(self, branch: int, seq: int) -> tuple[int, bytes] | None:
        known = [at for number, at in self.marks if number == branch and at <= seq]
        return (max(known), self.marks[branch, max(known)]) if known else None

    def keep(self, batch: Batch) -> bool:
        if batch in self.waiting:
            return False
        self.waiting.append(batch)
        return True

    def release(self, batch: Batch) -> None:
        self.waiting.remove(batch)

    def kept(self, first: int, last: int) -> list[Batch]:
        found = [batch for batch in self.waiting if first <= batch.first <= last]
        return sorted(found, key=lambda batch: batch.first)

    def kept_after(self, seq: int) -> Batch | None:
        found = [batch for batch in reversed(self.waiting) if batch.first > seq]
        return min(found, key=lambda batch: batch.first, default=None)

    def kept_span(self) -> tuple[int, int]:
        return min(b.first for b in self.waiting), max(b.last for b in self.waiting)

    def unavailable(self) -> list[tuple[int, int]]:
        return self.stated

    def hole(self, branch: int, first: int, last: int, cause: str, chain: bytes) -> None:
        self.holes.append((branch, first, last, cause))

    def conflict(self, conflict: Conflict) -> None:
        if all(
            (known.seq, known.offered) != (conflict.seq, conflict.offered)
            for known in self.conflicts
        ):
            self.conflicts.append(conflict)

    def note(self, event: str, severity: str, text: str, facts: dict[str, Any]) -> None:
        assert severity in ("info", "warning", "alarm")
        self.events.append(event)

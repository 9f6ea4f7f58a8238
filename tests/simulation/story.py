"""The records of a day as a consumer reads them, and each tag's time line compared with the truth.

Nothing of the product is used here: records are read with a JSON parser of their own.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.simulation.devices import Failure, Reading
from tests.simulation.run import Evidence

START_S = 5.0
LATE_TICKS = 3
"""A poll that begins within its period and ends within the next one misses no tick."""
CAUSES = {
    "link_lost",
    "timeout",
    "refused",
    "bad_reply",
    "overrun",
    "agent_stopped",
    "agent_killed",
    "journal_full",
    "internal_error",
    "first_value",
}


class Record(NamedTuple):
    """A delivered record, decoded."""

    epoch: int
    lane: str
    seq: int
    body: list[Any]


class Story:
    """The records of a day in order, and what their numbers mean.

    A record that rotted on the agent's disk stands in its place: it had been acquired.
    """

    def __init__(self, evidence: Evidence) -> None:
        bodies = {(r.epoch, r.lane, r.seq): r.body for r in evidence.agent.machine.rotten}
        self.rotten = set(bodies)
        for rows in evidence.held.values():
            bodies |= {(row.epoch, row.lane, row.seq): row.body for row in rows}
        order = {uuid: number for number, uuid in enumerate(evidence.epochs)}
        self.records = sorted(
            (Record(order.get(epoch, -1), lane, seq, json.loads(body))
             for (epoch, lane, seq), body in bodies.items()),
            key=lambda record: record[:3],
        )  # fmt: skip
        data = [record.body for record in self.records if record.lane == "data"]
        self.group_of = {
            body[2]: f"{body[5]['instrument']}/{body[5]['group']}"
            for body in data
            if body[0] == "S"
        }
        self.boot_of = {
            (r.lane, r.body[2]): r.body[5]["boot_id"] for r in self.records if r.body[0] == "C"
        }
        self.lines: dict[str, list[list[Any]]] = {group: [] for group in evidence.ledger.lines}
        for body in data:
            if body[0] in ("F", "G"):
                self.lines[self.group_of[body[2]]].append(body)
        self.lost = {
            json.loads(r.body)[11][0]
            for r in evidence.agent.machine.rotten
            if (r.epoch, r.lane, r.seq) in self.rotten
        }

    def frames(self) -> Iterator[list[Any]]:
        """Yield every frame."""
        for line in self.lines.values():
            yield from (body for body in line if body[0] == "F")

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the facts of the events of one type."""
        bodies = [record.body for record in self.records if record.body[0] == "E"]
        return [body[6] for body in bodies if body[5] == kind]


class Hole(NamedTuple):
    """A gap that ended: between two readings of one tag, for this cause."""

    cause: str
    since: Any
    until: Any


class TagLine:
    """One tag of one group as its records tell it, compared with the ledger."""

    def __init__(self, evidence: Evidence, story: Story, group: str, tag: int) -> None:
        self.evidence = evidence
        self.name = f"{group} tag {tag}"
        self.tag = tag
        self.lost = story.lost
        self.period_s = evidence.ledger.periods_s[group]
        self.truth = evidence.ledger.lines[group]
        self.count = len(evidence.ledger.tags[group])
        self.open: list[Any] | None = None
        self.hole: Hole | None = None
        self.last: Reading | None = None
        self.stamps: list[tuple[list[int], bool]] = []
        self.missing: list[str] = []
        self.dishonest: list[str] = []
        line = story.lines[group]
        self.live = {body[11][0] for body in line if body[0] == "F" and body[6] == 0}
        self.place = {
            entry.number: at for at, entry in enumerate(self.truth) if isinstance(entry, Reading)
        }
        for body in line:
            (self._gap if body[0] == "G" else self._frame)(body)
        self._end()

    def _gap(self, body: list[Any]) -> None:
        number, cause, since, until, tags = body[6:11]
        mine = tags is None or self.tag in tags
        if self.open is not None and number == self.open[0]:
            if until is not None and mine:
                self.hole = Hole(cause, since, until)
            self.open = None
            if until is None:
                self.missing.append(f"{self.name}: gap {number} opens twice")
        elif mine and self.open is not None:
            self.missing.append(f"{self.name}: gap {number} opens within gap {self.open[0]}")
        elif mine and until is None:
            self.open = [number, cause, since]
        elif mine:
            self.hole = Hole(cause, since, until)
        if mine:
            self._check_since(number, since)

    def _check_since(self, number: int, since: list[int | None] | None) -> None:
        """A gap begins at the last value, or at the one before where that had rotted away."""
        for known, rotten in [*reversed(self.stamps), (None, False)]:
            if since == known or (since and known and since == [known[0], None]):
                return
            if not rotten:
                break
        self.missing.append(f"{self.name}: gap {number} begins at {since}, not at {known}")

    def _frame(self, body: list[Any]) -> None:
        number = body[11][0]
        reading = self.evidence.ledger.readings.get(number)
        if body[6] != 0 or reading is None:
            return
        if body[8] is not None and self.tag not in body[8]:
            if self.open is None:
                self.missing.append(f"{self.name}: reading {number} lacks it, and no gap says so")
            return
        if self.open is not None:
            self.missing.append(f"{self.name}: reading {number} stands within gap {self.open[0]}")
        if self.hole is not None and self.hole.until != body[4:6]:
            self.missing.append(
                f"{self.name}: a gap ends at {self.hole.until}, not at reading {number}"
            )
        self._between(self.last, reading)
        self.last, self.hole = reading, None
        self.stamps.append((body[4:6], number in self.lost))

    def _between(self, one: Reading | None, other: Reading) -> None:
        """Compare what is said to lie between two values with what did."""
        began = 0 if one is None else self.place[one.number] + 1
        skipped = [e for e in self.truth[began : self.place[other.number]] if self._is_no_value(e)]
        began_s = 0.0 if one is None else one.at_s
        took_s = other.at_s - began_s
        where = f"{self.name}: between {began_s:.3f} s and reading {other.number}"
        if self.hole is None:
            if one is None:
                self.missing.append(f"{where}: no gap says that there was no value yet")
            elif skipped:
                self.missing.append(f"{where}: no gap, but {_words(skipped[0])}")
            elif took_s >= LATE_TICKS * self.period_s:
                self.missing.append(f"{where}: no gap, but {took_s:.1f} s")
        elif self.hole.cause not in self._causes(skipped, began_s, other.at_s):
            self.dishonest.append(f"{where}: a gap says {self.hole.cause}; {len(skipped)} failures")

    def _is_no_value(self, entry: Reading | Failure) -> bool:
        if isinstance(entry, Failure):
            return True
        if entry.late:
            return False  # its failure is noted beside it
        return entry.number not in self.live or self.tag in entry.failed

    def _causes(self, skipped: list[Reading | Failure], began_s: float, ended_s: float) -> set[str]:
        """Return the causes that a gap between these moments may have."""
        found = {each.cause for each in skipped if isinstance(each, Failure)}
        found |= {
            each.failed[self.tag]
            for each in skipped
            if isinstance(each, Reading) and self.tag in each.failed
        }
        if "timeout" in found:
            found.add("link_lost")  # when nobody on a link answers, it is taken for lost
        for life in self.evidence.agent.lives:
            if began_s <= life.end_s <= ended_s:
                found.add("agent_stopped" if life.end == "stop" else "agent_killed")
            if began_s <= life.stop_s <= ended_s:
                found.add("agent_stopped")
            if began_s - START_S <= life.begin_s <= ended_s:
                found.add("journal_full")  # a start alone has more to say than some days may hold
        hindered = self.evidence.agent.machine.hindered_s
        if any(begin <= ended_s and began_s <= end + 2 for begin, end in hindered):
            found.add("journal_full")
        if ended_s - began_s > self.period_s:
            found.add("overrun")
        if began_s == 0:
            found.add("first_value")
        return found

    def _end(self) -> None:
        age_s = self.evidence.end_s - (self.last.at_s if self.last else 0.0)
        if self.open is None and age_s > LATE_TICKS * self.period_s + 10:
            self.missing.append(f"{self.name}: the last {age_s:.1f} s are neither value nor gap")


def _words(entry: Reading | Failure) -> str:
    if isinstance(entry, Failure):
        return f"{entry.cause} at {entry.at_s:.3f} s"
    return f"reading {entry.number} of {entry.at_s:.3f} s was not delivered"


def tag_lines(evidence: Evidence, story: Story) -> Iterator[TagLine]:
    """Yield every tag of every group."""
    for group, tags in evidence.ledger.tags.items():
        for tag in range(len(tags)):
            yield TagLine(evidence, story, group, tag)

"""Continuity: the time line of each tag as a partition into values and gaps.

A gap is recorded when it opens and again, under the same number, when it closes. What was known
when the agent ended is taken up at the next start, so that a kill, too, is a gap with bounds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from edgeagent.model import quality
from edgeagent.model.frame import Frame, GroupSchema, Loss, Origin
from edgeagent.model.record import (
    Bound,
    Entry,
    Instant,
    Record,
    decode_json,
    encode_json,
    gap_record,
)

_MARKS = 14
"""Position of the marks in a frame (``docs/mqtt.md`` section 3.3)."""

Reason: TypeAlias = tuple[str, str | None]
"""Cause and detail of a gap."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Time without values of a group, as the device's own clock bounds it.

    :ivar bounds: of each tag concerned: index, time of the last value before, of the first after
    :ivar why: what it belongs to, in words
    """

    group: GroupSchema
    bounds: tuple[tuple[int, int, int], ...]
    why: str


@dataclass(slots=True)
class OpenGap:
    """A gap that has not ended; ``tags`` are the indices of the tags that are in it."""

    number: int
    cause: str
    since: Bound | None
    detail: str | None
    tags: list[int]


@dataclass(slots=True)
class Line:
    """What is known of one group under one schema. A tag is in one gap at most.

    :ivar count: number of tags
    :ivar last: when the last frame came
    :ivar gaps: the open gaps by number
    :ivar source: the device's time of each tag's last value: one for all, or one per tag
    """

    schema: int
    count: int
    last: Bound | None = None
    gaps: dict[int, OpenGap] = field(default_factory=dict)
    source: int | list[int | None] | None = None

    def sources(self) -> list[int | None]:
        """Return the device's time of each tag's last value."""
        if isinstance(self.source, list):
            return list(self.source)
        return [self.source] * self.count

    def stamp(self, times: Sequence[int | None] | int, present: Sequence[int] | None) -> None:
        """Note the device's time of new values; several ``times`` are parallel to ``present``."""
        if present is None:
            self.source = times if isinstance(times, int) else list(times)
            return
        known = self.sources()
        for place, index in enumerate(present):
            known[index] = times if isinstance(times, int) else times[place]
        self.source = known

    def due(self) -> list[int]:
        """Return the tags that are in no gap."""
        missing = {index for gap in self.gaps.values() for index in gap.tags}
        return [index for index in range(self.count) if index not in missing]

    @property
    def whole(self) -> OpenGap | None:
        """The youngest gap, when every tag is in one."""
        return None if self.due() else next(reversed(self.gaps.values()), None)


class Continuity:
    """The lines of all groups of this site, by ``instrument/group``.

    :ivar on_stretch: is told of each gap that ended, where the device's own time bounds it
    :ivar marks: what a driver is told after a restart, by ``instrument/group``. They outlive the
        schema: what was read does not depend on it
    """

    def __init__(self) -> None:
        self.on_stretch: Callable[[Stretch], None] | None = None
        self.lines: dict[str, Line] = {}
        self.marks: dict[str, dict[str, str]] = {}
        self.gaps_opened = 0
        self._boot_id: str | None = None
        self._next = 1

    # -- what was known before -----------------------------------------------------------------

    def restore(
        self,
        checkpoint: bytes | None,
        behind: Iterable[Entry],
        groups: Mapping[int, tuple[str, int]],
    ) -> None:
        """Take up the state of a checkpoint and of the data records behind it.

        :param groups: ``instrument/group`` and number of tags by schema number
        """
        if checkpoint is not None:
            state = decode_json(checkpoint)
            self._next, self._boot_id = state["next"], state["boot_id"]
            self.lines = {key: _line(*known) for key, known in state["lines"].items()}
            self.marks = state.get("marks", {})
        for entry in behind:
            self._replay(decode_json(entry.body), groups)

    def _replay(self, body: list[Any], groups: Mapping[int, tuple[str, int]]) -> None:
        if body[0] == "C":
            self.enter_boot(body[5].get("boot_id"))
        elif body[0] == "F":
            if len(body) > _MARKS:
                self.mark(groups[body[2]][0], body[_MARKS])
            if body[6] == Origin.LIVE:
                line = self._replay_line(body[2], groups)
                line.last = Bound(body[4], body[5])
                if body[9] is not None:
                    line.stamp(body[9], body[8])
        elif body[0] == "G":
            self._replay_gap(body, groups)

    def _replay_line(self, schema: int, groups: Mapping[int, tuple[str, int]]) -> Line:
        key, count = groups[schema]
        line = self.lines.get(key)
        if line is None or line.schema != schema:
            line = self.lines[key] = Line(schema, count)
        return line

    def _replay_gap(self, body: list[Any], groups: Mapping[int, tuple[str, int]]) -> None:
        number, cause, since, until, tags, detail = body[6:12]
        self._next = max(self._next, number + 1)
        line = self._replay_line(body[2], groups)
        if until is None:
            stated = list(range(line.count)) if tags is None else tags
            line.gaps[number] = OpenGap(number, cause, _bound(since), detail, stated)
        elif line.gaps.pop(number, None) is not None and not line.gaps and until[1] is not None:
            # The frame that ended the gap follows at once; without one the line was retired.
            # (An end without boot time is a driver's word that the tags are watched again.)
            del self.lines[groups[body[2]][0]]

    def snapshot(self) -> bytes:
        """Return a state that :meth:`restore` understands."""
        lines = {
            key: [
                line.schema,
                line.count,
                line.last,
                [[g.number, g.cause, g.since, g.detail, g.tags] for g in line.gaps.values()],
                line.source,
            ]
            for key, line in self.lines.items()
        }
        return encode_json(
            {"next": self._next, "boot_id": self._boot_id, "lines": lines, "marks": self.marks}
        )

    # -- what happens now ----------------------------------------------------------------------

    def enter_boot(self, boot_id: str | None) -> None:
        """Take note of the boot to which boot times belong from now on.

        When it is another one, what is known keeps its UTC and loses what no longer compares.
        """
        if boot_id == self._boot_id:
            return
        self._boot_id = boot_id
        for line in self.lines.values():
            line.last = _of_another_boot(line.last)
            for gap in line.gaps.values():
                gap.since = _of_another_boot(gap.since)

    def was_killed(self) -> bool:
        """Return whether what was restored is of an agent that read and never said it ended."""
        return any(line.last is not None and line.due() for line in self.lines.values())

    def retired(self, in_use: Mapping[str, int]) -> list[str]:
        """Return the groups that are no longer read, or no longer under the schema they had.

        :param in_use: schema number by group
        """
        return sorted(k for k, line in self.lines.items() if in_use.get(k) != line.schema)

    def retire(self, key: str, context: int, at: Instant) -> list[Record]:
        """Forget a group: its gaps end here, because nothing of it is due any more."""
        line = self.lines[key]
        records = self._miss(line, context, at, "agent_killed", None, line.due())
        records += [_written(line, g, context, at, at, g.tags) for g in line.gaps.values()]
        del self.lines[key]
        return records

    def begin(self, group: GroupSchema, schema: int, context: int, at: Instant) -> list[Record]:
        """Take up one group at the start of the agent; a tag in no gap was left by a kill."""
        line = self.lines.setdefault(str(group), Line(schema, len(group.tags)))
        cause = "first_value" if line.last is None else "agent_killed"
        return self._miss(line, context, at, cause, None, line.due())

    def good(self, frame: Frame, context: int, skipped: int) -> list[Record]:
        """Take note of a frame; return the gaps that it closes or opens, to stand before it.

        :param skipped: ticks that were missed because this frame took longer than its period
        """
        line = self.lines[str(frame.group)]
        at = Instant(frame.received_utc_ns, frame.received_boot_ns)
        records: list[Record] = []
        if line.gaps or skipped or frame.present is not None:
            open_before = dict(line.gaps)
            records = self._settle(line, frame, context, at, skipped)
            self._tell(line, frame, open_before)
        line.last = Bound(*at)
        times, present = frame.source_utc_ns, frame.present
        if times is not None:
            if present is not None and not isinstance(times, int):
                times = tuple(times[index] for index in present)
            line.stamp(times, present)
        return records

    def bad(
        self,
        group: GroupSchema,
        context: int,
        at: Instant,
        cause: str,
        detail: str | None,
        tags: Sequence[int] | None = None,
    ) -> list[Record]:
        """Take note that due values will not come; a gap that is already open stays as it is."""
        line = self.lines[str(group)]
        return self._miss(line, context, at, cause, detail, _among(line.due(), tags))

    def lost(self, loss: Loss, context: int, at: Instant) -> list[Record]:
        """Return the record of a gap that the driver knows from beginning to end.

        One without length ends what is open: nothing is missing, the tags are watched again.
        """
        line = self.lines[str(loss.group)]
        if loss.to_utc_ns is None:
            return []
        until = Bound(loss.to_utc_ns, None)
        if loss.from_utc_ns is not None and self.on_stretch is not None:
            concerned = range(line.count) if loss.tags is None else loss.tags
            bounds = tuple((i, loss.from_utc_ns, loss.to_utc_ns) for i in concerned)
            self.on_stretch(Stretch(loss.group, bounds, loss.cause))
        if loss.from_utc_ns == loss.to_utc_ns:
            return self._resume(line, context, at, until, loss.tags)
        tags = _among(line.due(), loss.tags)
        if not tags:
            return []
        since = None if loss.from_utc_ns is None else Bound(loss.from_utc_ns, None)
        gap = self._new(loss.cause, since, loss.detail, tags)
        return [_written(line, gap, context, at, until, tags)]

    def _resume(
        self, line: Line, context: int, at: Instant, until: Bound, tags: Sequence[int] | None
    ) -> list[Record]:
        """End the open gaps of these tags; the others of each gap go on in one of their own."""
        back = set(range(line.count) if tags is None else tags)
        records: list[Record] = []
        for gap in [g for g in line.gaps.values() if not back.isdisjoint(g.tags)]:
            del line.gaps[gap.number]
            ended = [index for index in gap.tags if index in back]
            still = [index for index in gap.tags if index not in back]
            records.append(_written(line, gap, context, at, until, ended))
            if still:
                rest = self._new(gap.cause, gap.since, gap.detail, still)
                records.append(self._open(line, context, at, rest))
        return records

    def _tell(self, line: Line, frame: Frame, open_before: Mapping[int, OpenGap]) -> None:
        """Tell of the gaps that this frame ended; it is not yet the last of its line."""
        times = frame.source_utc_ns
        if self.on_stretch is None or times is None:
            return
        before, present = line.sources(), frame.present
        for number, gap in open_before.items():
            if number in line.gaps:
                continue
            bounds = []
            for index in gap.tags:
                if present is not None and index not in present:
                    continue
                last, first = before[index], times if isinstance(times, int) else times[index]
                if last is not None and first is not None and last < first:
                    bounds.append((index, last, first))
            if bounds:
                self.on_stretch(Stretch(frame.group, tuple(bounds), f"gap {number}"))

    def mark(self, key: str, marks: Mapping[str, str | None]) -> None:
        """Take note of the marks of a frame of this group (``instrument/group``)."""
        known = self.marks.setdefault(key, {})
        for name, word in marks.items():
            if word is None:
                known.pop(name, None)
            else:
                known[name] = word

    def open_count(self) -> int:
        """Return how many gaps are open."""
        return sum(len(line.gaps) for line in self.lines.values())

    # -- how gaps open and close ---------------------------------------------------------------

    def _new(self, cause: str, since: Bound | None, detail: str | None, tags: list[int]) -> OpenGap:
        gap = OpenGap(self._next, cause, since, detail, tags)
        self._next += 1
        self.gaps_opened += 1
        return gap

    def _open(self, line: Line, context: int, at: Instant, gap: OpenGap) -> Record:
        line.gaps[gap.number] = gap
        return _written(line, gap, context, at, None, gap.tags)

    def _miss(
        self,
        line: Line,
        context: int,
        at: Instant,
        cause: str,
        detail: str | None,
        tags: list[int],
    ) -> list[Record]:
        if not tags:
            return []
        return [self._open(line, context, at, self._new(cause, line.last, detail, tags))]

    def _settle(
        self, line: Line, frame: Frame, context: int, at: Instant, skipped: int
    ) -> list[Record]:
        """End the gaps of tags that have a value again, open those of tags that failed.

        Tags that do not come back with the others go on in a gap that begins where theirs began.
        """
        present = set(range(line.count) if frame.present is None else frame.present)
        failed = _failed(frame)
        due = line.due()
        records: list[Record] = []
        if skipped:
            records = self._miss(line, context, at, "overrun", f"{skipped} ticks", due)
        if not present.isdisjoint(due):  # it ends at once: the record of its end says everything
            records = []
        ended = [gap for gap in line.gaps.values() if not present.isdisjoint(gap.tags)]
        for gap in ended:
            line.gaps.pop(gap.number, None)
            back = [index for index in gap.tags if index in present]
            records.append(_written(line, gap, context, at, at, back))
            before = gap.cause, gap.detail
            still = [(i, failed.get(i, before)) for i in gap.tags if i not in present]
            for (cause, detail), tags in _by_reason(still).items():
                rest = self._new(cause, gap.since, detail, tags)
                records.append(self._open(line, context, at, rest))
        fresh = [(index, failed[index]) for index in line.due() if index in failed]
        for (cause, detail), tags in _by_reason(fresh).items():
            records += self._miss(line, context, at, cause, detail, tags)
        return records


_CAUSES = {
    quality.BAD_TIMEOUT: "timeout",
    quality.BAD_NO_COMMUNICATION: "timeout",
    quality.BAD_COMMUNICATION_ERROR: "bad_reply",
    quality.BAD_DECODING_ERROR: "bad_reply",
}
"""Why a single tag has no value, where its status says something else than ``refused``."""


def _failed(frame: Frame) -> dict[int, Reason]:
    """Return why each tag failed that was asked for and is not there."""
    if frame.present is None:
        return {}
    absent = sorted(set(range(len(frame.group.tags))) - set(frame.present))
    status = {i: frame.status if isinstance(frame.status, int) else frame.status[i] for i in absent}
    return {
        index: (_CAUSES.get(code, "refused"), quality.name(code))
        for index, code in status.items()
        if quality.is_bad(code)
    }


def _by_reason(tags: Iterable[tuple[int, Reason]]) -> dict[Reason, list[int]]:
    reasons: dict[Reason, list[int]] = {}
    for index, reason in tags:
        reasons.setdefault(reason, []).append(index)
    return reasons


def _among(due: list[int], tags: Iterable[int] | None) -> list[int]:
    return due if tags is None else sorted(set(due).intersection(tags))


def _written(
    line: Line, gap: OpenGap, context: int, at: Instant, until: Bound | Instant | None,
    tags: Sequence[int],
) -> Record:  # fmt: skip
    everything = len(tags) == line.count
    return gap_record(
        line.schema, context, at, gap.number, gap.cause, gap.since, until,
        None if everything else tags, gap.detail,
    )  # fmt: skip


def _line(
    schema: int,
    count: int,
    last: list[Any] | None,
    gaps: list[list[Any]],
    source: int | list[int | None] | None = None,
) -> Line:
    known = {
        number: OpenGap(number, cause, _bound(since), detail, tags)
        for number, cause, since, detail, tags in gaps
    }
    return Line(schema, count, _bound(last), known, source)


def _bound(stated: Sequence[Any] | None) -> Bound | None:
    return None if stated is None else Bound(*stated)


def _of_another_boot(bound: Bound | None) -> Bound | None:
    return None if bound is None else Bound(bound.utc_ns, None)

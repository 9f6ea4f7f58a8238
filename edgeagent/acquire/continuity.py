"""Continuity: the time line of each tag as a partition into values and gaps.

A gap is recorded when it opens and again, under the same number, when it closes. What was known
when the agent ended is taken up at the next start, so that a kill, too, is a gap with bounds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeagent.model.frame import Frame, GroupSchema, Loss
from edgeagent.model.quality import is_bad, name
from edgeagent.model.record import (
    Bound,
    Entry,
    Instant,
    Record,
    decode_json,
    encode_json,
    gap_record,
)


@dataclass(slots=True)
class OpenGap:
    """A gap that has not ended."""

    number: int
    cause: str
    since: Bound | None
    detail: str | None = None


@dataclass(slots=True)
class Line:
    """What is known of one group: its last value and what is missing now.

    ``whole`` is a gap of the group, ``single`` the gaps of single tags by index.
    """

    last: Bound | None = None
    whole: OpenGap | None = None
    single: dict[int, OpenGap] = field(default_factory=dict)


class Continuity:
    """The lines of all groups of this site, by ``instrument/group``."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.gaps_opened = 0
        self._schemas: dict[str, int] = {}
        self._next = 1

    # -- what was known before -----------------------------------------------------------------

    def restore(
        self, checkpoint: bytes | None, behind: Iterable[Entry], names: Mapping[int, str]
    ) -> None:
        """Take up the state of a checkpoint and of the data records behind it.

        :param names: ``instrument/group`` by schema number
        """
        if checkpoint is not None:
            state = decode_json(checkpoint)
            self._next = state["next"]
            self._schemas = dict(state["schemas"])
            self.lines = {key: _line(known) for key, known in state["lines"].items()}
        for entry in behind:
            self._replay(decode_json(entry.body), names)

    def _replay(self, body: list[Any], names: Mapping[int, str]) -> None:
        kind = body[0]
        if kind not in ("F", "G") or body[2] not in names:
            return
        key = names[body[2]]
        line = self.lines.setdefault(key, Line())
        self._schemas[key] = body[2]
        if kind == "F":
            line.last = Bound(body[4], body[5])
            return
        _, _, _, _, _, _, number, cause, since, until, tags, detail = body[:12]
        self._next = max(self._next, number + 1)
        gap = None
        if until is None:
            gap = OpenGap(number, cause, Bound(*since) if since else None, detail)
        if tags is not None and len(tags) == 1 and cause in _SINGLE_CAUSES:
            line.single.pop(tags[0], None)
            if gap:
                line.single[tags[0]] = gap
        elif gap is not None or (line.whole is not None and line.whole.number == number):
            line.whole = gap

    def snapshot(self) -> bytes:
        """Return a state that :meth:`restore` understands."""
        lines = {
            key: [
                line.last,
                _gap_state(line.whole),
                {str(i): _gap_state(g) for i, g in line.single.items()},
            ]
            for key, line in self.lines.items()
        }
        return encode_json({"next": self._next, "schemas": self._schemas, "lines": lines})

    # -- what happens now ----------------------------------------------------------------------

    def begin(
        self, group: GroupSchema, schema: int, context: int, at: Instant, *, same_boot: bool
    ) -> list[Record]:
        """Take up one group at the start of the agent; without a gap on record it was killed."""
        key = str(group)
        line = self.lines.setdefault(key, Line())
        records: list[Record] = []
        if not same_boot:
            _forget_boot(line)
        if self._schemas.get(key, schema) != schema:
            records += self._close_single(line, self._schemas[key], context, at)
        self._schemas[key] = schema
        if line.whole is None:
            cause = "first_value" if line.last is None else "agent_killed"
            records.append(self._open(line, schema, context, at, cause, None))
        return records

    def retired(self, in_use: Iterable[str]) -> list[str]:
        """Forget the groups that this site no longer has; return their names."""
        gone = sorted(self.lines.keys() - set(in_use))
        for key in gone:
            del self.lines[key]
            self._schemas.pop(key, None)
        return gone

    def good(self, frame: Frame, schema: int, context: int, skipped: int) -> list[Record]:
        """Take note of a frame; return the gaps that it closes or opens, to stand before it.

        :param skipped: ticks that were missed since the frame before because a poll overran
        """
        line = self.lines[str(frame.group)]
        at = Instant(frame.received_utc_ns, frame.received_boot_ns)
        records: list[Record] = []
        if line.whole is not None:
            records.append(
                self._close(line.whole, schema, context, at, self._but_single(frame.group, line))
            )
            line.whole = None
        elif skipped:
            gap = self._new("overrun", line.last, f"{skipped} ticks")
            records.append(
                self._close(gap, schema, context, at, self._but_single(frame.group, line))
            )
        if frame.present is not None or line.single:
            records += self._single_tags(line, frame, schema, context, at)
        line.last = Bound(*at)
        return records

    def bad(
        self,
        group: GroupSchema,
        schema: int,
        context: int,
        at: Instant,
        cause: str,
        detail: str | None,
    ) -> list[Record]:
        """Take note that a due frame will not come; a gap that is already open stays as it is."""
        line = self.lines[str(group)]
        if line.whole is not None:
            return []
        return [self._open(line, schema, context, at, cause, detail, self._but_single(group, line))]

    def lost(self, loss: Loss, schema: int, context: int, at: Instant) -> Record:
        """Return the one record of a gap that the driver knows from beginning to end."""
        since = None if loss.from_utc_ns is None else Bound(loss.from_utc_ns, None)
        until = None if loss.to_utc_ns is None else Bound(loss.to_utc_ns, None)
        gap = self._new(loss.cause, since, loss.detail)
        return gap_record(
            schema, context, at, gap.number, gap.cause, since, until, loss.tags, gap.detail
        )

    def is_open(self, group: GroupSchema) -> bool:
        """Return whether the whole group is in a gap."""
        return self.lines[str(group)].whole is not None

    def open_count(self) -> int:
        """Return how many gaps are open."""
        return sum((line.whole is not None) + len(line.single) for line in self.lines.values())

    # -- how a gap is written ------------------------------------------------------------------

    def _new(self, cause: str, since: Bound | None, detail: str | None) -> OpenGap:
        gap = OpenGap(self._next, cause, since, detail)
        self._next += 1
        self.gaps_opened += 1
        return gap

    def _open(
        self,
        line: Line,
        schema: int,
        context: int,
        at: Instant,
        cause: str,
        detail: str | None,
        tags: list[int] | None = None,
    ) -> Record:
        line.whole = gap = self._new(cause, line.last, detail)
        return gap_record(schema, context, at, gap.number, cause, gap.since, None, tags, detail)

    def _close(
        self, gap: OpenGap, schema: int, context: int, at: Instant, tags: list[int] | None
    ) -> Record:
        return gap_record(
            schema, context, at, gap.number, gap.cause, gap.since, at, tags, gap.detail
        )

    def _close_single(self, line: Line, schema: int, context: int, at: Instant) -> list[Record]:
        """End the gaps of single tags under a schema that no longer holds."""
        records = [self._close(g, schema, context, at, [i]) for i, g in sorted(line.single.items())]
        line.single.clear()
        return records

    def _single_tags(
        self, line: Line, frame: Frame, schema: int, context: int, at: Instant
    ) -> list[Record]:
        failed = _failed(frame)
        records: list[Record] = []
        present = range(len(frame.group.tags)) if frame.present is None else frame.present
        for index in sorted(line.single.keys() & set(present)):
            records.append(self._close(line.single.pop(index), schema, context, at, [index]))
        for index in sorted(failed.keys() - line.single.keys()):
            gap = self._new(_SINGLE_CAUSE, line.last, name(failed[index]))
            line.single[index] = gap
            records.append(
                gap_record(
                    schema, context, at, gap.number, gap.cause, gap.since, None, [index], gap.detail
                )
            )
        return records

    @staticmethod
    def _but_single(group: GroupSchema, line: Line) -> list[int] | None:
        """Return the tags of a gap of the whole group: not those that are in a gap already."""
        if not line.single:
            return None
        return [index for index in range(len(group.tags)) if index not in line.single]


_SINGLE_CAUSE = "refused"
_SINGLE_CAUSES = (_SINGLE_CAUSE,)


def _failed(frame: Frame) -> dict[int, int]:
    """Return the status of each tag that was asked for and failed, by index."""
    if frame.present is None or isinstance(frame.status, int):
        return {}
    absent = set(range(len(frame.group.tags))) - set(frame.present)
    return {index: frame.status[index] for index in absent if is_bad(frame.status[index])}


def _gap_state(gap: OpenGap | None) -> list[Any] | None:
    return None if gap is None else [gap.number, gap.cause, gap.since, gap.detail]


def _gap(state: list[Any] | None) -> OpenGap | None:
    if state is None:
        return None
    number, cause, since, detail = state
    return OpenGap(number, cause, Bound(*since) if since else None, detail)


def _line(state: list[Any]) -> Line:
    last, whole, single = state
    gaps = {int(index): gap for index, known in single.items() if (gap := _gap(known))}
    return Line(Bound(*last) if last else None, _gap(whole), gaps)


def _forget_boot(line: Line) -> None:
    """The boot-time clock started anew: keep UTC, drop what no longer compares."""
    if line.last is not None:
        line.last = Bound(line.last.utc_ns, None)
    for gap in (line.whole, *line.single.values()):
        if gap is not None and gap.since is not None:
            gap.since = Bound(gap.since.utc_ns, None)

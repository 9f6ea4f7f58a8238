"""Are the records of a data lane a partition of each tag's time line? Judged from bodies alone.

Written from docs/mqtt.md 3.1 to 3.4; imports nothing of ours. A tag is named by its schema number
and index. Its line begins with a gap ``first_value``; from there on, at any time, it is in exactly
one gap or has a value (or the device sent a frame without it) not longer than a period ago.
"""

import json
from dataclasses import dataclass, field
from typing import Any

LIVE = 0


@dataclass
class TagLine:
    """One tag: when it was last accounted for, the gap it is in, the end that a gap promised.

    ``loose``: its gap closed for other tags and not for it, and no other gap has taken it up.
    """

    last: tuple[str, int, int] | None = None
    gap: int | None = None
    promised: list[int | None] | None = None
    loose: bool = False


@dataclass
class Gap:
    cause: str
    since: list[int | None] | None
    boot_id: str
    tags: list[int]
    until: list[int | None] | None = None


@dataclass
class Timeline:
    """Feed it bodies in order; it raises ``AssertionError`` at the first that does not fit.

    ``late``: how many periods may pass from one value to the next without a gap.
    """

    late: float = 1.5
    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    boots: dict[int, str] = field(default_factory=dict)
    lines: dict[tuple[int, int], TagLine] = field(default_factory=dict)
    gaps: dict[int, Gap] = field(default_factory=dict)
    values: int = 0

    def feed(self, bodies: list[bytes]) -> None:
        for body in bodies:
            record = json.loads(body)
            try:
                {"S": self._schema, "C": self._context, "F": self._frame, "G": self._gap}[
                    record[0]
                ](record)
            except AssertionError as error:
                raise AssertionError(f"{error} at {body.decode()}") from None

    def _schema(self, record: list[Any]) -> None:
        self.schemas[record[2]] = record[5]

    def _context(self, record: list[Any]) -> None:
        self.boots[record[2]] = record[5]["boot_id"]

    def _tags(self, schema: int) -> range:
        return range(len(self.schemas[schema]["tags"]))

    def _frame(self, record: list[Any]) -> None:
        schema, context, utc, boot, origin = record[2:7]
        if origin != LIVE:
            return
        now = (self.boots[context], utc, boot)
        present = self._tags(schema) if record[8] is None else record[8]
        for index in self._tags(schema):
            line = self.lines.get((schema, index))
            assert line is not None, f"tag {index} has no first_value gap"
            assert not line.loose, f"tag {index} is in no gap and has no value"
            if index in present:
                assert line.gap is None, f"tag {index} has a value inside gap {line.gap}"
                assert line.promised in (None, [utc, boot]), f"tag {index}: gap ended elsewhere"
                self.values += 1
            assert line.promised is None or index in present, f"tag {index}: promised, not there"
            if line.gap is None:
                self._near(schema, index, line, now)
                line.last, line.promised = now, None

    def _near(self, schema: int, index: int, line: TagLine, now: tuple[str, int, int]) -> None:
        if line.promised is None and self.schemas[schema]["period_ns"]:
            assert line.last is not None, f"tag {index} was never accounted for"
            assert line.last[0] == now[0], f"tag {index}: a reboot and no gap"
            passed_ns = now[2] - line.last[2]
            assert passed_ns > 0, f"tag {index}: time went back"
            assert passed_ns < self.late * self.schemas[schema]["period_ns"], f"tag {index}: a hole"

    def _gap(self, record: list[Any]) -> None:
        schema, context = record[2:4]
        number, cause, since, until, tags, _ = record[6:12]
        tags = list(self._tags(schema)) if tags is None else tags
        assert tags, "a gap of no tag"
        assert tags == sorted(set(tags))
        assert set(tags) <= set(self._tags(schema))
        if until is not None and until[1] is None:
            self._told_by_the_device(schema, number, cause, since, until, tags)
            return
        known = self.gaps.get(number)
        if known is None:
            known = self.gaps[number] = Gap(cause, since, self.boots[context], tags)
            for index in tags:
                self._open(schema, index, number, cause, since, self.boots[context])
        else:
            assert known.until is None, f"gap {number} closes twice, or its number is not unique"
            assert until is not None, f"gap {number} opens twice"
            assert known.cause == cause, f"gap {number} changes its cause"
            assert since == self._seen_from(known, self.boots[context]), f"gap {number} begins anew"
        if until is not None:
            self._close(schema, number, known, until, tags)

    def _seen_from(self, gap: Gap, boot_id: str) -> list[int | None] | None:
        """Where a gap began; what was another boot no longer compares."""
        if gap.since is None or gap.boot_id == boot_id:
            return gap.since
        return [gap.since[0], None]

    def _told_by_the_device(self, schema, number, cause, since, until, tags) -> None:
        """A gap among values that were pushed: it must not touch one that we know of ourselves."""
        assert number not in self.gaps, f"the number {number} is not unique"
        assert since is None or since[0] <= until[0]
        for index in tags:
            assert self.lines[schema, index].gap is None, f"tag {index} is in a gap already"
        self.gaps[number] = Gap(cause, since, "", tags, until)

    def _open(self, schema, index, number, cause, since, boot_id) -> None:
        line = self.lines.setdefault((schema, index), TagLine())
        if line.promised is not None:  # no frame came: that line had ended; this is another one
            assert since is None, f"tag {index}: the frame that ended its gap is missing"
            line = self.lines[schema, index] = TagLine()
        assert line.gap is None, f"tag {index} is in gap {line.gap} already"
        if line.last is None:
            assert since is None, f"tag {index}: a value before, and there was none"
            assert cause == "first_value" or line.loose, (
                f"the line of tag {index} begins with {cause}"
            )
        else:
            boot = line.last[2] if line.last[0] == boot_id else None
            assert since == [line.last[1], boot], f"tag {index}: from is not its last value"
        line.gap, line.loose = number, False

    def _close(self, schema: int, number: int, gap: Gap, until, tags: list[int]) -> None:
        assert set(tags) <= set(gap.tags), "a gap closes for a tag that was not in it"
        for index in gap.tags:
            line = self.lines[schema, index]
            assert line.gap == number, f"tag {index} is in gap {line.gap}"
            line.gap, line.loose = None, index not in tags
            if index in tags:
                line.promised = until
        gap.until, gap.tags = until, tags

    def finish(self) -> dict[int, Gap]:
        """Nothing may be left hanging; return the gaps that are open."""
        assert not [key for key, line in self.lines.items() if line.loose]
        return {number: gap for number, gap in self.gaps.items() if gap.until is None}

"""From the rows of one file to frames: what is new of it, in order, each once."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from drivers.file_drop.profile import FileDropProfile, FileDropTag
from drivers.file_drop.report import Report, Row, Wanted, wanted_of
from drivers.file_drop.table import read_table
from drivers.file_drop.tree import read_tree
from drivers.file_drop.values import Moment, Unreadable, moment_of, value_of, zone_of
from edgeagent.driver import Frame, GroupSchema, Instrument, Loss
from edgeagent.model import quality
from edgeagent.model.clock import Clock
from edgeagent.model.frame import Origin, Value

Item = Frame | Loss
_KEY_DIGITS = 16


class Reader:
    """Reads the reports of one instrument. Its calls may come from any one thread at a time."""

    def __init__(self, instrument: Instrument, clock: Clock) -> None:
        assert isinstance(instrument.profile, FileDropProfile)
        self.instrument = instrument
        self.profile = instrument.profile
        self.layout = instrument.profile.file_drop
        self.wanted: Wanted = wanted_of(instrument.profile)
        self.clock = clock
        stated = instrument.settings.time_zone
        clock_zone = instrument.profile.clock
        zone = stated or (clock_zone.zone if clock_zone else None)
        self.zone = None if zone is None else zone_of(zone)

    @property
    def pattern(self) -> str:
        """Which files are this instrument's."""
        return str(self.instrument.settings.files or self.layout.files)

    def read(
        self,
        data: bytes,
        known: Mapping[GroupSchema, Mapping[str, str]],
        is_taken: Callable[[GroupSchema, str], bool],
    ) -> "Reading":
        """Return the reading of a file.

        :param known: how far reports were read, as a key by place
        :param is_taken: whether a key belongs to another file, of which this one is a copy
        :raises Unreadable: if nothing of it can be used
        """
        parse = read_table if self.layout.is_table else read_tree
        report = parse(self.layout, self.wanted, data)
        return Reading(self, report, hashlib.sha256(data).digest(), known, is_taken)


@dataclass(slots=True)
class _Part:
    """One group in one file."""

    group: GroupSchema
    tags: tuple[FileDropTag, ...]
    key: str
    """Under which it marks how far it has come."""
    found: str | None = None
    """Under which it was marked."""
    behind: int = 0
    """Number of the last row that was read before."""
    has_new: bool = False
    held: Frame | None = None
    """The last frame; what cannot be read behind it is said first, so that it is said once."""
    bad: list[tuple[int, str]] = field(default_factory=list)
    last_ns: int | None = None


class Reading:
    """One file, from the first row that is new.

    :ivar digest: SHA-256 of the whole file
    :ivar facts: identity items that it states
    :ivar resumed: whether some of it was read before
    """

    def __init__(
        self,
        reader: Reader,
        report: Report,
        digest: bytes,
        known: Mapping[GroupSchema, Mapping[str, str]],
        is_taken: Callable[[GroupSchema, str], bool],
    ) -> None:
        self.digest = digest
        self.facts = report.facts
        self._reader = reader
        groups = reader.instrument.groups
        key = digest.hex()[:_KEY_DIGITS]
        self._parts = [
            _Part(group, tuple(reader.profile.groups[group.group].acquired().values()), key)
            for group in groups
        ]
        if any(known[group] for group in groups):
            for row in report.rows():
                for part in self._parts:
                    found = known[part.group].get(row.place or "")
                    if found is not None:
                        part.found, part.behind = found, row.number
        for part in self._parts:
            if part.found is not None and not is_taken(part.group, part.found):
                part.key = part.found
        self.resumed = any(part.behind for part in self._parts)
        self._items = self._new(report.rows())

    @property
    def keys(self) -> dict[GroupSchema, str]:
        """Under which key the groups are marked, once all was read."""
        return {p.group: p.key if p.has_new else p.found or p.key for p in self._parts}

    def batch(self, rows: int) -> list[Item]:
        """Return what comes next, empty at the end."""
        return list(islice(self._items, rows))

    def _new(self, rows: Iterator[Row]) -> Iterator[Item]:
        before_ns: int | None = None
        for row in rows:
            moment: Moment | str
            if isinstance(row.fields, str):
                moment = row.fields
            else:
                try:
                    reader = self._reader
                    moment = moment_of(reader.layout.time, row.fields, reader.zone, before_ns)
                    before_ns = moment.utc_ns
                except Unreadable as error:
                    moment = str(error)
            for part in self._parts:
                if row.number > part.behind:
                    yield from self._take(part, row, moment)
        for part in self._parts:
            yield from self._flush(part, None)

    def _take(self, part: _Part, row: Row, moment: Moment | str) -> Iterator[Item]:
        found: Frame | str | None = moment if isinstance(moment, str) else None
        if not isinstance(moment, str):
            found = self._frame(part, row, moment)
            if found is None:
                return  # nothing of this group stands in this row
        if isinstance(found, Frame):
            assert not isinstance(moment, str)
            yield from self._flush(part, moment.utc_ns)
            part.held, part.last_ns, part.has_new = found, moment.utc_ns, True
            return
        assert isinstance(found, str)
        part.bad.append((row.number, found))
        if part.held is not None and row.place is not None:
            part.held = replace(part.held, marks=((part.key, row.place),))

    def _flush(self, part: _Part, next_ns: int | None) -> Iterator[Item]:
        if part.bad:
            yield self._loss(part, next_ns)
            part.bad.clear()
        if part.held is not None:
            yield part.held
            part.held = None

    def _loss(self, part: _Part, next_ns: int | None) -> Loss:
        """Say which rows are lost, between the times of their neighbours as far as these do."""
        now_ns = self._reader.clock.utc_ns()
        since_ns, until_ns = part.last_ns, next_ns
        if until_ns is None or (since_ns is not None and until_ns <= since_ns):
            until_ns = now_ns
        if since_ns is not None and until_ns <= since_ns:
            since_ns = None
        (first, why), last = part.bad[0], part.bad[-1][0]
        where = "line" if self._reader.layout.is_table else "row"
        rows = f"{where} {first}" if first == last else f"{where}s {first} to {last}: the first"
        detail = f"report {self.digest.hex()[:_KEY_DIGITS]}, {rows} {why}"
        return Loss(part.group, "bad_reply", since_ns, until_ns, detail=detail)

    def _frame(self, part: _Part, row: Row, moment: Moment) -> Frame | str | None:
        """Return the values of a row, why there are none, or ``None`` if there should be none."""
        assert not isinstance(row.fields, str)
        values: list[Value] = []
        statuses: list[int] = []
        present: list[int] = []
        trouble: list[str] = []
        for index, tag in enumerate(part.tags):
            text = row.fields.get(tag.field, "")
            value, status = None, quality.GOOD
            if text:
                present.append(index)
                try:
                    _check_unit(tag, row.fields)
                    value, status = value_of(tag, text, self._reader.layout.decimal)
                except Unreadable as error:
                    trouble.append(f"{part.group.tags[index].name} {error}")
                    status = quality.BAD_DECODING_ERROR
            if moment.in_doubt and quality.is_good(status):
                status = quality.UNCERTAIN
            values.append(value)
            statuses.append(status)
        if not present:
            return None
        if len(trouble) == len(present):
            return trouble[0]
        clock = self._reader.clock
        return Frame(
            part.group,
            tuple(values),
            clock.utc_ns(),
            clock.boot_ns(),
            self.digest,
            None if len(present) == len(values) else tuple(present),
            _shortest(statuses),
            moment.utc_ns,
            origin=Origin.BACKFILL,
            marks=() if row.place is None else ((part.key, row.place),),
        )


def _check_unit(tag: FileDropTag, fields: Mapping[str | int, str]) -> None:
    if tag.unit_field is not None and fields.get(tag.unit_field, "") not in tag.unit_texts:
        raise Unreadable(f"has another unit than {' or '.join(tag.unit_texts)}")


def _shortest(statuses: Sequence[int]) -> int | tuple[int, ...]:
    return tuple(statuses) if any(statuses) else quality.GOOD

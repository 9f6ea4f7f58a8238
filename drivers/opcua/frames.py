"""From the columns of a message to frames: one group's samples of one instant are one frame.

Tags that the server samples together but stamps a little apart, within half a sampling interval,
share a frame that keeps each tag's own times. The order of each tag's samples is the server's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from drivers.opcua.notification import Samples
from drivers.opcua.values import Convert, Mismatch, NoValue, utc_ns
from edgeagent.model.frame import Frame, GroupSchema, Loss, Origin, Value

BAD_NO_VALUE = 0x80F0_0000
BAD_TYPE_MISMATCH = 0x8074_0000
OVERFLOW = 0x0480
"""InfoType DataValue with the Overflow bit: the server dropped samples before this one (OPC
10000-4 section 7.39.1)."""


@dataclass(slots=True, eq=False)
class Point:
    """One tag on the server, and what has come of it.

    :ivar kind: built-in type whose scalars need no conversion; -2 when every value does
    :ivar last_source_ns: source time of the last sample that was handed over
    :ivar last: its value and status, as the server sent them
    :ivar stored_until_ns: of a subscription that was taken over: up to there nothing is new
    :ivar interrupted: why samples may be missing before the next one
    :ivar fault: what a person was told about it last
    """

    handle: int
    name: str
    group: GroupSchema
    index: int
    kind: int
    convert: Convert
    last_source_ns: int | None = None
    last: tuple[Any, int] | None = None
    stored_until_ns: int | None = None
    interrupted: str | None = None
    fault: str | None = None


@dataclass(slots=True)
class FrameDraft:
    """A frame in the making."""

    first_ns: int | None
    values: list[Value]
    present: list[int] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    sources: dict[int, int | None] = field(default_factory=dict)
    servers: dict[int, int | None] = field(default_factory=dict)

    def put(
        self,
        index: int,
        value: Value,
        status: int,
        source_ns: int | None,
        server_ns: int | None,
        *,
        refused: bool,
    ) -> None:
        """Take a tag's value; one that was refused is not present, its status says why."""
        self.values[index] = value
        self.statuses[index] = status
        self.sources[index] = source_ns
        self.servers[index] = server_ns
        if not refused:
            self.present.append(index)


class Assembler:
    """Makes frames and losses of what the points of one link bring.

    :ivar refused: status of tags that cannot be had; the next frame of their group says it
    """

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = {point.handle: point for point in points}
        self._sizes = {point.group: len(point.group.tags) for point in points}
        self.refused: dict[GroupSchema, dict[int, int]] = {}

    def assemble(self, samples: Samples, utc_now_ns: int, boot_now_ns: int) -> list[Frame | Loss]:
        """Return what a message holds, frames first, then what is known to be missing."""
        drafts: dict[GroupSchema, list[FrameDraft]] = {}
        newest: dict[int, int] = {}
        losses: list[Loss] = []
        for handle, kind, value, status, source, server in zip(
            samples.handles, samples.types, samples.values, samples.statuses, samples.sources,
            samples.servers, strict=True,
        ):  # fmt: skip
            point = self._points.get(handle)
            if point is None:  # of an item that was deleted
                continue
            source_ns = None if source is None else utc_ns(source)
            server_ns = None if server is None else utc_ns(server)
            if point.stored_until_ns is not None and source_ns is not None:
                if source_ns <= point.stored_until_ns:
                    point.interrupted = None  # what comes follows upon what is stored
                    continue
                point.stored_until_ns = None
            if _is_known(point, source_ns, value, status):
                if point.interrupted is not None:
                    losses.append(_watched_again(point, utc_now_ns))
                    point.interrupted = None
                continue
            refused, sent = "", value
            if status >> 31:
                value = None
            elif kind != point.kind:
                value, status, refused = converted(point, kind, value, status)
                if refused:
                    losses += _told(point, f"tag {point.name}: {refused}")
                elif value is not None:
                    point.fault = None
            of_group = drafts.setdefault(point.group, [])
            draft = self._draft(point, of_group, newest, source_ns or server_ns)
            draft.put(point.index, value, status, source_ns, server_ns, refused=bool(refused))
            if point.interrupted is not None or status & OVERFLOW == OVERFLOW:
                losses += _missed(point, source_ns)
            point.last_source_ns, point.last = source_ns, (sent, status)
        frames = []
        for group, of_group in drafts.items():
            for draft in of_group:
                if draft.present:
                    for index, status in self.refused.pop(group, {}).items():
                        draft.statuses.setdefault(index, status)
                    frames.append(frame_of(group, draft, utc_now_ns, boot_now_ns))
        return [*frames, *_merged(losses)]

    def _draft(
        self, point: Point, drafts: list[FrameDraft], newest: dict[int, int], at_ns: int | None
    ) -> FrameDraft:
        """Return the frame of the sample's instant, behind the frame of the tag's last sample."""
        within_ns = point.group.period_ns // 2
        for number in range(newest.get(point.handle, -1) + 1, len(drafts)):
            first_ns = drafts[number].first_ns
            if first_ns == at_ns or (
                first_ns is not None and at_ns is not None and abs(at_ns - first_ns) < within_ns
            ):
                break
        else:
            number = len(drafts)
            drafts.append(FrameDraft(at_ns, [None] * self._sizes[point.group]))
        newest[point.handle] = number
        return drafts[number]


def converted(point: Point, kind: int, value: Any, status: int) -> tuple[Value, int, str]:
    """Return a tag's value and status of what is not bad, and why it is refused, if it is."""
    try:
        return point.convert(kind, value), status, ""
    except NoValue:
        return None, BAD_NO_VALUE, ""
    except Mismatch as error:
        return None, BAD_TYPE_MISMATCH, str(error)


def _is_known(point: Point, source_ns: int | None, value: Any, status: int) -> bool:
    """Return whether this is the sample that came last.

    A server sends it again when a tag is watched anew, and some do when a session changes its
    connection. Where samples have no time, only an interruption makes an equal one suspect.
    """
    if source_ns != point.last_source_ns:
        return False
    if point.interrupted is not None:
        if point.last is None:  # known from the journal
            return source_ns is not None
        return bool(point.last == (value, status))
    return source_ns is not None and bool(point.last == (value, status))


def _watched_again(point: Point, now_ns: int) -> Loss:
    """Say that a tag is watched again and has not changed: its gap ends without a new sample."""
    return Loss(point.group, "link_lost", now_ns, now_ns, (point.index,), "unchanged since")


def watched_again(points: Iterable[Point], now_ns: int) -> list[Loss]:
    """Say that these tags, as far as they ever had a value, were not out of sight."""
    known = [
        point for point in points if point.last is not None or point.last_source_ns is not None
    ]
    return _merged(_watched_again(point, now_ns) for point in known)


def _missed(point: Point, source_ns: int | None) -> list[Loss]:
    """Say that samples are missing between the last one and this one, by the device's clock."""
    cause, detail = "overrun", "the server's queue was full"
    if point.interrupted is not None:
        cause, detail = "link_lost", point.interrupted
        point.interrupted = None
    last_ns = point.last_source_ns
    if last_ns is None or source_ns is None or source_ns <= last_ns:
        return []
    return [Loss(point.group, cause, last_ns, source_ns, (point.index,), detail)]


def _told(point: Point, text: str) -> list[Loss]:
    """Tell a person once what is wrong with a tag."""
    if point.fault == text:
        return []
    point.fault = text
    return [Loss(point.group, "refused", None, None, (point.index,), text)]


def refusal(point: Point, text: str) -> list[Loss]:
    """Say that a tag cannot be had, and why; once for each reason."""
    return _told(point, f"tag {point.name}: {text}")


def _merged(losses: Iterable[Loss]) -> list[Loss]:
    """Join losses that differ only in their tags."""
    merged: dict[tuple[Any, ...], list[int]] = {}
    for loss in losses:
        key = (loss.group, loss.cause, loss.from_utc_ns, loss.to_utc_ns, loss.detail)
        merged.setdefault(key, []).extend(loss.tags or ())
    return [
        Loss(group, cause, since, until, tuple(sorted(set(tags))), detail)
        for (group, cause, since, until, detail), tags in merged.items()
    ]


def frame_of(
    group: GroupSchema,
    draft: FrameDraft,
    utc_now_ns: int,
    boot_now_ns: int,
    origin: Origin = Origin.LIVE,
) -> Frame:
    """Return a frame of what was put into its draft."""
    count = len(group.tags)
    present = sorted(draft.present)
    everything = len(present) == count
    return Frame(
        group,
        tuple(draft.values),
        utc_now_ns,
        boot_now_ns,
        origin=origin,
        present=None if everything else tuple(present),
        status=_shape(draft.statuses, count, 0),
        source_utc_ns=_shape(draft.sources, count, None),
        server_utc_ns=_shape(draft.servers, count, None),
    )


def _shape(column: dict[int, Any], count: int, absent: Any) -> Any:
    """Return one value for all where there is only one, else one per tag."""
    kinds = set(column.values())
    if len(kinds) == 1 and (absent is None or len(column) == count or kinds == {absent}):
        return kinds.pop()
    return tuple(column.get(index, absent) for index in range(count))

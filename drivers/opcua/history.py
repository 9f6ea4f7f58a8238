"""What a server remembers: requests for raw history, their answers, and frames of them.

Pure functions (OPC 10000-11 sections 6.4.3 and 6.5.3). Everything is in source time.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import error as StructError  # noqa: N812 - a class by any other spelling
from typing import Any, Final, NamedTuple

from drivers.opcua.frames import FrameDraft, Point, converted, frame_of
from drivers.opcua.measure import (  # fmt: skip
    I32,
    U32,
    Malformed,
    array_length,
    encoding_id,
    skip_extension_object,
    skip_string,
)
from drivers.opcua.notification import DataValue, DecodeVariant, data_value, response_header
from drivers.opcua.stack import ua
from drivers.opcua.values import utc_ns
from edgeagent.driver import Frame, GroupSchema, HistoryPiece
from edgeagent.model.frame import Origin

HISTORY_READ_RESPONSE: Final = 667
HISTORY_DATA: Final = 658

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_EARLIEST_US: Final = (1 - 11_644_473_600) * 10**6
"""A second behind the beginning of 1601, which itself would mean that no start is stated."""
_LATEST_US: Final = 253_402_300_799 * 10**6
"""The end of 9999, where OPC UA's time ends (OPC 10000-6 section 5.2.2.5)."""


class Past(NamedTuple):
    """One value of a node's history, as the server holds it."""

    at_ns: int
    data: DataValue


@dataclass(frozen=True, slots=True)
class Answer:
    """What one node answers.

    :ivar continuation: where it would go on; empty when it has given everything
    :ivar values: those that have a source time, in the order of the server
    :ivar untimed: values without a source time
    """

    status: int
    continuation: bytes = b""
    values: tuple[Past, ...] = ()
    untimed: int = 0


@dataclass(frozen=True, slots=True)
class Column:
    """What is known of one tag's history within an interval.

    :ivar upto_ns: up to here everything was given
    """

    values: tuple[Past, ...]
    upto_ns: int


def request(
    nodes: Sequence[tuple[Any, bytes]],
    after_ns: int,
    before_ns: int,
    count: int,
    *,
    release: bool = False,
) -> Any:
    """Return a HistoryReadRequest for raw values, the oldest first, without bounding values.

    :param nodes: each with the place where it is to go on, empty for the beginning
    :param count: of values of each node
    :param release: only let the server forget those places
    """
    asked = ua.HistoryReadRequest()
    asked.Parameters.HistoryReadDetails = ua.ReadRawModifiedDetails(
        IsReadModified=False,
        StartTime=_moment(after_ns // 1000),
        EndTime=_moment(-(-before_ns // 1000)),
        NumValuesPerNode=count,
        ReturnBounds=False,
    )
    asked.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
    asked.Parameters.ReleaseContinuationPoints = release
    asked.Parameters.NodesToRead = [
        ua.HistoryReadValueId(NodeId=node, ContinuationPoint=at or None) for node, at in nodes
    ]
    return asked


def _moment(us: int) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(microseconds=min(max(us, _EARLIEST_US), _LATEST_US))


def decode_history(body: bytes, variant: DecodeVariant) -> tuple[int, list[Answer]]:
    """Return the service result of a HistoryReadResponse, and what each node answers.

    :raises Malformed: if it is none, or is beyond bounds
    """
    answers: list[Answer] = []
    try:
        type_id, service_result, offset = response_header(body)
        if service_result >> 31:
            return service_result, answers
        if type_id != HISTORY_READ_RESPONSE:
            raise Malformed(f"message has encoding id {type_id}, not {HISTORY_READ_RESPONSE}")
        left, offset = array_length(body, offset)
        for _ in range(left):
            answer, offset = _answer(body, offset, variant)
            answers.append(answer)
    except (StructError, IndexError) as error:
        raise Malformed(f"message of {len(body)} bytes ends early: {error}") from None
    return service_result, answers


def _answer(body: bytes, offset: int, variant: DecodeVariant) -> tuple[Answer, int]:
    status = U32.unpack_from(body, offset)[0]
    at = offset + 4
    length = I32.unpack_from(body, at)[0]
    offset = skip_string(body, at)
    continuation = body[at + 4 : offset] if length > 0 else b""
    type_id, at = encoding_id(body, offset)
    end = skip_extension_object(body, offset)
    if end > len(body):
        raise Malformed("history ends behind its message")
    if body[at] != 1 or type_id != HISTORY_DATA:
        return Answer(status, continuation), end
    left, offset = array_length(body, at + 5)
    values = []
    for _ in range(left):
        data, offset = data_value(body, offset, end, variant)
        if data.source is not None:
            values.append(Past(utc_ns(data.source), data))
    return Answer(status, continuation, tuple(values), left - len(values)), end


def column(values: Sequence[Past], after_ns: int, before_ns: int, *, is_whole: bool) -> Column:
    """Return what values, given in the order of time, say of an open interval.

    Several values may have one time. Where there are more, those of the last time may not be all:
    they are left for the next request, which begins with them.
    """
    upto_ns = before_ns
    if not is_whole:
        newest_ns = max((value.at_ns for value in values), default=after_ns)
        upto_ns = max(after_ns, min(newest_ns - 1, before_ns))
    inside = [value for value in values if after_ns < value.at_ns < before_ns]
    return Column(tuple(value for value in inside if value.at_ns <= upto_ns), upto_ns)


def piece(
    group: GroupSchema, columns: Mapping[Point, Column], utc_now_ns: int, boot_now_ns: int
) -> tuple[HistoryPiece, dict[Point, str]]:
    """Return what all tags together have given, and why values of a tag could not be taken.

    It reaches as far as the tag that got least far; what others gave beyond is asked for again.
    """
    upto_ns = min(each.upto_ns for each in columns.values())
    rows = [
        (value.at_ns, point, value.data)
        for point, each in columns.items()
        for value in each.values
        if value.at_ns <= upto_ns
    ]
    rows.sort(key=lambda row: row[0])  # of one tag, in the server's order where times are equal
    drafts: list[tuple[int, FrameDraft]] = []
    taken: dict[Point, int] = {}
    refused: dict[Point, str] = {}
    open_from = 0
    for at_ns, point, data in rows:
        while open_from < len(drafts) and not _together(group, drafts[open_from][0], at_ns):
            open_from += 1
        number = max(open_from, taken.get(point, -1) + 1)
        taken[point] = number
        if number == len(drafts):
            drafts.append((at_ns, FrameDraft(at_ns, [None] * len(group.tags))))
        value, status, why = _value(point, data)
        if why:
            refused[point] = why
        server_ns = None if data.server is None else utc_ns(data.server)
        drafts[number][1].put(point.index, value, status, at_ns, server_ns, refused=bool(why))
    frames: list[Frame] = [
        frame_of(group, draft, utc_now_ns, boot_now_ns, Origin.BACKFILL)
        for _, draft in drafts
        if draft.present
    ]
    return HistoryPiece(tuple(frames), upto_ns), refused


def _together(group: GroupSchema, first_ns: int, at_ns: int) -> bool:
    """Return whether values of two times share a frame, as they do when they are live."""
    return at_ns == first_ns or at_ns - first_ns < group.period_ns // 2


def _value(point: Point, data: DataValue) -> tuple[Any, int, str]:
    if data.status >> 31:
        return None, data.status, ""
    if data.kind == point.kind:
        return data.value, data.status, ""
    return converted(point, data.kind, data.value, data.status)

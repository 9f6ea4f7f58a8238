"""Publish and Republish responses, from bytes straight to columns (OPC 10000-6 section 5.2).

Pure functions over the body of a message that is decrypted and joined. A notification is mostly a
row of items with the same encoding mask and the same scalar type; such a run is unpacked at once
by a precompiled Struct. Whatever is not a plain scalar is measured here, within bounds, and its
Variant is handed as bytes to a decoder that the caller names; its neighbours stay fast.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from struct import Struct
from struct import error as StructError  # noqa: N812 - a class by any other spelling
from typing import Any, Final, NamedTuple

from drivers.opcua.measure import (
    I32,
    U32,
    Malformed,
    array_length,
    encoding_id,
    numbers,
    skip_data_value,
    skip_diagnostic,
    skip_diagnostics,
    skip_extension_object,
    skip_string,
    skip_variant,
)
from edgeagent.model import quality

SERVICE_FAULT: Final = 397
READ_RESPONSE: Final = 634
PUBLISH_RESPONSE: Final = 829
REPUBLISH_RESPONSE: Final = 835
DATA_CHANGE: Final = 811
STATUS_CHANGE: Final = 820

NO_VALUE: Final = -1
"""In the column of types: the item has no value at all; a Null Variant has type 0."""
UNREADABLE: Final = -3
"""Likewise: its value has an end but no meaning; its status is BadDecodingError."""

_RUN_MIN = 4
_PROBE = 16
_BLOCKS = (1024, 128, 16)
_SCALARS = {1: "?", 2: "b", 3: "B", 4: "h", 5: "H", 6: "i", 7: "I", 8: "q", 9: "Q", 10: "f",
            11: "d", 13: "q", 19: "I"}  # fmt: skip
"""Struct codes by built-in type (Part 6 table 1); a DateTime (13) stays a number of ticks."""
_TEXTS = (12, 16)

_HEADER = Struct("<qII")
_MESSAGE = Struct("<Iqi")


@dataclass(slots=True)
class Samples:
    """Columns of one message, item by item in the order of the server.

    :ivar types: built-in type of each value; :data:`NO_VALUE` where there is none
    :ivar values: scalars; what the fallback returned for anything else; a DateTime in ticks
    :ivar statuses: status codes; 0 where none was sent
    :ivar sources: source timestamps in ticks of 100 ns since 1601, ``None`` where not sent
    :ivar servers: server timestamps, likewise
    """

    handles: list[int] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    sources: list[int | None] = field(default_factory=list)
    servers: list[int | None] = field(default_factory=list)


class DataValue(NamedTuple):
    """One value with its status and times, in the terms of :class:`Samples`."""

    kind: int
    value: Any
    status: int
    source: int | None
    server: int | None


@dataclass(slots=True)
class Notification:
    """One NotificationMessage (OPC 10000-4 section 7.26) with what its response says beside it.

    :ivar service_result: status of the service; of a ServiceFault that is all there is
    :ivar available: sequence numbers that the server still holds; empty in a Republish
    :ivar results: status codes of the acknowledgements
    :ivar data: number of NotificationData; none is a keep-alive
    :ivar status: of a StatusChangeNotification: the subscription has ended, or was transferred
    """

    service_result: int = 0
    subscription: int = 0
    available: tuple[int, ...] = ()
    more: bool = False
    sequence: int = 0
    publish_time: int = 0
    data: int = 0
    samples: Samples = field(default_factory=Samples)
    status: int | None = None
    results: tuple[int, ...] = ()


DecodeVariant = Callable[[bytes], Any]
"""Returns the value of an encoded Variant; may raise anything."""


def decode_publish(body: bytes, variant: DecodeVariant) -> Notification:
    """Decode a PublishResponse.

    :raises Malformed: if it is none
    """
    return _decoded(body, variant, PUBLISH_RESPONSE)


def decode_republish(body: bytes, variant: DecodeVariant) -> Notification:
    """Decode a RepublishResponse.

    :raises Malformed: if it is none
    """
    return _decoded(body, variant, REPUBLISH_RESPONSE)


def check_read(body: bytes) -> None:
    """Measure a ReadResponse, so that whoever decodes it is not asked for more than is there.

    :raises Malformed: if it does not fit itself, or is beyond bounds
    """
    try:
        type_id, _, offset = response_header(body)
        if type_id == READ_RESPONSE:
            length, offset = array_length(body, offset)
            for _ in range(length):
                offset = skip_data_value(body, offset, 0)
    except (StructError, IndexError) as error:
        raise Malformed(f"message of {len(body)} bytes ends early: {error}") from None
    if offset > len(body):
        raise Malformed(f"message of {len(body)} bytes ends early")


def _decoded(body: bytes, variant: DecodeVariant, wanted: int) -> Notification:
    notification = Notification()
    try:
        type_id, notification.service_result, offset = response_header(body)
        if type_id == SERVICE_FAULT:
            return notification
        if type_id != wanted:
            raise Malformed(f"message has encoding id {type_id}, not {wanted}")
        if wanted == PUBLISH_RESPONSE:
            notification.subscription = U32.unpack_from(body, offset)[0]
            notification.available, offset = numbers(body, offset + 4)
            notification.more = body[offset] != 0
            offset += 1
        offset = _message(body, offset, variant, notification)
        if wanted == PUBLISH_RESPONSE:
            notification.results, offset = numbers(body, offset)
            offset = skip_diagnostics(body, offset)
    except (StructError, IndexError) as error:
        raise Malformed(f"message of {len(body)} bytes ends early: {error}") from None
    if offset > len(body):
        raise Malformed(f"message of {len(body)} bytes ends early")
    return notification


def response_header(body: bytes) -> tuple[int | None, int, int]:
    """Return encoding id and service result of a response, and where its parameters begin."""
    type_id, offset = encoding_id(body, 0)
    _, _, service_result = _HEADER.unpack_from(body, offset)
    offset = skip_diagnostic(body, offset + _HEADER.size, 0)
    count, offset = array_length(body, offset)
    for _ in range(count):
        offset = skip_string(body, offset)
    return type_id, service_result, skip_extension_object(body, offset)


def _message(body: bytes, offset: int, variant: DecodeVariant, notification: Notification) -> int:
    notification.sequence, notification.publish_time, count = _MESSAGE.unpack_from(body, offset)
    notification.data = max(count, 0)
    offset += _MESSAGE.size
    for _ in range(notification.data):
        type_id, at = encoding_id(body, offset)
        end = skip_extension_object(body, offset)
        if end > len(body):
            raise Malformed("a notification ends behind its message")
        if body[at] == 1 and type_id == DATA_CHANGE:
            _items(body, at + 5, end, variant, notification.samples)
        elif body[at] == 1 and type_id == STATUS_CHANGE:
            notification.status = U32.unpack_from(body, at + 5)[0]
        offset = end
    return offset


# -- items -------------------------------------------------------------------------------------


@cache  # at most 64 masks x 13 types
def _item_format(mask: int, kind: int) -> str:
    """Return the Struct format of an item with a scalar value, without byte order."""
    value = f"xx{_SCALARS[kind]}" if mask & 1 else "x"
    status = "I" if mask & 2 else ""
    source = "q" if mask & 4 else ""
    server = "q" if mask & 8 else ""
    # SourcePicoseconds follow SourceTimestamp, ServerPicoseconds ServerTimestamp (5.2.2.17).
    picos = "xx" if mask & 16 else ""
    more_picos = "xx" if mask & 32 else ""
    return f"I{value}{status}{source}{picos}{server}{more_picos}"


@lru_cache(maxsize=512)
def _block(mask: int, kind: int, count: int) -> Struct:
    return Struct("<" + _item_format(mask, kind) * count)


def _items(body: bytes, offset: int, end: int, variant: DecodeVariant, samples: Samples) -> None:
    """Decode the MonitoredItems of a DataChangeNotification."""
    left, offset = array_length(body, offset)
    last = end - 5
    while left:
        if offset > last:
            raise Malformed("an item ends behind its notification")
        mask = body[offset + 4]
        kind = body[offset + 5] if mask & 1 and offset < last else 0
        if mask < 64 and (kind in _SCALARS if mask & 1 else True):
            size = _block(mask, kind, 1).size
            if left >= _RUN_MIN and _same(body, offset, size, mask, kind, _RUN_MIN, end):
                run = _run(body, offset, size, mask, kind, left, end)
                _take_run(body, offset, mask, kind, run, samples)
                offset += run * size
                left -= run
                continue
        offset = _one(body, offset, end, variant, samples)
        left -= 1


def _same(body: bytes, offset: int, size: int, mask: int, kind: int, count: int, end: int) -> bool:
    stop = offset + count * size
    if stop > end:
        return False
    masks = body[offset + 4 : stop : size]
    if masks.count(mask) != count:
        return False
    return not mask & 1 or body[offset + 5 : stop : size].count(kind) == count


def _run(body: bytes, offset: int, size: int, mask: int, kind: int, left: int, end: int) -> int:
    """Return how many items from here have this mask and type.

    Item i + 1 begins ``size`` behind item i only if items 0 to i are alike: equal bytes at this
    stride, counted from the first, are therefore a proof.
    """
    run = most = min(left, (end - offset) // size)
    for limit in (min(_PROBE, most), most):
        stop = offset + limit * size
        run = _leading(body[offset + 4 : stop : size], mask)
        if mask & 1:
            run = min(run, _leading(body[offset + 5 : stop : size], kind))
        if run < limit:
            break
    return run


def _leading(column: bytes, byte: int) -> int:
    return len(column) - len(column.lstrip(bytes((byte,))))


def _take_run(body: bytes, offset: int, mask: int, kind: int, run: int, samples: Samples) -> None:
    size = _block(mask, kind, 1).size
    columns: list[list[Any] | None] = [
        samples.handles,
        samples.values if mask & 1 else None,
        samples.statuses if mask & 2 else None,
        samples.sources if mask & 4 else None,
        samples.servers if mask & 8 else None,
    ]
    kept = [column for column in columns if column is not None]
    left = run
    for block in (*_BLOCKS, 1):
        while left >= block:
            flat = _block(mask, kind, block).unpack_from(body, offset)
            for place, column in enumerate(kept):
                column += flat[place :: len(kept)]
            offset += block * size
            left -= block
    samples.types += [kind if mask & 1 else NO_VALUE] * run
    if not mask & 1:
        samples.values += [None] * run
    if not mask & 2:
        samples.statuses += [0] * run
    if not mask & 4:
        samples.sources += [None] * run
    if not mask & 8:
        samples.servers += [None] * run


def _one(body: bytes, offset: int, end: int, variant: DecodeVariant, samples: Samples) -> int:
    """Decode one item of any kind."""
    handle = U32.unpack_from(body, offset)[0]
    data, offset = data_value(body, offset + 4, end, variant)
    samples.handles.append(handle)
    samples.types.append(data.kind)
    samples.values.append(data.value)
    samples.statuses.append(data.status)
    samples.sources.append(data.source)
    samples.servers.append(data.server)
    return offset


def data_value(body: bytes, offset: int, end: int, variant: DecodeVariant) -> tuple[DataValue, int]:
    """Return a DataValue of any kind, and where it ends.

    :raises Malformed: if it ends behind ``end``, or is beyond bounds
    """
    mask = body[offset]
    offset += 1
    kind, value, status = NO_VALUE, None, 0
    source = server = None
    if mask & 1:
        kind, value, offset = _value(body, offset, end, variant)
    if mask & 2:
        status = U32.unpack_from(body, offset)[0]
        offset += 4
    if kind == UNREADABLE:
        status = quality.BAD_DECODING_ERROR
    if mask & 4:
        source = int.from_bytes(body[offset : offset + 8], "little", signed=True)
        offset += 8
    if mask & 16:
        offset += 2
    if mask & 8:
        server = int.from_bytes(body[offset : offset + 8], "little", signed=True)
        offset += 8
    if mask & 32:
        offset += 2
    if offset > end:
        raise Malformed("an item ends behind its notification")
    return DataValue(kind, value, status, source, server), offset


def _value(body: bytes, offset: int, end: int, variant: DecodeVariant) -> tuple[int, Any, int]:
    """Return built-in type and value of a Variant, and where it ends."""
    encoding = body[offset]
    if encoding in _SCALARS:
        code = _SCALARS_ALONE[encoding]
        return encoding, code.unpack_from(body, offset + 1)[0], offset + 1 + code.size
    if encoding == 0:
        return 0, None, offset + 1
    stop = skip_variant(body, offset, 0)
    if stop > end:
        raise Malformed("a value ends behind its notification")
    if encoding in _TEXTS:
        return encoding, _text(body, offset + 1), stop
    try:
        return encoding & 63, variant(body[offset:stop]), stop
    except Exception:  # noqa: BLE001 - what a fallback raises depends on the value
        return UNREADABLE, None, stop


_SCALARS_ALONE = {kind: Struct("<" + code) for kind, code in _SCALARS.items()}


def _text(body: bytes, offset: int) -> str | None:
    length = I32.unpack_from(body, offset)[0]
    if length < 0:
        return None
    return body[offset + 4 : offset + 4 + length].decode("utf-8", "surrogateescape")

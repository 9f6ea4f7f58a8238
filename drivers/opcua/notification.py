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
from typing import Any, Final

ARRAY_LENGTH_MAX: Final = 1_000_000
"""Elements of one array; more is a server that wants our memory."""

DEPTH_MAX: Final = 100
"""Values within values that a decoder has to support (OPC 10000-6 section 5.1.5)."""

SERVICE_FAULT: Final = 397
PUBLISH_RESPONSE: Final = 829
REPUBLISH_RESPONSE: Final = 835
DATA_CHANGE: Final = 811
STATUS_CHANGE: Final = 820

NO_VALUE: Final = -1
"""In the column of types: the item has no value at all; a Null Variant has type 0."""

_RUN_MIN = 4
_PROBE = 16
_BLOCKS = (1024, 128, 16)
_SCALARS = {1: "?", 2: "b", 3: "B", 4: "h", 5: "H", 6: "i", 7: "I", 8: "q", 9: "Q", 10: "f",
            11: "d", 13: "q", 19: "I"}  # fmt: skip
"""Struct codes by built-in type (Part 6 table 1); a DateTime (13) stays a number of ticks."""
_TEXTS = (12, 16)

_I32 = Struct("<i")
_U32 = Struct("<I")
_HEADER = Struct("<qII")
_MESSAGE = Struct("<Iqi")
_FIXED = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 4, 8: 8, 9: 8, 10: 4, 11: 8, 13: 8,
                       14: 16, 19: 4}  # fmt: skip
"""Bytes of the types that always have the same length."""


class Malformed(Exception):
    """A message that is not what the standard says; where and why."""


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


def _decoded(body: bytes, variant: DecodeVariant, wanted: int) -> Notification:
    notification = Notification()
    try:
        type_id, offset = _response_header(body, notification)
        if type_id == SERVICE_FAULT:
            return notification
        if type_id != wanted:
            raise Malformed(f"message has encoding id {type_id}, not {wanted}")
        if wanted == PUBLISH_RESPONSE:
            notification.subscription = _U32.unpack_from(body, offset)[0]
            notification.available, offset = _numbers(body, offset + 4)
            notification.more = body[offset] != 0
            offset += 1
        offset = _message(body, offset, variant, notification)
        if wanted == PUBLISH_RESPONSE:
            notification.results, offset = _numbers(body, offset)
            offset = _skip_diagnostics(body, offset)
    except (StructError, IndexError) as error:
        raise Malformed(f"message of {len(body)} bytes ends early: {error}") from None
    if offset > len(body):
        raise Malformed(f"message of {len(body)} bytes ends early")
    return notification


def _response_header(body: bytes, notification: Notification) -> tuple[int | None, int]:
    type_id, offset = _encoding_id(body, 0)
    _, _, notification.service_result = _HEADER.unpack_from(body, offset)
    offset = _skip_diagnostic(body, offset + _HEADER.size, 0)
    count, offset = _count(body, offset)
    for _ in range(count):
        offset = _skip_string(body, offset)
    return type_id, _skip_extension_object(body, offset)


def _message(body: bytes, offset: int, variant: DecodeVariant, notification: Notification) -> int:
    notification.sequence, notification.publish_time, count = _MESSAGE.unpack_from(body, offset)
    notification.data = max(count, 0)
    offset += _MESSAGE.size
    for _ in range(notification.data):
        type_id, at = _encoding_id(body, offset)
        end = _skip_extension_object(body, offset)
        if end > len(body):
            raise Malformed("a notification ends behind its message")
        if body[at] == 1 and type_id == DATA_CHANGE:
            _items(body, at + 5, end, variant, notification.samples)
        elif body[at] == 1 and type_id == STATUS_CHANGE:
            notification.status = _U32.unpack_from(body, at + 5)[0]
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
    left, offset = _count(body, offset)
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
        offset = _one(body, offset, end, mask, variant, samples)
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


def _one(
    body: bytes, offset: int, end: int, mask: int, variant: DecodeVariant, samples: Samples
) -> int:
    """Decode one item of any kind."""
    handle = _U32.unpack_from(body, offset)[0]
    offset += 5
    kind, value, status = NO_VALUE, None, 0
    source = server = None
    if mask & 1:
        kind, value, offset = _value(body, offset, end, variant)
    if mask & 2:
        status = _U32.unpack_from(body, offset)[0]
        offset += 4
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
    samples.handles.append(handle)
    samples.types.append(kind)
    samples.values.append(value)
    samples.statuses.append(status)
    samples.sources.append(source)
    samples.servers.append(server)
    return offset


def _value(body: bytes, offset: int, end: int, variant: DecodeVariant) -> tuple[int, Any, int]:
    """Return built-in type and value of a Variant, and where it ends."""
    encoding = body[offset]
    if encoding in _SCALARS:
        code = _SCALARS_ALONE[encoding]
        return encoding, code.unpack_from(body, offset + 1)[0], offset + 1 + code.size
    if encoding == 0:
        return 0, None, offset + 1
    stop = _skip_variant(body, offset, 0)
    if stop > end:
        raise Malformed("a value ends behind its notification")
    if encoding in _TEXTS:
        return encoding, _text(body, offset + 1), stop
    try:
        return encoding & 63, variant(body[offset:stop]), stop
    except Exception as error:  # noqa: BLE001 - what a fallback raises depends on the value
        raise Malformed(f"a value of type {encoding & 63}: {error!r}") from None


_SCALARS_ALONE = {kind: Struct("<" + code) for kind, code in _SCALARS.items()}


def _text(body: bytes, offset: int) -> str | None:
    length = _I32.unpack_from(body, offset)[0]
    if length < 0:
        return None
    return body[offset + 4 : offset + 4 + length].decode("utf-8", "surrogateescape")


# -- measuring what is not decoded here --------------------------------------------------------


def _count(body: bytes, offset: int) -> tuple[int, int]:
    """Return the length of an array (null is empty) and where its elements begin."""
    count = _I32.unpack_from(body, offset)[0]
    if count < -1:
        raise Malformed(f"an array of {count} elements")
    if count > ARRAY_LENGTH_MAX:
        raise Malformed(f"an array of {count} elements; at most {ARRAY_LENGTH_MAX} are taken")
    return max(count, 0), offset + 4


def _numbers(body: bytes, offset: int) -> tuple[tuple[int, ...], int]:
    count, offset = _count(body, offset)
    end = offset + 4 * count
    if end > len(body):
        raise Malformed("an array ends behind its message")
    return tuple(x for (x,) in _U32.iter_unpack(body[offset:end])), end


def _encoding_id(body: bytes, offset: int) -> tuple[int | None, int]:
    """Return the identifier of a numeric NodeId in namespace 0, and where the NodeId ends."""
    form = body[offset]
    if form == 1 and body[offset + 1] == 0:
        return int.from_bytes(body[offset + 2 : offset + 4], "little"), offset + 4
    if form == 2 and body[offset + 1 : offset + 3] == b"\0\0":
        return _U32.unpack_from(body, offset + 3)[0], offset + 7
    return None, _skip_node_id(body, offset)


def _skip_string(body: bytes, offset: int) -> int:
    length = _I32.unpack_from(body, offset)[0]
    if length < -1 or length > len(body) - offset - 4:
        raise Malformed(f"a text of {length} bytes")
    return int(offset + 4 + max(length, 0))


def _skip_node_id(body: bytes, offset: int) -> int:
    form = body[offset]
    fixed = {0: 2, 1: 4, 2: 7, 4: 19}.get(form & 63)
    if fixed is not None:
        offset += fixed
    elif form & 63 in (3, 5):
        offset = _skip_string(body, offset + 3)
    else:
        raise Malformed(f"a NodeId of form {form}")
    if form & 128:
        offset = _skip_string(body, offset)
    return offset + 4 if form & 64 else offset


def _skip_extension_object(body: bytes, offset: int) -> int:
    offset = _skip_node_id(body, offset)
    encoding = body[offset]
    if encoding == 0:
        return offset + 1
    if encoding in (1, 2):
        return _skip_string(body, offset + 1)
    raise Malformed(f"an ExtensionObject with encoding {encoding}")


def _skip_localized_text(body: bytes, offset: int) -> int:
    mask = body[offset]
    if mask > 3:
        raise Malformed(f"a LocalizedText with mask {mask}")
    offset += 1
    if mask & 1:
        offset = _skip_string(body, offset)
    return _skip_string(body, offset) if mask & 2 else offset


def _skip_diagnostics(body: bytes, offset: int) -> int:
    count, offset = _count(body, offset)
    for _ in range(count):
        offset = _skip_diagnostic(body, offset, 0)
    return offset


def _skip_diagnostic(body: bytes, offset: int, depth: int) -> int:
    _check_depth(depth)
    mask = body[offset]
    offset += 1 + 4 * (mask & 15).bit_count()
    if mask & 16:
        offset = _skip_string(body, offset)
    if mask & 32:
        offset += 4
    return _skip_diagnostic(body, offset, depth + 1) if mask & 64 else offset


def _skip_data_value(body: bytes, offset: int, depth: int) -> int:
    mask = body[offset]
    offset += 1
    if mask & 1:
        offset = _skip_variant(body, offset, depth + 1)
    for bit, size in ((2, 4), (4, 8), (16, 2), (8, 8), (32, 2)):
        if mask & bit:
            offset += size
    return offset


def _skip_variant(body: bytes, offset: int, depth: int) -> int:
    _check_depth(depth)
    encoding = body[offset]
    kind = encoding & 63
    offset += 1
    if not encoding & 128:
        offset = _skip_scalar(body, offset, kind, depth)
    else:
        count, offset = _count(body, offset)
        if kind in _FIXED:
            offset += count * _FIXED[kind]
        elif kind == 0 and count:
            raise Malformed("an array of nothing")
        else:
            for _ in range(count):
                offset = _skip_scalar(body, offset, kind, depth)
    if encoding & 64:
        dimensions, offset = _count(body, offset)
        offset += 4 * dimensions
    if offset > len(body):
        raise Malformed("a value ends behind its message")
    return offset


def _skip_scalar(body: bytes, offset: int, kind: int, depth: int) -> int:
    if kind in _FIXED:
        return offset + _FIXED[kind]
    if kind == 0:
        return offset
    if kind in (12, 15, 16) or 26 <= kind <= 31:  # 26 to 31 are reserved: a ByteString
        return _skip_string(body, offset)
    if kind in (17, 18):
        return _skip_node_id(body, offset)
    if kind == 20:
        return _skip_string(body, offset + 2)
    if kind == 21:
        return _skip_localized_text(body, offset)
    if kind == 22:
        return _skip_extension_object(body, offset)
    if kind == 23:
        return _skip_data_value(body, offset, depth)
    if kind == 24:
        return _skip_variant(body, offset, depth + 1)
    if kind == 25:
        return _skip_diagnostic(body, offset, depth + 1)
    raise Malformed(f"a value of type {kind}")


def _check_depth(depth: int) -> None:
    if depth > DEPTH_MAX:
        raise Malformed(f"values within values, more than {DEPTH_MAX} deep")

"""From a value of the server to the value of a tag, or the reason why it is none.

A tag's type is what its profile declares; nothing is converted that could lose something.
"""

import base64
import dataclasses
import datetime
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from drivers.opcua.notification import NO_VALUE
from drivers.opcua.profile import Located, OpcUaTag
from edgeagent.model.frame import DataType, Value

_TICKS_1970 = 116_444_736_000_000_000
"""Ticks of 100 ns from 1601-01-01, where OPC UA counts from, to 1970-01-01."""

BUILT_IN = (
    "Null", "Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64",
    "Float", "Double", "String", "DateTime", "Guid", "ByteString", "XmlElement", "NodeId",
    "ExpandedNodeId", "StatusCode", "QualifiedName", "LocalizedText", "Structure", "DataValue",
    "Variant", "DiagnosticInfo",
)  # fmt: skip
"""Names of the built-in types by number (OPC 10000-6 table 1)."""

DATE_TIME, STRUCTURE = 13, 22

KIND_OF = {
    DataType.BOOL: 1, DataType.INT8: 2, DataType.UINT8: 3, DataType.INT16: 4, DataType.UINT16: 5,
    DataType.INT32: 6, DataType.UINT32: 7, DataType.INT64: 8, DataType.UINT64: 9,
    DataType.FLOAT32: 10, DataType.FLOAT64: 11,
}  # fmt: skip
"""Built-in type whose scalars are a tag's values just as they are; an enumeration is an Int32."""

_TEXTS = (12, 13, 14, 15, 16, 17, 18, 20, 21)
"""Built-in types that a STRING may hold."""


class Mismatch(Exception):
    """The server's value is not what the profile declares: what it is, and the mend."""


class NoValue(Exception):
    """The server sent no value although it says nothing bad."""


def utc_ns(ticks: int) -> int:
    """Return nanoseconds since 1970 of an OPC UA DateTime."""
    return (ticks - _TICKS_1970) * 100


Convert = Callable[[int, Any], Value]
"""From the built-in type and the value that came. Raises :class:`Mismatch` or :class:`NoValue`."""


def converter(tag: OpcUaTag) -> Convert:
    """Compile what becomes of a tag's values that are not scalars of exactly its type."""

    def convert(kind: int, value: Any) -> Value:
        if kind == STRUCTURE and tag.field is None:
            raise Mismatch("the server sends a structure; name its field")
        if tag.field is not None:
            value = _field(value, tag.field)
            kind = _kind_of(value, tag.type)
        if kind == NO_VALUE or value is None:
            raise NoValue
        if isinstance(value, list | tuple):
            if tag.array:
                return json.dumps([_plain(each) for each in value], ensure_ascii=False)
            value = _element(value, tag.indices)
        elif tag.array or tag.element is not None:
            raise Mismatch("the server sends no array; remove element or array")
        return _as_type(kind, value, tag.type)

    return convert


def _element(value: Any, indices: Sequence[int] | None) -> Any:
    if indices is None:
        raise Mismatch("the server sends an array; name its element, or write array: true")
    for index in indices:
        if not isinstance(value, list | tuple):
            raise Mismatch("the array has fewer dimensions; give an index for each")
        if index >= len(value):
            raise Mismatch(f"the array has {len(value)} elements; element {index} is none of them")
        value = value[index]
    if isinstance(value, list | tuple):
        raise Mismatch("the array has more dimensions; give an index for each")
    return value


def _as_type(kind: int, value: Any, wanted: DataType) -> Value:
    if value is None:
        raise NoValue
    if kind == DATE_TIME:
        return _date_time(value, wanted)
    if wanted is DataType.STRING and kind in _TEXTS:
        return _text(value)
    if wanted is DataType.UINT32 and kind == 19:
        return int(getattr(value, "value", value))
    if KIND_OF.get(wanted) != kind:
        name = BUILT_IN[kind] if kind < len(BUILT_IN) else f"type {kind}"
        raise Mismatch(
            f"the profile declares {wanted.value}, the server sends {name}; {_mend(kind)}"
        )
    return int(value) if wanted not in _AS_IS else value


_AS_IS = (DataType.BOOL, DataType.FLOAT32, DataType.FLOAT64)


def _mend(kind: int) -> str:
    fitting = [wanted.value for wanted, built_in in KIND_OF.items() if built_in == kind]
    fitting += ["STRING"] if kind in _TEXTS else []
    fitting += ["INT64"] if kind == DATE_TIME else []
    return f"write type: {' or '.join(fitting)}" if fitting else "no tag can hold that"


def _date_time(value: Any, wanted: DataType) -> Value:
    """Return a time as INT64 nanoseconds since 1970 UTC, or as ISO 8601 text."""
    if isinstance(value, datetime.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        since = aware - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        at_ns = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
    else:
        at_ns = utc_ns(value)
    if wanted is DataType.INT64:
        if not -(2**63) <= at_ns < 2**63:
            raise NoValue
        return at_ns
    if wanted is DataType.STRING:
        return _iso(at_ns)
    raise Mismatch(f"the profile declares {wanted.value}, the server sends DateTime; {_mend(13)}")


def _iso(at_ns: int) -> str:
    seconds, rest = divmod(at_ns, 10**9)
    try:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    except OverflowError:
        raise NoValue from None
    return f"{moment.isoformat()}.{rest // 100:07d}Z"


def _text(value: Any) -> str:
    r"""Return any text-like value; what is no UTF-8 is shown as ``\x..``."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, uuid.UUID):
        return str(value)
    if not isinstance(value, str):
        for name in ("Text", "Name", "Value"):  # LocalizedText, QualifiedName, XmlElement
            if hasattr(value, name):
                value = getattr(value, name)
                break
        else:
            value = value.to_string() if hasattr(value, "to_string") else str(value)
    if value is None:
        raise NoValue
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _plain(value: Any) -> Any:
    """Return an element of an array as JSON can hold it."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | str):
        return _text(value) if isinstance(value, str) else value
    if isinstance(value, float):
        return value if value - value == 0 else None  # JSON has no NaN and no infinities
    if isinstance(value, datetime.datetime):
        return _date_time(value, DataType.STRING)
    return _text(value)


def fact(item: Located, value: Any) -> str:
    """Return what a DataValue states of an instrument, as text.

    :raises NoValue: if it states nothing
    :raises Mismatch: if ``item`` names a part that it has not
    """
    status = value.StatusCode.value if value.StatusCode is not None else 0
    if status >> 31 or value.Value is None or value.Value.Value is None:
        raise NoValue
    stated = value.Value.Value
    if item.field is not None:
        stated = _field(stated, item.field)
    if isinstance(stated, list | tuple):
        stated = _element(stated, item.indices)
    if isinstance(stated, bool):
        return "true" if stated else "false"
    if isinstance(stated, datetime.datetime):
        return str(_date_time(stated, DataType.STRING))
    return _text(stated)


def _field(value: Any, path: str) -> Any:
    """Return a field of a decoded structure: a mapping of names to values, possibly nested."""
    for name in path.split("."):
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        if not isinstance(value, dict):
            raise Mismatch(f"the server sends no structure where field {path!r} looks for {name!r}")
        if name not in value:
            known = ", ".join(value) or "none"
            raise Mismatch(f"the structure has no field {name!r}; its fields are: {known}")
        value = value[name]
    return value


def _kind_of(value: Any, wanted: DataType) -> int:
    """Return the built-in type of a field, whose exact type its definition has already decided."""
    if isinstance(value, datetime.datetime):
        return DATE_TIME
    if isinstance(value, list | tuple):
        value = next(iter(value), None)
    if isinstance(value, bool):
        return 1
    if isinstance(value, int) and wanted in _RANGES:
        low, high = _RANGES[wanted]
        return KIND_OF[wanted] if low <= value <= high else 9
    if isinstance(value, float):
        return KIND_OF[wanted] if wanted in (DataType.FLOAT32, DataType.FLOAT64) else 11
    return 12


_RANGES = {
    wanted: (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    for wanted, bits, signed in (
        (DataType.INT8, 8, True), (DataType.UINT8, 8, False), (DataType.INT16, 16, True),
        (DataType.UINT16, 16, False), (DataType.INT32, 32, True), (DataType.UINT32, 32, False),
        (DataType.INT64, 64, True), (DataType.UINT64, 64, False),
    )
}  # fmt: skip

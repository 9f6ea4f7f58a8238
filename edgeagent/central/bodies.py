"""Is a body a valid record of the contract? ``docs/mqtt.md`` section 3, as types.

A body that is none is a poison record: it is kept, but no reader may be made to trip over it.
Positions and keys that the contract does not know are ignored, as it demands.
"""

from typing import Annotated, Any, NamedTuple

import msgspec

from edgeagent.model.record import Lane

REASON_CHARACTERS_MAX = 300
UNUSABLE = "?"

_Value = int | float | bool | str | None
_Utc = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_Moment = tuple[_Utc, int | None]
_Times = int | list[int | None] | None


class _Tag(msgspec.Struct):
    name: str
    type: str
    unit: str


class _SchemaText(msgspec.Struct):
    instrument: str
    group: str
    tags: list[_Tag]


class _EventText(msgspec.Struct):
    severity: str
    text: str


class _Schema(msgspec.Struct, array_like=True, tag="S"):
    seq: int
    schema: _Number
    utc: _Utc
    boot: int
    description: _SchemaText


class _Context(msgspec.Struct, array_like=True, tag="C"):
    seq: int
    context: _Number
    utc: _Utc
    boot: int
    description: dict[str, Any]


class _Frame(msgspec.Struct, array_like=True, tag="F"):
    seq: int
    schema: _Number
    context: _Number
    utc: _Utc
    boot: int
    origin: int
    status: int | list[tuple[int, int]]
    present: list[int] | None
    source: _Times
    server: _Times
    values: list[_Value]
    uncorrected: list[tuple[int, _Value]] | None
    evidence: str | None


class _Gap(msgspec.Struct, array_like=True, tag="G"):
    seq: int
    schema: _Number
    context: _Number
    utc: _Utc
    boot: int
    gap: int
    cause: str
    since: _Moment | None
    until: _Moment | None
    tags: list[int] | None
    detail: str | None


class _Event(msgspec.Struct, array_like=True, tag="E"):
    seq: int
    context: _Number
    utc: _Utc
    boot: int
    event_type: str
    content: _EventText


_KINDS: dict[type, str] = {_Frame: "F", _Gap: "G", _Schema: "S", _Context: "C", _Event: "E"}
_DATA_KINDS, _EVENT_KINDS = "FGSC", "EC"
_decode = msgspec.json.Decoder(_Frame | _Gap | _Schema | _Context | _Event).decode


class Facts(NamedTuple):
    """What the database keeps of a body beside the body itself.

    :ivar kind: position 0; ``?`` when the record cannot be used
    :ivar schema: number of the schema that a frame or gap names, or that a schema record defines
    :ivar fault: why the record cannot be used; ``None`` when it can
    """

    kind: str
    utc_ns: int | None
    schema: int | None
    fault: str | None


def inspect(body: bytes, seq: int, lane: Lane) -> Facts:
    """Return what a body says, judged as the record number ``seq`` of a lane."""
    try:
        record = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _poison(f"no record: {error}")
    kind = _KINDS[type(record)]
    if record.seq != seq:
        return _poison(f"the body calls itself number {record.seq}")
    if kind not in (_DATA_KINDS if lane is Lane.DATA else _EVENT_KINDS):
        return _poison(f"a record of kind {kind} does not belong in lane {lane}")
    return Facts(kind, record.utc, getattr(record, "schema", None), None)


def _poison(reason: str) -> Facts:
    return Facts(UNUSABLE, None, None, reason[:REASON_CHARACTERS_MAX])

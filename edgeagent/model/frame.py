"""Frames and their schemas: what a driver hands over.

The unit of work is the frame: one group of tags of one instrument at one instant, as one
tuple against a schema that is compiled once.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple

Value = bool | int | float | str | None


class DataType(Enum):
    """Type of a tag's raw value, in the words of IEC 61131-3 and of Modbus practice."""

    BOOL = "BOOL"
    INT8 = "INT8"
    UINT8 = "UINT8"
    INT16 = "INT16"
    UINT16 = "UINT16"
    INT32 = "INT32"
    UINT32 = "UINT32"
    INT64 = "INT64"
    UINT64 = "UINT64"
    FLOAT32 = "FLOAT32"
    FLOAT64 = "FLOAT64"
    STRING = "STRING"


class Origin(IntEnum):
    """Where a frame comes from; the number stands in the body."""

    LIVE = 0
    BACKFILL = 1
    TEST = 2


class Scale(NamedTuple):
    """Engineering value = (raw * numerator + shift) / denominator, rounded once.

    Whole numbers throughout, so that 303 tenths become 30.3 and never 30.300000000000004.
    """

    numerator: int = 1
    shift: int = 0
    denominator: int = 1


UNSCALED = Scale()


@dataclass(frozen=True, slots=True)
class TagSchema:
    """One named quantity of an instrument.

    ``unit`` is a UCUM code; ``low`` and ``high`` bound the valid engineering values;
    ``sentinels`` are raw values by which the device says "no value"; ``critical`` tags are stored
    also when the journal is full.
    """

    name: str
    type: DataType
    unit: str = "1"
    scale: Scale = UNSCALED
    low: float | None = None
    high: float | None = None
    sentinels: tuple[int | float | str, ...] = ()
    critical: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class GroupSchema:
    """The tags of one instrument that are read together, compiled once and shared.

    Compared by identity, so that it can be a cheap key on the hot path.
    """

    instrument: str
    group: str
    tags: tuple[TagSchema, ...]
    period_ns: int
    profile: str
    profile_version: str

    def __str__(self) -> str:
        return f"{self.instrument}/{self.group}"


@dataclass(frozen=True, slots=True)
class Frame:
    """The values of one group at one instant, as read.

    :ivar values: raw values before scaling, one per tag; ``None`` where not present
    :ivar present: indices of the tags that the device sent; ``None`` means all
    :ivar status: one OPC UA status code for all tags, or one per tag. A tag that is not present
        and has a Bad status was asked for and failed (a gap of that tag); a tag that is not
        present and Good was simply not sent
    :ivar source_utc_ns: the device's own time, verbatim, for all or per tag; ``None`` = it has none
    :ivar server_utc_ns: the server's time (OPC UA), in the same shapes
    :ivar received_utc_ns: UTC when the reply was complete
    :ivar received_boot_ns: boot-time clock at the same moment
    :ivar raw: the reply as it came, kept as evidence
    :ivar marks: how far its driver has come with this frame, in words of the driver's own, each
        under a key; ``None`` forgets a key. After a restart the driver is told what was stored
    """

    group: GroupSchema
    values: tuple[Value, ...]
    received_utc_ns: int
    received_boot_ns: int
    raw: bytes | None = None
    present: tuple[int, ...] | None = None
    status: int | tuple[int, ...] = 0
    source_utc_ns: int | tuple[int | None, ...] | None = None
    server_utc_ns: int | tuple[int | None, ...] | None = None
    origin: Origin = Origin.LIVE
    marks: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Loss:
    """Values of a group that a subscribing driver knows it will never get.

    :ivar cause: a gap cause of ``docs/mqtt.md``
    :ivar from_utc_ns: last good value before, ``None`` when there was none. Equal to
        ``to_utc_ns`` it says that nothing is missing: the tags are watched again and have not
        changed, so that their open gaps end there
    :ivar to_utc_ns: first good value after, ``None`` while it lasts
    :ivar tags: indices of the tags concerned; ``None`` means all
    """

    group: GroupSchema
    cause: str
    from_utc_ns: int | None
    to_utc_ns: int | None
    tags: tuple[int, ...] | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answered: what an instrument says of itself at connect.

    ``facts`` holds every identity item of the profile by name (``make``, ``model``,
    ``serial_number``, ``firmware`` …). An item that could not be read is absent.
    ``mismatches`` says in words which facts differ from what the profile or the site expects.
    """

    instrument: str
    facts: tuple[tuple[str, str], ...] = ()
    mismatches: tuple[str, ...] = ()

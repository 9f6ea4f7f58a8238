"""Texts of a report as values and as moments. Nothing is guessed; no error quotes a report."""

import math
import re
import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from edgeagent.model import quality
from edgeagent.model.frame import DataType, Value

if TYPE_CHECKING:
    from drivers.file_drop.profile import FileDropTag, ReportTime

Fields = Mapping[str | int, str]
"""What a row says, by names, numbers or paths of the profile; what it does not say is absent."""

TEXT_CHARACTERS_MAX = 256
NUMBER_CHARACTERS_MAX = 64

_WHOLE = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "+inf": math.inf, "-inf": -math.inf}
_BINARY32 = struct.Struct("<f")
_BITS = {
    f"{sign}INT{bits}": (bits, bool(sign == "")) for sign in ("", "U") for bits in (8, 16, 32, 64)
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UTC_NS_MAX = 1 << 63


class Unreadable(Exception):
    """Something of a report that cannot be used; the text says why, and quotes nothing."""


class Moment(NamedTuple):
    """When a row was measured; in doubt where the local time comes twice that day."""

    utc_ns: int
    in_doubt: bool


@lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    :raises ZoneInfoNotFoundError: if the machine does not know it
    :raises ValueError: if it is no name of a zone
    """
    return ZoneInfo(name)


def value_of(tag: "FileDropTag", text: str, decimal: str) -> tuple[Value, int]:
    """Return the value of a cell and its status.

    :raises Unreadable: if it is none
    """
    if text in tag.sentinels:
        return None, quality.BAD_SENSOR_FAILURE
    if tag.type is DataType.STRING:
        if len(text) > TEXT_CHARACTERS_MAX:
            raise Unreadable(f"has more than {TEXT_CHARACTERS_MAX} characters")
        if not text.isprintable():
            raise Unreadable("has characters that cannot be shown")
        return text, quality.GOOD
    if tag.type is DataType.BOOL:
        if text not in (*tag.true_texts, *tag.false_texts):
            raise Unreadable("is none of the texts that mean true or false")
        return text in tag.true_texts, quality.GOOD
    return _number(tag.type, _with_point(text, decimal)), quality.GOOD


def _with_point(text: str, decimal: str) -> str:
    if len(text) > NUMBER_CHARACTERS_MAX:
        raise Unreadable(f"has more than {NUMBER_CHARACTERS_MAX} characters")
    if decimal == "point":
        return text
    if "." in text:
        raise Unreadable("has a decimal point instead of a comma")
    return text.replace(",", ".")


def _number(kind: DataType, text: str) -> int | float:
    limits = _BITS.get(kind.value)
    if limits is not None:
        if not _WHOLE.fullmatch(text):
            raise Unreadable("is no whole number")
        bits, signed = limits
        number, low = int(text), -(1 << (bits - 1)) if signed else 0
        if not low <= number < low + (1 << bits):
            raise Unreadable(f"does not fit into {kind.value}")
        return number
    found = _NON_FINITE.get(text.lower())
    if found is not None:
        return found
    if not _DECIMAL.fullmatch(text):
        raise Unreadable("is no number")
    value = float(text)
    try:
        value = _BINARY32.unpack(_BINARY32.pack(value))[0] if kind is DataType.FLOAT32 else value
    except OverflowError:
        value = math.inf
    if math.isinf(value):
        raise Unreadable(f"does not fit into {kind.value}")
    return value


def moment_of(
    time: "ReportTime", fields: Fields, zone: ZoneInfo | None, before_ns: int | None
) -> Moment:
    """Return when a row was measured.

    Local times that come twice, when summer time ends, are the later ones once the row before is
    later than the earlier one, and in doubt in any case.

    :param before_ns: time of the row before
    :raises Unreadable: if the row does not say it, or no such time ever was
    """
    texts = [fields.get(field, "") for field in time.fields]
    if not all(texts):
        raise Unreadable("has no time")
    text = " ".join(texts)
    if len(text) > NUMBER_CHARACTERS_MAX:
        raise Unreadable("has a time of another form")
    if time.form == "unix":
        return Moment(_unix_ns(text), in_doubt=False)
    try:
        if time.form == "iso":
            stated = datetime.fromisoformat(text)
        else:
            stated = datetime.strptime(text, time.form)
        return _in_zone(stated, zone, before_ns)
    except (ValueError, OverflowError):
        raise Unreadable("has a time of another form") from None


def _unix_ns(text: str) -> int:
    try:
        moment = Decimal(text) * 10**9
    except InvalidOperation:
        raise Unreadable("has a time of another form") from None
    if not _DECIMAL.fullmatch(text) or moment.adjusted() > 20:
        raise Unreadable("has a time of another form")
    return _plausible(int(moment))


def _in_zone(stated: datetime, zone: ZoneInfo | None, before_ns: int | None) -> Moment:
    if stated.tzinfo is not None:
        return Moment(_utc_ns(stated), in_doubt=False)
    if zone is None:
        raise Unreadable("has a time without a zone, and none is declared")
    first, second = (stated.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    shift = (second.utcoffset() or timedelta()) - (first.utcoffset() or timedelta())
    if not shift:
        return Moment(_utc_ns(first), in_doubt=False)
    if shift > timedelta():
        raise Unreadable(f"has a time that never was in {zone.key}: the clocks went over it")
    utc_ns = _utc_ns(first)
    if before_ns is not None and utc_ns < before_ns:
        utc_ns = _utc_ns(second)
    return Moment(utc_ns, in_doubt=True)


def _utc_ns(moment: datetime) -> int:
    since = moment - _EPOCH
    utc_ns = ((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds) * 1000
    return _plausible(utc_ns)


def _plausible(utc_ns: int) -> int:
    if not 0 <= utc_ns < _UTC_NS_MAX:
        raise Unreadable("has a time that no instrument of ours can have seen")
    return utc_ns

"""The parts of a reply to values: pure functions, no I/O.

A value is taken from a part only where the part is a number of the stated form from end to end.
"""

import re
import struct
from typing import NamedTuple

from drivers.serial_line import profile as stated
from drivers.serial_line.codec import Fields
from edgeagent.model import quality
from edgeagent.model.frame import DataType, Value

_DECIMAL = re.compile(
    r" *([+-]?) *(\d{1,64}(?:\.\d{0,64})?|\.\d{1,64})(?:[eE]([+-]?\d{1,3}))? *", re.A
)
_INTEGER = re.compile(r" *([+-]?) *(\d{1,64}) *", re.A)
_HEXADECIMAL = re.compile(r" *([0-9A-Fa-f]{1,16}) *")
_BINARY32 = struct.Struct(">f")

_BITS = {
    DataType.INT8: 8,
    DataType.UINT8: 8,
    DataType.INT16: 16,
    DataType.UINT16: 16,
    DataType.INT32: 32,
    DataType.UINT32: 32,
    DataType.INT64: 64,
    DataType.UINT64: 64,
}
_SIGNED = (DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64)


class Found(NamedTuple):
    """What a tag has after a reply: a value, or a status that says why there is none."""

    value: Value
    status: int = quality.GOOD


class Missing(Exception):
    """A part holds no value; the text says why, for a person."""

    cause = "bad_reply"
    status = quality.BAD_DECODING_ERROR


class OtherUnit(Missing):
    """The value is in another unit than the profile's: somebody has switched the device over."""

    cause = "refused"
    status = quality.BAD_CONFIGURATION_ERROR


def value_of(
    tag: "stated.SerialLineTag", fields: Fields, unit_fields: Fields | None = None
) -> Found:
    """Return the raw value of a tag.

    :param unit_fields: the reply that states the unit, where it is another one
    :raises Missing: if its part is no value of the stated form, or has another unit
    """
    for field, texts in tag.bad.items():
        if fields[field].text.strip() in texts:
            return Found(None, quality.BAD_DEVICE_FAILURE)
    status = quality.GOOD
    for field, texts in tag.uncertain.items():
        if fields[field].text.strip() in texts:
            status = quality.UNCERTAIN
    text = fields[tag.field].text.strip()
    if tag.is_number and text in tag.sentinels:
        return Found(None, quality.BAD_SENSOR_FAILURE)
    _check_unit(tag, unit_fields or fields)
    if tag.type is DataType.STRING:
        return Found(text_of(text, tag.text_form), status)
    if tag.type is DataType.BOOL:
        return Found(_boolean(tag, text), status)
    return Found(number_of(text, tag.type, tag.number, tag.negative_above), status)


def _check_unit(tag: "stated.SerialLineTag", fields: Fields) -> None:
    if tag.unit_field is None:
        return
    written = fields[tag.unit_field].text.strip()
    if written in tag.unit_texts or written in tag.uncertain.get(tag.unit_field, ()):
        return
    wanted = " or ".join(map(repr, tag.unit_texts))
    raise OtherUnit(
        f"the device states the unit {written!r}, the profile expects {wanted}; set the device back"
    )


def text_of(text: str, form: str) -> str:
    """Return a text as it is meant.

    :raises Missing: if it has another form
    """
    if form == "plain":
        return text
    try:
        return bytes.fromhex(text).decode("ascii").rstrip("\0 ")
    except ValueError:
        raise Missing("no text in hexadecimal digits") from None


def _boolean(tag: "stated.SerialLineTag", text: str) -> bool:
    if tag.bit is not None:
        number = number_of(text, DataType.UINT64, tag.number)
        return bool(int(number) >> tag.bit & 1)
    if text in tag.true_texts:
        return True
    if text in tag.false_texts:
        return False
    raise Missing("neither a text that means true nor one that means false")


def number_of(
    text: str, kind: DataType, form: str, negative_above: int | None = None
) -> int | float:
    """Return the number that a text is, exactly.

    :param negative_above: of a hexadecimal number: greatest one that is not negative
    :raises Missing: if it is none of this form and type
    """
    if form == "hexadecimal-float":
        found = _HEXADECIMAL.fullmatch(text)
        if found is None or len(found[1]) != 8:
            raise Missing("no binary32 in eight hexadecimal digits")
        return float(_BINARY32.unpack(bytes.fromhex(found[1]))[0])
    if form == "hexadecimal":
        return _from_hexadecimal(text, kind, negative_above)
    if form == "decimal-comma":
        if "." in text:
            raise Missing("a point in a number with decimal comma")
        text = text.replace(",", ".", 1)
    if kind in _BITS:
        return _integer(text, kind)
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise Missing("no decimal number")
    return float(f"{found[1]}{found[2]}e{found[3] or 0}")


def _integer(text: str, kind: DataType) -> int:
    found = _INTEGER.fullmatch(text)
    if found is None:
        raise Missing("no whole decimal number")
    number, bits = int(found[1] + found[2]), _BITS[kind]
    low, high = (-(1 << bits - 1), 1 << bits - 1) if kind in _SIGNED else (0, 1 << bits)
    if not low <= number < high:
        raise Missing(f"too large for {kind.value}")
    return number


def _from_hexadecimal(text: str, kind: DataType, negative_above: int | None) -> int:
    found = _HEXADECIMAL.fullmatch(text)
    bits = _BITS[kind]
    if found is None or 4 * len(found[1]) > bits:
        raise Missing(f"no {kind.value} in hexadecimal digits")
    number = int(found[1], 16)
    if negative_above is not None:
        return number - 16 ** len(found[1]) if number > negative_above else number
    if kind in _SIGNED and 4 * len(found[1]) < bits:
        raise Missing(f"too few hexadecimal digits for the sign of {kind.value}")
    return number - (1 << bits) if kind in _SIGNED and number >> bits - 1 else number

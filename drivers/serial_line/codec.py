"""Lines of text to values: pure functions, no I/O.

A reply is cut into parts by the form that the profile states, and only where it fits that form
from its first character to its last. A value is taken from a part only where the part is a number
of the stated form from end to end. So whatever is lost or garbled on the way leaves a value out;
it never makes another one, as far as the form, and a checksum where there is one, can tell.
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from drivers.serial_line import profile as stated
from drivers.serial_line.checks import ADDRESS
from drivers.serial_line.checksum import Checksum
from drivers.serial_line.pattern import compile_pattern
from edgeagent.model import quality
from edgeagent.model.frame import DataType, Value

_DECIMAL = re.compile(
    r" *([+-]?) *(\d{1,64}(?:\.\d{0,64})?|\.\d{1,64})(?:[eE]([+-]?\d{1,3}))? *", re.A
)
_INTEGER = re.compile(r" *([+-]?) *(\d{1,64}) *", re.A)
_HEXADECIMAL = re.compile(r" *([0-9A-Fa-f]{1,16}) *")
_BINARY32 = struct.Struct(">f")
_SHOWN_MAX = 60

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


class BadLine(Exception):
    """What came is not, and cannot become, the reply to the request."""


class Refused(NamedTuple):
    """The device said that it has no value."""

    status: int
    text: str


class Span(NamedTuple):
    """A part of a reply and where it stands there."""

    text: str
    start: int
    end: int


Fields = Mapping[str, Span]
"""The parts of a reply by name."""


# -- framing -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Framing:
    """How a request becomes bytes and bytes become the text of a reply."""

    send_end: bytes
    receive_end: bytes
    encoding: str
    checksum_sent: Checksum | None
    checksum_received: Checksum | None
    padding: bytes
    length_max: int

    def encode(self, text: str) -> bytes:
        """Return the bytes of a request."""
        line = text.encode("ascii")
        if self.checksum_sent is not None:
            line += self.checksum_sent.of(line)
        return line + self.send_end

    def decode(self, line: bytes) -> str:
        """Return the text of one line of a reply, which comes without its terminator.

        :raises BadLine: if its checksum is wrong, or it has other characters than text
        """
        line = line.strip(self.padding)
        check = self.checksum_received
        if check is not None:
            if len(line) < check.length:
                raise BadLine("too short for its checksum")
            line, written = line[: -check.length], line[-check.length :]
            if check.of(line) != written:
                raise BadLine("the checksum is wrong")
        try:
            text = line.decode(self.encoding)
        except UnicodeDecodeError:
            raise BadLine(
                "characters beyond ASCII; compare data bits, parity and baud rate with the device"
            ) from None
        if not text.isprintable() and any(ord(c) < 0x20 and c != "\t" for c in text):
            raise BadLine("control characters inside the text")
        return text


def framing_of(layout: "stated.SerialLineLayout") -> Framing:
    """Return the framing that a profile states."""
    check = layout.checksum
    compiled = check.compile() if check else None
    return Framing(
        send_end=layout.terminators.send.encode("ascii"),
        receive_end=layout.terminators.receive.encode("ascii"),
        encoding=layout.encoding,
        checksum_sent=compiled if check and check.on != "replies" else None,
        checksum_received=compiled if check and check.on != "requests" else None,
        padding=layout.padding.encode("ascii"),
        length_max=layout.length_max,
    )


# -- the parts of a reply ----------------------------------------------------------------------

Cut = Callable[[str], Fields | None]
"""The parts of a text, ``None`` where it has another form."""


def cutter_of(reply: "stated.Reply", address: str) -> Cut:
    """Compile how a reply is cut into parts."""
    prefix = reply.prefix.replace(ADDRESS, address)
    if reply.pattern is not None:
        pattern = compile_pattern(reply.pattern.replace(ADDRESS, re.escape(address)))
        return lambda text: _matched(pattern, text)
    if reply.separator is not None:
        separator, names = reply.separator, reply.fields
        return lambda text: _separated(text, prefix, separator, names)
    columns, length = reply.columns, reply.length
    return lambda text: _columns(text, prefix, columns, length)


def _matched(pattern: re.Pattern[str], text: str) -> Fields | None:
    found = pattern.fullmatch(text)
    if found is None:
        return None
    return {name: Span(found[name] or "", *found.span(name)) for name in pattern.groupindex}


def _separated(text: str, prefix: str, separator: str, names: Sequence[str]) -> Fields | None:
    if not text.startswith(prefix):
        return None
    parts = text[len(prefix) :].split(separator)
    if len(parts) != len(names):
        return None
    spans, at = {}, len(prefix)
    for name, part in zip(names, parts, strict=True):
        spans[name] = Span(part, at, at + len(part))
        at += len(part) + len(separator)
    return spans


def _columns(
    text: str, prefix: str, columns: Mapping[str, tuple[int, int]], length: int | None
) -> Fields | None:
    needed = length or max(last for _, last in columns.values())
    if not text.startswith(prefix) or len(text) != needed:
        return None
    return {
        name: Span(text[first - 1 : last], first - 1, last)
        for name, (first, last) in columns.items()
    }


# -- one request and its reply -----------------------------------------------------------------


class Reading(NamedTuple):
    """What a reply says.

    :ivar raw: the reply as it came; where parts are private, its text without them
    :ivar found: its parts, or that there is no value
    """

    raw: bytes
    found: Fields | Refused


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """One request that only reads, compiled for one instrument.

    :ivar sent: the bytes of the request; empty of a message that comes by itself
    :ivar private: the parts of the reply that must not be shown
    :ivar constant: the parts of the reply that do not change by themselves
    :ivar silence_refuses: whether a device that does not know the request says nothing
    """

    name: str
    sent: bytes
    framing: Framing
    cut: Cut
    lines: int
    refusals: tuple[tuple[re.Pattern[str], Refused], ...]
    private: frozenset[str]
    constant: frozenset[str]
    silence_refuses: bool
    timeout_s: float
    deadline_s: float

    def is_whole(self, heard: bytes) -> bool:
        """Return whether the reply has come to its end.

        :raises BadLine: if it cannot any more
        """
        end = self.framing.receive_end
        count = heard.count(end)
        heard = heard.lstrip(self.framing.padding)
        if len(heard) > (self.framing.length_max + len(end)) * self.lines:
            raise BadLine(f"more than {self.framing.length_max} characters in a line")
        if not count:
            return False
        first, _, _ = heard.partition(end)
        if count < self.lines and self._refusal(self.framing.decode(first)) is None:
            return False
        behind = heard[heard.rindex(end) + len(end) :].strip(self.framing.padding)
        if count > self.lines or behind:
            raise BadLine("bytes behind the reply")
        return True

    def decode(self, heard: bytes) -> Reading:
        """Return what a whole reply says.

        :raises BadLine: if it does not fit the request
        """
        end = self.framing.receive_end
        lines = heard[: heard.rindex(end)].split(end)
        text = "\n".join(map(self.framing.decode, lines))
        refused = self._refusal(text)
        if refused is not None:
            return Reading(self._redacted(text, {}, heard), refused)
        fields = self.cut(text)
        if fields is None:
            raise BadLine(f"{self._shown(text)} is no reply to {self.name}")
        return Reading(self._redacted(text, fields, heard), fields)

    def _refusal(self, text: str) -> Refused | None:
        return next((said for pattern, said in self.refusals if pattern.fullmatch(text)), None)

    def _redacted(self, text: str, fields: Fields, heard: bytes) -> bytes:
        """Return the evidence: nothing of a private part may stand in it."""
        if not self.private:
            return heard
        spans = sorted(fields[name] for name in self.private if name in fields)
        for span in sorted(spans, key=lambda span: span.start, reverse=True):
            text = f"{text[: span.start]}[removed]{text[span.end :]}"
        return text.encode(self.framing.encoding)

    def _shown(self, text: str) -> str:
        """Return a text for people, or that it is not shown."""
        return "what came" if self.private else repr(text[:_SHOWN_MAX])


def compile_command(profile: "stated.SerialLineProfile", name: str, address: str | None) -> Command:
    """Compile one command of a profile for an instrument at an address."""
    layout, command = profile.serial_line, profile.commands[name]
    framing = framing_of(layout)
    place = address or (layout.address.default if layout.address else None) or ""
    request = None if command.request is None else command.request.replace(ADDRESS, place)
    timeout = command.timeout or layout.timeout
    return Command(
        name=name,
        sent=b"" if request is None else framing.encode(request),
        framing=framing,
        cut=cutter_of(command.reply, place),
        lines=command.reply.lines,
        refusals=tuple(
            (
                compile_pattern(each.pattern.replace(ADDRESS, re.escape(place))),
                Refused(each.code, each.text),
            )
            for each in (*command.errors, *layout.errors)
        ),
        private=profile.private_fields(name),
        constant=profile.constant_fields(name),
        silence_refuses=command.silence == "refused",
        timeout_s=timeout / 10**9,
        deadline_s=max(timeout, layout.deadline) / 10**9,
    )


# -- values ------------------------------------------------------------------------------------


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

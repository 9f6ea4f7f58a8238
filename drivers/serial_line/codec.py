"""Requests to bytes, bytes to the parts of a reply: pure functions, no I/O.

A reply is cut into parts by the form that the profile states, and only where it fits that form
from its first character to its last. So whatever is lost or garbled on the way leaves values out;
it never makes others, as far as the form, and a checksum where there is one, can tell.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from drivers.serial_line import profile as stated
from drivers.serial_line.checks import ADDRESS
from drivers.serial_line.checksum import Checksum
from drivers.serial_line.pattern import compile_pattern

_SHOWN_MAX = 60


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

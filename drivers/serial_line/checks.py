"""Faults of a profile that show only when its parts are held against each other.

Each fault has its place in the file, so that ``edgeagent check`` can point at the line, and its
text says what is wrong and, behind a semicolon, how to mend it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from drivers.serial_line.pattern import compile_pattern
from edgeagent.model.frame import DataType

if TYPE_CHECKING:
    from drivers.serial_line.profile import (
        Command,
        Located,
        Reply,
        SerialLineIdentityItem,
        SerialLineLayout,
        SerialLineTag,
    )

ADDRESS = "{address}"
"""Stands for the instrument's address in a request, a prefix and a pattern."""

Place = tuple[str | int, ...]
"""Keys and indices from the top of the file down, as pydantic's ``loc``."""

_NEVER_IN_A_REQUEST = re.compile(r"[\r\n\x00\x11\x13\x7f-\uffff]")
_ASSIGNS = re.compile(r".*=.*", re.DOTALL)
_FLOATS = (DataType.FLOAT32, DataType.FLOAT64)


class Parts(NamedTuple):
    """What is held against each other."""

    layout: "SerialLineLayout"
    commands: "Mapping[str, Command]"
    groups: "Mapping[str, Mapping[str, SerialLineTag]]"
    identity: "Mapping[str, SerialLineIdentityItem]"


class Fault(NamedTuple):
    """One fault, where it is, and what stands there."""

    place: Place
    text: str
    value: Any = None


def faults(parts: Parts) -> list[Fault]:
    """Return every fault."""
    return [*_of_layout(parts), *_of_commands(parts), *_of_values(parts)]


def parts_of(reply: "Reply") -> frozenset[str]:
    """Return the names of the parts into which a reply is cut."""
    if reply.pattern is not None:
        return frozenset(compile_pattern(reply.pattern.replace(ADDRESS, "x")).groupindex)
    return frozenset(reply.fields or reply.columns)


def _of_layout(parts: Parts) -> Iterator[Fault]:
    layout, place = parts.layout, ("serial_line",)
    if layout.deadline < layout.timeout:
        text = "deadline is shorter than timeout; write at least the timeout, or remove it"
        yield Fault((*place, "deadline"), text)
    if layout.slowest_reply < layout.deadline:
        text = "slowest_reply is shorter than deadline; write at least the deadline, or remove it"
        yield Fault((*place, "slowest_reply"), text)
    ends = layout.terminators
    for key, end in (("send", ends.send), ("receive", ends.receive)):
        if not end.isascii():
            text = f"{end!r} is not ASCII; write control characters as \\r, \\n or \\x.. in quotes"
            yield Fault((*place, "terminators", key), text, end)
    if set(layout.padding) & set(ends.receive):
        text = "is part of the terminator too; remove it from one of them"
        yield Fault((*place, "padding"), text, layout.padding)
    default = layout.address.default if layout.address else None
    if layout.address and default and not re.fullmatch(layout.address.pattern, default):
        text = f"{default!r} does not match the pattern; correct one of them"
        yield Fault((*place, "address", "default"), text, default)


def _of_commands(parts: Parts) -> Iterator[Fault]:
    values = _values(parts).values()
    used = {item.command for item in values} | {getattr(v, "unit_command", None) for v in values}
    for name, command in parts.commands.items():
        place = ("commands", name)
        asked = _of_message if parts.layout.listen else _of_request
        yield from asked(place, command, parts)
        yield from _of_reply((*place, "reply"), command.reply)
        if name not in used and not command.constant:
            yield Fault(place, "brings no value; remove it, or bind a tag to it", name)


def _of_message(place: Place, command: "Command", parts: Parts) -> Iterator[Fault]:
    for key in ("request", "read", "select", "timeout"):
        if getattr(command, key) is not None:
            text = f"a device that is listened to is never asked; remove {key}, or listen"
            yield Fault((*place, key), text)
    if command.constant:
        text = "a device that is listened to is never asked; remove constant"
        yield Fault((*place, "constant"), text)
    if command.reply.lines != 1:
        yield Fault((*place, "reply", "lines"), "a message is one line; remove lines")


def _of_request(place: Place, command: "Command", parts: Parts) -> Iterator[Fault]:
    if command.request is None:
        yield Fault((*place, "request"), "a command needs its text; add request")
        return
    request = command.request
    if command.read is None:
        yield Fault(
            (*place, "read"),
            "only what reads is ever sent; write read: true when the manual says that it changes "
            "nothing",
        )
    if command.source is None:
        yield Fault((*place, "source"), "says not who says that it only reads; add source")
    found = _NEVER_IN_A_REQUEST.search(request)
    if found or (parts.layout.terminators.send and parts.layout.terminators.send in request):
        text = "has characters that end or steer a line; write one request, without terminator"
        yield Fault((*place, "request"), text, request)
    if parts.layout.address is None and ADDRESS in request:
        text = "uses an address; add serial_line.address"
        yield Fault((*place, "request"), text, request)
    if parts.layout.address is not None and ADDRESS not in request:
        text = "asks every instrument of the line; write {address} where its address stands"
        yield Fault((*place, "request"), text, request)
    form = _setting_form(request, parts.layout)
    if form is not None and command.select is None:
        text = (
            f"has a form that changes something ({form}); remove it, or say in select why the "
            "vendor's read protocol needs it"
        )
        yield Fault((*place, "request"), text, request)


def _setting_form(request: str, layout: "SerialLineLayout") -> str | None:
    """Return the form of requests that change something which this request has."""
    if _ASSIGNS.fullmatch(request):
        return "it assigns with '='"
    sample = (layout.address.default if layout.address else None) or "1"
    for form in layout.sets:
        if any(
            compile_pattern(form).fullmatch(r) for r in (request, request.replace(ADDRESS, sample))
        ):
            return f"serial_line.sets has {form}"
    return None


def _of_reply(place: Place, reply: "Reply") -> Iterator[Fault]:
    ways = [reply.pattern is not None, reply.separator is not None, bool(reply.columns)]
    if sum(ways) != 1:
        yield Fault(place, "is cut in one of three ways; give pattern, separator or columns")
    if bool(reply.fields) != (reply.separator is not None):
        yield Fault(place, "separator and fields go together; add the other one")
    if reply.length is not None and not reply.columns:
        yield Fault((*place, "length"), "goes with columns; remove it")
    if reply.pattern is not None and reply.prefix:
        yield Fault((*place, "prefix"), "is part of a pattern; put it there")
    for name, (first, last) in reply.columns.items():
        if not 1 <= first <= last <= (reply.length or last):
            text = f"{first} to {last} are no columns of the reply; the first has number 1"
            yield Fault((*place, "columns", name), text)
    for name in reply.fields:
        if reply.fields.count(name) > 1:
            yield Fault((*place, "fields"), f"{name} stands there twice; rename one")
            break


def _values(parts: Parts) -> "dict[Place, Located]":
    tags: dict[Place, Located] = {
        ("groups", group, "tags", name): tag
        for group, of_group in parts.groups.items()
        for name, tag in of_group.items()
    }
    return tags | {("identity", name): item for name, item in parts.identity.items()}


def _of_values(parts: Parts) -> Iterator[Fault]:
    for place, item in _values(parts).items():
        command = parts.commands.get(item.command)
        if command is None:
            known = ", ".join(parts.commands)
            text = f"there is no command {item.command!r}; use one of: {known}"
            yield Fault((*place, "command"), text, item.command)
            continue
        for key, name, field in _fields_of(item):
            if name not in parts.commands:
                text = f"there is no command {name!r}; use one of: {', '.join(parts.commands)}"
                yield Fault((*place, "unit_command"), text, name)
                continue
            known_fields = parts_of(parts.commands[name].reply)
            if field not in known_fields:
                text = (
                    f"the reply to {name} has no part {field!r}; use one of: "
                    f"{', '.join(sorted(known_fields))}"
                )
                yield Fault((*place, *key), text, field)
    if parts.layout.listen and parts.identity:
        yield Fault(
            ("identity",),
            "a device that is listened to is never asked; remove identity and say so in "
            "identity_unavailable",
        )
    for group, tags in parts.groups.items():
        for name, tag in tags.items():
            yield from _of_tag(("groups", group, "tags", name), tag)


def _fields_of(item: "Located") -> Iterator[tuple[Place, str, str]]:
    """Yield the parts of replies that an item uses: key, command, part."""
    yield ("field",), item.command, item.field
    unit_field = getattr(item, "unit_field", None)
    if unit_field is not None:
        yield ("unit_field",), getattr(item, "unit_command", None) or item.command, unit_field
    for key in ("uncertain", "bad"):
        for field in getattr(item, key, {}):
            yield (key, field), item.command, field


def _of_tag(place: Place, tag: "SerialLineTag") -> Iterator[Fault]:
    is_hex_float = tag.number == "hexadecimal-float"
    if tag.type is DataType.FLOAT32 and not is_hex_float:
        yield Fault(
            (*place, "type"),
            "decimals are kept exactly as FLOAT64 only; write FLOAT64",
            tag.type.value,
        )
    if is_hex_float and tag.type is not DataType.FLOAT32:
        yield Fault((*place, "number"), "is a binary32; write type: FLOAT32", tag.number)
    if tag.number == "hexadecimal" and tag.type in _FLOATS:
        yield Fault((*place, "number"), "is an integer; write an integer type, or another number")
    if tag.negative_above is not None and tag.number != "hexadecimal":
        yield Fault((*place, "negative_above"), "goes with number: hexadecimal; remove it")
    if (tag.unit_field is None) != (not tag.unit_texts):
        yield Fault(place, "unit_field and unit_texts go together; add the other one")
    if tag.unit_command is not None and tag.unit_field is None:
        yield Fault((*place, "unit_command"), "goes with unit_field; add it")
    if tag.type is not DataType.BOOL:
        if tag.bit is not None or tag.true_texts or tag.false_texts:
            yield Fault(place, "only a BOOL has bit, true_texts or false_texts; remove it")
    elif (tag.bit is None) == (not (tag.true_texts and tag.false_texts)):
        yield Fault(
            place,
            "a BOOL is either a bit of a number or told by texts; give bit, or true_texts and "
            "false_texts",
        )
    if tag.text_form != "plain" and tag.type is not DataType.STRING:
        yield Fault((*place, "text_form"), "goes with a STRING; remove it, or use number")

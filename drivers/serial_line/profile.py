"""What a profile of an instrument that speaks in lines of text may state.

Everything is checked here, before a port opens, and all faults are reported at once, each with the
place in the file. After that the driver trusts a profile.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails

from drivers.serial_line import checksum
from drivers.serial_line.checks import ADDRESS, Fault, Parts, faults, parts_of
from drivers.serial_line.pattern import compile_pattern
from edgeagent.model import quality
from edgeagent.model.checked import fault_line, found_lines, mapping, sound, sound_ones
from edgeagent.model.frame import DataType, TagSchema
from edgeagent.model.profile import Group, IdentityItem, Name, Profile, Strict, Tag
from edgeagent.model.quantity import DurationNs


def _is_pattern(pattern: str) -> str:
    compile_pattern(pattern.replace(ADDRESS, "x"))
    return pattern


Pattern = Annotated[str, AfterValidator(_is_pattern)]
"""A regular expression in which repetitions give nothing back, see ``pattern.py``."""

FieldName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]

NumberForm = Literal["decimal", "decimal-comma", "hexadecimal", "hexadecimal-float"]
"""``hexadecimal``: an integer, in two's complement where the type is signed;
``hexadecimal-float``: IEEE 754 binary32, most significant byte first."""


class Located(Strict):
    """Which part of which reply a value is, and how it is written there."""

    command: Name = Field(description="whose reply brings it; of a listening profile: the message")
    field: FieldName = Field("value", description="part of the reply, as its form names it")
    text_form: Literal["plain", "hexadecimal"] = Field(
        "plain", description="of a text; hexadecimal: two digits for each character"
    )


class SerialLineTag(Tag, Located):
    """One value of a reply."""

    OFFERS_PSEUDONYM: ClassVar[bool] = True

    number: NumberForm = Field("decimal", description="how the number is written")
    negative_above: int | None = Field(
        None,
        ge=1,
        description="of a hexadecimal number: greatest one that is not negative, where the device "
        "draws the line elsewhere than two's complement; the type is one of more digits",
    )
    bit: int | None = Field(
        None, ge=0, le=63, description="of a BOOL in a number; 0 is the least significant"
    )
    true_texts: tuple[str, ...] = Field((), description="of a BOOL: texts that mean true")
    false_texts: tuple[str, ...] = Field((), description="of a BOOL: texts that mean false")
    unit_field: FieldName | None = Field(
        None, description="part of the reply in which the device states the unit of this value"
    )
    unit_command: Name | None = Field(
        None, description="whose reply states the unit, where it is another; asked in each poll"
    )
    unit_texts: tuple[str, ...] = Field(
        (),
        description="what stands there when it is the declared unit; with any other text the value "
        "is refused",
    )
    uncertain: dict[FieldName, tuple[str, ...]] = Field(
        {}, description="texts of a part of the reply with which the value is Uncertain"
    )
    bad: dict[FieldName, tuple[str, ...]] = Field(
        {}, description="texts of a part of the reply with which there is no value"
    )

    def compile(self, name: str, critical: bool | None = None) -> TagSchema:
        """See :class:`Tag`; texts that stand for 'no value' are told apart here, not downstream."""
        schema = super().compile(name, critical)
        if not self.is_number:
            return schema
        numbers = tuple(s for s in schema.sentinels if not isinstance(s, str))
        return TagSchema(
            schema.name,
            schema.type,
            schema.unit,
            schema.scale,
            schema.low,
            schema.high,
            numbers,
            schema.critical,
        )


class SerialLineGroup(Group[SerialLineTag]):
    """Values that are asked for together at one period."""


class SerialLineIdentityItem(IdentityItem, Located):
    """One fact that a reply states of the instrument, as text."""

    description: str | None = None
    assumed: str | None = Field(None, description="what of this item no document states")


class Refusal(Strict):
    """A reply by which the device says that it has no value."""

    pattern: Pattern = Field(description="regular expression that the whole reply matches")
    text: str = Field(description="what it means, for a person")
    status: Literal[
        "bad_not_supported",
        "bad_out_of_range",
        "bad_device_failure",
        "bad_sensor_failure",
        "bad_resource_unavailable",
    ] = "bad_resource_unavailable"

    @property
    def code(self) -> int:
        """OPC UA status code of the values that it leaves out."""
        return int(getattr(quality, self.status.upper()))


class Reply(Strict):
    """How a reply is cut into parts: by a pattern, a separator, or fixed columns."""

    pattern: Pattern | None = Field(
        None,
        description="regular expression that the whole reply matches; its named groups are the "
        "parts. Repetitions give nothing back",
    )
    separator: str | None = Field(None, min_length=1, max_length=8)
    fields: tuple[FieldName, ...] = Field((), description="with separator: names of the parts")
    columns: dict[FieldName, tuple[int, int]] = Field(
        {}, description="first and last character of each part, both counted from 1"
    )
    length: int | None = Field(None, ge=1, description="with columns: characters of the reply")
    prefix: str = Field("", description="what the reply begins with, before the parts are cut")
    lines: int = Field(1, ge=1, le=64, description="of which the reply consists, joined by \\n")


class Command(Strict):
    """One request that only reads, and its reply; of a listening profile a message alone."""

    request: str | None = Field(
        None, description="literal text; {address} stands for the instrument's address"
    )
    read: Literal[True] | None = Field(
        None, description="true: the manual says that this request changes nothing"
    )
    source: str | None = Field(None, min_length=1, description="where the manual says so")
    select: str | None = Field(
        None,
        min_length=1,
        description="why this request, though it moves something, belongs to the vendor's read "
        "protocol",
    )
    reply: Reply
    constant: bool = Field(
        False,
        description="the reply does not change by itself, as of identity: with it the driver finds "
        "out whether it is in step with the device",
    )
    silence: Literal["timeout", "refused"] = Field(
        "timeout", description="'refused': a device that does not know the request says nothing"
    )
    timeout: DurationNs | None = Field(None, description="in place of serial_line.timeout")
    errors: tuple[Refusal, ...] = Field((), description="besides those of serial_line.errors")


class Terminators(Strict):
    """What ends a line."""

    send: str = Field("\r\n", max_length=4)
    receive: str = Field("\r\n", min_length=1, max_length=4)


class LineChecksum(Strict):
    """A checksum at the end of each line, before its terminator."""

    kind: checksum.Kind
    written: checksum.Written = "hex-upper"
    on: Literal["both", "requests", "replies"] = "both"
    skip_first: int = Field(0, ge=0, le=16, description="characters that it does not cover")
    skip_last: int = Field(
        0, ge=0, le=16, description="characters right before it that it does not cover"
    )
    low_byte_first: bool = False

    def compile(self) -> checksum.Checksum:
        """Return it as the codec uses it."""
        return checksum.Checksum(
            self.kind, self.written, self.skip_first, self.skip_last, self.low_byte_first
        )


class Address(Strict):
    """Where an instrument stands on a line that several share."""

    pattern: Pattern = Field(description="regular expression of what a site may write")
    default: str | None = Field(None, description="as the device leaves the factory")


class SerialLineLayout(Strict):
    """How lines are framed, how long they take, what may be sent."""

    terminators: Terminators = Terminators()
    encoding: Literal["ascii", "latin-1"] = "ascii"
    checksum: LineChecksum | None = None
    address: Address | None = None
    listen: bool = Field(False, description="the device sends by itself and is never asked")
    echo: bool = Field(False, description="the device sends back each character of a request")
    padding: str = Field(
        "",
        max_length=4,
        description="characters around a reply that mean nothing, e.g. a line feed",
    )
    length_max: int = Field(256, ge=1, le=4096, description="characters of the longest line")
    timeout: DurationNs = Field(10**9, description="longest wait for the reply's first character")
    deadline: DurationNs = Field(
        default_factory=lambda stated: 2 * stated.get("timeout", 0),
        description="longest time from the request to the end of its reply, however it drips. "
        "Default: 2 times the timeout",
    )
    slowest_reply: DurationNs = Field(
        default_factory=lambda stated: 2 * stated.get("deadline", 0),
        description="longest time after a request at which its reply may still come; after a lost "
        "reply the line is silent for so long. Default: 2 times the deadline",
    )
    pause_between_requests: DurationNs | None = Field(
        None, description="silence that the device needs after a reply before the next request"
    )
    factory_line: str | None = Field(
        None,
        pattern=r"^\d+ [78][NEO][12]$",
        description="line settings as the device leaves the factory, e.g. 9600 8N1: for people; "
        "the link states those in force",
    )
    sets: tuple[Pattern, ...] = Field(
        (),
        description="forms of requests that the manual lists as changing something; no command may "
        "have one, unless it states select",
    )
    errors: tuple[Refusal, ...] = Field((), description="replies that mean: no value")


class SerialLineProfile(Profile[SerialLineGroup, SerialLineIdentityItem]):
    """One make and model that speaks in lines of text."""

    driver: Literal["serial_line"]
    serial_line: SerialLineLayout
    commands: dict[Name, Command] = Field(min_length=1)

    @model_validator(mode="wrap")
    @classmethod
    def _checked(
        cls, data: Any, handler: ModelWrapValidatorHandler["SerialLineProfile"]
    ) -> "SerialLineProfile":
        """Add the faults that only show when parts are held against each other.

        They are looked for also where single values are wrong, so that one run shows everything.
        """
        try:
            profile = handler(data)
        except ValidationError as error:
            lines = found_lines(error)
            parts = _readable(data)
            lines += _lines(faults(parts)) if parts else []
        else:
            tags = {name: group.tags for name, group in profile.groups.items()}
            parts = Parts(profile.serial_line, profile.commands, tags, profile.identity)
            lines = _lines(faults(parts))
            if not lines:
                return profile
        raise ValidationError.from_exception_data(cls.__name__, lines)

    def private_fields(self, command: str) -> frozenset[str]:
        """Return the parts of a reply whose text must not leave the driver as it is."""
        return frozenset(
            tag.field
            for group in self.groups.values()
            for tag in group.tags.values()
            if tag.command == command and tag.type is DataType.STRING and tag.privacy != "none"
        )

    def constant_fields(self, command: str) -> frozenset[str]:
        """Return the parts of a reply that do not change by themselves."""
        of_identity = (i.field for i in self.identity.values() if i.command == command)
        return (
            parts_of(self.commands[command].reply)
            if self.commands[command].constant
            else (frozenset(of_identity))
        )

    @property
    def needs_key(self) -> bool:
        """Whether any text becomes a pseudonym."""
        return any(
            tag.privacy == "pseudonym"
            for group in self.groups.values()
            for tag in group.acquired().values()
            if tag.type is DataType.STRING
        )

    def address_fault(self, address: str | None) -> str | None:
        """Return what is wrong with an address that a site states, and the mend."""
        wanted = self.serial_line.address
        if wanted is None:
            return "its profile knows no address; remove address" if address else None
        if address is None:
            return "address is missing; add address" if wanted.default is None else None
        if not re.fullmatch(wanted.pattern, address):
            return f"address {address!r} has another form; it must match {wanted.pattern}"
        return None


def _lines(found: Iterable[Fault]) -> list[InitErrorDetails]:
    return [fault_line(*fault) for fault in found]


def _readable(data: Any) -> Parts | None:
    """Return what is right by itself in a profile that is not."""
    top = mapping(data)
    layout = sound(SerialLineLayout, top.get("serial_line"))
    if layout is None:
        return None
    groups = {
        name: sound_ones(SerialLineTag, mapping(group).get("tags"))
        for name, group in mapping(top.get("groups")).items()
    }
    commands = sound_ones(Command, top.get("commands"))
    if len(commands) < len(mapping(top.get("commands"))):
        return None  # what refers to a faulty command would be a fault that follows
    return Parts(layout, commands, groups, sound_ones(SerialLineIdentityItem, top.get("identity")))

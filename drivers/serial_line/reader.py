"""Reading one group of one instrument: its requests in order, its values from their replies."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from drivers.serial_line.codec import Command, Fields, Refused
from drivers.serial_line.line import Station, TextLine
from drivers.serial_line.profile import SerialLineTag
from drivers.serial_line.pseudonym import pseudonym
from drivers.serial_line.values import Missing, value_of
from edgeagent.driver import BadReply, Frame, GroupSchema
from edgeagent.model import quality
from edgeagent.model.clock import Clock
from edgeagent.model.frame import Value

REFUSED_AGAIN_AFTER_NS = 300 * 10**9
"""How long a request that the device does not know is left alone."""


class _Failure(NamedTuple):
    """Why a command brought nothing."""

    cause: str
    status: int
    detail: str


class Assembly:
    """The values of one group, as replies bring them."""

    def __init__(
        self, schema: GroupSchema, tags: Sequence[SerialLineTag], key: bytes | None
    ) -> None:
        self._schema = schema
        self._tags = tags
        self._key = key
        self._replies: dict[str, Fields] = {}
        self._values: list[Value] = [None] * len(tags)
        self._statuses = [quality.GOOD] * len(tags)
        self._present: set[int] = set()
        self.raw: list[bytes] = []
        self.first: _Failure | None = None

    def take(self, command: str, fields: Fields) -> None:
        """Take the reply to a command."""
        self._replies[command] = fields

    def fail(self, command: str, failure: _Failure) -> None:
        """Note that a command brought nothing."""
        self.first = self.first or failure
        for index, tag in enumerate(self._tags):
            if command in (tag.command, tag.unit_command):
                self._statuses[index] = failure.status

    def frame(self, clock_ns: tuple[int, int]) -> Frame | None:
        """Return what came, ``None`` if that is nothing.

        :param clock_ns: UTC and boot-time clock when the last reply was complete
        """
        for index, tag in enumerate(self._tags):
            fields = self._replies.get(tag.command)
            unit_fields = (
                fields if tag.unit_command is None else self._replies.get(tag.unit_command)
            )
            if fields is not None and unit_fields is not None:
                self._decode(index, tag, fields, unit_fields)
        if not self._present:
            return None
        whole = len(self._present) == len(self._tags)
        return Frame(
            self._schema,
            tuple(self._values),
            *clock_ns,
            b"".join(self.raw),
            None if whole else tuple(sorted(self._present)),
            tuple(self._statuses) if any(self._statuses) else quality.GOOD,
        )

    def _decode(self, index: int, tag: SerialLineTag, fields: Fields, unit_fields: Fields) -> None:
        try:
            found = value_of(tag, fields, unit_fields)
        except Missing as error:
            detail = f"{self._schema.tags[index].name}: {error}"
            self.first = self.first or _Failure(error.cause, error.status, detail)
            self._statuses[index] = error.status
            return
        self._values[index], self._statuses[index] = self._shown(tag, found.value), found.status
        self._present.add(index)

    def _shown(self, tag: SerialLineTag, value: Value) -> Value:
        if tag.privacy != "pseudonym" or not isinstance(value, str):
            return value
        assert self._key is not None, "the key is read before the first value"
        return pseudonym(self._key, value)


class Reader:
    """Reads one group, and remembers what the device does not know."""

    def __init__(
        self,
        schema: GroupSchema,
        tags: Sequence[SerialLineTag],
        commands: Mapping[str, Command],
        clock: Clock,
    ) -> None:
        self._schema = schema
        self._tags = tags
        of_units = (tag.unit_command for tag in tags if tag.unit_command is not None)
        names = dict.fromkeys((*of_units, *(tag.command for tag in tags)))
        self._commands = tuple(commands[name] for name in names)
        self._clock = clock
        self._unknown: dict[Command, int] = {}

    def forget(self) -> None:
        """Ask for everything again: the connection, or the device, is new."""
        self._unknown = {}

    async def read(self, line: TextLine, station: Station, key: bytes | None) -> Frame:
        """Read once; what fails is absent.

        :raises BadReply: if nothing could be read
        :raises LinkLost: if the link is gone
        """
        assembly = Assembly(self._schema, self._tags, key)
        stamp = (0, 0)
        away: _Failure | None = None
        for command in self._commands:
            failure = away or self._left_alone(command)
            if failure is None:
                found = await self._ask(line, station, command, assembly)
                if not isinstance(found, _Failure):
                    stamp = self._clock.utc_ns(), self._clock.boot_ns()
                    assembly.take(command.name, found)
                    continue
                failure = found
                if failure.cause == "timeout":  # it is away: the rest would cost a timeout each
                    away = failure
            assembly.fail(command.name, failure)
        frame = assembly.frame(stamp)
        if frame is None:
            assert assembly.first is not None
            raise BadReply(assembly.first.cause, assembly.first.detail)
        return frame

    async def _ask(
        self, line: TextLine, station: Station, command: Command, assembly: Assembly
    ) -> Fields | _Failure:
        try:
            raw, found = await line.ask(station, command)
        except BadReply as error:
            if error.cause == "timeout" and command.silence_refuses:
                return await self._unknown_or_away(line, station, command, error)
            status = quality.BAD_TIMEOUT if error.cause == "timeout" else quality.BAD_DECODING_ERROR
            return _Failure(error.cause, status, error.detail)
        if isinstance(found, Refused):
            detail = f"{station.name} refuses {command.name}: {found.text}"
            return _Failure("refused", found.status, detail)
        assembly.raw.append(raw)
        return found

    async def _unknown_or_away(
        self, line: TextLine, station: Station, command: Command, silent: BadReply
    ) -> _Failure:
        """Tell a device that does not know a request from one that is not there."""
        away = _Failure("timeout", quality.BAD_TIMEOUT, silent.detail)
        if not station.known_answers:
            return away
        try:
            await line.prove(station)
        except BadReply:
            return away
        self._unknown[command] = self._clock.boot_ns() + REFUSED_AGAIN_AFTER_NS
        return self._not_known(command)

    def _left_alone(self, command: Command) -> _Failure | None:
        until_ns = self._unknown.get(command)
        if until_ns is None or self._clock.boot_ns() >= until_ns:
            return None
        return self._not_known(command)

    def _not_known(self, command: Command) -> _Failure:
        detail = f"{self._schema.instrument} says nothing to {command.name}: it does not know it"
        return _Failure("refused", quality.BAD_NOT_SUPPORTED, detail)

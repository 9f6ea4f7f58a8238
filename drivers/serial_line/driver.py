"""The driver of a line whose instruments are asked: identities and groups."""

from collections.abc import Sequence

from drivers.identity import identity_of
from drivers.serial_line.codec import Command, Refused, compile_command
from drivers.serial_line.line import Station, TextLine
from drivers.serial_line.profile import SerialLineProfile
from drivers.serial_line.pseudonym import read_key
from drivers.serial_line.reader import Reader
from drivers.serial_line.settings import SerialLineInstrumentSettings, SerialLineLinkSettings
from drivers.serial_line.values import Missing, text_of
from edgeagent.driver import BadReply, Frame, GroupSchema, Identity, Instrument, LinkLost
from edgeagent.model.clock import Clock


class SerialLineDriver:
    """One line that is asked; see :class:`~edgeagent.driver.PolledDriver`."""

    def __init__(
        self, settings: SerialLineLinkSettings, instruments: Sequence[Instrument], clock: Clock
    ) -> None:
        self._settings = settings
        self._devices = {each.name: _Device(each, clock) for each in instruments}
        self._of_group = {
            group: device for device in self._devices.values() for group in device.readers
        }
        self._line: TextLine | None = None

    async def connect(self) -> tuple[Identity, ...]:
        """Open the line and ask each instrument who it is."""
        await self.close()
        for device in self._devices.values():
            device.prepare()
        stations = [device.station for device in self._devices.values()]
        line = TextLine(self._settings, stations, echo=self._settings.echo)
        await line.open()
        self._line = line
        identities = []
        for device in self._devices.values():
            try:
                identities.append(await device.identify(line))
            except BadReply:  # does not answer: asked again before its first value
                continue
        return tuple(identities)

    async def identify(self, instrument: str) -> Identity:
        """Ask one instrument who it is."""
        return await self._devices[instrument].identify(self._connected())

    async def poll(self, group: GroupSchema) -> Frame:
        """Read one group once."""
        return await self._of_group[group].read(group, self._connected())

    async def close(self) -> None:
        """Close the line."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _connected(self) -> TextLine:
        if self._line is None:
            raise LinkLost("not connected")
        return self._line


class _Device:
    """One instrument on the line: how its groups and its identity are read."""

    def __init__(self, instrument: Instrument, clock: Clock) -> None:
        profile, settings = instrument.profile, instrument.settings
        assert isinstance(profile, SerialLineProfile)
        assert isinstance(settings, SerialLineInstrumentSettings)
        layout = profile.serial_line
        commands = {
            name: compile_command(profile, name, settings.address) for name in profile.commands
        }
        self._instrument = instrument
        self._profile = profile
        self._key_file = settings.pseudonym_key_file
        self._key: bytes | None = None
        self._facts: dict[str, str] = {}
        self._asked: tuple[Command, ...] = tuple(
            commands[name]
            for name in dict.fromkeys(item.command for item in profile.identity.values())
        )
        constant = [command for command in commands.values() if command.constant]
        self.station = Station(
            instrument.name,
            tuple(constant),
            (layout.pause_between_requests or 0) / 10**9,
            layout.slowest_reply / 10**9,
            layout.echo,
        )
        self.readers = {
            group: Reader(
                group, tuple(profile.groups[group.group].acquired().values()), commands, clock
            )
            for group in instrument.groups
        }

    def prepare(self) -> None:
        """Read what the values need; forget what was learned of the device."""
        if self._profile.needs_key and self._key_file is not None:
            try:
                self._key = read_key(self._key_file)
            except ValueError as error:
                raise LinkLost(f"{self._instrument.name}: {error}") from None
        for reader in self.readers.values():
            reader.forget()

    async def read(self, group: GroupSchema, line: TextLine) -> Frame:
        return await self.readers[group].read(line, self.station, self._key)

    async def identify(self, line: TextLine) -> Identity:
        """Read the identity items and hold them against what is expected."""
        line.forget(self.station)
        facts: dict[str, str] = {}
        for command in self._asked:
            facts |= await self._facts_of(line, command)
        if not self._asked:
            await line.prove(self.station)
        if facts != self._facts:  # another device: what was learned is of the one before
            for reader in self.readers.values():
                reader.forget()
            self._facts = facts
        return identity_of(self._instrument, facts)

    async def _facts_of(self, line: TextLine, command: Command) -> dict[str, str]:
        """Return the facts of one reply; none where the device refuses the request."""
        reading = await line.ask(self.station, command)
        if isinstance(reading.found, Refused):
            return {}
        facts = {}
        for name, item in self._profile.identity.items():
            if item.command != command.name:
                continue
            try:
                facts[name] = text_of(reading.found[item.field].text.strip(), item.text_form)
            except Missing as error:
                raise BadReply("bad_reply", f"{self.station.name}: {name}: {error}") from None
        return facts

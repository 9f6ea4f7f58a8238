"""The Modbus driver: one link, its instruments, their identities and their groups."""

from collections.abc import Sequence

from drivers.identity import identity_of
from drivers.modbus.framing import reply_bytes
from drivers.modbus.line import LineWire
from drivers.modbus.profile import ModbusProfile
from drivers.modbus.reader import Reader, Unit
from drivers.modbus.settings import ModbusInstrumentSettings, ModbusLinkSettings
from drivers.modbus.tcp import TcpWire
from drivers.modbus.wire import Station, Wire
from edgeagent.driver import BadReply, Frame, GroupSchema, Identity, Instrument, LinkLost
from edgeagent.model.clock import Clock
from edgeagent.model.frame import Value


class ModbusDriver:
    """One Modbus link; see :class:`~edgeagent.driver.PolledDriver`."""

    def __init__(
        self, settings: ModbusLinkSettings, instruments: Sequence[Instrument], clock: Clock
    ) -> None:
        self._settings = settings
        self._devices = {each.name: _Device(each, clock) for each in instruments}
        self._readers = {
            group: reader
            for device in self._devices.values()
            for group, reader in device.readers.items()
        }
        self._wire: Wire | None = None

    async def connect(self) -> tuple[Identity, ...]:
        """Open the connection and ask each instrument who it is."""
        await self.close()
        wire = self._new_wire()
        await wire.open()
        self._wire = wire
        for device in self._devices.values():
            device.forget()
        identities = []
        for device in self._devices.values():
            try:
                identities.append(await device.identify(wire))
            except BadReply:  # does not answer: asked again before its first value
                continue
        return tuple(identities)

    def _new_wire(self) -> Wire:
        if self._settings.framing == "tcp":
            return TcpWire(self._settings)
        stations = {device.unit.number: device.station() for device in self._devices.values()}
        return LineWire(self._settings, stations)

    async def identify(self, instrument: str) -> Identity:
        """Ask one instrument who it is."""
        return await self._devices[instrument].identify(self._connected())

    async def poll(self, group: GroupSchema) -> Frame:
        """Read one group once."""
        return Frame(group, *await self._readers[group].read(self._connected()))

    async def close(self) -> None:
        """Close the connection."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _connected(self) -> Wire:
        if self._wire is None:
            raise LinkLost("not connected")
        return self._wire


class _Device:
    """One instrument on the link: how its groups and its identity are read."""

    def __init__(self, instrument: Instrument, clock: Clock) -> None:
        profile, settings = instrument.profile, instrument.settings
        assert isinstance(profile, ModbusProfile)
        assert isinstance(settings, ModbusInstrumentSettings)
        limits = profile.modbus.limits()
        unit = Unit(settings.unit_id, profile.modbus.quirks.pause_between_requests or 0)
        self.unit = unit
        self._instrument = instrument
        self._items = profile.identity
        self._known: dict[str, str] = {}
        self._identity = Reader(unit, profile.identity_points(), limits, clock)
        self.readers = {
            group: Reader(unit, profile.points(group.group), limits, clock)
            for group in instrument.groups
        }

    def station(self) -> Station:
        """Return what a line may ask the device to find out whether it is in step."""
        readers = (self._identity, *self.readers.values())
        return Station(
            constant=tuple(sorted(self._identity.exact_requests(), key=reply_bytes)),
            others=tuple(
                request
                for reader in readers
                for request in (*reader.requests(), *reader.shorter_requests())
            ),
            pause_s=self.unit.pause_s,
        )

    def forget(self) -> None:
        """Forget which addresses the device refuses."""
        for reader in self.readers.values():
            reader.forget()

    async def identify(self, wire: Wire) -> Identity:
        """Read the identity items and hold them against what is expected."""
        wire.forget(self.unit.number)
        facts = await self._facts(wire)
        if facts != self._known:  # another device: what was learned is of the one before
            self.forget()
            self._known = facts
        return identity_of(self._instrument, facts)

    async def _facts(self, wire: Wire) -> dict[str, str]:
        """Return the facts that the device knows.

        :raises BadReply: if it is not certain which these are: a reply that is late or garbled
            makes no other device of it
        """
        if not self._items:
            return {}
        reading = await self._identity.read_thoroughly(wire)
        return {
            name: _fact(value)
            for name, value in zip(self._items, reading.values, strict=True)
            if value is not None
        }


def _fact(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)

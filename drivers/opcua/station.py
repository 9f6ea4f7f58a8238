"""One instrument on a server: where its tags and its identity are, and who it says it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from drivers.identity import identity_of
from drivers.opcua.address import Address, parse, resolve
from drivers.opcua.frames import Point
from drivers.opcua.nodes import Server, find, read_values
from drivers.opcua.profile import Deadband, Located, OpcUaProfile
from drivers.opcua.settings import OpcUaInstrumentSettings
from drivers.opcua.stack import Channel
from drivers.opcua.values import KIND_OF, Mismatch, NoValue, converter, fact
from edgeagent.driver import Identity, Instrument

NEVER = -2
"""No value is taken without a look at it."""

QUEUE_S = 10
QUEUE_MIN = 10


@dataclass(frozen=True, slots=True)
class Place:
    """How one tag is asked for."""

    start: Address
    address: Address
    sampling_ms: float
    publishing_ns: int
    queue_size: int
    deadband: Deadband | None
    is_field: bool


@dataclass(slots=True)
class Station:
    """One instrument with its tags, in the order of its groups."""

    instrument: Instrument
    points: list[Point] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    @classmethod
    def of(cls, instrument: Instrument) -> "Station":
        """Compile an instrument."""
        station = cls(instrument)
        profile, start = station.profile, station.start
        for group in instrument.groups:
            content = profile.groups[group.group]
            publishing_ns = max(content.publishing_interval or group.period_ns, group.period_ns)
            kept = max(QUEUE_S * 10**9, 2 * publishing_ns) // group.period_ns
            queue_size = content.queue_size or max(QUEUE_MIN, kept)
            for index, (name, tag) in enumerate(content.acquired().items()):
                plain = tag.element is None and tag.field is None and not tag.array
                kind = KIND_OF.get(tag.type, NEVER) if plain else NEVER
                full_name = f"{group}/{name}"
                station.points.append(Point(0, full_name, group, index, kind, converter(tag)))
                address = profile.address(tag.node)
                sampling_ms = 0.0 if content.every_change else group.period_ns / 1e6
                place = Place(
                    start, address, sampling_ms, publishing_ns, queue_size, tag.deadband,
                    tag.field is not None,
                )  # fmt: skip
                station.places.append(place)
        return station

    @property
    def profile(self) -> OpcUaProfile:
        """The profile of the instrument."""
        assert isinstance(self.instrument.profile, OpcUaProfile)
        return self.instrument.profile

    @property
    def start(self) -> Address:
        """Where its browse paths begin."""
        profile, settings = self.profile, self.instrument.settings
        assert isinstance(settings, OpcUaInstrumentSettings)
        if settings.start is not None:
            return resolve(parse(settings.start), profile.opcua.namespaces)
        return profile.address(profile.opcua.start)


async def identify(
    channel: Channel, server: Server, stations: Sequence[Station]
) -> tuple[Identity, ...]:
    """Ask each instrument who it is; an item that cannot be read is absent."""
    wanted = [
        (station, name, item)
        for station in stations
        for name, item in station.profile.identity.items()
    ]
    addresses = [(station.start, station.profile.address(item.node)) for station, _, item in wanted]
    found = await find(channel, server, addresses)
    facts: dict[str, dict[str, str]] = {station.instrument.name: {} for station in stations}
    readable = [(each, where) for each, where in zip(wanted, found, strict=True) if where.node]
    values = await read_values(
        channel, [where.node for _, where in readable], server.limits["read"]
    )
    for ((station, name, item), _), value in zip(readable, values, strict=True):
        stated = _stated(item, value)
        if stated is not None:
            facts[station.instrument.name][name] = stated
    return tuple(
        identity_of(station.instrument, facts[station.instrument.name]) for station in stations
    )


def _stated(item: Located, value: object) -> str | None:
    try:
        return fact(item, value)
    except (Mismatch, NoValue):
        return None

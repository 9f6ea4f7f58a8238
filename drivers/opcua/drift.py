"""What a server states of a tag now, against what it stated when a person approved the profile."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from drivers.opcua.address import NAMESPACE_0, Address, BrowsePath
from drivers.opcua.nodes import Server, find, read_values
from drivers.opcua.profile import OpcUaTag, Stated
from drivers.opcua.stack import Channel, ua
from drivers.opcua.station import Station
from edgeagent.driver import Identity

_PROPERTIES = ("EngineeringUnits", "EURange")


async def drifted(
    channel: Channel, server: Server, stations: Sequence[Station], identities: Sequence[Identity]
) -> tuple[Identity, ...]:
    """Return the identities, with a mismatch for each unit and range that is not as approved.

    A node that is gone or has another type is refused with its tag, and no matter of this.
    """
    tags = [each for station in stations for each in _stated(station)]
    wanted = [way for _, _, _, start, node in tags for way in _ways(start, node)]
    found = await find(channel, server, wanted)
    readable = [where.node for where in found if where.node is not None]
    values = iter(await read_values(channel, readable, server.limits["read"]))
    now = [None if where.node is None else next(values) for where in found]
    changes: dict[str, list[str]] = {}
    for number, (instrument, name, stated, _, _) in enumerate(tags):
        at = number * 3
        if not found[at].fault:
            lines = (f"{name}: {line}" for line in _changes(stated, now[at + 1], now[at + 2]))
            changes.setdefault(instrument, []).extend(lines)
    return tuple(
        replace(each, mismatches=(*each.mismatches, *changes.get(each.instrument, ())))
        for each in identities
    )


def _stated(station: Station) -> Iterator[tuple[str, str, Stated, Address, Address]]:
    profile, name = station.profile, station.instrument.name
    for group in station.instrument.groups:
        for tag_name, tag in profile.groups[group.group].acquired().items():
            assert isinstance(tag, OpcUaTag)
            if tag.stated is not None:
                yield name, tag_name, tag.stated, station.start, profile.address(tag.node)


def _ways(start: Address, node: Address) -> Iterator[tuple[Address, Address]]:
    """Return where a node and its two properties are."""
    yield start, node
    for name in _PROPERTIES:
        step = ((NAMESPACE_0, name),)
        if isinstance(node, BrowsePath):
            yield start, BrowsePath(node.steps + step)
        else:
            yield node, BrowsePath(step)


def _changes(stated: Stated, units: Any, bounds: Any) -> Iterator[str]:
    if stated.unit_id is not None or stated.unit is not None:
        now = _content(units, ua.EUInformation)
        approved = f"{stated.unit!r} (UnitId {stated.unit_id})"
        if now is None:
            yield f"the server states no unit; the profile was approved with {approved}"
        else:
            display = now.DisplayName.Text or "" if now.DisplayName is not None else ""
            by_code = bool(stated.unit_id) and stated.unit_id != -1
            same = now.UnitId == stated.unit_id and (by_code or display == (stated.unit or ""))
            if not same:
                yield (
                    f"the server's unit is {display!r} (UnitId {now.UnitId}); the profile was "
                    f"approved with {approved}"
                )
    if stated.range is not None:
        low, high = stated.range.low, stated.range.high
        now = _content(bounds, ua.Range)
        if now is None:
            yield f"the server states no range; the profile was approved with {low:g} to {high:g}"
        elif (now.Low, now.High) != (low, high):
            yield (
                f"the server's range is {now.Low:g} to {now.High:g}; the profile was approved with "
                f"{low:g} to {high:g}"
            )


def _content(value: Any, kind: Any) -> Any:
    """Return what a DataValue holds, if it is of a kind."""
    content = None if value is None or value.Value is None else value.Value.Value
    return content if isinstance(content, kind) else None

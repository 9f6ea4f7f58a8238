"""Taking over the subscriptions of an agent that was killed, without having kept anything of it.

A server that has diagnostics says which session has which subscriptions (OPC 10000-5 sections
12.9 and 12.13). A session's name tells whose it was: this host's, with exactly these tags in this
order. What the server still holds of it is then transferred and republished. Where a server says
nothing, or something differs, everything is made anew, and what was between is a gap.
"""

import hashlib
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from drivers.opcua.frames import Point
from drivers.opcua.nodes import read_values
from drivers.opcua.pump import OUTSTANDING
from drivers.opcua.stack import Channel, Refused, ua
from drivers.opcua.station import Station
from drivers.opcua.subscription import Subscription, delete, transfer

SUBSCRIPTION_DIAGNOSTICS, SESSION_DIAGNOSTICS = 2290, 3707


def session_name(stations: Sequence[Station]) -> str:
    """Return a name that only an agent on this host with these tags in this order has."""
    stated = [
        (point.handle, point.name, place)
        for station in stations
        for point, place in zip(station.points, station.places, strict=True)
    ]
    digest = hashlib.sha256(repr(stated).encode()).hexdigest()[:16]
    return f"edgeagent {socket.gethostname()} {digest}"


async def take_over(
    channel: Channel,
    name: str,
    own_session: Any,
    by_interval: Mapping[int, list[Point]],
    now_s: float,
) -> list[Subscription]:
    """Return the subscriptions that an agent of this name left, now those of this session.

    :param by_interval: what is to be monitored, by publishing interval in nanoseconds
    """
    left = await _left_behind(channel, name, own_session)
    if not left:
        return []
    taken = await transfer(channel, [each.SubscriptionId for each in left])
    found = [each for each in left if each.SubscriptionId in taken]
    adopted: list[Subscription] = []
    for interval_ns, points in by_interval.items():
        fitting = [
            each
            for each in found
            if each.MonitoredItemCount == len(points)
            and (len(by_interval) == 1 or each.PublishingInterval == interval_ns / 1e6)
        ]
        if len(fitting) != 1:
            continue
        each = fitting[0]
        found.remove(each)
        window_s = each.PublishingInterval * max(each.MaxKeepAliveCount, 1) / 1000 * 1.25 + 0.5
        held = taken[each.SubscriptionId]
        expected = held[0] if held else each.NextSequenceNumber
        adopted.append(
            Subscription(each.SubscriptionId, list(points), window_s, now_s, max(expected, 1))
        )
        surely_all = len(held) <= 2 * OUTSTANDING  # no server keeps fewer (OPC 10000-4, 5.14.1.1)
        for point in points:
            point.stored_until_ns = point.last_source_ns
            if surely_all:
                point.interrupted = None
    if found:
        delete(channel, (each.SubscriptionId for each in found))
    return adopted


async def _left_behind(channel: Channel, name: str, own_session: Any) -> list[Any]:
    """Return the diagnostics of subscriptions of other sessions of this name."""
    nodes = [ua.NodeId(SESSION_DIAGNOSTICS), ua.NodeId(SUBSCRIPTION_DIAGNOSTICS)]
    try:
        values = await read_values(channel, nodes, 1)
    except Refused:
        return []
    sessions, subscriptions = (_listed(value) for value in values)
    theirs = [
        each.SessionId
        for each in sessions
        if getattr(each, "SessionName", None) == name and each.SessionId != own_session
    ]
    return [each for each in subscriptions if getattr(each, "SessionId", None) in theirs]


def _listed(value: Any) -> Sequence[Any]:
    content = None if value.Value is None else value.Value.Value
    return content if isinstance(content, list) else ()

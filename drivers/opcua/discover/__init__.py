"""Drawing a profile from what a server says of itself, for a person to approve."""

from collections.abc import Sequence
from functools import partial

from drivers.opcua.address import NodeId, parse, resolve
from drivers.opcua.discover.browse import OBJECTS, browse
from drivers.opcua.discover.draft import draft, profile_names
from drivers.opcua.discover.model import UA
from drivers.opcua.discover.recognise import devices
from drivers.opcua.nodes import describe, find
from drivers.opcua.session import Connector
from drivers.opcua.settings import OpcUaInstrumentSettings, OpcUaLinkSettings
from drivers.opcua.stack import Refused, self_test
from drivers.opcua.trust import Trust
from edgeagent.driver import Draft, LinkLost
from edgeagent.model.clock import Clock

SESSION_NAME = "edgeagent discover"
CLOSE_WITHIN_S = 1.0


async def discover(
    settings: OpcUaLinkSettings, place: OpcUaInstrumentSettings, clock: Clock, trust: Trust
) -> Sequence[Draft]:
    """Browse a server and return a draft for each device; nothing is written or called.

    :param place: ``start`` is where to look; default: Objects
    :raises LinkLost: in words that say what to do
    """
    self_test()
    connector = Connector(settings, trust, clock, SESSION_NAME)
    channel, _, _ = await connector.open(None, lambda: None)
    try:
        server = await describe(channel)
        objects = NodeId(UA, "i", OBJECTS)
        start = objects if place.start is None else resolve(parse(place.start), {})
        [found] = await find(channel, server, [(objects, start)])
        if found.fault:
            raise LinkLost(f"start: {found.fault}")
        space = await browse(channel, server, found.node)
    except Refused as error:
        raise LinkLost(
            f"the server does not let itself be browsed: {error}; allow it to the user"
        ) from None
    finally:
        await channel.end_session(CLOSE_WITHIN_S)
        await channel.close()
    there = devices(space)
    names = profile_names(there)
    return [
        Draft(
            name,
            f"{device.kind.value} device {device.name}: {len(device.found)} variables",
            partial(draft, device, url=settings.url),
        )
        for device, name in zip(there, names, strict=True)
    ]

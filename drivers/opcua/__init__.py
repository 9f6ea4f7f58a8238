"""OPC UA: what a server pushes on subscriptions. See README.md."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from drivers.opcua.profile import OpcUaProfile
from drivers.opcua.settings import OpcUaInstrumentSettings, OpcUaLinkSettings
from edgeagent.driver import Draft, DriverKind, Instrument, SubscribedDriver
from edgeagent.model.clock import Clock

__all__ = ["DRIVER"]


def _endpoint(settings: OpcUaLinkSettings) -> str:
    parts = urlsplit(settings.url)
    return f"{(parts.hostname or '').lower()}:{parts.port or 4840}{parts.path.rstrip('/')}"


def _clash(one: OpcUaInstrumentSettings, other: OpcUaInstrumentSettings) -> str | None:
    """Many instruments may share a server, and two profiles may read one node."""
    return None


def _open(
    settings: OpcUaLinkSettings, instruments: Sequence[Instrument], clock: Clock
) -> SubscribedDriver:
    # Here, so that checking a configuration does not load the protocol library.
    from drivers.opcua.driver import OpcUaDriver
    from drivers.opcua.trust import folder_trust

    return OpcUaDriver(settings, instruments, clock, folder_trust(settings.pki))


async def _discover(
    settings: OpcUaLinkSettings, place: OpcUaInstrumentSettings, clock: Clock
) -> Sequence[Draft]:
    from drivers.opcua.discover import discover
    from drivers.opcua.trust import folder_trust

    return await discover(settings, place, clock, folder_trust(settings.pki))


DRIVER = DriverKind(
    name="opcua",
    link_settings=OpcUaLinkSettings,
    instrument_settings=OpcUaInstrumentSettings,
    profile=OpcUaProfile,
    endpoint=_endpoint,
    clash=_clash,
    open=_open,
    discover=_discover,
    at_site=OpcUaLinkSettings.at_site,
)

"""Instruments that speak in lines of text, on a serial line or behind one. See README.md."""

from collections.abc import Sequence

from drivers.serial_line.profile import SerialLineProfile
from drivers.serial_line.settings import SerialLineInstrumentSettings, SerialLineLinkSettings
from edgeagent.driver import DriverKind, Instrument, PolledDriver, SubscribedDriver
from edgeagent.model.clock import Clock

__all__ = ["DRIVER"]


def _endpoint(settings: SerialLineLinkSettings) -> str:
    return settings.endpoint


def _clash(one: SerialLineInstrumentSettings, other: SerialLineInstrumentSettings) -> str | None:
    if one.address == other.address:
        return f"both have address {one.address}" if one.address else "neither has an address"
    return None


def _misfit(instrument: Instrument, others: Sequence[Instrument]) -> str | None:
    profile, settings = _profile(instrument), instrument.settings
    fault = profile.address_fault(settings.address)
    if fault is None and profile.needs_key and settings.pseudonym_key_file is None:
        return "has texts that become pseudonyms, and no key; add pseudonym_key_file"
    if (
        fault is None
        and others
        and (profile.serial_line.listen or _profile(others[0]).serial_line.listen)
    ):
        return (
            f"shares its line with {others[0].name}, and a device that sends by itself disturbs "
            "every other; give each its own link"
        )
    return fault


def _profile(instrument: Instrument) -> SerialLineProfile:
    assert isinstance(instrument.profile, SerialLineProfile)
    return instrument.profile


def _open(
    settings: SerialLineLinkSettings, instruments: Sequence[Instrument], clock: Clock
) -> PolledDriver | SubscribedDriver:
    # Here, so that checking a configuration does not load the protocol library.
    if any(_profile(each).serial_line.listen for each in instruments):
        from drivers.serial_line.listener import SerialLineListener

        return SerialLineListener(settings, instruments[0], clock)
    from drivers.serial_line.driver import SerialLineDriver

    return SerialLineDriver(settings, instruments, clock)


DRIVER = DriverKind(
    name="serial_line",
    link_settings=SerialLineLinkSettings,
    instrument_settings=SerialLineInstrumentSettings,
    profile=SerialLineProfile,
    endpoint=_endpoint,
    clash=_clash,
    open=_open,
    misfit=_misfit,
)

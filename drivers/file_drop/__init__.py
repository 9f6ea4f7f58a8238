"""Platforms without an interface that write run reports into a folder. See README.md."""

from collections.abc import Sequence
from zoneinfo import ZoneInfoNotFoundError

from drivers.file_drop.profile import FileDropProfile
from drivers.file_drop.settings import FileDropInstrumentSettings, FileDropLinkSettings
from drivers.file_drop.values import zone_of
from edgeagent.driver import DriverKind, Instrument, SubscribedDriver
from edgeagent.model.clock import Clock

__all__ = ["DRIVER"]


def _endpoint(settings: FileDropLinkSettings) -> str:
    return str(settings.folder)


def _clash(one: FileDropInstrumentSettings, other: FileDropInstrumentSettings) -> str | None:
    if one.files is None and other.files is None:
        return "neither says which files are its own, as 'files'"
    return f"both take the files {one.files}" if one.files == other.files else None


def _misfit(instrument: Instrument, others: Sequence[Instrument]) -> str | None:
    assert isinstance(instrument.profile, FileDropProfile)
    zone = instrument.settings.time_zone
    if zone is None and instrument.profile.needs_zone:
        return "nobody says in which time zone its reports are written; add time_zone"
    if zone is not None:
        try:
            zone_of(zone)
        except (ZoneInfoNotFoundError, ValueError):
            return f"time zone {zone!r} is not known; write one as in Europe/Berlin"
    return None


def _open(
    settings: FileDropLinkSettings, instruments: Sequence[Instrument], clock: Clock
) -> SubscribedDriver:
    from drivers.file_drop.driver import FileDropDriver

    return FileDropDriver(settings, instruments, clock)


DRIVER = DriverKind(
    name="file_drop",
    link_settings=FileDropLinkSettings,
    instrument_settings=FileDropInstrumentSettings,
    profile=FileDropProfile,
    endpoint=_endpoint,
    clash=_clash,
    open=_open,
    misfit=_misfit,
)

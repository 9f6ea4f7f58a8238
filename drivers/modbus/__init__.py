"""Modbus: polled registers and bits over TCP, RTU and ASCII. See README.md."""

from collections.abc import Sequence

from drivers.modbus.profile import ModbusProfile
from drivers.modbus.settings import ModbusInstrumentSettings, ModbusLinkSettings
from edgeagent.driver import DriverKind, Instrument, PolledDriver
from edgeagent.model.clock import Clock

__all__ = ["DRIVER"]


def _endpoint(settings: ModbusLinkSettings) -> str:
    return settings.endpoint


def _clash(one: ModbusInstrumentSettings, other: ModbusInstrumentSettings) -> str | None:
    if one.unit_id == other.unit_id:
        return f"both have unit_id {one.unit_id}"
    return None


def _open(
    settings: ModbusLinkSettings, instruments: Sequence[Instrument], clock: Clock
) -> PolledDriver:
    # Here, so that checking a configuration does not load the protocol library.
    from drivers.modbus.driver import ModbusDriver

    return ModbusDriver(settings, instruments, clock)


DRIVER = DriverKind(
    name="modbus",
    link_settings=ModbusLinkSettings,
    instrument_settings=ModbusInstrumentSettings,
    profile=ModbusProfile,
    endpoint=_endpoint,
    clash=_clash,
    open=_open,
)

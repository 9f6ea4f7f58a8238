"""A peer on loopback and drivers that talk to it."""

import pytest

from drivers.modbus import DRIVER
from edgeagent.driver import Instrument
from edgeagent.model.clock import SystemClock
from tests.conformance.modbus.peer import Peer

PATIENT = "20 s"
"""A reply is expected: only a broken driver lets this pass."""

IMPATIENT_S = 0.03
"""No reply is expected."""


def profile(tags: dict, **extra):
    """A profile with one group ``g`` of these tags."""
    return DRIVER.profile.model_validate(
        {
            "profile": "test",
            "version": "1.0.0",
            "make": "test",
            "model": "test",
            "device_class": "test",
            "driver": "modbus",
            "source": [{"manual": "none", "confidence": "simulated-only"}],
            "modbus": {"address_base": "0-based", **extra.pop("modbus", {})},
            "groups": {"g": {"period": "1 s", "tags": tags}},
            **({"identity_unavailable": "test"} if "identity" not in extra else {}),
            **extra,
        }
    )


def register(address: int, **keys) -> dict:
    return {"type": "UINT16", "address": address, **keys}


def instrument(name="a", unit_id=1, expected=(), *, of=None) -> Instrument:
    checked = of or profile({"x": register(10), "y": register(11)})
    settings = DRIVER.instrument_settings(unit_id=unit_id)
    return Instrument(name, checked, settings, checked.schemas(name, {}), expected)


@pytest.fixture
async def peer():
    made = Peer()
    await made.start()
    yield made
    await made.stop()
    assert not made.trouble


@pytest.fixture
async def driver_of(peer):
    """Make drivers that are connected to the peer, and close them."""
    made = []

    async def connect(*instruments, clock=None):
        link = DRIVER.link_settings(host="127.0.0.1", port=peer.port, timeout=PATIENT)
        driver = DRIVER.open(link, instruments, clock or SystemClock())
        made.append(driver)
        await driver.connect()
        return driver

    yield connect
    for driver in made:
        await driver.close()


def impatient(driver) -> None:
    """From now on the driver does not wait long."""
    driver._wire._timeout_s = IMPATIENT_S


def patient(driver) -> None:
    driver._wire._timeout_s = 20.0

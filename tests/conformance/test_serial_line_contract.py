"""The serial line driver keeps the contract of every polled driver, and the listener its own.

Method: the generic rules; two mass flow controllers on one line behind a device server, and a
scanner. The line is cut by taking the server away.
"""

import pytest

from drivers.serial_line import DRIVER
from edgeagent.model.clock import SystemClock
from simulators.devices.contract import POWERED_OFF
from simulators.wire.serial_port import DeviceServerPort
from simulators.wire.serial_text import SerialTextServer
from tests.conformance import contract
from tests.conformance.serial_line.instruments import Case, device, instrument

CONTROLLERS = {
    "a": Case("alicat-mc", "alicat_mc", {"address": "A"}, address="A"),
    "b": Case("alicat-mc", "alicat_mc", {"address": "B"}, address="B"),
}
SCANNER = Case("barcode-scanner", "barcode_scanner")


class Stand:
    """A device server with simulated instruments behind it."""

    def __init__(self, cases, tmp_path, **keys) -> None:
        self.clock = SystemClock()
        self.devices = {name: device(case)[0] for name, case in cases.items()}
        self.instruments = tuple(instrument(c, name, **keys) for name, c in cases.items())
        self._port = DeviceServerPort()
        self._server = None

    async def mend(self) -> None:
        self._server = SerialTextServer("wire", self.devices, port=self._port, baud_rate=921_600)
        await self._server.start()

    async def cut(self) -> None:
        await self._server.stop()

    def driver(self):
        link = DRIVER.link_settings(**self._port.endpoint)
        return DRIVER.open(link, self.instruments, self.clock)

    async def silence(self, name: str) -> None:
        self.devices[name].disturbances.begin(POWERED_OFF)

    async def wake(self, name: str) -> None:
        self.devices[name].disturbances.end(POWERED_OFF)


class ListenedStand(Stand):
    """A scanner whose codes are read in the clear, so that they can be told apart."""

    def __init__(self, tmp_path) -> None:
        super().__init__({"a": SCANNER}, tmp_path)
        stated = self.instruments[0].profile.model_dump(exclude_unset=True)
        stated["groups"]["scan"]["period"] = "1 s"
        stated["groups"]["scan"]["tags"]["code"]["privacy"] = "none"
        stated["serial_line"] |= {"timeout": "50 ms", "deadline": "50 ms", "slowest_reply": "50 ms"}
        profile = DRIVER.profile.model_validate(stated)
        settings = DRIVER.instrument_settings()
        of = type(self.instruments[0])
        self.instruments = (of("a", profile, settings, profile.schemas("a", {})),)

    async def push(self, number: int) -> None:
        self.devices["a"].scan(f"CODE-{number}")

    def number_of(self, frame) -> int:
        return int(frame.values[0].removeprefix("CODE-"))


@pytest.mark.parametrize("rule", contract.POLLED, ids=contract.name)
async def test_the_serial_line_driver_keeps_the_contract(rule, tmp_path):
    stand = Stand(CONTROLLERS, tmp_path)
    await stand.mend()
    try:
        await rule(stand)
    finally:
        await stand.cut()


# What a line device has sent is gone: it keeps nothing to give again.
HEARD = [rule for rule in contract.SUBSCRIBED if "not_forgotten" not in rule.__name__]


@pytest.mark.parametrize("rule", HEARD, ids=contract.name)
async def test_the_listener_keeps_the_contract(rule, tmp_path):
    stand = ListenedStand(tmp_path)
    await stand.mend()
    try:
        await rule(stand)
    finally:
        await stand.cut()

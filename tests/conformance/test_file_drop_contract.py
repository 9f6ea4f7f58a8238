"""The driver of run reports keeps the contract of every subscribed driver.

Method: the generic rules, over a folder on the disk; the folder is moved away to cut the link.
"""

import pytest

from edgeagent.driver import Frame
from edgeagent.model.clock import SystemClock
from tests.conformance import contract
from tests.unit.drivers.file_drop import reports


class Stand:
    """A folder with the log of one instrument, which grows."""

    def __init__(self, directory) -> None:
        self.clock = SystemClock()
        profile = reports.profile(("file_drop/grows", True))
        self.instruments = (reports.instrument(profile),)
        self._folder = directory / "reports"
        self._away = directory / "away"
        self._folder.mkdir()
        self._log = "log.csv"
        (self._folder / self._log).write_text("time,x\n")

    def driver(self):
        return reports.driver(self._folder, *self.instruments)

    async def cut(self) -> None:
        self._folder.rename(self._away)

    async def mend(self) -> None:
        self._away.rename(self._folder)

    async def push(self, number: int) -> None:
        with (self._folder / self._log).open("a") as log:
            log.write(f"2026-11-23 12:00:{number:02d},{number}\n")

    def number_of(self, frame: Frame) -> int:
        return frame.values[0]


@pytest.mark.parametrize("rule", contract.SUBSCRIBED, ids=contract.name)
async def test_the_file_drop_driver_keeps_the_contract(rule, tmp_path):
    await rule(Stand(tmp_path))

"""A small sound site on disk, to be spoilt: two files and two fake drivers."""

from pathlib import Path

from edgeagent.configure import load_plan
from edgeagent.configure.plan import SitePlan
from edgeagent.model.errors import ConfigurationError
from tests.fakes import fake_kind

KINDS = {"fake": fake_kind(), "other": fake_kind("other")}

SITE = """\
site: berlin-1
state_dir: state
profile_dirs: [profiles]
broker:
  url: mqtt://broker
links:
  gateway:
    driver: fake
    host: 10.0.0.7
instruments:
  probe-1:
    profile: acme-b200
    link: gateway
    address: 1
"""

PROFILE = """\
profile: acme-b200
version: 1.0.0
make: Acme
model: B200
device_class: balance
driver: fake
source:
  - {manual: B200 manual, confidence: documented}
identity:
  serial_number: {}
groups:
  weight:
    period: 1 s
    tags:
      weight: {type: FLOAT32, channel: 1, unit: g}
"""


def changed(text: str, old: str, new: str) -> str:
    """Return a text with one change, which must be possible."""
    assert old in text, f"{old!r} is not there"
    return text.replace(old, new, 1)


class Files:
    """A directory with ``site.yaml`` and ``profiles/acme-b200.yaml``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "profiles").mkdir()
        self.site = directory / "site.yaml"
        self.profile = directory / "profiles" / "acme-b200.yaml"
        self.site.write_text(SITE)
        self.profile.write_text(PROFILE)

    def plan(self) -> SitePlan:
        return load_plan(self.site, KINDS)

    def faults(self) -> list[str]:
        """Return the lines that a person would see, file names relative."""
        try:
            self.plan()
        except ConfigurationError as error:
            return [str(fault).replace(f"{self.directory}/", "") for fault in error.faults]
        return []

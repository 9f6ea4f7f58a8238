"""What the documents show works as it stands there."""

import re
from pathlib import Path

from ruamel.yaml import YAML

from drivers.file_drop import DRIVER
from tests.unit.drivers.file_drop.reports import losses, read, values

ROOT = Path(__file__).parents[4]


def blocks(path: str, after: str) -> list[str]:
    text = (ROOT / path).read_text().partition(after)[2]
    return re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL)


def test_the_example_of_adding_an_instrument():
    report, profile, *_ = blocks("docs/adding-an-instrument.md", "\n## Run reports")
    stated = DRIVER.profile.model_validate(YAML(typ="safe", pure=True).load(profile))
    items, reading = read(stated, report.encode("cp1252"))
    assert values(items) == [(37.0, -72.4, False), (37.1, -31.0, False)]
    assert losses(items) == []
    assert reading.facts == {"model": "T3", "serial_number": "0042"}


def test_the_site_of_the_readme():
    (site, *_) = blocks("drivers/file_drop/README.md", "\n## Site file")
    stated = YAML(typ="safe", pure=True).load(site)
    for link in stated["links"].values():
        assert link.pop("driver") == "file_drop"
        DRIVER.link_settings.model_validate(link)
    for instrument in stated["instruments"].values():
        own = {k: v for k, v in instrument.items() if k in ("files", "time_zone")}
        DRIVER.instrument_settings.model_validate(own)

"""Driver and shipped profiles against the simulated instruments.

The simulators were written from the same manuals by other hands and share no code with the driver:
where the two disagree, one of them has misread a manual.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import drivers.profiles
from drivers.modbus import DRIVER
from edgeagent.driver import Instrument
from edgeagent.model import quality
from edgeagent.model.clock import SystemClock

PLAUSIBLE = {
    "met-one-6000": {"temperature": (15, 30), "relative_humidity": (10, 90)},
    "hamilton-arc-ph": {"ph": (6, 8), "temperature": (30, 40), "sensor_quality": (1, 100)},
    "adam-4015": {"channel_0": (-196, -120), "channel_1": (-196, -120)},
}


@pytest.fixture(scope="module")
def devices():
    command = [sys.executable, "-m", "simulators", "run", "demo", "--ephemeral"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())["devices"]
        finally:
            process.terminate()


def load(name: str):
    path = Path(drivers.profiles.__file__).parent / f"{name}.yaml"
    return DRIVER.profile.model_validate(YAML(typ="safe", pure=True).load(path.read_text()))


def instruments(devices) -> dict[tuple[str, int], list[Instrument]]:
    """Every simulated instrument, by the end of its link."""
    links: dict[tuple[str, int], list[Instrument]] = {}
    for name, device in devices.items():
        profile = load(device["model"].replace("_", "-"))
        settings = DRIVER.instrument_settings(unit_id=device["unit_id"])
        made = Instrument(name, profile, settings, profile.schemas(name, {}))
        links.setdefault((device["host"], device["port"]), []).append(made)
    return links


async def test_every_instrument_is_who_its_profile_says_and_reads_plausibly(devices):
    seen = set()
    for (host, port), on_link in instruments(devices).items():
        link = DRIVER.link_settings(host=host, port=port, timeout="20 s")
        driver = DRIVER.open(link, on_link, SystemClock())
        identities = await driver.connect()
        assert [identity.instrument for identity in identities] == [i.name for i in on_link]
        for identity, instrument in zip(identities, on_link, strict=True):
            assert identity.mismatches == ()
            assert set(instrument.profile.identity) == {name for name, _ in identity.facts}
            for group in instrument.groups:
                check(await driver.poll(group), instrument.profile.profile)
            seen.add(instrument.profile.profile)
        await driver.close()
    assert seen == set(PLAUSIBLE)


def check(frame, profile: str) -> None:
    assert (frame.status, frame.present) == (quality.GOOD, None), frame.group
    for tag, raw in zip(frame.group.tags, frame.values, strict=True):
        low, high = PLAUSIBLE[profile].get(tag.name, (None, None))
        if low is not None:
            numerator, shift, denominator = tag.scale
            assert low <= (raw * numerator + shift) / denominator <= high, tag

"""Driver and shipped profiles against the simulated instruments.

The simulators were written from the same manuals by other hands and share no code with the driver:
where the two disagree, one of them has misread a manual.
"""

import json
import subprocess
import sys

import pytest

from drivers.modbus import DRIVER
from edgeagent.driver import Instrument
from edgeagent.model import quality
from edgeagent.model.clock import SystemClock
from tests.conformance.modbus.conftest import PATIENT
from tests.conformance.modbus.library import load

PLAUSIBLE = {
    "met-one-6000": {"temperature": (15, 30), "relative_humidity": (10, 90)},
    "hamilton-arc-ph": {"ph": (6, 8), "temperature": (30, 40), "sensor_quality": (1, 100)},
    "adam-4015": {"channel_0": (-196, -120), "channel_1": (-196, -120)},
}


SITE = """\
description: every instrument on every wire
processes:
  room: {model: clean_room}
  reactor: {model: bioreactor}
  freezer: {model: ln2_freezer}
wires:
  tcp: {kind: modbus-tcp, port: 15020}
  rtu: {kind: modbus-rtu, device: line, baud_rate: 19200}
  rtu-server: {kind: modbus-rtu, port: 15021}
  ascii: {kind: modbus-ascii, device: ascii-line, baud_rate: 19200}
  ascii-server: {kind: modbus-ascii, port: 15022}
devices:
"""

PLACED = """\
  counter-WIRE: {model: met_one_6000, process: room, wire: WIRE, unit_id: 1}
  ph-WIRE: {model: hamilton_arc_ph, process: reactor, wire: WIRE, unit_id: 2}
  temperatures-WIRE: {model: adam_4015, process: freezer, wire: WIRE, unit_id: 3}
"""

WIRES = ("tcp", "rtu", "rtu-server", "ascii", "ascii-server")


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    site = folder / "site.yaml"
    site.write_text(SITE + "".join(PLACED.replace("WIRE", wire) for wire in WIRES))
    command = [sys.executable, "-m", "simulators", "run", str(site), "--ephemeral"]
    command += ["--serial-dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())["devices"]
        finally:
            process.terminate()


def link_to(device):
    """The link at whose end a simulated device is."""
    framing = device["wire"].removeprefix("modbus-")
    if framing == "tcp":
        return DRIVER.link_settings(host=device["host"], port=device["port"], timeout=PATIENT)
    # A serial line is listened to for the slowest reply before anything is asked.
    line = {"framing": framing, "timeout": "2 s", "slowest_reply": "2 s"}
    if "device" not in device:
        return DRIVER.link_settings(host=device["host"], port=device["port"], **line)
    port = {"device": device["device"], "baud_rate": device["baud_rate"]}
    # A pseudo-terminal has no parity, and 8 data bits.
    return DRIVER.link_settings(**port, **line, parity="none", data_bits=8)


@pytest.mark.parametrize("wire", WIRES)
async def test_every_instrument_is_who_its_profile_says_and_reads_plausibly(devices, wire):
    on_wire = {name: device for name, device in devices.items() if name.endswith(f"-{wire}")}
    on_link = []
    for name, device in on_wire.items():
        profile = load(device["model"].replace("_", "-"))
        settings = DRIVER.instrument_settings(unit_id=device["unit_id"])
        on_link.append(Instrument(name, profile, settings, profile.schemas(name, {})))
    driver = DRIVER.open(link_to(next(iter(on_wire.values()))), on_link, SystemClock())
    identities = await driver.connect()
    assert [identity.instrument for identity in identities] == [each.name for each in on_link]
    for identity, instrument in zip(identities, on_link, strict=True):
        assert identity.mismatches == ()
        assert set(instrument.profile.identity) == {name for name, _ in identity.facts}
        for group in instrument.groups:
            check(await driver.poll(group), instrument.profile.profile)
    await driver.close()
    assert {each.profile.profile for each in on_link} == set(PLAUSIBLE)


def check(frame, profile: str) -> None:
    assert (frame.status, frame.present) == (quality.GOOD, None), frame.group
    for tag, raw in zip(frame.group.tags, frame.values, strict=True):
        low, high = PLAUSIBLE[profile].get(tag.name, (None, None))
        if low is not None:
            numerator, shift, denominator = tag.scale
            assert low <= (raw * numerator + shift) / denominator <= high, tag

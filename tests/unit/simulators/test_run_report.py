"""Platforms that write files: whole in the end, whatever the manner, and readable by others."""

import json
import xml.etree.ElementTree as ET
from random import Random

import pytest

from simulators.devices.run_report import (
    Manner,
    Run,
    Sample,
    apheresis_json,
    deliver,
    freezer_csv,
    freezer_run,
    processing_xml,
)
from simulators.process.controlled_rate_freezer import (
    SAMPLE_PROBE_BROKEN,
    ControlledRateFreezer,
    ControlledRateFreezerSettings,
)

RUN = Run("0042", "3.1", (Sample(1_795_435_200.0, (36.5, 900.0, 12.5, 1.0)),), "A & B")


@pytest.mark.parametrize("manner", Manner)
def test_in_the_end_the_file_is_whole_and_alone(tmp_path, manner):
    content = bytes(range(256))
    for _ in deliver(tmp_path, "r.csv", content, manner, Random(1)):
        pass
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"r.csv"} | ({"copy-of-r.csv"} if manner is Manner.TWICE else set())
    assert {(tmp_path / name).read_bytes() for name in names} == {content}


def test_a_freezer_writes_its_programme_and_a_broken_probe():
    process = ControlledRateFreezer(ControlledRateFreezerSettings(), Random(1))
    whole = freezer_csv(freezer_run(process, 1_795_435_200.0, 300, "0042")).splitlines()
    assert whole[5].startswith("23.11.2026;13:00:00;4,00;4,")
    assert float(whole[-1].split(";")[2].replace(",", ".")) < -40
    process.disturbances.begin(SAMPLE_PROBE_BROKEN)
    assert ";---;" in freezer_csv(freezer_run(process, 0.0, 1, "0042")).splitlines()[-1]


def test_reports_are_well_formed():
    root = ET.fromstring(processing_xml(RUN).encode())
    assert root.findtext("{*}Patient") == "A & B"
    assert root.find(".//{*}Sample").get("time") == "2026-11-23T13:00:00+01:00"
    record = json.loads(apheresis_json(RUN))
    assert record["procedure"]["samples"][0]["at"] == "2026-11-23T12:00:00+00:00"
    assert record["procedure"]["samples"][0]["alarms"] == {"air": True}

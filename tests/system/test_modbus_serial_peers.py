"""Simulated instruments on a serial line, asked by masters that are neither ours nor theirs.

mbpoll (on libmodbus) asks over RTU on a pseudo-terminal; pymodbus's own client asks over RTU and
ASCII through a device server. The simulators' ledger says what the instruments answered.
"""

import json
import re
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymodbus import FramerType
from pymodbus.client import ModbusTcpClient

from tests.system.ledger import LedgerSlave, answered
from tests.system.serial_bus import SerialBus, in_background

INSTALL_MBPOLL = "mbpoll is missing: apt-get install -y mbpoll"

SITE = """\
description: all instruments of the catalogue on one line
processes:
  room: {model: clean_room}
  reactor: {model: bioreactor}
  freezer: {model: ln2_freezer}
wires:
  line: {kind: KIND, END}
devices:
  counter: {model: met_one_6000, process: room, wire: line, unit_id: 1}
  ph: {model: hamilton_arc_ph, process: reactor, wire: line, unit_id: 2}
  temperatures: {model: adam_4015, process: freezer, wire: line, unit_id: 3}
"""

READS = [
    ("counter", 3, 300, 19),
    ("counter", 3, 0, 40),
    ("ph", 3, 2089, 10),
    ("ph", 4, 2409, 10),
    ("ph", 3, 1311, 8),
    ("temperatures", 3, 0, 6),
    ("temperatures", 4, 200, 6),
    ("temperatures", 3, 210, 4),
]
"""Device, function, address, count."""


@contextmanager
def simulated(directory: Path, kind: str, end: str) -> Iterator[tuple[dict[str, Any], Path]]:
    """Run the simulators; yield where each device is, and their ledger."""
    site, truth = directory / "site.yaml", directory / "truth.jsonl"
    site.write_text(SITE.replace("KIND", kind).replace("END", end))
    command = [sys.executable, "-m", "simulators", "run", str(site), "--ephemeral"]
    command += ["--ledger", str(truth), "--serial-dir", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["devices"], truth
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


def last_reply(truth: Path) -> list[int]:
    """The registers of the last line of the ledger."""
    reply = bytes.fromhex(json.loads(truth.read_text().splitlines()[-1])["reply"])
    return list(struct.unpack(f">{reply[1] // 2}H", reply[2:]))


def mbpoll(device: str, unit: int, function: int, address: int, count: int) -> list[int]:
    """Ask once for registers; addresses are those of the protocol data unit."""
    assert shutil.which("mbpoll"), INSTALL_MBPOLL
    line = ["-m", "rtu", "-b", "19200", "-P", "none", "-o", "2", "-1", "-0"]
    table = {3: "4", 4: "3"}[function]
    asked = ["-a", str(unit), "-t", f"{table}:hex", "-r", str(address), "-c", str(count)]
    command = ["mbpoll", *line, *asked, device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [int(word, 16) for word in re.findall(r"^\[\d+\]:\s+0x([0-9A-F]+)", done.stdout, re.M)]


def test_mbpoll_reads_what_the_instruments_say(tmp_path: Path) -> None:
    with simulated(tmp_path, "modbus-rtu", "device: line") as (devices, truth):
        assert devices["ph"]["device"] == str(tmp_path / "line")
        for device, function, address, count in READS:
            where = devices[device]
            read = mbpoll(where["device"], where["unit_id"], function, address, count)
            assert len(read) == count
            assert read == last_reply(truth), (device, function, address)


def test_mbpoll_is_refused_as_the_instruments_do(tmp_path: Path) -> None:
    with (
        simulated(tmp_path, "modbus-rtu", "device: line") as (devices, _),
        pytest.raises(AssertionError, match="Illegal data address"),
    ):
        mbpoll(devices["ph"]["device"], 2, 3, 0, 1)


@pytest.mark.parametrize("framer", [FramerType.RTU, FramerType.ASCII])
def test_pymodbus_reads_what_the_instruments_say(tmp_path: Path, framer: FramerType) -> None:
    with simulated(tmp_path, f"modbus-{framer.value}", "port: 15020") as (devices, truth):
        where = devices["ph"]
        with ModbusTcpClient(where["host"], port=where["port"], framer=framer, timeout=5) as client:
            for device, function, address, count in READS:
                unit = devices[device]["unit_id"]
                ask = (
                    client.read_holding_registers if function == 3 else client.read_input_registers
                )
                reply = ask(address, count=count, device_id=unit)
                assert not reply.isError(), reply
                assert reply.registers == last_reply(truth), (device, function, address)


def test_mbpoll_and_libmodbus_units_agree_over_the_bus(tmp_path: Path) -> None:
    """The bus and the ledger slaves, which judge our driver, judged by a stranger."""
    bus = SerialBus(tmp_path, ("a", "b"))
    with in_background(bus):
        places = ((17, bus.slaves["a"]), (18, bus.slaves["b"]))
        units = [
            LedgerSlave(tmp_path / f"ledger-{unit}", serial=(end, unit), every_read=True)
            for unit, end in places
        ]
        with units[0], units[1]:
            for slave, (unit, _) in (*zip(units, places, strict=True),) * 2:
                for function in (3, 4):
                    read = mbpoll(str(bus.master), unit, function, 5, 20)
                    said = slave.answers()[-1]
                    assert (said.port_index, said.function, said.address) == (unit, function, 5)
                    assert tuple(read) == answered(said)
                assert mbpoll(str(bus.master), unit, 3, 1000, 4)[3] == unit

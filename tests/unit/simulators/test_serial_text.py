"""Lines of text on a wire, spoken by hand on a socket and on a pseudo-terminal."""

import asyncio
import os
from contextlib import asynccontextmanager

import pytest

from simulators.devices.contract import POWERED_OFF
from simulators.devices.text_contract import TextDevice
from simulators.faults import Dice, Faults
from simulators.ledger import Ledger
from simulators.scenario import parse
from simulators.settings import Range
from simulators.site import RunOptions, Site
from simulators.strict_yaml import ScenarioError
from simulators.wire.serial_port import DeviceServerPort, PtyPort
from simulators.wire.serial_text import SerialTextServer

SITE = """\
description: a scale, two pumps on one line, a scanner
processes:
  bag: {model: formulation}
wires:
  scale: {kind: serial-text, port: 15030}
  pumps: {kind: serial-text, port: 15031}
devices:
  scale-1: {model: mettler_sics, process: bag, wire: scale}
  pump-1: {model: watson_marlow, process: bag, wire: pumps, address: 1}
  pump-2: {model: watson_marlow, process: bag, wire: pumps, address: 2}
"""


class Parrot(TextDevice):
    """Answers what begins with its letter."""

    def __init__(self, letter: str, *, echoes: bool = False) -> None:
        super().__init__()
        self._letter = letter.encode()
        self.ECHOES = echoes
        self.says = b""

    def answer(self, request: bytes) -> bytes:
        return request.lower() + b"\r\n" if request.startswith(self._letter) else b""

    def unprompted(self) -> bytes:
        said, self.says = self.says, b""
        return said


@asynccontextmanager
async def line(*devices, **keys):
    """A device server with these devices, and a stream to it."""
    port = DeviceServerPort()
    named = {f"device-{n}": device for n, device in enumerate(devices)}
    server = SerialTextServer("wire", named, port=port, baud_rate=921_600, **keys)
    await server.start()
    reader, writer = await asyncio.open_connection(port.host, port.port)
    try:
        async with asyncio.timeout(5):
            yield reader, writer, server
    finally:
        writer.close()
        await server.stop()


def faulty(**faults) -> dict:
    return {"dice": Dice(Faults(**faults), "wire")}


async def test_each_answers_what_is_meant_for_it():
    async with line(Parrot("A"), Parrot("B")) as (reader, writer, server):
        writer.write(b"AX\r\nB")
        assert await reader.readline() == b"ax\r\n"
        writer.write(b"Y\r\nC\r\nA\r\n")
        assert await reader.readline() == b"by\r\n"
        assert await reader.readline() == b"a\r\n"
        assert server.requests == [b"AX\r\n", b"BY\r\n", b"C\r\n", b"A\r\n"]


async def test_who_is_off_is_silent_and_who_echoes_echoes():
    off = Parrot("A")
    off.disturbances.begin(POWERED_OFF)
    async with line(off, Parrot("B", echoes=True)) as (reader, writer, _):
        writer.write(b"A\r\nB\r\n")
        assert await reader.readuntil(b"b\r\n") == b"A\r\nB\r\nb\r\n"


async def test_what_is_sent_unasked_comes():
    device = Parrot("A")
    async with line(device) as (reader, _, _):
        device.says = b"hello\r"
        assert await reader.readuntil(b"\r") == b"hello\r"


@pytest.mark.parametrize(
    ("faults", "heard"),
    [
        ({"duplicate_reply": 1.0}, b"abc\r\nabc\r\n"),
        ({"truncated_reply": 1.0}, b"ab"),
        ({"echo": 1.0}, b"ABC\r\nabc\r\n"),
        ({"byte_by_byte": 1.0}, b"abc\r\n"),
        ({"late_answer": 1.0, "late_answer_s": Range(0.05, 0.05)}, b"abc\r\n"),
    ],
)
async def test_faults_strike_the_reply(faults, heard):
    async with line(Parrot("A"), **faulty(**faults)) as (reader, writer, _):
        writer.write(b"ABC\r\n")
        assert await reader.readexactly(len(heard)) == heard


async def test_what_was_said_is_written_down_before_it_is_heard(tmp_path):
    ledger = Ledger(tmp_path / "truth.jsonl")
    async with line(Parrot("A"), ledger=ledger) as (reader, writer, _):
        writer.write(b"A\r\n")
        await reader.readline()
    ledger.close()
    assert '"reply":"610d0a"' in (tmp_path / "truth.jsonl").read_text()


async def test_a_pseudo_terminal_carries_the_same_characters(tmp_path):
    server = SerialTextServer("wire", {"a": Parrot("A")}, port=PtyPort(tmp_path / "port"))
    await server.start()
    end = os.open(tmp_path / "port", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    loop.add_reader(end, lambda: heard.put_nowait(os.read(end, 100)))
    try:
        os.write(end, b"AB\r\n")
        async with asyncio.timeout(5):
            assert await heard.get() == b"ab\r\n"
    finally:
        loop.remove_reader(end)
        os.close(end)
        await server.stop()


async def test_a_scenario_has_lines_of_text():
    scenario = parse(SITE, "site.yaml", "site")
    async with Site(scenario, RunOptions(ephemeral=True)) as site, asyncio.timeout(5):
        scale = site.endpoints["scale-1"]
        assert scale["wire"] == "serial-text"
        reader, writer = await asyncio.open_connection(scale["host"], scale["port"])
        writer.write(b"I4\r\n")
        assert await reader.readline() == b'I4 A "B021002593"\r\n'
        writer.close()
        pumps = site.endpoints["pump-2"]
        reader, writer = await asyncio.open_connection(pumps["host"], pumps["port"])
        writer.write(b"2RS\r")
        assert b"P/N 2 " in await reader.readuntil(b"!")
        writer.close()


@pytest.mark.parametrize(
    ("change", "to"),
    [
        ("kind: serial-text, port: 15030", "kind: modbus-tcp, port: 15030"),
        ("model: mettler_sics, process: bag", "model: adam_4015, process: bag"),
    ],
)
def test_modbus_and_text_do_not_share_a_wire(change, to):
    with pytest.raises(ScenarioError, match=r"do not fit|must name a process"):
        parse(SITE.replace(change, to), "site.yaml", "site")

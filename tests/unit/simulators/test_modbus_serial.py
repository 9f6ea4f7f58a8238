"""Serial lines, spoken by hand on a real pseudo-terminal and on a socket."""

import asyncio
import os
from contextlib import asynccontextmanager
from random import Random

import pytest

from simulators.devices.adam_4015 import Adam4015, Adam4015Settings
from simulators.devices.contract import POWERED_OFF
from simulators.devices.hamilton_arc_ph import HamiltonArcPh, HamiltonArcPhSettings
from simulators.faults import Dice, Faults
from simulators.ledger import Ledger
from simulators.process.bioreactor import Bioreactor, BioreactorSettings
from simulators.process.ln2_freezer import Ln2Freezer, Ln2FreezerSettings
from simulators.settings import Range
from simulators.wire.line import Unit
from simulators.wire.modbus_ascii import ASCII
from simulators.wire.modbus_rtu import RTU
from simulators.wire.modbus_serial import ModbusSerialServer
from simulators.wire.serial_port import DeviceServerPort, PtyPort
from tests.unit.simulators.by_hand import read_request

CHANNELS = read_request(3, 2047, 2)
CHANNELS_REPLY = bytes.fromhex("03 04 06E1 0000")
NAME = read_request(3, 210, 1)
NAME_REPLY = bytes.fromhex("03 02 4015")
QUIET_S = 0.08


class Master:
    """Says and hears characters, whatever they run over."""

    def __init__(self, framing, say, hear):
        self.framing = framing
        self.say = say
        self.hear = hear

    async def ask(self, pdu, unit=1):
        """The characters that come back before it is quiet."""
        self.say(self.framing.encoded(unit, pdu))
        return await self.heard()

    async def heard(self):
        heard = b""
        try:
            while True:
                async with asyncio.timeout(QUIET_S if heard else 2):
                    heard += await self.hear()
        except TimeoutError:
            return heard

    async def silence(self):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(QUIET_S):
                await self.hear()


async def until(holds):
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.005)
    pytest.fail("not within 5 s")


@asynccontextmanager
async def at_pty(path, framing):
    end = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    arrived = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read():
        try:
            arrived.put_nowait(os.read(end, 4096))
        except OSError:  # the port is gone
            loop.remove_reader(end)

    loop.add_reader(end, read)
    try:
        yield Master(framing, lambda raw: os.write(end, raw), arrived.get)
    finally:
        loop.remove_reader(end)
        os.close(end)


@asynccontextmanager
async def at_socket(port, framing):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Master(framing, writer.write, lambda: reader.read(4096))
    finally:
        writer.transport.abort()


def units():
    """A pH sensor as unit 1 and a temperature module as unit 7."""
    arc = HamiltonArcPh(HamiltonArcPhSettings(), Bioreactor(BioreactorSettings(), Random(1)))
    adam = Adam4015(Adam4015Settings(), Ln2Freezer(Ln2FreezerSettings(), Random(1)))
    return {1: Unit("ph-1", arc), 7: Unit("adam-1", adam)}


@asynccontextmanager
async def line(port, framing=RTU, *, ledger=None, baud_rate=115_200, **faults):
    dice = Dice(Faults(**faults), "line")
    server = ModbusSerialServer(
        "line", units(), framing=framing, port=port, baud_rate=baud_rate, dice=dice, ledger=ledger
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def faulty(tmp_path, **faults):
    async with line(PtyPort(tmp_path / "line"), **faults), at_pty(tmp_path / "line", RTU) as master:
        yield master


@pytest.mark.parametrize("framing", [RTU, ASCII], ids=["rtu", "ascii"])
async def test_several_instruments_answer_on_one_serial_port(tmp_path, framing):
    path = tmp_path / "line"
    async with line(PtyPort(path), framing), at_pty(path, framing) as master:
        assert await master.ask(CHANNELS) == framing.encoded(1, CHANNELS_REPLY)
        assert await master.ask(NAME, 7) == framing.encoded(7, NAME_REPLY)
        assert await master.ask(NAME, 1) == framing.encoded(1, b"\x83\x02")


@pytest.mark.parametrize("framing", [RTU, ASCII], ids=["rtu", "ascii"])
async def test_a_device_server_carries_the_same_characters(framing):
    port = DeviceServerPort()
    async with (
        line(port, framing),
        at_socket(port.port, framing) as one,
        at_socket(port.port, framing) as other,
    ):
        assert await one.ask(CHANNELS) == framing.encoded(1, CHANNELS_REPLY)
        assert await other.heard() == framing.encoded(1, CHANNELS_REPLY), "it is one line"
        assert await other.ask(NAME, 7) == framing.encoded(7, NAME_REPLY)


async def test_a_request_on_the_wire(tmp_path):
    path = tmp_path / "line"
    async with line(PtyPort(path)), at_pty(path, RTU) as master:
        for byte in bytes.fromhex("01 03 07FF 0002 F5 4F"):
            master.say(bytes([byte]))
            await asyncio.sleep(0)
        assert await master.heard() == bytes.fromhex("01 03 04 06E1 0000 AA 8D")


async def test_who_is_not_there_or_switched_off_or_not_meant_is_silent(tmp_path):
    path = tmp_path / "line"
    async with line(PtyPort(path)) as server, at_pty(path, RTU) as master:
        master.say(RTU.encoded(2, CHANNELS))
        await master.silence()
        master.say(RTU.encoded(0, CHANNELS))
        await master.silence()
        server._line.units[7].device.disturbances.begin(POWERED_OFF)
        master.say(RTU.encoded(7, NAME))
        await master.silence()
        assert await master.ask(CHANNELS) == RTU.encoded(1, CHANNELS_REPLY)


async def test_a_damaged_request_has_no_answer_and_no_consequences(tmp_path):
    path = tmp_path / "line"
    async with line(PtyPort(path)), at_pty(path, RTU) as master:
        master.say(RTU.encoded(1, CHANNELS)[:-1] + b"\0")
        await master.silence()
        assert await master.ask(CHANNELS) == RTU.encoded(1, CHANNELS_REPLY)


async def test_characters_take_their_time_on_the_line(tmp_path):
    """8 and 9 characters of 11 bits at 1200 baud are 156 ms."""
    path = tmp_path / "line"
    loop = asyncio.get_running_loop()
    async with line(PtyPort(path), baud_rate=1200), at_pty(path, RTU) as master:
        started_s = loop.time()
        master.say(RTU.encoded(1, CHANNELS))
        await master.hear()
        assert loop.time() - started_s >= 17 * 11 / 1200


async def test_the_ledger_says_what_was_answered_and_what_was_not(tmp_path):
    path, truth = tmp_path / "line", Ledger(tmp_path / "truth")
    async with line(PtyPort(path), ledger=truth), at_pty(path, RTU) as master:
        await master.ask(CHANNELS)
        master.say(RTU.encoded(2, CHANNELS))
        await master.silence()
    truth.close()
    answered, silent = (tmp_path / "truth").read_text().splitlines()
    assert '"device":"ph-1","unit":1,"function":3,"address":2047,"count":2' in answered
    assert '"reply":"030406e10000"' in answered
    assert '"device":null,"unit":2' in silent
    assert '"reply":""' in silent


WHOLE = RTU.encoded(1, CHANNELS_REPLY)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("wrong_unit_id", RTU.encoded(2, CHANNELS_REPLY)),
        ("wrong_function", RTU.encoded(1, b"\x04" + CHANNELS_REPLY[1:])),
        ("short_reply", RTU.encoded(1, bytes.fromhex("03 02 06E1"))),
        ("wrong_byte_count", RTU.encoded(1, bytes.fromhex("03 06 06E1 0000"))),
        ("duplicate_reply", WHOLE * 2),
        ("truncated_reply", WHOLE[:4]),
        ("echo", RTU.encoded(1, CHANNELS) + WHOLE),
        ("byte_by_byte", WHOLE),
    ],
)
async def test_what_each_fault_makes_of_the_reply(tmp_path, fault, expected):
    async with faulty(tmp_path, **{fault: 1.0}) as master:
        assert await master.ask(CHANNELS) == expected


async def test_no_answer(tmp_path):
    async with faulty(tmp_path, no_answer=1.0) as master:
        master.say(RTU.encoded(1, CHANNELS))
        await master.silence()


async def test_one_bit_of_a_corrupt_reply_is_wrong(tmp_path):
    async with faulty(tmp_path, corrupt_reply=1.0) as master:
        for _ in range(5):
            heard = await master.ask(CHANNELS)
            assert (int.from_bytes(heard) ^ int.from_bytes(WHOLE)).bit_count() == 1


@pytest.mark.parametrize("fault", ["garbage_before", "garbage_after"])
async def test_garbage_beside_the_reply(tmp_path, fault):
    async with faulty(tmp_path, **{fault: 1.0}) as master:
        heard = await master.ask(CHANNELS)
        assert 1 <= len(heard) - len(WHOLE) <= 16
        assert heard.endswith(WHOLE) if fault == "garbage_before" else heard.startswith(WHOLE)


async def test_exceptions_of_a_choice(tmp_path):
    async with faulty(tmp_path, exception=1.0, exception_codes=(1, 2, 3, 4, 5, 6)) as master:
        heard = {await master.ask(CHANNELS) for _ in range(25)}
        assert heard <= {RTU.encoded(1, bytes([0x83, code])) for code in range(1, 7)}
        assert len(heard) > 3


async def test_a_late_answer_comes_between_others(tmp_path):
    """It is what makes RTU dangerous: nothing in the frame says which question it answers."""
    async with faulty(tmp_path, late_answer=0.5, late_answer_s=Range(0.2, 0.2), seed=3) as master:
        for _ in range(2):
            master.say(RTU.encoded(7, NAME))
            master.say(RTU.encoded(1, CHANNELS))
        name, channels = RTU.encoded(7, NAME_REPLY), WHOLE
        heard = b""
        while len(heard) < len((name + channels) * 2):
            heard += await master.hear()
        assert heard.count(name) == heard.count(channels) == 2
        assert heard != (name + channels) * 2


async def test_a_port_that_vanishes_comes_back_at_the_same_place(tmp_path):
    path = tmp_path / "line"
    gone = {"close_mid_reply": 1.0, "vanished_s": Range(0.1, 0.1)}
    async with line(PtyPort(path), **gone):
        for _ in range(2):
            async with at_pty(path, RTU) as master:
                master.say(RTU.encoded(1, CHANNELS))
                await until(lambda: not path.is_symlink())
                with pytest.raises(OSError, match="Input/output error"):
                    master.say(b"x")
            await until(path.is_symlink)


async def test_a_device_server_that_vanishes_comes_back_on_its_port():
    port = DeviceServerPort()
    async with line(port, close_mid_reply=1.0, vanished_s=Range(0.05, 0.05)):
        for _ in range(2):
            async with at_socket(port.port, RTU) as master:
                master.say(RTU.encoded(1, CHANNELS))
                async with asyncio.timeout(2):
                    while await master.hear():
                        pass
            await until(lambda: port._server is not None)


async def test_stopping_takes_the_port_away_and_may_be_repeated(tmp_path):
    path = tmp_path / "line"
    async with line(PtyPort(path)) as server:
        await server.stop()
        await server.stop()
        assert not path.is_symlink()


async def test_the_link_of_a_run_that_was_killed_is_replaced_and_a_file_is_not(tmp_path):
    path = tmp_path / "line"
    path.symlink_to(tmp_path / "nowhere")
    async with line(PtyPort(path)):
        assert path.is_char_device()
    path.write_text("somebody's")
    with pytest.raises(FileExistsError):
        async with line(PtyPort(path)):
            pass
    assert path.read_text() == "somebody's"

"""What ``drivers/connection.py`` relies on in pymodbus and no documentation promises.

A failure here after an upgrade of pymodbus means: read the docstring of ``connection.py``, compare
it with the new ``pymodbus/transport/transport.py``, adapt the one to the other.
"""

import asyncio
import inspect
import logging
import os
import tty
from unittest.mock import Mock

import pytest
from pymodbus.framer import FramerAscii, FramerRTU
from pymodbus.logging import Log
from pymodbus.transport import CommParams, CommType, ModbusProtocol
from pymodbus.transport.serialtransport import SerialTransport

from drivers.modbus.settings import ModbusLinkSettings
from drivers.modbus.tcp import TcpWire


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = self.aborted = False
        self.socket = Mock()

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, name, default=None):
        return self.socket if name == "socket" else default


class Probe(ModbusProtocol):
    """Uses up what it is told to and notes what it is given."""

    def __init__(self) -> None:
        super().__init__(
            CommParams(comm_type=CommType.TCP, host="127.0.0.1", port=1, reconnect_delay=0.0),
            is_server=False,
        )
        self.given: list[bytes] = []
        self.use = 0
        self.events: list[object] = []

    def callback_new_connection(self):
        raise AssertionError

    def callback_connected(self):
        self.events.append("connected")

    def callback_disconnected(self, exc):
        self.events.append(exc)

    def callback_data(self, data, addr=None):
        self.given.append(data)
        return self.use


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


@pytest.fixture
async def probe():
    made = Probe()
    made.connection_made(Transport())
    return made


async def test_the_callbacks_are_left_open_for_us():
    for name in ("callback_connected", "callback_disconnected", "callback_data"):
        assert getattr(getattr(ModbusProtocol, name), "__isabstractmethod__", False), name


async def test_a_new_object_is_idle_and_knows_its_loop():
    made = Probe()
    assert not made.is_active()
    assert made.transport is None
    assert not made.is_closing
    assert made.recv_buffer == b""
    assert made.max_buffer_size > 0
    assert made.loop is asyncio.get_running_loop()
    assert made.call_create.func == made.loop.create_connection
    assert inspect.iscoroutinefunction(made.call_create.func)


async def test_a_connection_is_told(probe):
    assert probe.is_active()
    assert probe.events == ["connected"]


async def test_what_is_not_used_up_comes_again_with_what_follows(probe):
    probe.data_received(b"abc")
    probe.use = 2
    probe.data_received(b"def")
    probe.use = 4
    probe.data_received(b"")
    assert probe.given == [b"abc", b"abcdef", b"cdef"]
    assert probe.recv_buffer == b""


async def test_more_than_max_buffer_size_is_dropped_in_silence(probe):
    probe.max_buffer_size = 3
    probe.data_received(b"abcd")
    assert probe.given == []
    assert probe.recv_buffer == b""


async def test_send_writes_at_once_and_empties_the_buffer(probe):
    probe.data_received(b"half")
    probe.send(b"request")
    assert probe.transport.written == [b"request"]
    assert probe.recv_buffer == b""


async def test_a_lost_connection_is_told_once_and_nothing_reconnects(probe):
    error = ConnectionResetError("reset")
    probe.connection_lost(error)
    probe.connection_lost(error)
    assert probe.events == ["connected", error]
    assert not probe.is_active()
    assert probe.reconnect_task is None


async def test_our_own_close_is_not_told(probe):
    transport = probe.transport
    probe.close()
    probe.close()
    probe.connection_lost(None)
    assert transport.closed
    assert probe.events == ["connected"]
    assert not probe.is_active()


async def test_a_link_that_is_given_up_does_not_wait_for_what_was_written():
    wire, transport = TcpWire(ModbusLinkSettings(host="127.0.0.1", port=1)), Transport()
    wire.connection_made(transport)
    wire.close()
    assert transport.aborted
    assert not wire.is_active()


async def test_a_serial_port_is_locked_told_of_and_freed():
    master, port = os.openpty()
    tty.setraw(port)
    path = os.ttyname(port)
    probe = Probe()
    transport = SerialTransport(probe.loop, probe, path, 19_200, 8, "N", 1, 0)
    with pytest.raises(OSError, match="lock"):
        SerialTransport(probe.loop, probe, path, 19_200, 8, "N", 1, 0)
    transport.setup()
    await until(lambda: probe.events)
    assert probe.transport is transport
    probe.send(b"request")
    await until(lambda: not transport.intern_write_buffer)
    assert os.read(master, 100) == b"request"
    os.write(master, b"reply")
    await until(lambda: probe.given)
    assert probe.given == [b"reply"]
    transport.close()
    transport.close()
    assert transport.sync_serial is None
    SerialTransport(probe.loop, probe, path, 19_200, 8, "N", 1, 0).close()
    os.close(port)
    os.close(master)


async def test_a_serial_port_that_vanishes_is_told_at_once():
    master, port = os.openpty()
    tty.setraw(port)
    probe = Probe()
    transport = SerialTransport(probe.loop, probe, os.ttyname(port), 19_200, 8, "N", 1, 0)
    os.close(port)
    transport.setup()
    await until(lambda: probe.events)
    os.close(master)
    await until(lambda: len(probe.events) == 2)
    assert isinstance(probe.events[1], OSError)
    assert not probe.is_active()


def test_the_checksums_are_those_of_the_specification():
    """A request and its CRC of a Hamilton manual; the LRC of the specification's section 6.2.1."""
    assert FramerRTU.compute_CRC(bytes.fromhex("01 03 08 29 00 0a")) == 0x1665
    frame = bytes.fromhex("f7 03 13 89 00 0a")
    assert (sum(frame) + FramerAscii.compute_LRC(frame)) & 0xFF == 0


def test_pymodbus_logs_nothing(caplog):
    with caplog.at_level(logging.DEBUG):
        Log.critical("a dump of frames follows")
    assert not caplog.records

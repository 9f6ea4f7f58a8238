"""What a link and an instrument of a site may state; faults come all at once and say the mend."""

import pytest
from pydantic import ValidationError

from drivers.modbus import DRIVER
from drivers.modbus.settings import ModbusInstrumentSettings, ModbusLinkSettings

BY_ID = "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0"


def link(**keys) -> ModbusLinkSettings:
    return ModbusLinkSettings.model_validate(keys)


def faults(**keys) -> dict[str, str]:
    """The text of each fault, by key."""
    with pytest.raises(ValidationError) as caught:
        link(**keys)
    return {str(error["loc"][0]): error["msg"] for error in caught.value.errors()}


def test_a_link_is_tcp_unless_it_says_otherwise():
    found = link(host="10.1.2.3")
    assert (found.framing, found.port, found.timeout) == ("tcp", 502, 10**9)
    assert DRIVER.endpoint(found) == "10.1.2.3:502"
    assert DRIVER.endpoint(link(host="Gateway")) == "gateway:502"


def test_a_serial_line_has_the_defaults_of_the_standard():
    found = link(framing="rtu", device=BY_ID)
    assert (found.baud_rate, found.data_bits) == (19_200, 8)
    assert (found.parity, found.stop_bits) == ("even", 1)
    assert (found.slowest_reply, found.echo) == (3 * 10**9, False)
    assert DRIVER.endpoint(found) == BY_ID
    assert link(framing="rtu", device=BY_ID, parity="none").stop_bits == 2
    assert link(framing="rtu", device=BY_ID, parity="none", stop_bits=1).stop_bits == 1
    assert link(framing="ascii", device=BY_ID).data_bits == 7
    assert link(framing="ascii", device=BY_ID, data_bits=8).data_bits == 8


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
def test_a_serial_line_may_be_reached_over_tcp(framing):
    found = link(framing=framing, host="server-1", port=4001, timeout="300 ms")
    assert DRIVER.endpoint(found) == "server-1:4001"
    assert found.slowest_reply == 900_000_000


@pytest.mark.parametrize(
    ("keys", "silence_s"),
    [
        ({"baud_rate": 9600}, 3.5 * 11 / 9600),
        ({"baud_rate": 9600, "parity": "none"}, 3.5 * 11 / 9600),
        ({"baud_rate": 9600, "parity": "none", "stop_bits": 1}, 3.5 * 10 / 9600),
        ({}, 3.5 * 11 / 19_200),
        ({"baud_rate": 38_400}, 0.00175),
    ],
)
def test_frames_are_parted_by_three_and_a_half_characters(keys, silence_s):
    assert link(framing="rtu", device=BY_ID, **keys).silence_s == pytest.approx(silence_s)


@pytest.mark.parametrize(
    ("keys", "key", "words"),
    [
        ({}, "host", "add host"),
        ({"framing": "rtu"}, "device", "add device, or host"),
        ({"framing": "rtu", "device": BY_ID, "host": "a"}, "host", "either a device or a host"),
        ({"framing": "rtu", "device": BY_ID, "port": 502}, "port", "remove port"),
        ({"device": BY_ID}, "device", "write framing: rtu or ascii"),
        ({"host": "a", "baud_rate": 9600}, "baud_rate", "framing tcp has no baud_rate"),
        ({"host": "a", "echo": True}, "echo", "remove it"),
        ({"host": "a", "transport": "tcp"}, "transport", "Extra inputs"),
        ({"framing": "rtu", "device": "/dev/ttyUSB0"}, "device", "/dev/serial/by-id/"),
        ({"framing": "ascii", "device": "/dev/ttyACM12"}, "device", "udev rule"),
        ({"framing": "rtu", "device": "/dev/../dev//ttyUSB0"}, "device", "/dev/serial/by-id/"),
        ({"framing": "rtu", "device": "ttyS0"}, "device", "begin it with /dev/"),
        ({"framing": "rtu", "device": BY_ID, "data_bits": 7}, "data_bits", "rtu needs 8"),
        ({"framing": "rtu", "device": BY_ID, "stop_bits": 3}, "stop_bits", "1 or 2"),
        (
            {"framing": "rtu", "device": BY_ID, "timeout": "2 s", "slowest_reply": "1 s"},
            "slowest_reply",
            "at least the timeout",
        ),
    ],
)
def test_one_mistake_is_one_fault(keys, key, words):
    found = faults(**keys)
    assert list(found) == [key]
    assert words in found[key]


def test_all_mistakes_are_told_at_once():
    keys = {"framing": "rtu", "device": "/dev/ttyUSB0", "port": 1, "baud_rate": "fast"}
    assert set(faults(**keys)) == {"device", "port", "baud_rate"}


@pytest.mark.parametrize("device", ["/dev/ttyS0", "/dev/pts/3", "/dev/edgeagent/hall-2", BY_ID])
def test_paths_that_stay_the_same_are_taken(device):
    assert link(framing="rtu", device=device).device == device


@pytest.mark.parametrize("unit_id", [0, 1, 247, 255])
def test_unit_ids(unit_id):
    assert ModbusInstrumentSettings(unit_id=unit_id).unit_id == unit_id


@pytest.mark.parametrize("unit_id", [-1, 248, 254, 256])
def test_unit_ids_that_are_none(unit_id):
    with pytest.raises(ValidationError):
        ModbusInstrumentSettings(unit_id=unit_id)


def test_two_instruments_with_one_unit_id_clash():
    one, other = ModbusInstrumentSettings(unit_id=3), ModbusInstrumentSettings(unit_id=4)
    assert DRIVER.clash(one, one) == "both have unit_id 3"
    assert DRIVER.clash(one, other) is None

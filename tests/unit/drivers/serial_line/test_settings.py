"""What a link may state. Parity and word length of a real device are set here, and only here: a
pseudo-terminal, on which the driver is tested, knows 8N1 alone."""

import pytest
from pydantic import ValidationError

from drivers.serial_line import DRIVER

PORT = "/dev/serial/by-id/usb-FTDI_A50285BI-if00-port0"


def problem(**keys) -> str:
    with pytest.raises(ValidationError) as caught:
        DRIVER.link_settings(**keys)
    return "\n".join(error["msg"] for error in caught.value.errors())


def test_a_port_has_the_settings_of_the_device():
    link = DRIVER.link_settings(device=PORT, baud_rate=1200, parity="odd", data_bits=7)
    assert (link.baud_rate, link.parity, link.data_bits, link.stop_bits) == (1200, "odd", 7, 1)
    assert DRIVER.endpoint(link) == PORT


def test_a_device_server_is_an_end_of_its_own():
    link = DRIVER.link_settings(host="Moxa-1.example", port=4003)
    assert DRIVER.endpoint(link) == "moxa-1.example:4003"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "leads nowhere"),
        ({"device": PORT, "host": "x"}, "either a device or a host"),
        ({"device": "ttyS0"}, "begin it with /dev/"),
        ({"device": "/dev/ttyUSB0"}, "/dev/serial/by-id/"),
        ({"host": "x", "baud_rate": 9600}, "the device server has the baud_rate"),
        ({"device": PORT, "parity": "mark"}, "'even', 'odd' or 'none'"),
        ({"device": PORT, "data_bits": 9}, "7 or 8"),
    ],
)
def test_what_contradicts_itself_is_told(keys, words):
    assert words in problem(**keys)


def test_all_is_told_at_once():
    found = problem(device="/dev/ttyUSB0", host="x", parity="mark")
    assert "by-id" in found
    assert "either a device or a host" in found
    assert "'odd'" in found

"""Requests are judged strictly, in the order of the Modbus specification."""

import pytest

from simulators.devices.contract import ModbusDevice, ModbusException, Table
from simulators.wire.modbus_pdu import asked, reply_to


class Numbers(ModbusDevice):
    """Every register holds its own address, every third bit is set, writes are remembered."""

    def __init__(self, offers_writes=False):
        super().__init__()
        self.offers_writes = offers_writes
        self.written = []

    def read(self, table, address, count):
        if table in (Table.COILS, Table.DISCRETE_INPUTS):
            return [int(at % 3 == 0) for at in range(address, address + count)]
        if address == 0x0666:
            raise ModbusException(ModbusException.ILLEGAL_DATA_ADDRESS)
        return list(range(address, address + count))

    def write(self, address, values):
        self.written.append((address, list(values)))


def ask(request_hex, device=None):
    return reply_to(bytes.fromhex(request_hex), device or Numbers()).hex()


def test_registers_are_read():
    assert ask("03 0102 0003") == "0306010201030104"
    assert ask("04 FFFF 0001") == "0402ffff"


def test_bits_are_packed_from_the_lowest_and_filled_with_zeros():
    assert ask("01 0000 000A") == "0102" + "4902"
    assert ask("02 0001 0008") == "0201" + "24"


@pytest.mark.parametrize("request_hex", ["01 0000 07D0", "02 0000 07D0", "03 0000 007D"])
def test_the_largest_quantities_pass(request_hex):
    assert int(ask(request_hex)[:2], 16) == int(request_hex[:2], 16)


@pytest.mark.parametrize(
    ("request_hex", "reply_hex"),
    [
        ("03 0000 0000", "8303"),
        ("03 0000 007E", "8303"),
        ("01 0000 07D1", "8103"),
        ("02 0000 0000", "8203"),
        ("03 0000", "8303"),
        ("03", "8303"),
        ("03 0000 0001 00", "8303"),
        ("03 FFFF 0002", "8302"),
        ("04 0666 0001", "8402"),
        ("05 0000 FF00", "8501"),
        ("06 0000 0001", "8601"),
        ("0F 0000 0001 01 01", "8f01"),
        ("10 0000 0001 02 0001", "9001"),
        ("17 0000", "9701"),
        ("2B 0E 01 00", "ab01"),
        ("00", "8001"),
    ],
)
def test_what_is_wrong_is_refused_with_its_code(request_hex, reply_hex):
    assert ask(request_hex) == reply_hex


def test_a_device_may_offer_writes_of_registers():
    device = Numbers(offers_writes=True)
    assert ask("06 0010 ABCD", device) == "060010abcd"
    assert ask("10 0020 0002 04 0001 0002", device) == "1000200002"
    assert device.written == [(0x10, [0xABCD]), (0x20, [1, 2])]


@pytest.mark.parametrize(
    "request_hex",
    ["10 0000 0000 00", "10 0000 0002 02 0001", "10 0000 0001 02 0001 00", "06 0000"],
)
def test_a_malformed_write_changes_nothing(request_hex):
    device = Numbers(offers_writes=True)
    assert ask(request_hex, device)[2:] == "03"
    assert device.written == []


def test_the_record_tells_what_was_asked_however_short_the_request():
    assert (asked(b"\x03\x08\x29\x00\x0a").address, asked(b"\x03\x08\x29\x00\x0a").count) == (
        2089,
        10,
    )
    assert asked(b"\x03").address is None

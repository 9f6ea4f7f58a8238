"""The Arc oxygen sensor has the register layout of its family."""

import struct
from types import SimpleNamespace

import pytest

from simulators.devices.contract import ModbusException, Table
from simulators.devices.hamilton_arc_do import (
    CAP_MISSING,
    CAP_WORN,
    HamiltonArcDo,
    HamiltonArcDoSettings,
)


def sensor(dissolved_oxygen_pct=45.0, **settings):
    culture = SimpleNamespace(dissolved_oxygen_pct=dissolved_oxygen_pct, temperature_c=37.0)
    return HamiltonArcDo(HamiltonArcDoSettings(**settings), culture)


def words(device, number, count):
    return device.read(Table.HOLDING_REGISTERS, number - 1, count)


def single(low, high):
    return struct.unpack(">f", struct.pack(">HH", high, low))[0]


def test_channel_1_is_oxygen_in_per_cent_of_saturation():
    """Unit 0x20, 45.0 = 4234 0000 with the low word first, no status, 0 to 300."""
    assert words(sensor(), 2090, 10) == [
        0x0020, 0x0000, 0x0000, 0x4234, 0, 0, 0x0000, 0x0000, 0x0000, 0x4396,
    ]  # fmt: skip


def test_in_milligrams_per_litre_the_unit_says_so():
    registers = words(sensor(100.0, in_mg_per_l=True), 2090, 10)
    assert registers[:2] == [0x0080, 0]
    assert single(*registers[2:4]) == pytest.approx(6.73)


def test_channel_6_is_temperature():
    registers = words(sensor(), 2410, 10)
    assert registers[:2] == [4, 0]
    assert single(*registers[2:4]) == 37.0


def test_a_worn_cap_is_a_warning_and_a_missing_one_an_error():
    device = sensor()
    device.disturbances.begin(CAP_WORN)
    assert words(device, 2090, 10)[4] == 0x08
    assert words(device, 4736, 8) == [0, 0, 1, 0, 0, 0, 0, 0]
    assert single(*words(device, 4872, 2)) == 35.0
    device.disturbances.begin(CAP_MISSING)
    assert words(device, 2090, 10)[4] == 0x18
    assert words(device, 4800, 8) == [0, 0, 2, 0, 0, 0, 0, 0]
    assert single(*words(device, 2090, 10)[2:4]) == 0.0


@pytest.mark.parametrize(("number", "count"), [(2090, 2), (2091, 10), (2092, 2), (1, 1)])
def test_a_block_is_read_whole_or_not_at_all(number, count):
    with pytest.raises(ModbusException) as refusal:
        words(sensor(), number, count)
    assert refusal.value.code == ModbusException.ILLEGAL_DATA_ADDRESS


def test_texts():
    text = struct.pack(">8H", *words(sensor(serial_number="2000042"), 1312, 8))
    assert text.rstrip(b"\0") == b"2000042"
    assert words(sensor(), 2080, 8)[0] == 0x444F

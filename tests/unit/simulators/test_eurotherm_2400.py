"""The Eurotherm controller says each value twice: as a scaled number and as a single."""

import math
import struct
from types import SimpleNamespace

import pytest

from simulators.devices.contract import ModbusException, Table
from simulators.devices.eurotherm_2400 import (
    MANUAL,
    SENSOR_BREAK,
    Eurotherm2400,
    Eurotherm2400Settings,
)
from tests.unit.simulators.frames import rtu


def controller(chamber_c=37.0):
    process = SimpleNamespace(
        chamber_c=chamber_c, target_c=-45.0, valve_pct=42.5, set_point_c=-10.5
    )
    return Eurotherm2400(Eurotherm2400Settings(), process)


def words(device, address, count=1):
    return device.read(Table.HOLDING_REGISTERS, address, count)


def single(device, address):
    return struct.unpack(">f", struct.pack(">HH", *words(device, address, 2)))[0]


def test_the_process_value_in_a_whole_frame():
    """37.0 is 4214 0000; the single of address 1 stands at 0x8002."""
    assert rtu("01 03 80 02 00 02 4C 0B", controller()) == "01 03 04 42 14 00 00 AE 4F"


def test_scaled_numbers_have_one_decimal_and_may_be_negative():
    device = controller(chamber_c=-12.34)
    assert words(device, 1, 3) == [0x1_0000 - 123, 0x1_0000 - 450, 425]
    assert words(device, 5) == [0x1_0000 - 105]


def test_singles_stand_at_twice_the_address():
    device = controller()
    assert single(device, 32_772) == -45.0
    assert single(device, 32_774) == 42.5
    assert single(device, 32_778) == -10.5
    assert single(device, 32_794) == 30.0


def test_a_process_value_above_its_limit_is_alarm_1():
    assert words(controller(chamber_c=31.0), 75) == [0x01]
    assert words(controller(chamber_c=29.0), 75) == [0x00]


def test_a_broken_sensor_is_no_number_and_bit_5():
    device = controller()
    device.disturbances.begin(SENSOR_BREAK)
    assert math.isnan(single(device, 32_770))
    assert words(device, 1) == [0x7FFF]
    assert words(device, 75) == [0x20]


def test_manual_shows():
    device = controller()
    assert words(device, 273) == [0]
    device.disturbances.begin(MANUAL)
    assert words(device, 273) == [1]


@pytest.mark.parametrize(("address", "count"), [(0, 1), (4, 1), (32_768, 2), (32_770, 1_000)])
def test_other_registers_do_not_exist(address, count):
    with pytest.raises(ModbusException) as refusal:
        words(controller(), address, count)
    assert refusal.value.code == ModbusException.ILLEGAL_DATA_ADDRESS

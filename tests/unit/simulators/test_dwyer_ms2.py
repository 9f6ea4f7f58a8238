"""The MS2 says one pressure in many units."""

import struct
from random import Random
from types import SimpleNamespace

import pytest

from simulators.devices.contract import ModbusException, Table
from simulators.devices.dwyer_ms2 import SENSOR_FAILED, DwyerMs2, DwyerMs2Settings
from simulators.process.clean_room import DOOR_OPEN, CleanRoom, CleanRoomSettings


def transmitter(differential_pressure_pa=24.9089):
    room = SimpleNamespace(differential_pressure_pa=differential_pressure_pa)
    return DwyerMs2(DwyerMs2Settings(), room)


def words(device, number, count=1):
    """Registers by the number of the manual."""
    return device.read(Table.INPUT_REGISTERS, number - 1, count)


def single(device, number):
    return struct.unpack(">f", struct.pack(">HH", *words(device, number, 2)))[0]


def test_a_tenth_of_an_inch_of_water():
    device = transmitter()
    assert words(device, 1, 2) == [100, 25]
    assert single(device, 3) == pytest.approx(0.1)
    assert single(device, 5) == pytest.approx(24.9089)
    assert single(device, 7) == pytest.approx(2.54, abs=0.001)
    assert single(device, 9) == pytest.approx(0.0249089)


def test_velocity_with_the_factorys_k():
    device = transmitter(249.089)
    assert single(device, 11) == pytest.approx(4_005.0)
    assert single(device, 13) == pytest.approx(20.345, abs=0.001)
    assert single(transmitter(-5.0), 11) == 0.0


def test_a_room_below_its_corridor_is_negative():
    assert words(transmitter(-12.4), 2) == [0x1_0000 - 12]
    assert single(transmitter(-12.4), 5) == pytest.approx(-12.4)


def test_a_failed_sensor_is_not_operational():
    device = transmitter()
    assert words(device, 20, 3) == [1, 0, 0]
    device.disturbances.begin(SENSOR_FAILED)
    assert words(device, 20, 3) == [0, 0, 1]
    assert words(device, 1, 2) == [0, 0]


def test_serial_numbers_stand_in_six_registers_each():
    device = transmitter()
    texts = [struct.pack(">6H", *words(device, n, 6)).rstrip(b"\0") for n in (8001, 8013, 8019)]
    assert texts == [b"2.04", b"MB-0004711", b"MS2-0004711"]


def test_measured_values_are_input_registers():
    with pytest.raises(ModbusException) as refusal:
        transmitter().read(Table.HOLDING_REGISTERS, 0, 1)
    assert refusal.value.code == ModbusException.ILLEGAL_FUNCTION
    with pytest.raises(ModbusException) as refusal:
        words(transmitter(), 23)
    assert refusal.value.code == ModbusException.ILLEGAL_DATA_ADDRESS


def test_an_open_door_takes_the_pressure_away():
    room = CleanRoom(CleanRoomSettings(differential_pressure_pa=15.0), Random(1))
    device = DwyerMs2(DwyerMs2Settings(), room)
    room.step(10.0)
    assert single(device, 5) == pytest.approx(15.0, abs=1.0)
    room.disturbances.begin(DOOR_OPEN)
    room.step(30.0)
    assert single(device, 5) == pytest.approx(1.0, abs=1.0)

"""The Airnet II shows the sample that it completed last."""

from random import Random
from types import SimpleNamespace

import pytest

from simulators.devices.contract import ModbusException, Table
from simulators.devices.pms_airnet_2 import FLOW_FAULT, PmsAirnet2, PmsAirnet2Settings

START_UTC_S = 1_760_000_000


def counter(after_s=0.0):
    room = SimpleNamespace(particles_05um_per_m3=100_000.0, particles_5um_per_m3=1_000.0)
    device = PmsAirnet2(PmsAirnet2Settings(), room, Random(1), START_UTC_S)
    if after_s:
        device.step(after_s)
    return device


def words(device, reference, count=1):
    return device.read(Table.INPUT_REGISTERS, reference - 30_001, count)


def u32(device, reference):
    high, low = words(device, reference, 2)
    return high << 16 | low


def test_the_sample_in_the_units_of_the_manual():
    device = counter(130.0)
    assert u32(device, 30_216) == START_UTC_S + 120
    assert u32(device, 30_218) == 6_000, "hundredths of a second"
    assert u32(device, 30_222) == 10, "tenths of a cubic foot per minute"
    assert u32(device, 30_224) == 10, "tenths of a cubic foot"
    assert words(device, 30_226, 2) == [1, 4]


def test_four_cumulative_channels_fall_with_size():
    """The room follows a power of the diameter: 2.78 times as many from 0.3 um on."""
    device = counter(60.0)
    counts = [u32(device, 30_229 + 2 * channel) for channel in range(4)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == pytest.approx(2.78 * 2_832, rel=0.05)
    assert counts[1] == pytest.approx(2_832, abs=4 * 2_832**0.5)
    assert counts[3] == pytest.approx(28, abs=4 * 28**0.5)


def test_a_sample_with_a_fault_keeps_its_mark():
    device = counter()
    device.disturbances.begin(FLOW_FAULT)
    device.step(30.0)
    assert u32(device, 30_212) == 2
    device.disturbances.end(FLOW_FAULT)
    device.step(30.0)
    assert (u32(device, 30_212), u32(device, 30_220)) == (0, 2)
    assert u32(device, 30_224) == pytest.approx(7, abs=1)


def test_before_the_first_sample_there_are_zeros():
    assert words(counter(30.0), 30_229, 8) == [0] * 8


def test_versions_and_name():
    device = counter()
    assert words(device, 30_001, 4) == [100, 205, 0x4149, 0x524E]


def test_it_has_input_registers_only():
    with pytest.raises(ModbusException) as refusal:
        counter().read(Table.HOLDING_REGISTERS, 0, 1)
    assert refusal.value.code == ModbusException.ILLEGAL_FUNCTION
    with pytest.raises(ModbusException) as refusal:
        words(counter(), 30_241)
    assert refusal.value.code == ModbusException.ILLEGAL_DATA_ADDRESS

"""The ADAM-4018+ spans the range of its thermocouple with sixteen bits."""

import math
from types import SimpleNamespace

import pytest

from simulators.devices.adam_4018 import RANGE_C, Adam4018, Adam4018Settings
from simulators.devices.contract import ModbusException, Table
from simulators.devices.registers import span16
from simulators.settings import Refused


def module(chamber_c=-60.0, sample_c=-45.0, **settings):
    freezer = SimpleNamespace(chamber_c=chamber_c, sample_c=sample_c, ambient_c=21.0)
    return Adam4018(Adam4018Settings(**settings), freezer)


def read(device, address, count=1):
    return device.read(Table.HOLDING_REGISTERS, address, count)


def celsius(raw, low_c=-100.0, high_c=400.0):
    return low_c + raw / 65_536 * (high_c - low_c)


def test_the_printed_example_of_type_j():
    """26.43 C on 0 to 760 C is 2279."""
    assert span16(26.43, *RANGE_C[0x0E]) == 2_279


@pytest.mark.parametrize("value_c", [-99.9, -60.0, 0.0, 21.3, 399.9])
def test_a_temperature_comes_back_within_one_step(value_c):
    assert celsius(read(module(chamber_c=value_c), 0)[0]) == pytest.approx(value_c, abs=500 / 65536)


def test_type_t_ends_at_minus_100():
    """Nitrogen is not to be seen with this module."""
    assert read(module(chamber_c=-195.8), 0) == [0]
    assert read(module(chamber_c=500.0), 0) == [0xFFFF]


def test_unused_channels_and_broken_wires_read_full_scale():
    device = module(sample_c=math.nan)
    words = read(device, 0, 8)
    assert words[1] == 0xFFFF
    assert words[3:] == [0xFFFF] * 5
    device.disturbances.begin("channel_0_open")
    assert read(device, 0) == [0xFFFF]


def test_name_and_type_codes():
    assert read(module(), 200, 8) == [0x10] * 8
    assert read(module(type_code=0x0F), 207) == [0x0F]
    assert read(module(), 210) == [0x4018]
    assert read(module(), 220) == [0xFF]


@pytest.mark.parametrize(("address", "count"), [(0, 9), (8, 1), (207, 2), (1000, 1)])
def test_other_registers_do_not_exist(address, count):
    with pytest.raises(ModbusException) as refusal:
        read(module(), address, count)
    assert refusal.value.code == ModbusException.ILLEGAL_DATA_ADDRESS


@pytest.mark.parametrize(
    ("settings", "key"), [({"channels": ("sky",)}, "channels"), ({"type_code": 0x24}, "type_code")]
)
def test_settings_that_cannot_be(settings, key):
    with pytest.raises(Refused, match=key):
        Adam4018Settings(**settings)

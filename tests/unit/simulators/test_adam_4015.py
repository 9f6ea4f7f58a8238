"""The ADAM-4015 spans its range with sixteen bits, and says 65535 when it knows nothing."""

from random import Random
from types import SimpleNamespace

import pytest

from simulators.devices.adam_4015 import Adam4015, Adam4015Settings, raw_of
from simulators.devices.contract import ModbusException, Table
from simulators.process.ln2_freezer import Ln2Freezer, Ln2FreezerSettings


def module(top_c=-182.0, rack_c=-190.0, **settings):
    freezer = SimpleNamespace(top_c=top_c, rack_c=rack_c, transfer_line_c=20.0, ambient_c=20.0)
    return Adam4015(Adam4015Settings(**settings), freezer)


def read(device, address, count=1):
    return device.read(Table.HOLDING_REGISTERS, address, count)


def celsius(raw, low_c=-200.0, high_c=200.0):
    return low_c + raw / 65_536 * (high_c - low_c)


def test_the_printed_example_of_type_code_20():
    """26 874 on the range -50 to 150 C is 32.0 C."""
    assert celsius(26_874, -50, 150) == pytest.approx(32.0, abs=0.02)
    assert raw_of(celsius(26_874, -50, 150) + 1e-6, 0x20) == 26_874


@pytest.mark.parametrize("value_c", [-199.9, -195.8, -182.0, 0.0, 21.3, 199.9])
def test_a_temperature_comes_back_within_one_step(value_c):
    assert celsius(raw_of(value_c, 0x24)) == pytest.approx(value_c, abs=400 / 65_536)


def test_the_ends_of_the_range_hold():
    assert raw_of(-200.0, 0x24) == raw_of(-300.0, 0x24) == 0
    assert raw_of(200.0, 0x24) == raw_of(1e9, 0x24) == 0xFFFF


def test_channels_show_the_freezer_and_unused_ones_read_full_scale():
    words = read(module(), 0, 6)
    assert [round(celsius(word), 1) for word in words[:4]] == [-182.0, -190.0, 20.0, 20.0]
    assert words[4:] == [0xFFFF, 0xFFFF]


def test_a_broken_wire_reads_full_scale_on_its_channel_only():
    device = module()
    whole = read(device, 0, 6)
    device.disturbances.begin("channel_1_open")
    assert read(device, 0, 6) == [whole[0], 0xFFFF, *whole[2:]]
    device.disturbances.end("channel_1_open")
    assert read(device, 0, 6) == whole


def test_one_channel_may_be_read_alone():
    assert read(module(), 1) == [raw_of(-190.0, 0x24)]


def test_name_type_codes_and_channel_mask():
    device = module()
    assert read(device, 210, 2) == [0x4015, 0x0000]
    assert read(device, 200, 6) == [0x24] * 6
    assert read(device, 220) == [0x3F]


def test_functions_3_and_4_read_the_same():
    device = module()
    assert device.read(Table.INPUT_REGISTERS, 0, 6) == read(device, 0, 6)


@pytest.mark.parametrize(("address", "count"), [(0, 7), (6, 1), (5, 2), (205, 2), (1000, 1)])
def test_other_registers_do_not_exist(address, count):
    with pytest.raises(ModbusException) as refusal:
        read(module(), address, count)
    assert refusal.value.code == ModbusException.ILLEGAL_DATA_ADDRESS


def test_a_real_freezer_feeds_it():
    freezer = Ln2Freezer(Ln2FreezerSettings(), Random(1))
    device = Adam4015(Adam4015Settings(channels=("unused", "rack")), freezer)
    assert celsius(read(device, 1)[0]) == pytest.approx(freezer.rack_c, abs=0.01)
    assert read(device, 0) == [0xFFFF]

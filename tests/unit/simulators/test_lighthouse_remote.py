"""The Lighthouse counter shows one record at a time, the one that its index names."""

from random import Random
from types import SimpleNamespace

import pytest

from simulators.devices.contract import ModbusException, Table
from simulators.devices.lighthouse_remote import (
    BUSY,
    FLOW_FAULT,
    LASER_FAULT,
    LighthouseRemote,
    LighthouseRemoteSettings,
)
from simulators.wire.modbus_pdu import reply_to
from tests.unit.simulators.frames import ascii_frame

START_UTC_S = 1_760_000_000
INDEX = 40_025 - 40_001


def counter(after_s=0.0, **settings):
    room = SimpleNamespace(particles_05um_per_m3=100_000.0, particles_5um_per_m3=1_000.0)
    device = LighthouseRemote(LighthouseRemoteSettings(**settings), room, Random(1), START_UTC_S)
    if after_s:
        device.step(after_s)
    return device


def holding(device, reference, count=1):
    return device.read(Table.HOLDING_REGISTERS, reference - 40_001, count)


def record(device, reference=30_001, count=24):
    return device.read(Table.INPUT_REGISTERS, reference - 30_001, count)


def u32(words, at=0):
    return words[at] << 16 | words[at + 1]


def test_status_running_sampling_and_new_data_in_a_whole_frame():
    assert ascii_frame(":010300020001F9", counter(61.0)) == ":0103020007F3"


def test_a_record_of_24_registers_in_a_whole_frame():
    reply = ascii_frame(":010400000018E3", counter(61.0))
    assert reply.startswith(":010430")
    assert len(reply) == 1 + 2 * (3 + 48 + 1)


def test_reading_the_record_clears_new_data():
    device = counter(59.0)
    assert holding(device, 40_003) == [0x0003]
    device.step(1.0)
    assert holding(device, 40_003) == [0x0007]
    record(device)
    assert holding(device, 40_003) == [0x0003]


def test_the_latest_record_is_the_sample_that_ended_last():
    """28.3 L of air with 100 000 and 1 000 particles per m3 hold 2832 and 28 of them."""
    words = record(counter(130.0))
    assert u32(words) == START_UTC_S + 120
    assert u32(words, 2) == 60
    assert u32(words, 4) == 1
    assert u32(words, 8) == pytest.approx(2_832, abs=4 * 2_832**0.5)
    assert u32(words, 10) == pytest.approx(28, abs=4 * 28**0.5)
    assert words[12:] == [0] * 12


def test_the_index_selects_an_older_record():
    device = counter(190.0)
    assert holding(device, 40_024, 2) == [3, 0xFFFF]
    for index, end_s in ((0, 60), (1, 120), (2, 180), (0xFFFF, 180)):
        device.write(INDEX, [index])
        assert u32(record(device)) == START_UTC_S + end_s
    assert reply_to(bytes.fromhex("06 0018 0001"), device).hex() == "0600180001"


@pytest.mark.parametrize(
    ("address", "values", "code"),
    [(INDEX, [3], 3), (INDEX, [0, 0], 2), (1, [3], 2), (32, [60], 2)],
)
def test_nothing_else_can_be_written(address, values, code):
    with pytest.raises(ModbusException) as refusal:
        counter(190.0).write(address, values)
    assert refusal.value.code == code


def test_before_the_first_sample_the_record_is_empty():
    assert record(counter(30.0)) == [0] * 24


def test_a_flow_fault_and_a_laser_fault_show():
    device = counter()
    device.disturbances.begin(FLOW_FAULT)
    assert holding(device, 40_003) == [0x1003]
    assert holding(device, 40_023) == [50]
    device.disturbances.begin(LASER_FAULT)
    assert holding(device, 40_003) == [0x100B]
    device.step(60.0)
    words = record(device)
    assert (u32(words, 6), u32(words, 8)) == (3, 0)


def test_a_busy_counter_refuses_with_exception_6():
    device = counter()
    device.disturbances.begin(BUSY)
    assert reply_to(bytes.fromhex("03 0002 0001"), device) == bytes.fromhex("8306")


def test_who_it_is_and_its_clock():
    device = counter(10.0, serial_number=0x0001_0002)
    assert holding(device, 40_005, 2) == [1, 2]
    assert holding(device, 40_007, 3) == [0x5245, 0x4D4F, 0x5445]
    assert u32(holding(device, 40_027, 2)) == START_UTC_S + 10
    assert u32(holding(device, 40_033, 2)) == 60

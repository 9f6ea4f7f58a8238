"""The MET ONE 6000 counts what its flow draws, sample by sample."""

import struct
from datetime import UTC, datetime
from random import Random
from types import SimpleNamespace

import pytest

from simulators.devices.contract import ModbusException, Table
from simulators.devices.counting import poisson
from simulators.devices.met_one_6000 import (
    FLOW_FAULT,
    LASER_FAULT,
    MetOne6000,
    MetOne6000Settings,
)
from simulators.wire.modbus_pdu import reply_to

START_UTC_S = datetime(2026, 3, 15, 22, 58, 30, tzinfo=UTC).timestamp()


def counter(particles_05um_per_m3=10_000.0, particles_5um_per_m3=100.0, **settings):
    room = SimpleNamespace(
        particles_05um_per_m3=particles_05um_per_m3,
        particles_5um_per_m3=particles_5um_per_m3,
        temperature_c=21.04,
        relative_humidity_pct=45.26,
    )
    return MetOne6000(MetOne6000Settings(**settings), room, Random(1), START_UTC_S)


def read(device, address, count=1):
    return device.read(Table.HOLDING_REGISTERS, address, count)


def u32(device, address):
    high, low = read(device, address, 2)
    return high << 16 | low


def text(words):
    return struct.pack(f">{len(words)}H", *words).rstrip(b"\0").decode("ascii")


def test_it_says_who_it_is():
    """Two characters per register, the first in the upper byte (table 16)."""
    device = counter(model_number="8801", serial_number="2603150017", sensor_id="A1")
    assert read(device, 15, 3) == [0x3838, 0x3031, 0x0000]
    assert text(read(device, 0, 15)) == "Hach"
    assert text(read(device, 25, 5)) == "2603150017"
    assert text(read(device, 30, 4)) == "A1"
    assert read(device, 38) == [101]


def test_the_location_has_one_character_per_register():
    device = counter(location="Room 1")
    assert read(device, 353, 7) == [*map(ord, "Room 1"), 0]
    assert read(device, 127, 16) == read(device, 353, 16)


def test_counts_follow_concentration_and_flow():
    """28.3 L of air with 10 000 and 100 particles per m3 hold about 283 and 3 of them."""
    device = counter()
    device.step(59.9)
    assert u32(device, 311) == pytest.approx(283, abs=4 * 283**0.5)
    assert u32(device, 313) == pytest.approx(2.8, abs=7)
    assert u32(device, 307) == pytest.approx(28_253, abs=1)
    assert read(device, 315, 4) == [0, 0, 0, 0]


def test_counts_grow_during_a_sample_and_start_again():
    device = counter()
    seen = []
    for _ in range(120):
        device.step(1.0)
        seen.append(u32(device, 311))
    assert seen[:59] == sorted(seen[:59])
    assert seen[59] == 0
    assert seen[60] < seen[58]


def test_the_buffered_record_is_the_last_complete_sample():
    device = counter()
    assert read(device, 500, 19) == [0] * 19
    device.step(59.0)
    running = u32(device, 311)
    device.step(11.0)
    assert running <= u32(device, 511) < running + 60
    assert u32(device, 507) == 28_300
    assert read(device, 500, 6) == [2026, 0x030F, 22, 58 << 8 | 30, 0, 1 << 8]
    assert read(device, 300, 6) == [2026, 0x030F, 22, 59 << 8 | 30, 0, 1 << 8]


def test_large_particles_are_among_the_small_ones():
    device = counter(particles_05um_per_m3=1_000.0, particles_5um_per_m3=1_000.0)
    device.step(30)
    assert u32(device, 311) == u32(device, 313) > 0


def test_temperature_and_humidity_are_in_tenths():
    assert read(counter(), 344, 2) == [210, 453]
    assert read(counter(external_probe=False), 344, 2) == [0, 0]


def test_frost_is_a_negative_temperature():
    device = counter()
    device._room.temperature_c = -4.26
    assert read(device, 344) == [0x1_0000 - 43]


def test_its_clock_runs_with_the_samples():
    device = counter(clock_offset_s=60)
    device.step(3600)
    assert read(device, 112, 4) == [2026, 0x030F, 23, 59 << 8 | 30]


def test_a_laser_fault_stops_the_counts_and_shows():
    device = counter()
    device.step(20)
    before = u32(device, 311)
    device.disturbances.begin(LASER_FAULT)
    device.step(20)
    assert u32(device, 311) == before
    assert read(device, 309, 2) == [0x0001, 0]
    assert read(device, 724) == [0x0001]
    device.disturbances.end(LASER_FAULT)
    device.step(30)
    assert read(device, 724) == [0]
    assert u32(device, 509) == 0x0001, "the complete sample keeps the mark"


def test_a_flow_fault_halves_the_volume():
    device = counter()
    device.disturbances.begin(FLOW_FAULT)
    device.step(30)
    assert u32(device, 307) == pytest.approx(28_300 / 4, abs=1)
    assert read(device, 309) == [0x0002]
    assert read(device, 343) == [1_250]


@pytest.mark.parametrize(
    ("address", "count"), [(399, 2), (400, 1), (499, 1), (499, 2), (749, 2), (750, 1)]
)
def test_registers_outside_the_blocks_do_not_exist(address, count):
    with pytest.raises(ModbusException) as refusal:
        read(counter(), address, count)
    assert refusal.value.code == ModbusException.ILLEGAL_DATA_ADDRESS


def test_only_function_3_is_known():
    request = bytes.fromhex("012C0012")
    assert reply_to(b"\x03" + request, counter())[:2] == b"\x03\x24"
    for function in (1, 2, 4, 6, 16):
        assert reply_to(bytes([function]) + request, counter()) == bytes([function | 0x80, 1])


@pytest.mark.parametrize("mean", [0.0, 0.3, 5.0, 400.0])
def test_the_counting_noise_has_the_mean_and_variance_of_poisson(mean):
    rng = Random(3)
    draws = [poisson(mean, rng) for _ in range(4000)]
    average = sum(draws) / len(draws)
    variance = sum((draw - average) ** 2 for draw in draws) / len(draws)
    assert average == pytest.approx(mean, rel=0.05, abs=0.001)
    assert variance == pytest.approx(mean, rel=0.1, abs=0.001)

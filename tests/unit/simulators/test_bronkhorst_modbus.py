"""The Bronkhorst controller keeps every parameter where the rule says."""

import struct
from types import SimpleNamespace

import pytest

from simulators.devices.bronkhorst_modbus import (
    REVERSE_FLOW,
    BronkhorstModbus,
    BronkhorstModbusSettings,
    address_16,
    address_32,
    measure_of,
)
from simulators.devices.contract import ModbusException, Table
from tests.unit.simulators.frames import rtu


def controller(flow_sccm=250.0, full_scale_sccm=500.0, **settings):
    line = SimpleNamespace(
        flow_sccm=flow_sccm,
        temperature_c=21.5,
        valve_pct=50.0,
        set_point_sccm=250.0,
        settings=SimpleNamespace(full_scale_sccm=full_scale_sccm),
    )
    return BronkhorstModbus(BronkhorstModbusSettings(**settings), line)


def words(device, address, count):
    return device.read(Table.HOLDING_REGISTERS, address, count)


def single(device, address):
    return struct.unpack(">f", struct.pack(">HH", *words(device, address, 2)))[0]


def text(device, address, count):
    return struct.pack(f">{count}H", *words(device, address, count)).rstrip(b"\0").decode()


def test_half_of_the_capacity_is_16000_in_a_whole_frame():
    assert rtu("01 03 00 20 00 01 85 C0", controller()) == "01 03 02 3E 80 A9 84"


def test_the_flow_as_a_single_in_a_whole_frame():
    quarter = controller(flow_sccm=0.25)
    assert rtu("01 03 A1 00 00 02 E7 F7", quarter) == "01 03 04 3E 80 00 00 F6 33"


@pytest.mark.parametrize(
    ("address", "process", "parameter"),
    [(32, 1, 0), (33, 1, 1), (35, 1, 3), (36, 1, 4)],
)
def test_the_rule_gives_the_documented_addresses_of_16_bits(address, process, parameter):
    assert address_16(process, parameter) == address


@pytest.mark.parametrize(
    ("address", "process", "parameter"),
    [
        (33_128, 1, 13), (41_216, 33, 0), (41_240, 33, 3), (41_272, 33, 7), (59_400, 104, 1),
        (59_416, 104, 3), (61_704, 113, 1), (61_720, 113, 3), (61_736, 113, 5), (61_960, 114, 1),
    ],
)  # fmt: skip
def test_the_rule_gives_the_documented_addresses_of_32_bits(address, process, parameter):
    assert address_32(process, parameter) == address


@pytest.mark.parametrize(
    ("share", "measure"),
    [(0.0, 0), (1.0, 32_000), (1.31, 41_920), (2.0, 41_942), (-0.01, 65_216), (-5.0, 41_943)],
)
def test_a_measure_above_41942_is_a_flow_backwards(share, measure):
    assert measure_of(share) == measure


def test_a_flow_backwards_is_negative_as_a_single():
    device = controller()
    device.disturbances.begin(REVERSE_FLOW)
    assert words(device, 32, 1) == [0x1_0000 - 320]
    assert single(device, 41_216) == pytest.approx(-5.0)


def test_texts_and_settings():
    device = controller()
    assert text(device, 61_704, 8) == "DMFC"
    assert text(device, 61_712, 7) == "F-201CV-500RAD"
    assert text(device, 61_720, 8) == "M17200812B"
    assert text(device, 61_736, 8) == "V1.12"
    assert text(device, 33_272, 4) == "mln/min"
    assert single(device, 33_128) == 500.0
    assert single(device, 41_272) == 21.5


def test_the_counter_adds_up_what_flows():
    device = controller(flow_sccm=120.0)
    for _ in range(30):
        device.step(1.0)
    assert single(device, 59_400) == pytest.approx(60.0)


def test_a_text_is_not_read_beyond_its_end():
    with pytest.raises(ModbusException) as refusal:
        words(controller(), 61_736, 9)
    assert refusal.value.code == ModbusException.ILLEGAL_DATA_ADDRESS

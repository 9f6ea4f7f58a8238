"""The Alicat controller numbers its registers from 1 and keeps its status in bits."""

import struct
from random import Random
from types import SimpleNamespace

import pytest

from simulators.devices.alicat_mc_modbus import (
    ADC_ERROR,
    VALVE_HELD,
    AlicatMcModbus,
    AlicatMcModbusSettings,
)
from simulators.devices.contract import ModbusException, Table
from simulators.process.gas_supply import SUPPLY_CLOSED, GasSupply, GasSupplySettings
from simulators.settings import Refused


def controller(flow_sccm=50.0, temperature_c=25.0, pressure_psia=14.696, **settings):
    line = SimpleNamespace(
        flow_sccm=flow_sccm,
        temperature_c=temperature_c,
        valve_pct=10.0,
        set_point_sccm=50.0,
        settings=SimpleNamespace(full_scale_sccm=500.0, pressure_psia=pressure_psia),
    )
    return AlicatMcModbus(AlicatMcModbusSettings(**settings), line)


def words(device, number, count):
    """Registers by the number of the manual."""
    return device.read(Table.HOLDING_REGISTERS, number - 1, count)


def single(device, number):
    return struct.unpack(">f", struct.pack(">HH", *words(device, number, 2)))[0]


def test_the_documented_block_from_the_gas_to_the_mass_flow():
    """8 is nitrogen; 50.0 is 4248 0000, the high word first."""
    assert words(controller(), 1200, 3) == [8, 0, 0]
    assert words(controller(), 1209, 2) == [0x4248, 0x0000]
    assert words(controller(), 1010, 2) == [0x4248, 0x0000]
    assert single(controller(), 1203) == pytest.approx(14.696)
    assert single(controller(), 1205) == 25.0


def test_volume_equals_mass_at_standard_conditions_only():
    assert single(controller(), 1207) == pytest.approx(50.0)
    assert single(controller(pressure_psia=29.392), 1207) == pytest.approx(25.0)
    warm = single(controller(temperature_c=54.815), 1207)
    assert warm == pytest.approx(50.0 * 327.965 / 298.15)


@pytest.mark.parametrize(("what", "bit"), [(VALVE_HELD, 8), (ADC_ERROR, 9)])
def test_trouble_is_a_bit_of_the_status(what, bit):
    device = controller()
    device.disturbances.begin(what)
    assert words(device, 1201, 2) == [0, 1 << bit]


def test_more_flow_than_the_full_scale_is_over_range():
    assert words(controller(flow_sccm=501.0), 1201, 2) == [0, 1 << 4]


def test_noise_around_zero_is_negative_and_no_error():
    assert single(controller(flow_sccm=-0.034), 1209) == pytest.approx(-0.034)
    assert words(controller(flow_sccm=-0.034), 1201, 2) == [0, 0]


def test_units_say_what_the_numbers_mean():
    assert words(controller(), 1734, 2) == [0, 12]
    assert words(controller(), 1674, 2) == [0, 10]
    litres = controller(flow_unit=7)
    assert words(litres, 1734, 2) == [0, 7]
    assert single(litres, 1209) == pytest.approx(0.05)
    with pytest.raises(Refused, match="flow_unit"):
        AlicatMcModbusSettings(flow_unit=3)


def test_the_newer_block_says_the_same_and_the_valve():
    device = controller()
    assert words(device, 1350, 2) == words(device, 1010, 2)
    assert words(device, 1364, 2) == words(device, 1209, 2)
    assert single(device, 1352) == 10.0


@pytest.mark.parametrize(("number", "count"), [(999, 1), (1211, 1), (1209, 3), (1366, 1), (1, 2)])
def test_other_registers_do_not_exist(number, count):
    with pytest.raises(ModbusException) as refusal:
        words(controller(), number, count)
    assert refusal.value.code == ModbusException.ILLEGAL_DATA_ADDRESS


def test_a_closed_supply_lets_the_flow_die_away_and_the_valve_open_wide():
    line = GasSupply(GasSupplySettings(set_point_sccm=50.0), Random(1))
    device = AlicatMcModbus(AlicatMcModbusSettings(), line)
    line.step(5.0)
    assert single(device, 1209) == pytest.approx(50.0, abs=0.5)
    line.disturbances.begin(SUPPLY_CLOSED)
    line.step(5.0)
    assert single(device, 1209) == pytest.approx(0.0, abs=0.5)
    assert single(device, 1352) == 100.0

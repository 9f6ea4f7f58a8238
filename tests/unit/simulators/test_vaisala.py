"""Vaisala probes: least significant word first, and no number for what is not there."""

import math
import struct
from types import SimpleNamespace

import pytest

from simulators.devices.contract import ModbusException, Table
from simulators.devices.vaisala_gmp252 import (
    SOURCE_FAILED,
    STARTING,
    VaisalaGmp252,
    VaisalaGmp252Settings,
)
from simulators.devices.vaisala_hmdw110 import (
    SETTINGS_CHANGED,
    SUPPLY_VOLTAGE_OUT_OF_RANGE,
    VaisalaHmdw110,
    VaisalaHmdw110Settings,
)
from simulators.devices.vaisala_hmp import (
    HEATER_FAILED,
    HUMIDITY_SENSOR_FAILED,
    VaisalaHmp,
    VaisalaHmpSettings,
)
from simulators.devices.vaisala_hpp272 import (
    PURGING,
    SENSOR_FAILED,
    VaisalaHpp272,
    VaisalaHpp272Settings,
)
from tests.unit.simulators.frames import rtu

NAN_WORDS = [0x0000, 0x7FC0]


def hmp(relative_humidity_pct=30.56, temperature_c=21.0):
    room = SimpleNamespace(relative_humidity_pct=relative_humidity_pct, temperature_c=temperature_c)
    return VaisalaHmp(VaisalaHmpSettings(), room)


def hmdw110(relative_humidity_pct=50.0, temperature_c=20.0):
    room = SimpleNamespace(relative_humidity_pct=relative_humidity_pct, temperature_c=temperature_c)
    return VaisalaHmdw110(VaisalaHmdw110Settings(), room)


def gmp252(co2_pct=5.0, **settings):
    return VaisalaGmp252(VaisalaGmp252Settings(**settings), SimpleNamespace(co2_pct=co2_pct))


def hpp272(h2o2_ppm=465.65997):
    return VaisalaHpp272(VaisalaHpp272Settings(), SimpleNamespace(h2o2_ppm=h2o2_ppm))


def words(device, number, count=1):
    """Registers by the number of the manual."""
    return device.read(Table.HOLDING_REGISTERS, number - 1, count)


def single(device, number):
    low, high = words(device, number, 2)
    return struct.unpack(">f", struct.pack(">HH", high, low))[0]


# -- what they have in common --------------------------------------------------------------------


@pytest.mark.parametrize("probe", [hmp, hpp272])
def test_the_test_registers_in_whole_frames(probe):
    """-12345, -123.45 and the text of it."""
    assert rtu("F0 03 1F 00 00 01 96 FF", probe()) == "F0 03 02 CF C7 D1 F3"
    assert rtu("F0 03 1F 01 00 02 87 3E", probe()) == "F0 03 04 E6 66 C2 F6 1C 8D"
    text = struct.pack(">4H", *words(probe(), 7940, 4))
    assert text.rstrip(b"\0") == b"-123.45"


# -- humidity and temperature --------------------------------------------------------------------


def test_relative_humidity_of_the_manual_in_a_whole_frame():
    """41F47AE1 is 30.56 per cent; its lower half comes first."""
    assert rtu("F0 03 00 00 00 02 D1 2A", hmp()) == "F0 03 04 7A E1 41 F4 62 05"


def test_integers_are_hundredths():
    assert words(hmp(), 257, 2) == [3_056, 2_100]
    assert words(hmp(temperature_c=-4.26), 258) == [0x1_0000 - 426]
    assert words(hmp(), 259) == [0x8000], "not available as an integer here"


def test_derived_values_agree_with_tables():
    """At 20 C and 50 %: dew point 9.3 C, 8.6 g/m3, 7.3 g/kg, wet bulb 13.8 C, 38.5 kJ/kg."""
    probe = hmp(50.0, 20.0)
    assert single(probe, 7) == pytest.approx(9.3, abs=0.1)
    assert single(probe, 15) == pytest.approx(8.65, abs=0.1)
    assert single(probe, 17) == pytest.approx(7.26, abs=0.1)
    assert single(probe, 19) == pytest.approx(13.8, abs=0.3)
    assert single(probe, 27) == pytest.approx(38.5, abs=0.3)


def test_without_its_sensor_humidity_is_no_number_and_temperature_stays():
    probe = hmp()
    assert words(probe, 513) == [1]
    probe.disturbances.begin(HUMIDITY_SENSOR_FAILED)
    assert words(probe, 1, 2) == NAN_WORDS
    assert math.isnan(single(probe, 7))
    assert words(probe, 257, 2) == [0x8000, 2_100]
    assert single(probe, 3) == 21.0
    assert words(probe, 513) == [0]
    assert words(probe, 516, 2) == [0x0006, 0]


def test_a_failed_heater_is_bit_23():
    probe = hmp()
    probe.disturbances.begin(HEATER_FAILED)
    assert words(probe, 516, 2) == [0, 0x0080]


def test_inside_the_range_nothing_is_refused():
    assert words(hmp(), 5, 2) == NAN_WORDS
    with pytest.raises(ModbusException) as refusal:
        words(hmp(), 100, 2)
    assert refusal.value.code == ModbusException.ILLEGAL_DATA_ADDRESS


def test_a_transmitter_has_the_registers_of_its_table_only():
    device = hmdw110()
    assert (single(device, 1), single(device, 3)) == (50.0, 20.0)
    assert single(device, 9) == pytest.approx(9.3, abs=0.1)
    assert words(device, 7, 2) == NAN_WORDS
    with pytest.raises(ModbusException):
        words(device, 7937)


def test_a_transmitter_says_its_errors_as_a_sum():
    device = hmdw110()
    assert words(device, 513) == [1]
    for what in ("humidity_sensor_failed", SUPPLY_VOLTAGE_OUT_OF_RANGE):
        device.disturbances.begin(what)
    assert words(device, 513, 1) == [0]
    assert words(device, 516, 2) == [2_048 + 4 + 2, 0]
    assert words(device, 1, 2) == NAN_WORDS


def test_a_change_of_settings_shows_in_the_hash():
    device = hmdw110()
    before = words(device, 518, 2)
    device.disturbances.begin(SETTINGS_CHANGED)
    assert words(device, 518, 2) != before


# -- carbon dioxide ------------------------------------------------------------------------------


def test_co2_of_the_manual_in_a_whole_frame():
    """43E8D47A is 465.66 ppm (A.3)."""
    probe = gmp252(co2_pct=0.046565997)
    assert rtu("F0 03 00 00 00 02 D1 2A", probe) == "F0 03 04 D4 7A 43 E8 33 AB"


def test_the_integer_ends_at_7fff_and_its_neighbour_counts_in_tens():
    assert words(gmp252(co2_pct=2.0), 257, 2) == [20_000, 2_000]
    assert words(gmp252(co2_pct=5.0), 257, 2) == [0x7FFF, 5_000]


def test_while_it_starts_there_is_no_co2():
    probe = gmp252()
    probe.disturbances.begin(STARTING)
    assert words(probe, 1, 2) == NAN_WORDS
    assert words(probe, 257, 2) == [0x8000, 0x8000]
    assert words(probe, 2049, 2) == [0, 258]


def test_without_its_source_it_is_an_error():
    probe = gmp252()
    probe.disturbances.begin(SOURCE_FAILED)
    assert words(probe, 1, 2) == NAN_WORDS
    assert words(probe, 2049, 2) == [2, 2]


def test_it_says_what_it_compensates_for():
    probe = gmp252(pressure_hpa=990.0, temperature_c=36.5)
    assert single(probe, 521) == 990.0
    assert single(probe, 523) == 36.5
    assert single(probe, 513) == 990.0
    assert words(probe, 777) == [100]


# -- hydrogen peroxide ---------------------------------------------------------------------------


def test_concentration_of_the_manual_in_a_whole_frame():
    """The same number as in the other manual (A.5)."""
    assert rtu("F0 03 00 00 00 02 D1 2A", hpp272()) == "F0 03 04 D4 7A 43 E8 33 AB"


def test_a_purge_locks_the_reading_and_counts_up():
    isolator = SimpleNamespace(h2o2_ppm=300.0)
    probe = VaisalaHpp272(VaisalaHpp272Settings(), isolator)
    probe.step(1.0)
    probe.disturbances.begin(PURGING)
    isolator.h2o2_ppm = 500.0
    assert (single(probe, 1), words(probe, 529), words(probe, 1283)) == (300.0, [32], [1])
    probe.step(90.0)
    assert words(probe, 1283) == [50]
    probe.step(900.0)
    assert words(probe, 1283) == [100]
    probe.disturbances.end(PURGING)
    assert (single(probe, 1), words(probe, 529), words(probe, 1283)) == (500.0, [0], [0])


def test_a_failed_sensor_shows_in_every_status():
    probe = hpp272()
    probe.disturbances.begin(SENSOR_FAILED)
    assert words(probe, 1, 2) == NAN_WORDS
    assert words(probe, 513, 3) == [2, 64, 0]
    assert words(probe, 529, 6) == [128] * 6
    assert words(probe, 536, 7) == [128] * 7


def test_vitality_and_settings():
    assert single(hpp272(), 547) == 92.0
    assert words(hpp272(), 777) == [1_440]
    assert single(hpp272(), 779) == 1.0

"""The Arc pH sensor answers the examples of its manual byte for byte."""

import struct
from random import Random
from types import SimpleNamespace

import pytest

from simulators.devices.contract import ModbusException, Table
from simulators.devices.hamilton_arc_ph import (
    CALIBRATION_DUE,
    GLASS_BROKEN,
    TEMPERATURE_SENSOR_DEFECTIVE,
    HamiltonArcPh,
    HamiltonArcPhSettings,
)
from simulators.process.bioreactor import Bioreactor, BioreactorSettings
from simulators.wire.modbus_pdu import reply_to


def sensor(ph=4.02503, temperature_c=24.35834):
    culture = SimpleNamespace(ph=ph, temperature_c=temperature_c)
    return HamiltonArcPh(HamiltonArcPhSettings(serial_number="1042317"), culture)


def ask(device, hexadecimal):
    return reply_to(bytes.fromhex(hexadecimal), device).hex(" ").upper()


def text(device, manual_register, count=8):
    words = device.read(Table.HOLDING_REGISTERS, manual_register - 1, count)
    return struct.pack(f">{count}H", *words).rstrip(b"\0").decode("ascii")


def test_the_ph_channel_of_the_manual():
    """Unit 0x1000, 4.02503, status 0, 0 to 14; low word first (EPHUM011, 2.5.2)."""
    assert ask(sensor(), "03 08 29 00 0A") == (
        "03 14 10 00 00 00 CD 0C 40 80 00 00 00 00 00 00 00 00 00 00 41 60"
    )


def test_the_temperature_channel_of_the_manual():
    """Unit 0x04, 24.35834, status 0, -20 to 130."""
    assert ask(sensor(), "03 09 69 00 0A") == (
        "03 14 00 04 00 00 DD E1 41 C2 00 00 00 00 00 00 C1 A0 00 00 43 02"
    )


def test_functions_3_and_4_read_the_same_registers():
    three, four = ask(sensor(), "03 08 29 00 0A"), ask(sensor(), "04 08 29 00 0A")
    assert three.split()[1:] == four.split()[1:]


@pytest.mark.parametrize(
    "request_hex",
    [
        "03 08 29 00 02",  # unit only
        "03 08 29 00 09",  # all but the last
        "03 08 2B 00 02",  # value only
        "03 08 2A 00 0A",  # one further: the 1-based number taken for an address
        "03 08 27 00 0C",  # from the units on
        "03 00 00 00 01",  # nothing there
    ],
)
def test_the_ten_registers_are_read_as_one_or_not_at_all(request_hex):
    assert ask(sensor(), request_hex) == "83 02"


def test_writes_are_unknown_functions():
    assert ask(sensor(), "10 08 29 00 02 04 10 00 00 00") == "90 01"
    assert ask(sensor(), "06 08 29 00 01") == "86 01"


def test_there_are_no_bits():
    with pytest.raises(ModbusException) as refusal:
        sensor().read(Table.COILS, 0, 1)
    assert refusal.value.code == ModbusException.ILLEGAL_FUNCTION


def test_texts_and_masks_of_the_manual():
    device = sensor()
    assert text(device, 1032) == "EPHUM011"
    assert text(device, 1280) == "242111/01"
    assert text(device, 1312) == "1042317"
    assert text(device, 2080) == "pH"
    assert text(device, 2464) == "R glass"
    assert text(device, 1968, 4) == "pH"
    assert device.read(Table.HOLDING_REGISTERS, 2047, 2) == [0x06E1, 0]
    assert device.read(Table.HOLDING_REGISTERS, 2087, 2) == [0x1000, 0x0020]
    assert device.read(Table.HOLDING_REGISTERS, 4871, 2) == [0x0000, 0x42C8]


def test_a_healthy_sensor_has_neither_warnings_nor_errors():
    device = sensor()
    assert device.read(Table.HOLDING_REGISTERS, 4735, 8) == [0] * 8
    assert device.read(Table.HOLDING_REGISTERS, 4799, 8) == [0] * 8


@pytest.mark.parametrize(
    ("what", "address", "words", "status"),
    [
        (CALIBRATION_DUE, 4735, [0, 0, 0x0001, 0, 0, 0, 0, 0], 0x08),
        (GLASS_BROKEN, 4799, [0x0040, 0, 0, 0, 0, 0, 0, 0], 0x10),
        (TEMPERATURE_SENSOR_DEFECTIVE, 4799, [0, 0x0200, 0, 0, 0, 0, 0, 0], 0x10),
    ],
)
def test_trouble_shows_in_its_register_and_in_the_status(what, address, words, status):
    device = sensor()
    device.disturbances.begin(what)
    assert device.read(Table.HOLDING_REGISTERS, address, 8) == words
    assert device.read(Table.HOLDING_REGISTERS, 2089, 10)[4:6] == [status, 0]
    assert device.read(Table.HOLDING_REGISTERS, 2409, 10)[4:6] == [status, 0]
    device.disturbances.end(what)
    assert device.read(Table.HOLDING_REGISTERS, 2089, 10)[4:6] == [0, 0]


def test_it_reports_what_the_probe_in_the_culture_reads():
    culture = Bioreactor(BioreactorSettings(), Random(1))
    culture.step(10)
    device = HamiltonArcPh(HamiltonArcPhSettings(), culture)
    words = device.read(Table.HOLDING_REGISTERS, 2089, 10)
    (ph,) = struct.unpack(">f", struct.pack(">HH", words[3], words[2]))
    assert ph == pytest.approx(culture.ph, rel=1e-6)


def test_operating_hours_run():
    device = sensor()
    device.step(1800)
    low, high, *rest = device.read(Table.HOLDING_REGISTERS, 4675, 6)
    assert struct.unpack(">f", struct.pack(">HH", high, low)) == (168.5,)
    assert rest == [0, 0, 0, 0]

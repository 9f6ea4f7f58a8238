"""The TSX freezer speaks Modbus ASCII; the printed reply of its manual has a wrong check."""

import struct
from random import Random
from types import SimpleNamespace

import pytest

from simulators.devices.contract import ModbusException, Table
from simulators.devices.thermo_tsx import (
    BUS_COMMUNICATION_FAILED,
    SERVICE_MODE,
    ThermoTsx,
    ThermoTsxSettings,
)
from simulators.process.ult_freezer import (
    DOOR_OPEN,
    MAINS_FAILED,
    UltFreezer,
    UltFreezerSettings,
)
from simulators.wire.modbus_ascii import ASCII
from tests.unit.simulators.frames import ascii_frame


def freezer(**shown):
    process = SimpleNamespace(
        cabinet_c=-80.5,
        heat_exchanger_c=-88.0,
        condenser_c=36.0,
        ambient_c=21.0,
        pulled_down=False,
        mains_failed=False,
        door_open=False,
        settings=SimpleNamespace(set_point_c=-80.0),
    )
    vars(process).update(shown)
    return ThermoTsx(ThermoTsxSettings(), process)


def words(device, address, count=1):
    return device.read(Table.HOLDING_REGISTERS, address, count)


def test_the_printed_request_gets_the_printed_reply_with_the_right_check():
    """-80.0 C is FF FF FC E0; the LRC of the reply is 06, the manual prints 02."""
    assert ascii_frame(":190305300002AD", freezer()) == ":190304FFFFFCE006"


def test_the_printed_reply_itself_is_no_whole_frame():
    assert ASCII.taken(bytearray(b":190304FFFFFCE002\r\n"), True) is None


@pytest.mark.parametrize(
    ("request_frame", "reply"),
    [
        (":190305380002A5", ":190304FFFFFD44A1"),  # warm alarm at -70.0 C
        (":1903067100016C", ":1903020001E1"),  # pull-down reached
        (":190304CC000212", ":190304C2A100007D"),  # -80.5 C as a single
        (":190300010001E2", ":19830262"),  # nothing there
    ],
)
def test_other_whole_frames(request_frame, reply):
    assert ascii_frame(request_frame, freezer(pulled_down=True)) == reply


def test_alarm_set_points_and_texts():
    device = freezer()
    assert words(device, 0x538, 2) == [0xFFFF, 0xFD44]
    assert words(device, 0x53C, 2) == [0xFFFF, 0xFC7C]
    part = struct.pack(">10H", *words(device, 0x570, 10))
    assert part.rstrip(b"\0") == b"TSX60086A"
    assert words(device, 0x598, 2) == [0, 60_086]


@pytest.mark.parametrize(
    ("shown", "bits"),
    [({}, 0), ({"pulled_down": True}, 0x01), ({"mains_failed": True}, 0x02)],
)
def test_the_system_status_follows_the_process(shown, bits):
    assert words(freezer(**shown), 0x671) == [bits]


@pytest.mark.parametrize(("what", "bits"), [(SERVICE_MODE, 0x08), (BUS_COMMUNICATION_FAILED, 0x80)])
def test_the_system_status_follows_the_electronics(what, bits):
    device = freezer()
    device.disturbances.begin(what)
    assert words(device, 0x671) == [bits]


def test_an_open_door_is_bit_9_of_the_relay_enclosure():
    assert words(freezer(door_open=True), 0x674, 2) == [0, 1 << 9]
    assert words(freezer(), 0x674, 2) == [0, 0]


@pytest.mark.parametrize(("address", "count"), [(0x4C8, 2), (0x530, 3), (0x672, 1), (0, 1)])
def test_other_registers_do_not_exist(address, count):
    with pytest.raises(ModbusException) as refusal:
        words(freezer(), address, count)
    assert refusal.value.code == ModbusException.ILLEGAL_DATA_ADDRESS


def test_only_function_3_is_known():
    assert ascii_frame(":190405300002AC", freezer()) == ":19840162"


def test_a_real_cabinet_feeds_it():
    cabinet = UltFreezer(UltFreezerSettings(), Random(1))
    device = ThermoTsx(ThermoTsxSettings(), cabinet)
    cabinet.disturbances.begin(DOOR_OPEN)
    cabinet.disturbances.begin(MAINS_FAILED)
    cabinet.step(60.0)
    (shown,) = struct.unpack(">f", struct.pack(">HH", *words(device, 0x4CC, 2)))
    assert shown == pytest.approx(cabinet.cabinet_c, rel=1e-6)
    assert words(device, 0x671) == [0x03]
    assert words(device, 0x674, 2) == [0, 1 << 9]

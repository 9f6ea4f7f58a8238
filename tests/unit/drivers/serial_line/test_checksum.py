"""Checksums, against the catalogue's values over the digits 1 to 9 and frames of manuals."""

import pytest

from drivers.serial_line.checksum import Checksum, checksum

CATALOGUED = {
    "sum-8": 0xDD,
    "lrc-8": 0x23,
    "xor-8": 0x31,
    "xor-8-inverted": 0xCE,
    "crc-8-smbus": 0xF4,
    "crc-8-maxim": 0xA1,
    "crc-16-arc": 0xBB3D,
    "crc-16-modbus": 0x4B37,
    "crc-16-xmodem": 0x31C3,
    "crc-16-ibm-3740": 0x29B1,
    "crc-16-kermit": 0x2189,
}


@pytest.mark.parametrize(("kind", "value"), CATALOGUED.items())
def test_a_checksum_has_its_catalogued_value(kind, value):
    assert checksum(kind, b"123456789") == value


@pytest.mark.parametrize(
    "frame",
    [b"?:0001:00::c1", b"!:0001:08:50111927:df", b"!:0005:02:?1:d7", b"?:2400:00::c6"],
)
def test_the_frames_of_the_incubator_bear_an_inverted_xor(frame):
    assert Checksum("xor-8-inverted", "hex-lower").of(frame[:-2]) == frame[-2:]


@pytest.mark.parametrize(
    ("written", "expected"),
    [("hex-upper", b"4B37"), ("hex-lower", b"4b37"), ("raw", b"K7"), ("decimal", b"19255")],
)
def test_a_checksum_is_written_as_stated(written, expected):
    check = Checksum("crc-16-modbus", written)
    assert check.of(b"123456789") == expected
    assert check.length == len(expected)


def test_it_may_stand_low_byte_first_and_leave_characters_out():
    assert Checksum("crc-16-modbus", low_byte_first=True).of(b"123456789") == b"374B"
    assert Checksum("sum-8", skip_first=1, skip_last=1).of(b"$123456789*") == b"DD"

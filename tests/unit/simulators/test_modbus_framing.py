"""RTU and ASCII frames: the bytes of the standard, and what is left of a stream that is broken."""

from random import Random

import pytest

from simulators.wire.framing import Request
from simulators.wire.modbus_ascii import ASCII, lrc
from simulators.wire.modbus_rtu import RTU, crc16
from tests.unit.simulators.by_hand import read_request

ASKED = read_request(3, 0, 6)


def requests(framing, raw, *, silent=False):
    """All requests in a stream, and what is left of it."""
    heard = bytearray(raw)
    found = []
    while (request := framing.taken(heard, silent)) is not None:
        found.append(request)
    return found, bytes(heard)


def test_the_crc_of_the_standard():
    """MODBUS over Serial Line V1.02, section 6.2.2: 02 07 has CRC 1241, sent as 41 12."""
    assert crc16(bytes.fromhex("02 07")) == 0x1241
    assert RTU.encoded(2, b"\x07") == bytes.fromhex("02 07 41 12")


def test_the_check_value_of_the_crc():
    """CRC-16/MODBUS of the catalogue of parametrised CRC algorithms."""
    assert crc16(b"123456789") == 0x4B37


def test_an_ascii_frame():
    """The sum of all bytes, LRC included, is 0 modulo 256."""
    assert lrc(bytes.fromhex("11 03 006B 0003")) == 0x7E
    assert ASCII.encoded(0x11, read_request(3, 0x6B, 3)) == b":1103006B00037E\r\n"


@pytest.mark.parametrize("framing", [RTU, ASCII], ids=["rtu", "ascii"])
class TestEither:
    def test_what_is_encoded_is_taken(self, framing):
        frame = framing.encoded(7, ASKED)
        assert requests(framing, frame) == ([Request(7, ASKED, frame)], b"")

    def test_two_at_once_come_in_their_order(self, framing):
        stream = framing.encoded(7, ASKED) + framing.encoded(8, ASKED)
        found, left = requests(framing, stream)
        assert ([request.unit_id for request in found], left) == ([7, 8], b"")

    def test_half_a_frame_waits_for_the_other_half_and_silence_ends_it(self, framing):
        frame = framing.encoded(7, ASKED)
        for cut in range(1, len(frame)):
            heard = bytearray(frame[:cut])
            assert framing.taken(heard, False) is None
            heard += frame[cut:]
            assert framing.taken(heard, False) is not None
            assert requests(framing, frame[:cut], silent=True) == ([], b"")

    def test_a_flipped_bit_is_noticed(self, framing):
        frame = framing.encoded(7, ASKED)
        for bit in range(8 * len(frame)):
            damaged = bytearray(frame)
            damaged[bit // 8] ^= 1 << bit % 8
            found, left = requests(framing, damaged, silent=True)
            assert left == b""
            # ASCII digits have two cases, so that a flipped bit may change nothing that counts.
            assert found == [] or found[0].pdu == ASKED

    def test_noise_never_becomes_a_request(self, framing):
        dice = Random(4711)
        for _ in range(2000):
            noise = dice.randbytes(dice.randint(1, 40))
            assert requests(framing, noise, silent=True) == ([], b"")


def test_rtu_ends_an_unknown_function_at_silence():
    frame = RTU.encoded(7, bytes.fromhex("2B 0E 01 00"))
    assert requests(RTU, frame) == ([], frame)
    assert requests(RTU, frame, silent=True)[0] == [Request(7, frame[1:-2], frame)]


def test_rtu_counts_the_data_of_a_write():
    frame = RTU.encoded(7, bytes.fromhex("10 0000 0002 04 0001 0002"))
    assert requests(RTU, frame)[0] == [Request(7, frame[1:-2], frame)]


def test_an_ascii_colon_begins_afresh():
    frame = ASCII.encoded(7, ASKED)
    assert requests(ASCII, b"noise" + frame[:9] + frame) == ([Request(7, ASKED, frame)], b"")

"""Thermo Heracell VIOS incubator, serial interface with checksums.

Sources: Heracell VIOS 160i/250i and Steri-Cycle i160 operating instructions, data communication:
`?:aaaa:bb::cc`, CR, lower case; the reply `!:aaaa:bb:data:cc`; the checksum is the inverted XOR of
every byte before it (four printed questions agree; two printed replies do not and are misprints);
on VIOS "CR" units it is a CRC-8 with polynomial 0x07; error payloads ?0 to ?3; data logger, 16
bytes a record, 7 records a reply.

Assumed: the logger begins with its newest record; of gas changeover the payload is two hexadecimal
digits. The logger writes every minute.
"""

import re
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import xor
from typing import ClassVar

from simulators.devices.text_contract import TextDevice
from simulators.process.incubator import CO2_CYLINDER_A_EMPTY, DOOR_OPEN, Incubator

_RECORDS_PER_REPLY = 7
_RECORDS_MAX = 1_000
_WRITE_EVERY_S = 60.0
_PERIODIC, _DOOR_OPENED, _DOOR_CLOSED, _END = 0x01, 0x31, 0x32, 0xFF
_REQUEST = re.compile(rb"\?:([0-9a-f]{4}):([0-9a-f]{2}):([ -~]*):([0-9a-f]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeracellSettings:
    """One incubator; `crc` for the "CR" units."""

    version: str = "50111927"
    crc: bool = False


class Heracell(TextDevice):
    """The electronics of an incubator. It logs once at the start, then every minute."""

    REQUEST_END: ClassVar[bytes] = b"\r"

    def __init__(self, settings: HeracellSettings, process: Incubator, start_utc_s: float) -> None:
        super().__init__()
        self._settings = settings
        self._process = process
        self._utc_s = start_utc_s
        self._since_write_s = 0.0
        self._door_open = False
        self._records: deque[bytes] = deque(maxlen=_RECORDS_MAX)
        self._read_from = 0
        self._log(_PERIODIC)

    def step(self, dt_s: float) -> None:
        self._utc_s += dt_s
        self._since_write_s += dt_s
        door_open = self._process.disturbances.active(DOOR_OPEN)
        if door_open != self._door_open:
            self._door_open = door_open
            self._log(_DOOR_OPENED if door_open else _DOOR_CLOSED)
        if self._since_write_s >= _WRITE_EVERY_S:
            self._since_write_s %= _WRITE_EVERY_S
            self._log(_PERIODIC)

    def answer(self, request: bytes) -> bytes:
        found = _REQUEST.fullmatch(request)
        if found is None or self._checksum(request[:-2]) != found[4]:
            return self._framed(b"0000", b"?0")
        return self._framed(found[1], self._payload(found[1]))

    def _payload(self, address: bytes) -> bytes:
        match address:
            case b"0001":
                return self._settings.version.encode("ascii")
            case b"2140":
                a_empty = self._process.disturbances.active(CO2_CYLINDER_A_EMPTY)
                return b"22" if a_empty else b"31"
            case b"2400":
                self._read_from = 0
            case b"2401":
                self._read_from += _RECORDS_PER_REPLY
            case b"2402":
                pass
            case _:
                return b"?1"
        records = list(self._records)[self._read_from : self._read_from + _RECORDS_PER_REPLY]
        records += [bytes([_END]) + bytes(15)] * (_RECORDS_PER_REPLY - len(records))
        return b"".join(records).hex().encode("ascii")

    def _log(self, event: int) -> None:
        now = datetime.fromtimestamp(self._utc_s, UTC)
        process = self._process
        values = (process.temperature_c, process.co2_pct, process.o2_pct, process.humidity_pct)
        tenths = b"".join(max(0, round(10.0 * v)).to_bytes(2, "big") for v in values)
        head = bytes([event, now.day, now.month, now.year % 100, now.hour, now.minute, 0, 0])
        self._records.appendleft(head + tenths)

    def _framed(self, address: bytes, payload: bytes) -> bytes:
        frame = b"!:%b:%02x:%b:" % (address, len(payload), payload)
        return frame + self._checksum(frame) + b"\r"

    def _checksum(self, frame: bytes) -> bytes:
        value = _crc_8(frame) if self._settings.crc else reduce(xor, frame) ^ 0xFF
        return b"%02x" % value


def _crc_8(frame: bytes) -> int:
    value = 0
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ (0x07 if value & 0x80 else 0)) & 0xFF
    return value

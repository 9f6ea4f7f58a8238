"""Units on a serial line in memory, and what can go wrong between them and their master.

They share no code with the driver: CRC, LRC and frames are written here a second time, from the
specification. Each register of each unit holds a value of its own, so a reply that is taken for
another one's shows.
"""

import asyncio
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

LATENCY_S = 0.005


def crc(frame: bytes) -> bytes:
    register = 0xFFFF
    for byte in frame:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0xA001 if register & 1 else 0)
    return struct.pack("<H", register)


def rtu(unit: int, pdu: bytes) -> bytes:
    frame = bytes([unit]) + pdu
    return frame + crc(frame)


def in_ascii(unit: int, pdu: bytes) -> bytes:
    frame = bytes([unit]) + pdu
    return b":%s%02X\r\n" % (frame.hex().upper().encode(), -sum(frame) & 0xFF)


def opened_rtu(frame: bytes) -> tuple[int, bytes]:
    assert crc(frame[:-2]) == frame[-2:]
    return frame[0], frame[1:-2]


def opened_ascii(frame: bytes) -> tuple[int, bytes]:
    assert frame[:1] == b":"
    assert frame[-2:] == b"\r\n"
    body = bytes.fromhex(frame[1:-2].decode())
    assert sum(body) & 0xFF == 0
    return body[0], body[1:-1]


def held(unit: int, function: int, address: int) -> int:
    """The value of a register."""
    return (unit * 20_011 + function * 5_003 + address * 37 + 11) & 0xFFFF


def answer(unit: int, request: bytes) -> bytes:
    """The only right reply PDU."""
    function, address, count = struct.unpack(">BHH", request)
    values = [held(unit, function, a) for a in range(address, address + count)]
    if function in (3, 4):
        return struct.pack(f">BB{count}H", function, 2 * count, *values)
    bits = [value >> 3 & 1 for value in values]
    rows = [bits[n : n + 8] for n in range(0, count, 8)]
    data = bytes(sum(bit << n for n, bit in enumerate(row)) for row in rows)
    return bytes([function, len(data)]) + data


class Said(NamedTuple):
    """What the master said, and when."""

    at_s: float
    unit: int
    pdu: bytes


Heard = Sequence[tuple[float, bytes]]
"""What the master hears: so many seconds after its request, these bytes."""

Weather = Callable[["Slaves", bytes, int, bytes], Heard]
"""From the line, the frame of a request, its unit and its PDU to what the master hears."""


@dataclass
class Slaves:
    """A line with some units; each request is answered as the next of ``weathers`` says.

    :ivar said: the requests that came
    """

    units: Collection[int]
    ascii: bool = False
    weathers: list[Weather] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    dead: set[int] = field(default_factory=set)
    port: "Port | None" = None

    def frame(self, unit: int, pdu: bytes) -> bytes:
        return (in_ascii if self.ascii else rtu)(unit, pdu)

    def reply(self, unit: int, request: bytes) -> bytes:
        return self.frame(unit, answer(unit, request))

    def hear(self, data: bytes) -> None:
        """The master speaks."""
        loop = asyncio.get_running_loop()
        unit, pdu = (opened_ascii if self.ascii else opened_rtu)(data)
        self.said.append(Said(loop.time(), unit, pdu))
        weather = self.weathers.pop(0) if self.weathers else fine
        if unit not in self.units or unit in self.dead:
            return
        for delay_s, heard in weather(self, data, unit, pdu):
            loop.call_later(delay_s, self.speak, heard)

    def speak(self, data: bytes) -> None:
        """Let the master hear this, whoever has the port now."""
        if data and self.port is not None:
            self.port.protocol.data_received(data)

    def plug(self, wire) -> None:
        """Let a wire open this line instead of a port."""

        async def open_line():
            port = Port(self, wire)
            self.port = port
            wire.connection_made(port)
            return port, wire

        wire.call_create = open_line


class Port(asyncio.Transport):
    """The master's end."""

    def __init__(self, line: Slaves, protocol) -> None:
        super().__init__()
        self.line = line
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        self.line.hear(bytes(data))

    def close(self) -> None:
        if self.line.port is self:
            self.line.port = None

    def abort(self) -> None:
        self.close()

    def vanish(self) -> None:
        self.close()
        self.protocol.connection_lost(OSError(5, "Input/output error"))


def fine(line: Slaves, frame: bytes, unit: int, pdu: bytes) -> Heard:
    return [(LATENCY_S, line.reply(unit, pdu))]


def silent(*_) -> Heard:
    return []


def late(delay_s: float) -> Weather:
    return lambda line, frame, unit, pdu: [(delay_s, line.reply(unit, pdu))]


def twice(after_s: float) -> Weather:
    def weather(line, frame, unit, pdu):
        reply = line.reply(unit, pdu)
        return [(LATENCY_S, reply), (LATENCY_S + after_s, reply)]

    return weather


def corrupt(bit: int) -> Weather:
    def weather(line, frame, unit, pdu):
        reply = bytearray(line.reply(unit, pdu))
        reply[bit // 8 % len(reply)] ^= 1 << bit % 8
        return [(LATENCY_S, bytes(reply))]

    return weather


def truncated(length: int) -> Weather:
    return lambda line, frame, unit, pdu: [
        (LATENCY_S, line.reply(unit, pdu)[: length % len(line.reply(unit, pdu))])
    ]


def split(at: int, gap_s: float) -> Weather:
    def weather(line, frame, unit, pdu):
        reply = line.reply(unit, pdu)
        cut = at % len(reply)
        return [(LATENCY_S, reply[:cut]), (LATENCY_S + gap_s, reply[cut:])]

    return weather


def echoed(line: Slaves, frame: bytes, unit: int, pdu: bytes) -> Heard:
    return [(0.001, frame), (LATENCY_S, line.reply(unit, pdu))]


def echoed_alone(line: Slaves, frame: bytes, unit: int, pdu: bytes) -> Heard:
    return [(0.001, frame)]


def noise_before(noise: bytes) -> Weather:
    return lambda line, frame, unit, pdu: [(LATENCY_S, noise + line.reply(unit, pdu))]


def noise_behind(noise: bytes, after_s: float) -> Weather:
    return lambda line, frame, unit, pdu: [
        (LATENCY_S, line.reply(unit, pdu)),
        (LATENCY_S + after_s, noise),
    ]


def of_another_unit(other: int) -> Weather:
    """Another unit answers, or another master's request is answered."""
    return lambda line, frame, unit, pdu: [(LATENCY_S, line.reply(other, pdu))]


def foreign(other: int, request: bytes) -> Weather:
    """Another master talks on the line before the reply comes."""
    return lambda line, frame, unit, pdu: [
        (0.001, line.frame(other, request)),
        (0.002, line.reply(other, request)),
        (LATENCY_S, line.reply(unit, pdu)),
    ]


def refused(code: int, delay_s: float = LATENCY_S) -> Weather:
    return lambda line, frame, unit, pdu: [
        (delay_s, line.frame(unit, bytes([pdu[0] | 0x80, code])))
    ]


def dripping(gap_s: float) -> Weather:
    def weather(line, frame, unit, pdu):
        reply = line.reply(unit, pdu)
        return [(LATENCY_S + n * gap_s, reply[n : n + 1]) for n in range(len(reply))]

    return weather


def babbling(seconds: float) -> Weather:
    return lambda *_: [(n / 1000, b"\x55") for n in range(1, round(seconds * 1000))]

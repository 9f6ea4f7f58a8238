"""The line that judges our driver: everybody hears everybody, and each fault does what it says."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.system.serial_bus import BusFault, SerialBus, sealed

REQUEST = sealed(bytes.fromhex("11 03 0000 0002"))
REPLY = sealed(bytes.fromhex("11 03 04 0001 0002"))
QUIET_S = 0.05
WITHIN_S = 10.0


class End:
    """A port of the line, spoken and heard by hand."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def say(self, frame: bytes) -> None:
        os.write(self.fd, frame)

    def heard(self) -> bytes:
        """What has come since it was asked last."""
        try:
            return os.read(self.fd, 4096)
        except BlockingIOError:
            return b""

    async def hears(self, length: int) -> bytes:
        """What comes until it is so long."""
        heard = b""
        async with asyncio.timeout(WITHIN_S):
            while len(heard) < length:
                await asyncio.sleep(0.002)
                heard += self.heard()
        return heard


@asynccontextmanager
async def line(directory: Path, **faults: Any) -> AsyncIterator[tuple[SerialBus, End, End, End]]:
    async with SerialBus(directory, ("a", "b"), timeout_s=0.05, seed=1, **faults) as bus:
        ends = [End(bus.master), End(bus.slaves["a"]), End(bus.slaves["b"])]
        try:
            yield bus, *ends
        finally:
            for end in ends:
                os.close(end.fd)


async def test_everybody_hears_everybody_else(tmp_path: Path) -> None:
    async with line(tmp_path) as (bus, master, a, b):
        master.say(REQUEST)
        assert await a.hears(len(REQUEST)) == await b.hears(len(REQUEST)) == REQUEST
        a.say(REPLY)
        assert await master.hears(len(REPLY)) == await b.hears(len(REPLY)) == REPLY
        await asyncio.sleep(QUIET_S)
        assert master.heard() == a.heard() == b.heard() == b""
        assert (bus.requests, bus.struck.total()) == (1, 0)


async def replied(directory: Path, fault: BusFault, length: int) -> bytes:
    """What the master hears of a reply, at least so much."""
    async with line(directory, replies={fault: 1.0}) as (bus, master, a, b):
        a.say(REPLY)
        assert await b.hears(len(REPLY)) == REPLY, "the faults are the master's alone"
        heard = await master.hears(length)
        await asyncio.sleep(QUIET_S)
        assert bus.struck == {fault: 1}
        return heard + master.heard()


def whole(frame: bytes) -> bool:
    return sealed(frame[:-2]) == frame


async def test_what_faults_make_of_a_reply(tmp_path: Path) -> None:
    flipped = int.from_bytes(
        await replied(tmp_path, BusFault.CORRUPT, len(REPLY))
    ) ^ int.from_bytes(REPLY)
    assert 1 <= flipped.bit_count() <= 3
    short = await replied(tmp_path, BusFault.TRUNCATE, 1)
    assert REPLY.startswith(short)
    assert 0 < len(short) < len(REPLY)
    assert await replied(tmp_path, BusFault.DROP, 0) == b""
    assert await replied(tmp_path, BusFault.SPLIT, len(REPLY)) == REPLY
    assert await replied(tmp_path, BusFault.DUPLICATE, 2 * len(REPLY)) == REPLY * 2
    before = await replied(tmp_path, BusFault.EXTRA_BEFORE, len(REPLY) + 1)
    assert before.endswith(REPLY)
    assert len(before) > len(REPLY)
    after = await replied(tmp_path, BusFault.EXTRA_AFTER, len(REPLY) + 1)
    assert after.startswith(REPLY)
    assert len(after) > len(REPLY)
    stranger = await replied(tmp_path, BusFault.WRONG_UNIT, len(REPLY))
    assert whole(stranger)
    assert (stranger[0], stranger[1:-2]) != (REPLY[0], REPLY[1:-2])
    assert stranger[1:-2] == REPLY[1:-2]
    refusal = await replied(tmp_path, BusFault.EXCEPTION, 5)
    assert whole(refusal)
    assert (refusal[:2], len(refusal)) == (b"\x11\x83", 5)
    assert 1 <= refusal[2] <= 6


async def test_a_late_reply_comes_after_the_timeout(tmp_path: Path) -> None:
    begun_s = asyncio.get_running_loop().time()
    assert await replied(tmp_path, BusFault.LATE, len(REPLY)) == REPLY
    assert asyncio.get_running_loop().time() - begun_s > 1.05 * 0.05


async def test_an_echo_is_the_request_that_the_slaves_hear_too(tmp_path: Path) -> None:
    async with line(tmp_path, requests={BusFault.ECHO: 1.0}) as (_, master, a, b):
        master.say(REQUEST)
        for end in (master, a, b):
            assert await end.hears(len(REQUEST)) == REQUEST


async def test_faults_come_as_often_as_asked_and_end_when_healed(tmp_path: Path) -> None:
    async with line(tmp_path, replies={BusFault.DROP: 0.3}) as (bus, master, a, b):
        for _ in range(200):
            a.say(REPLY)
            await b.hears(len(REPLY))
        struck = bus.struck[BusFault.DROP]
        assert struck == pytest.approx(60, abs=30)
        master.heard()
        bus.heal()
        a.say(REPLY)
        assert await master.hears(len(REPLY)) == REPLY
        assert bus.struck[BusFault.DROP] == struck


async def test_a_pulled_plug_ends_the_port_and_a_new_one_has_the_same_name(tmp_path: Path) -> None:
    async with line(tmp_path) as (bus, master, a, _):
        bus.unplug()
        assert not bus.master.is_symlink()
        with pytest.raises(OSError, match="Input/output error"):
            master.say(REQUEST)
        a.say(REPLY)
        await asyncio.sleep(QUIET_S)
        bus.replug()
        again = End(bus.master)
        assert again.heard() == b"", "what came meanwhile is lost"
        again.say(REQUEST)
        assert await a.hears(len(REQUEST)) == REQUEST
        os.close(again.fd)

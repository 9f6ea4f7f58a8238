"""Reading a device that refuses: nothing that can be read is lost, nothing else is invented."""

import asyncio
import struct
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.codec import Limits, Point, Span, Table
from drivers.modbus.reader import CUTS_MAX, REFUSED_AGAIN_AFTER_NS, Reader, Unit
from edgeagent.model import quality
from edgeagent.model.errors import BadReply, LinkLost
from edgeagent.model.frame import DataType

REFUSED = quality.BAD_NODE_ID_UNKNOWN


class StepClock:
    """Every question moves the time on by one nanosecond."""

    boot_id = "boot"

    def __init__(self) -> None:
        self.now = 1_000

    def utc_ns(self) -> int:
        return self.boot_ns() + 10**18

    def boot_ns(self) -> int:
        self.now += 1
        return self.now


class Device:
    """Holding registers whose value is their address; some things go wrong with it.

    :ivar refuses: addresses that make it answer exception 2
    :ivar excuse: by first address of a request, an exception code or an error to raise
    """

    def __init__(self, refuses=(), excuse=None) -> None:
        self.refuses = set(refuses)
        self.excuse = dict(excuse or {})
        self.asked: list[tuple[int, int]] = []

    async def open(self) -> None: ...

    def close(self) -> None: ...

    def forget(self, unit: int) -> None: ...

    async def ask(self, unit: int, request: bytes) -> bytes:
        function, address, count = struct.unpack(">BHH", request)
        self.asked.append((address, count))
        excuse = self.excuse.get(address)
        if isinstance(excuse, Exception):
            raise excuse
        if excuse is not None:
            return bytes((function | 0x80, excuse))
        if self.refuses & set(range(address, address + count)):
            return bytes((function | 0x80, 2))
        return struct.pack(f">BB{count}H", function, 2 * count, *range(address, address + count))


def points(*addresses: int) -> list[Point]:
    return [Point(f"r{a}", Table.HOLDING, a, 1, DataType.UINT16) for a in addresses]


def reader(*addresses: int, limits=None, clock=None) -> Reader:
    return Reader(Unit(1), points(*addresses), limits or Limits(gap_max=3), clock or StepClock())


async def test_a_group_that_is_answered_is_one_request():
    device = Device()
    reading = await reader(2, 3, 5).read(device)
    assert reading.values == (2, 3, 5)
    assert (reading.present, reading.status) == (None, quality.GOOD)
    assert reading.raw.hex() == "0308" + "0002000300040005"
    assert device.asked == [(2, 4)]


async def test_one_refused_value_does_not_cost_its_neighbours():
    device = Device(refuses={5})
    once = reader(*range(10))

    reading = await once.read(device)

    assert reading.values == (0, 1, 2, 3, 4, None, 6, 7, 8, 9)
    assert reading.present == (0, 1, 2, 3, 4, 6, 7, 8, 9)
    assert reading.status == (0, 0, 0, 0, 0, REFUSED, 0, 0, 0, 0)


async def test_what_is_known_to_be_refused_is_not_asked_again():
    device = Device(refuses={5})
    learned = reader(*range(10))
    first = await learned.read(device)
    device.asked.clear()

    again = await learned.read(device)

    assert (again.values, again.present, again.status) == (
        first.values,
        first.present,
        first.status,
    )
    assert all(5 not in range(address, address + count) for address, count in device.asked)
    assert len(device.asked) == 3


async def test_a_refused_value_is_asked_again_after_a_while_and_returns():
    device, clock = Device(refuses={5}), StepClock()
    learned = reader(*range(10), clock=clock)
    await learned.read(device)
    device.refuses.clear()

    clock.now += REFUSED_AGAIN_AFTER_NS - 1_000
    assert (await learned.read(device)).values[5] is None
    clock.now += 1_000
    reading = await learned.read(device)

    assert reading.values == tuple(range(10))
    assert reading.status == quality.GOOD


async def test_a_value_that_is_still_refused_is_left_alone_for_as_long_again():
    device, clock = Device(refuses={5}), StepClock()
    learned = reader(*range(10), clock=clock)
    await learned.read(device)
    for _ in range(3):
        clock.now += REFUSED_AGAIN_AFTER_NS
        device.asked.clear()
        assert (await learned.read(device)).values[5] is None
        assert (5, 1) in device.asked
        device.asked.clear()
        await learned.read(device)
        assert (5, 1) not in device.asked


async def test_a_new_connection_asks_for_everything():
    device = Device(refuses={5})
    learned = reader(*range(10))
    await learned.read(device)
    device.asked.clear()
    learned.forget()
    await learned.read(device)
    assert device.asked[0] == (0, 10)


async def test_a_gap_that_is_refused_is_left_out_although_no_value_is():
    # Registers 1 and 2 lie between two tags and do not exist.
    device = Device(refuses={1, 2})
    learned = reader(0, 3)
    assert (await learned.read(device)).values == (0, 3)
    device.asked.clear()
    reading = await learned.read(device)
    assert (reading.values, reading.status) == ((0, 3), quality.GOOD)
    assert device.asked == [(0, 1), (3, 1)]


async def test_an_atomic_block_is_refused_as_a_whole():
    limits = Limits(gap_max=3, atomic=(Span(Table.HOLDING, 4, 4),))
    device = Device(refuses={6})
    once = reader(0, 4, 6, 9, limits=limits)

    reading = await once.read(device)

    assert reading.values == (0, None, None, 9)
    assert reading.status == (0, REFUSED, REFUSED, 0)
    assert device.asked == [(0, 1), (4, 4), (9, 1)]


async def test_bits_of_one_register_are_refused_together():
    bits = [Point(f"b{n}", Table.HOLDING, 5, 1, DataType.BOOL, bit=n) for n in (0, 2)]
    device = Device(refuses={5})
    once = Reader(Unit(1), [*points(4), *bits], Limits(), StepClock())
    reading = await once.read(device)
    assert reading.values == (4, None, None)
    assert device.asked == [(4, 2), (4, 1), (5, 1)]


async def test_a_group_that_is_refused_altogether_is_a_bad_reply():
    device = Device(refuses=range(100))
    once = reader(1, 2)
    for _ in range(2):
        with pytest.raises(BadReply) as caught:
            await once.read(device)
        assert caught.value.cause == "refused"
    # The second time nothing was sent: the device has said what it has to say.
    assert device.asked == [(1, 2), (1, 1), (2, 1)]


async def test_the_effort_of_one_read_is_bounded_and_the_next_goes_on():
    device = Device(refuses=range(0, 200, 2))
    addresses = range(100)
    learned = reader(*addresses)
    readings = []
    for _ in range(40):
        device.asked.clear()
        with suppress(BadReply):
            readings.append(await learned.read(device))
        assert len(device.asked) <= 100 + 2 * CUTS_MAX
    assert readings[-1].values == tuple(a if a % 2 else None for a in addresses)


@pytest.mark.parametrize("code", [4, 5, 6, 8])
async def test_a_passing_refusal_is_not_remembered(code):
    device = Device(excuse={20: code})
    learned = reader(0, 1, 20)

    reading = await learned.read(device)
    assert reading.values == (0, 1, None)
    assert quality.is_bad(reading.status[2])

    device.excuse.clear()
    assert (await learned.read(device)).values == (0, 1, 20)


async def test_a_unit_that_goes_silent_costs_one_timeout_and_keeps_what_came_before():
    device = Device(excuse={20: BadReply("timeout", "unit 1 did not answer")})
    clock = StepClock()
    once = reader(0, 20, 40, clock=clock)

    reading = await once.read(device)

    assert reading.values == (0, None, None)
    assert reading.status == (0, quality.BAD_TIMEOUT, quality.BAD_TIMEOUT)
    assert device.asked == [(0, 1), (20, 1)]
    # The stamp is that of the reply, not of the end of the wait.
    assert reading.received_boot_ns == 1_002


@pytest.mark.parametrize("code", [0x0A, 0x0B])
async def test_a_gateway_that_cannot_reach_the_unit_is_a_timeout(code):
    device = Device(excuse={0: code})
    with pytest.raises(BadReply) as caught:
        await reader(0, 20).read(device)
    assert caught.value.cause == "timeout"
    assert device.asked == [(0, 1)]


async def test_a_wrong_reply_costs_its_own_values_only():
    device = Device(excuse={20: BadReply("bad_reply", "unit 2 answered for unit 1")})
    reading = await reader(0, 20, 40).read(device)
    assert reading.values == (0, None, 40)
    assert reading.status[1] == quality.BAD_DECODING_ERROR


async def test_the_first_failure_names_the_cause_when_nothing_came():
    device = Device(excuse={0: 6, 20: BadReply("timeout", "silence")})
    with pytest.raises(BadReply) as caught:
        await reader(0, 20).read(device)
    assert caught.value.cause == "refused"
    assert "exception 0x06" in caught.value.detail


async def test_a_lost_link_is_passed_on():
    device = Device(excuse={20: LinkLost("gone")})
    with pytest.raises(LinkLost):
        await reader(0, 20).read(device)


async def test_one_stamp_when_the_last_reply_is_complete():
    clock = StepClock()
    reading = await reader(0, 20, clock=clock).read(Device())
    assert (reading.received_utc_ns, reading.received_boot_ns) == (10**18 + 1_003, 1_004)


async def test_a_device_gets_the_silence_that_it_needs():
    """Requests of different groups keep the distance too."""
    times = []

    class Timed(Device):
        async def ask(self, unit, request):
            times.append(asyncio.get_running_loop().time())
            return await super().ask(unit, request)

    unit = Unit(1, pause_ns=20_000_000)
    readers = [Reader(unit, points(0, 20), Limits(), StepClock()) for _ in range(2)]
    for each in readers:
        await each.read(Timed())
    assert all(after - before >= 0.019 for before, after in pairwise(times))
    assert len(times) == 4


async def test_a_thorough_read_tells_what_is_refused_however_much_it_is():
    addresses = range(100)
    device = Device(refuses=set(addresses) - {77})
    once = reader(*addresses)
    reading = await once.read_thoroughly(device)
    assert reading.present == (77,)
    device.refuses.add(77)
    assert set((await once.read_thoroughly(device)).values) == {None}


# ---- any device, any group


@given(
    addresses=st.sets(st.integers(0, 60), min_size=1, max_size=30),
    refuses=st.sets(st.integers(0, 60), max_size=20),
    gap=st.integers(0, 5),
    size=st.integers(1, 20),
)
async def test_in_the_end_exactly_the_refused_values_are_absent(addresses, refuses, gap, size):
    wanted = sorted(addresses)
    learned = reader(*wanted, limits=Limits(registers_max=size, gap_max=gap))
    device = Device(refuses)

    reading = None
    for _ in range(20):
        try:
            reading = await learned.read(device)
        except BadReply:
            reading = None

    expected = tuple(None if a in refuses else a for a in wanted)
    if set(expected) == {None}:
        assert reading is None
    else:
        assert reading.values == expected
        assert learned._plan.decode(reading.raw) == expected

"""On a line whose replies say nothing of their request, a value is only ever the register's own.

Method: a line in memory on virtual time, with units that hold a value of its own in each register.
"""

import asyncio
import struct
from random import Random

import looptime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.line import LineWire
from drivers.modbus.settings import ModbusLinkSettings
from drivers.modbus.wire import Station
from edgeagent.model.errors import BadReply, LinkLost
from tests.unit.drivers.modbus import slaves
from tests.unit.drivers.modbus.slaves import Slaves, answer

TIMEOUT_S = 0.1
SLOWEST_S = 3 * TIMEOUT_S
UNITS = (1, 2)


def read(address: int, count: int = 2, function: int = 3) -> bytes:
    return struct.pack(">BHH", function, address, count)


IDENTITY = (read(900, 4), read(910, 7))
STATIONS = {unit: Station(IDENTITY, (read(0, 5),)) for unit in UNITS}


def wire_on(line: Slaves, stations=STATIONS, **keys) -> LineWire:
    """A wire that opens the line in memory."""
    stated = {"framing": "ascii" if line.ascii else "rtu", "host": "memory", "timeout": "100 ms"}
    wire = LineWire(ModbusLinkSettings.model_validate(stated | keys), stations)
    line.plug(wire)
    return wire


async def opened(line: Slaves, identify=UNITS, stations=STATIONS, **keys) -> LineWire:
    """A wire that is open and in step."""
    wire = wire_on(line, stations, **keys)
    await wire.open()
    for unit in identify:
        for request in stations[unit].constant:
            await wire.ask(unit, request)
    line.said.clear()
    return wire


async def right(wire: LineWire, unit: int, request: bytes) -> bool:
    """Ask; return whether there was a value, which then must be the right one."""
    try:
        reply = await wire.ask(unit, request)
    except BadReply:
        return False
    if reply[0] & 0x80:
        return False
    assert reply == answer(unit, request), f"unit {unit}: {request.hex()} got {reply.hex()}"
    return True


@pytest.fixture(params=[False, True], ids=["rtu", "ascii"])
def line(request):
    return Slaves(UNITS, ascii=request.param)


def now_s() -> float:
    return asyncio.get_running_loop().time()


pytestmark = pytest.mark.looptime


# ---- a line that works


@pytest.mark.parametrize("function", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 125])
async def test_every_read_function_is_answered(line, function, count):
    wire = await opened(line)
    request = read(0x0300, count, function)
    assert await wire.ask(1, request) == answer(1, request)
    assert [said.pdu for said in line.said] == [request]


async def test_a_frame_of_the_specification():
    """The example of a request and its CRC in a Hamilton manual."""
    line = Slaves({1})
    sent = []
    wire = wire_on(line)
    await wire.open()
    wire._dirty = ""
    line.hear = sent.append
    with pytest.raises(BadReply):
        await wire.ask(1, read(0x0829, 10))
    assert sent[0].hex(" ") == "01 03 08 29 00 0a 16 65"


async def test_requests_are_parted_by_silence(line):
    wire = await opened(line, baud_rate=9600)
    silence_s = wire._settings.silence_s
    for n in range(5):
        await wire.ask(1 + n % 2, read(10 * n))
    moments = [said.at_s + slaves.LATENCY_S for said in line.said]
    for heard_s, said in zip(moments, line.said[1:], strict=False):
        assert said.at_s - heard_s >= silence_s - 1e-6


async def test_a_reply_in_pieces_is_one(line):
    wire = await opened(line)
    line.weathers = [slaves.dripping(0.002)]
    assert await right(wire, 1, read(10))


async def test_a_unit_that_needs_a_pause_gets_it_also_between_a_proof_and_the_request(line):
    stations = {unit: Station(IDENTITY, pause_s=0.05) for unit in UNITS}
    wire = await opened(line, stations=stations)
    line.weathers = [slaves.silent]
    assert not await right(wire, 1, read(10))
    assert await right(wire, 1, read(10))
    _, proof, again = line.said
    assert proof.pdu in IDENTITY
    assert again.at_s - proof.at_s >= 0.05


@pytest.mark.parametrize(("unit", "request_"), [(0, read(1)), (255, read(1)), (1, b"\x06\0\1\0\1")])
async def test_neither_a_broadcast_nor_a_write_is_ever_sent(line, unit, request_):
    wire = await opened(line)
    with pytest.raises(BadReply, match="not sent"):
        await wire.ask(unit, request_)
    assert line.said == []


# ---- a reply that is lost


@pytest.mark.parametrize("factor", [1.05, 1.5, 2.0, 2.5, 3.0])
async def test_a_late_reply_becomes_no_value(line, factor):
    wire = await opened(line)
    line.weathers = [slaves.late(factor * TIMEOUT_S)]
    assert not await right(wire, 1, read(100))
    assert await right(wire, 1, read(200))
    assert await right(wire, 1, read(300))


async def test_the_line_is_silent_until_the_slowest_reply_must_have_come_and_then_proves_itself(
    line,
):
    wire = await opened(line)
    line.weathers = [slaves.silent]
    assert not await right(wire, 1, read(100))
    assert await right(wire, 2, read(200))
    lost, proof, asked = line.said
    assert proof.at_s - lost.at_s >= SLOWEST_S - 1e-5
    assert (proof.unit, proof.pdu) == (2, IDENTITY[0])
    assert (asked.unit, asked.pdu) == (2, read(200))


async def test_the_proof_has_another_length_than_what_is_owed(line):
    """Also when proofs themselves are lost."""
    wire = await opened(line)
    line.weathers = [slaves.silent] * 2
    for _ in range(2):
        assert not await right(wire, 1, read(100, 4))
    assert await right(wire, 1, read(100, 4))
    shapes = [int.from_bytes(said.pdu[3:], "big") for said in line.said[:3]]
    assert shapes[0] == 4
    assert len(set(shapes)) == len(shapes)


async def test_a_unit_that_owes_a_reply_proves_itself_although_others_were_asked_since(line):
    wire = await opened(line)
    line.weathers = [slaves.silent]
    assert not await right(wire, 1, read(100))
    for _ in range(3):
        assert await right(wire, 2, read(200))
    line.said.clear()
    assert await right(wire, 1, read(300))
    assert [said.pdu for said in line.said] == [IDENTITY[0], read(300)]


async def test_a_cancelled_request_leaves_the_line_dirty(line):
    wire = await opened(line)
    line.weathers = [slaves.late(2.9 * TIMEOUT_S)]
    asking = asyncio.create_task(wire.ask(1, read(100)))
    await asyncio.sleep(0.02)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await right(wire, 1, read(200))
    cancelled, proof, _ = line.said
    assert proof.at_s - cancelled.at_s >= SLOWEST_S - 1e-5
    assert proof.pdu in IDENTITY


async def test_a_fresh_line_is_silent_first_for_somebody_may_have_asked_before(line):
    first = await opened(line)
    line.weathers = [slaves.late(2.9 * TIMEOUT_S)]
    asking = asyncio.create_task(first.ask(1, IDENTITY[0]))
    await asyncio.sleep(0.02)
    first.close()
    with pytest.raises(LinkLost):
        await asking
    second = wire_on(line)
    await second.open()
    assert await right(second, 1, read(100, 4))


async def test_ten_thousand_late_replies_become_no_value():
    """Every second reply is late, by any time up to the slowest; requests have three lengths."""
    random, values, line = Random(4711), 0, Slaves(UNITS)
    wire = await opened(line)

    def weather(of, frame, unit, pdu):
        delay_s = random.choice((slaves.LATENCY_S, random.uniform(1.001, 3.0) * TIMEOUT_S))
        late.append(delay_s > TIMEOUT_S)
        return [(delay_s, of.reply(unit, pdu))]

    late: list[bool] = []
    while sum(late) < 10_000:
        line.weathers = [weather]
        request = read(random.randrange(800), random.choice((1, 2, 4)))
        values += await right(wire, random.choice(UNITS), request)
    assert values > 1000


# ---- a reply that is wrong


WRONG = {
    "corrupt": slaves.corrupt(30),
    "truncated": slaves.truncated(6),
    "noise before": slaves.noise_before(b"\x00"),
    "noise behind": slaves.noise_behind(b"\xff", 0.001),
    "echo": slaves.echoed,
    "echo alone": slaves.echoed_alone,
    "another unit": slaves.of_another_unit(2),
    "another master": slaves.foreign(7, read(5)),
    "a slow drip": slaves.dripping(0.014),
    "babble": slaves.babbling(0.3),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_reply_is_no_value_and_soon_there_are_values_again(line, name):
    wire = await opened(line)
    line.weathers = [WRONG[name]]
    begun_s = now_s()
    assert not await right(wire, 1, read(100))
    assert await right(wire, 1, read(200))
    assert await right(wire, 2, read(100))
    assert now_s() - begun_s < 2 * SLOWEST_S


@pytest.mark.parametrize("weather", [slaves.dripping(0.03), slaves.babbling(10)])
async def test_neither_drip_nor_babble_prolongs_a_request(line, weather):
    wire = await opened(line)
    line.weathers = [weather]
    asking = asyncio.create_task(wire._exchange(1, read(100, 20)))
    begun_s = now_s()
    with pytest.raises(BadReply):
        await asking
    assert now_s() - begun_s <= TIMEOUT_S + 0.001


async def test_a_line_that_is_never_silent_is_lost(line):
    wire = await opened(line)
    line.weathers = [slaves.babbling(60)]
    with pytest.raises(LinkLost, match="never silent"):
        await wire.ask(1, read(100))
    assert now_s() < 10 * SLOWEST_S


async def test_an_echo_that_has_the_form_of_a_reply_is_no_value():
    """24 bits at 0x0300: the request, heard again, is unit, function, 3 bytes, CRC."""
    line = Slaves(UNITS)
    wire = await opened(line)
    line.weathers = [slaves.echoed_alone]
    with pytest.raises(BadReply, match="echo: true"):
        await wire.ask(1, read(0x0300, 24, 1))


async def test_an_adapter_that_echoes_is_understood_when_the_link_says_so(line):
    line.weathers = [slaves.echoed] * 100
    wire = await opened(line, echo=True)
    for n in range(10):
        assert await right(wire, 1, read(n))
    line.weathers = []
    with pytest.raises(BadReply, match="no echo"):
        await wire.ask(1, read(100))


async def test_a_second_copy_is_no_value_where_the_next_request_is_lost(line):
    wire = await opened(line)
    line.weathers = [slaves.twice(0.003), slaves.silent]
    assert await right(wire, 1, read(100))
    await right(wire, 1, read(200))


@pytest.mark.parametrize("after_s", [0.001, 0.003, 0.006, 0.02])
async def test_a_unit_that_answers_twice_gives_no_value_for_another_register(line, after_s):
    wire = await opened(line)
    for n in range(20):
        line.weathers = [slaves.twice(after_s)]
        await right(wire, 1, read(100 + n))
        await right(wire, 1, read(200 + n))


async def test_equal_replies_of_different_registers_are_values_when_the_unit_proves_it():
    line = Slaves(UNITS)
    line.reply = lambda unit, pdu: line.frame(unit, zeros(unit, pdu))

    def zeros(unit, pdu):
        return answer(unit, pdu) if pdu in IDENTITY else pdu[:1] + b"\x04" + bytes(4)

    wire = await opened(line)
    for n in range(5):
        assert await wire.ask(1, read(100 + 10 * n)) == b"\x03\x04" + bytes(4)


async def test_bytes_that_nobody_asked_for_cost_a_proof_and_no_value(line):
    wire = await opened(line)
    await asyncio.sleep(5)
    line.speak(b"\x00")
    await asyncio.sleep(1)
    assert await right(wire, 1, read(100))
    assert [said.pdu for said in line.said] == [IDENTITY[0], read(100)]


# ---- a proof that fails


async def test_a_unit_that_states_another_identity_is_not_the_one_that_was_asked(line):
    wire = await opened(line)
    line.weathers = [slaves.silent, lambda of, frame, unit, pdu: [(0.005, of.reply(2, pdu))]]
    line.frame, honest = lambda unit, pdu: honest(1, pdu), line.frame
    assert not await right(wire, 1, read(100))
    with pytest.raises(LinkLost, match="another identity"):
        await wire.ask(1, read(100))


async def test_a_unit_that_is_asked_anew_who_it_is_may_be_another_one(line):
    wire = await opened(line)
    line.weathers = [slaves.silent, lambda of, frame, unit, pdu: [(0.005, of.reply(2, pdu))]]
    line.frame, honest = lambda unit, pdu: honest(1, pdu), line.frame
    assert not await right(wire, 1, read(100))
    wire.forget(1)
    assert await right(wire, 1, read(100))


async def test_a_line_that_cannot_be_brought_in_step_is_lost(line):
    wire = await opened(line)
    line.weathers = [slaves.corrupt(30)] * 100
    for _ in range(3):
        assert not await right(wire, 1, read(100))
    with pytest.raises(LinkLost, match="in step"):
        await wire.ask(1, read(100))


async def test_a_dead_unit_does_not_lose_the_line(line):
    wire = await opened(line)
    line.dead = {1}
    for _ in range(20):
        assert not await right(wire, 1, read(100))
        assert await right(wire, 2, read(100))
    line.dead = set()
    assert await right(wire, 1, read(100))


async def test_a_refused_proof_is_none_and_another_one_is_taken(line):
    wire = await opened(line)
    line.weathers = [slaves.silent, slaves.refused(2)]
    assert not await right(wire, 1, read(100))
    with pytest.raises(BadReply) as caught:
        await wire.ask(1, read(100))
    assert caught.value.cause == "refused"
    assert await right(wire, 1, read(100))


async def test_a_unit_of_which_nothing_is_known_is_trusted_after_the_silence(line):
    wire = await opened(line, identify=(), stations={})
    line.weathers = [slaves.late(2.9 * TIMEOUT_S)]
    assert not await right(wire, 1, read(100))
    assert await right(wire, 1, read(200))


# ---- a port that vanishes


async def test_a_port_that_vanishes_ends_a_request_at_once_and_any_silence(line):
    for phase_s in (0.02, 0.2):
        wire = await opened(line)
        line.weathers = [slaves.silent]
        asking = asyncio.create_task(wire.ask(1, read(100)))
        await asyncio.sleep(phase_s)
        begun_s = now_s()
        line.port.vanish()
        with pytest.raises(LinkLost, match="Input/output error"):
            await asking
        assert now_s() == begun_s
        with pytest.raises(LinkLost):
            await wire.ask(2, read(100))


# ---- any line, any day


gaps_s = st.sampled_from([0.0005, 0.001, 0.003, 0.006, 0.02, 0.08])
noises = st.binary(min_size=1, max_size=12)
reads = st.builds(
    read, st.sampled_from([0, 1, 100, 0x0300]), st.sampled_from([1, 2, 4, 24]), st.integers(1, 4)
)
weathers = st.one_of(
    st.just(slaves.fine),
    st.just(slaves.silent),
    st.builds(slaves.late, st.floats(1.001, 3.0).map(lambda x: x * TIMEOUT_S)),
    st.builds(slaves.twice, gaps_s),
    st.builds(slaves.corrupt, st.integers(0, 500)),
    st.builds(slaves.truncated, st.integers(0, 60)),
    st.builds(slaves.split, st.integers(1, 60), gaps_s),
    st.just(slaves.echoed),
    st.just(slaves.echoed_alone),
    st.builds(slaves.noise_before, noises),
    st.builds(slaves.noise_behind, noises, gaps_s),
    st.builds(slaves.of_another_unit, st.integers(1, 3)),
    st.builds(slaves.foreign, st.integers(1, 3), reads),
    st.builds(slaves.refused, st.integers(1, 11), st.sampled_from([0.005, 0.15, 0.29])),
)
steps = st.tuples(
    st.sampled_from(UNITS),
    reads,
    st.lists(weathers, max_size=4),
    st.none() | st.floats(0, 0.5),
)


@given(framing=st.booleans(), day=st.lists(steps, min_size=1, max_size=12))
def test_whatever_happens_on_the_line_a_value_is_the_register_s_own(framing, day):
    """Any faults in any order; requests may be cancelled, lines lost and opened again."""

    async def live() -> None:
        line = Slaves(UNITS, ascii=framing)
        wire = wire_on(line)
        await wire.open()
        for unit, request, weather, cancelled_after_s in day:
            line.weathers = list(weather)
            try:
                async with asyncio.timeout(cancelled_after_s):
                    await right(wire, unit, request)
            except TimeoutError:
                continue
            except LinkLost:
                wire.close()
                wire = wire_on(line)
                await wire.open()
        line.weathers = []
        await asyncio.sleep(SLOWEST_S)
        for _ in range(4):  # all is well again, and stays so
            try:
                good = [await right(wire, unit, read(5)) for unit in UNITS]
            except LinkLost:
                wire.close()
                wire = wire_on(line)
                await wire.open()
                good = []
        assert good == [True, True]
        assert {said.pdu[0] for said in line.said} <= {1, 2, 3, 4}, "reads only"
        assert {said.unit for said in line.said} <= set(UNITS), "never a broadcast"
        wire.close()

    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(live())

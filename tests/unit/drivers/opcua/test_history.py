"""History of a server comes once, whole and in order, however little it gives at a time.

Method: a server in memory that keeps what hypothesis invents answers real HistoryRead requests with
real bytes, in any of the ways that servers have; pieces are asked for until the end.
"""

import asyncio
import datetime
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from unittest import mock

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.opcua import historian as historian_module
from drivers.opcua.address import NodeId
from drivers.opcua.frames import BAD_TYPE_MISMATCH, Point
from drivers.opcua.historian import VALUES_MAX, Historian
from drivers.opcua.history import decode_history, request
from drivers.opcua.measure import Malformed
from drivers.opcua.nodes import Server
from drivers.opcua.stack import Refused, decode_variant
from drivers.opcua.values import converter
from edgeagent.driver import BadReply, LinkLost
from edgeagent.model.frame import Origin
from tests.clocks import ManualClock
from tests.conformance.opcua.server import profile
from tests.fakes import group_of

T0 = 1_795_403_350_000_000_000
MS = 10**6
PERIOD = 100 * MS
GROUP = group_of("a", tags=3, period_ns=PERIOD)
CODES = ua.StatusCodes


def moment(at_ns: int) -> datetime.datetime:
    return ua.uatypes.FILETIME_EPOCH_AS_UTC_DATETIME + datetime.timedelta(
        microseconds=(at_ns + 11_644_473_600 * 10**9) // 1000
    )


def ns(at: datetime.datetime) -> int:
    return (
        (at - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))
        // datetime.timedelta(microseconds=1)
        * 1000
    )


@dataclass
class Memory:
    """A server that keeps history.

    :ivar kept: of each node: time and value, in the order of time
    :ivar places: whether it has continuation points; else it says nothing where it cut
    :ivar places_max: how many it has at once
    :ivar at_most: values in one answer, however many were asked for
    :ivar nodes_max: nodes in one request
    :ivar hesitates: answers first with nothing but a continuation point
    :ivar states: status codes of nodes that do not answer
    :ivar trouble: raised by the next requests, one after the other
    """

    kept: dict[int, list[tuple[int, float]]]
    places: bool = True
    places_max: int = 100
    at_most: int = 10_000
    nodes_max: int = 100
    hesitates: bool = False
    states: dict[int, int] = field(default_factory=dict)
    trouble: list[Exception] = field(default_factory=list)
    unreadable: frozenset[int] = frozenset()
    held: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    asked: list[tuple[int, int]] = field(default_factory=list)
    lost: str | None = None

    async def ask(self, request, response, timeout_s=0):
        """Answer a ReadRequest of UserAccessLevel."""
        levels = [
            1 if item.NodeId.Identifier in self.unreadable else 5
            for item in request.Parameters.NodesToRead
        ]
        return SimpleNamespace(Results=[SimpleNamespace(Value=ua.Variant(x)) for x in levels])

    def send(self, request):
        assert request.Parameters.ReleaseContinuationPoints
        for item in request.Parameters.NodesToRead:
            del self.held[item.ContinuationPoint]
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def ask_bytes(self, request, timeout_s):
        asked = request.Parameters
        assert not asked.HistoryReadDetails.ReturnBounds
        self.asked.append((len(asked.NodesToRead), asked.HistoryReadDetails.NumValuesPerNode))
        if self.trouble:
            raise self.trouble.pop(0)
        if len(asked.NodesToRead) > self.nodes_max:
            raise Refused(CODES.BadTooManyOperations)
        struct_to_binary(request)  # it can be sent
        response = ua.HistoryReadResponse()
        response.Results = [self._read(asked.HistoryReadDetails, x) for x in asked.NodesToRead]
        return struct_to_binary(response)

    def _read(self, details, item) -> ua.HistoryReadResult:
        result = ua.HistoryReadResult()
        number = item.NodeId.Identifier
        if number in self.states:
            result.StatusCode = ua.StatusCode(self.states[number])
            return result
        start, end = ns(details.StartTime), ns(details.EndTime)
        values = [row for row in self.kept[number] if start <= row[0] <= end]
        begin, hesitates = 0, self.hesitates
        if item.ContinuationPoint:
            begin, hesitates = self.held.pop(item.ContinuationPoint)[1], False
        count = 0 if hesitates else min(details.NumValuesPerNode, self.at_most)
        part = values[begin : begin + count]
        if begin + count < len(values) and self.places:
            if len(self.held) >= self.places_max:
                result.StatusCode = ua.StatusCode(CODES.BadNoContinuationPoints)
                return result
            result.ContinuationPoint = f"{number} {begin + count}".encode()
            self.held[result.ContinuationPoint] = (number, begin + count)
        data = ua.HistoryData()
        data.DataValues = [
            ua.DataValue(ua.Variant(value), SourceTimestamp=moment(at)) for at, value in part
        ]
        result.HistoryData = data
        if not values:
            result.StatusCode = ua.StatusCode(CODES.GoodNoData)
        return result


def points() -> list[Point]:
    tag = profile({"x": {"type": "FLOAT64", "s": "x"}}).groups["all"].tags["x"]
    return [Point(i + 1, f"{GROUP}/t{i}", GROUP, i, 11, converter(tag)) for i in range(3)]


async def known(memory: Memory) -> Historian:
    """Return what has asked this server which tags it remembers."""
    made = Historian("opc.tcp://a:1", ManualClock(), decode_variant)
    places = {
        point: SimpleNamespace(start=None, address=NodeId("urn:a", "i", point.index))
        for point in points()
    }
    server = Server({"urn:a": 0}, {"read": 10, "history": memory.nodes_max, "translate": 1})
    await made.look(memory, server, places)
    return made


async def everything(memory: Memory, after: int, before: int) -> tuple[list, Historian]:
    """Return all frames between two times, asked for piece by piece as back-fill does."""
    made = await known(memory)
    frames: list = []
    reached = after
    for _ in range(1000):
        piece = await made.history(memory, GROUP, reached, before)
        assert piece.upto_utc_ns > reached, "each piece gets further"
        assert not memory.held, "what was held is given back"
        frames += piece.frames
        reached = piece.upto_utc_ns
        if reached >= before:
            return frames, made
    raise AssertionError("it does not end")


def of(tag: int, frames) -> list[tuple[int, float]]:
    """Return time and value of each value of a tag."""
    found = []
    for frame in frames:
        if frame.present is None or tag in frame.present:
            times = frame.source_utc_ns
            found.append((times if isinstance(times, int) else times[tag], frame.values[tag]))
    return found


def inside(rows, after, before):
    return [row for row in rows if after < row[0] < before]


# Times of 50 ms and of 1 µs: together, apart, and several values at one time.
TIMES = st.lists(
    st.integers(0, 30).map(lambda x: x * 50 * MS) | st.integers(0, 9).map(lambda x: x * 1000),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(
    times=st.lists(TIMES, min_size=3, max_size=3),
    bounds=st.tuples(st.integers(-1, 31), st.integers(-1, 31)),
    at_once=st.integers(1, 7),
    memory=st.fixed_dictionaries(
        {
            "places": st.just(True),
            "places_max": st.integers(1, 4),
            "nodes_max": st.integers(1, 3),
            "at_most": st.integers(1, 9),
            "hesitates": st.booleans(),
        }
    )
    | st.fixed_dictionaries({"places": st.just(False), "nodes_max": st.integers(1, 3)}),
)
def test_any_split_into_pieces_gives_each_value_once_and_in_order(times, bounds, at_once, memory):
    kept = {
        tag: [(T0 + at, 100.0 * tag + place) for place, at in enumerate(sorted(times[tag]))]
        for tag in range(3)
    }
    after, before = (T0 + x * 50 * MS for x in sorted(bounds))
    before += 1000
    with mock.patch.object(historian_module, "VALUES_PER_NODE_MAX", at_once):
        frames, _ = asyncio.run(everything(Memory(kept, **memory), after, before))
    for tag in range(3):
        assert of(tag, frames) == inside(kept[tag], after, before)
    assert all(frame.origin is Origin.BACKFILL for frame in frames)


async def test_what_the_server_samples_together_is_one_frame_as_it_is_live():
    at = [T0 + k * PERIOD for k in range(3)]
    kept = {tag: [(t + tag * MS, tag + k / 10) for k, t in enumerate(at)] for tag in range(3)}
    frames, _ = await everything(Memory(kept), T0 - 1, T0 + 10 * PERIOD)
    assert [frame.values for frame in frames] == [
        (k / 10, 1 + k / 10, 2 + k / 10) for k in range(3)
    ]
    assert [frame.source_utc_ns for frame in frames] == [
        (t, t + MS, t + 2 * MS) for t in at
    ]  # fmt: skip


def rising(count: int) -> dict[int, list[tuple[int, float]]]:
    return {tag: [(T0 + k * PERIOD, float(k)) for k in range(count)] for tag in range(3)}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the causes that the log was told."""
    causes: list[str] = []
    log = SimpleNamespace(warning=lambda _, **facts: causes.append(facts["cause"]))
    monkeypatch.setattr(historian_module, "log", log)
    return causes


async def test_a_tag_without_history_is_left_out_and_told_once(told):
    memory = Memory(rising(20), unreadable=frozenset({0}))
    memory.states[1] = CODES.BadHistoryOperationUnsupported
    frames, made = await everything(memory, T0, T0 + 100 * PERIOD)
    assert [of(tag, frames) for tag in (0, 1)] == [[], []]
    assert len(of(2, frames)) == 19
    await made.history(memory, GROUP, T0, T0 + 100 * PERIOD)
    assert sum("BadHistoryOperationUnsupported" in cause for cause in told) == 1


async def test_values_of_another_type_are_left_out_and_told_once(told):
    """As when the server's history is older than its present model."""
    kept = rising(10) | {1: [(T0 + k * PERIOD, "old") for k in range(10)]}
    frames, _ = await everything(Memory(kept, at_most=4), T0, T0 + 100 * PERIOD)
    assert [len(of(tag, frames)) for tag in range(3)] == [9, 0, 9]
    assert all(frame.status == (0, BAD_TYPE_MISMATCH, 0) for frame in frames)
    assert sum("the profile declares FLOAT64" in cause for cause in told) == 1


async def test_a_history_without_source_times_is_none(told):
    memory = Memory(rising(10))
    with mock.patch(f"{__name__}.moment", return_value=None):
        made = await known(memory)
        with pytest.raises(BadReply, match="gives no history"):
            await made.history(memory, GROUP, T0, T0 + PERIOD)
    assert any("no source times" in cause for cause in told)


async def test_a_group_of_which_nothing_is_remembered_is_no_answer():
    memory = Memory(rising(3), states=dict.fromkeys(range(3), CODES.BadServiceUnsupported))
    made = await known(memory)
    assert made.remembers(GROUP)
    with pytest.raises(BadReply, match="gives no history of a/all"):
        await made.history(memory, GROUP, T0, T0 + PERIOD)
    assert not made.remembers(GROUP)


@pytest.mark.parametrize("status", ["BadTimeout", "BadUserAccessDenied", "BadNoContinuationPoints"])
async def test_a_node_that_does_not_answer_now_is_asked_again_not_passed_over(status):
    memory = Memory(rising(3), states={1: getattr(CODES, status)})
    made = await known(memory)
    with pytest.raises(BadReply, match=f"t1: {status}"):
        await made.history(memory, GROUP, T0, T0 + 100 * PERIOD)
    memory.states.clear()
    piece = await made.history(memory, GROUP, T0, T0 + 100 * PERIOD)
    assert len(of(1, piece.frames)) == 2


@pytest.mark.parametrize("status", ["GoodNoData", "BadNoData"])
async def test_nothing_there_is_an_answer(status):
    memory = Memory(rising(3), states=dict.fromkeys(range(3), getattr(CODES, status)))
    piece = await (await known(memory)).history(memory, GROUP, T0, T0 + PERIOD)
    assert (piece.frames, piece.upto_utc_ns) == ((), T0 + PERIOD)


async def test_an_answer_that_takes_too_long_or_is_too_large_is_asked_for_less():
    memory = Memory(rising(5000))
    made = await known(memory)
    memory.trouble = [LinkLost("no answer to HistoryReadRequest within 30 s")]
    with pytest.raises(BadReply, match="no history within 30 s"):
        await made.history(memory, GROUP, T0, T0 + 9000 * PERIOD)
    memory.trouble = [Refused(CODES.BadResponseTooLarge)]
    with pytest.raises(BadReply, match="BadResponseTooLarge"):
        await made.history(memory, GROUP, T0, T0 + 9000 * PERIOD)
    await made.history(memory, GROUP, T0, T0 + 9000 * PERIOD)
    await made.history(memory, GROUP, T0, T0 + 9000 * PERIOD)
    assert [count for _, count in memory.asked] == [1000, 100, 10, 20]
    assert made._values_max <= VALUES_MAX


async def test_history_that_costs_the_link_rests_longer_each_time():
    memory = Memory(rising(5))
    made = await known(memory)
    for rest_s in (4, 16):
        memory.lost, memory.trouble = "reset", [LinkLost("reset")]
        with pytest.raises(LinkLost):
            await made.history(memory, GROUP, T0, T0 + 9 * PERIOD)
        memory.lost = None
        with pytest.raises(BadReply, match=f"asked again in {rest_s} s"):
            await made.history(memory, GROUP, T0, T0 + 9 * PERIOD)
        made._clock.advance(rest_s * 10**9)
    await made.history(memory, GROUP, T0, T0 + 9 * PERIOD)
    assert [count for _, count in memory.asked] == [1000, 100, 10]


async def test_a_loss_that_is_noticed_elsewhere_first_counts_as_well():
    """A server that does one thing at a time looks dead while it searches its history."""
    memory = Memory(rising(5))
    made = await known(memory)

    async def silent(request, timeout_s):
        await asyncio.Event().wait()

    with mock.patch.object(memory, "ask_bytes", silent):
        asking = asyncio.create_task(made.history(memory, GROUP, T0, T0 + PERIOD))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    with pytest.raises(BadReply, match="asked again in 4 s"):
        await made.history(memory, GROUP, T0, T0 + PERIOD)


async def test_a_session_that_ended_is_a_lost_link():
    memory = Memory(rising(5), trouble=[Refused(CODES.BadSessionIdInvalid)])
    with pytest.raises(LinkLost, match="BadSessionIdInvalid"):
        await (await known(memory)).history(memory, GROUP, T0, T0 + PERIOD)


@pytest.mark.parametrize("after", [-(2**63) * 100, -11_644_473_600 * 10**9])
def test_an_interval_from_no_time_at_all_is_still_asked_for_from_its_beginning(after):
    """A start that is not stated (the beginning of 1601) would mean: the newest first."""
    details = request([], after, 2**63 * 100, 1).Parameters.HistoryReadDetails
    assert 0 < ua.datetime_to_win_epoch(details.StartTime) < 10**8
    assert ua.datetime_to_win_epoch(details.EndTime) == 2**63 - 1


def test_no_mutation_of_an_answer_does_more_than_refuse_it():
    memory = Memory(rising(40))
    details = ua.ReadRawModifiedDetails(
        IsReadModified=False, StartTime=moment(T0), EndTime=moment(T0 + 100 * PERIOD),
        NumValuesPerNode=30, ReturnBounds=False,
    )  # fmt: skip
    result = memory._read(details, ua.HistoryReadValueId(NodeId=ua.NodeId(1)))
    body = struct_to_binary(ua.HistoryReadResponse(Results=[result]))
    assert len(decode_history(body, decode_variant)[1][0].values) == 30
    random = Random(13)
    for _ in range(5000):
        mutated = bytearray(body)
        for _ in range(random.randrange(1, 4)):
            mutated[random.randrange(len(mutated))] = random.randrange(256)
        cut = bytes(mutated[: random.choice((len(mutated), random.randrange(len(mutated))))])
        try:
            decode_history(cut, decode_variant)
        except Malformed:
            continue

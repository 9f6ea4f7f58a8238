"""The codec reads what a slow, separately written reference has written.

The reference puts each value into 16-bit registers the way the vendors describe it, register by
register. Nothing of the codec is used for that.
"""

import math
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus import codec
from drivers.modbus.codec import Block, ByteOrder, Limits, Point, Span, Table, plan, plan_of
from edgeagent.model import quality
from edgeagent.model.frame import UNSCALED, DataType, Scale

WIDTH = {  # registers, struct format of the big-endian value
    DataType.INT16: (1, ">h"),
    DataType.UINT16: (1, ">H"),
    DataType.INT32: (2, ">i"),
    DataType.UINT32: (2, ">I"),
    DataType.FLOAT32: (2, ">f"),
    DataType.INT64: (4, ">q"),
    DataType.UINT64: (4, ">Q"),
    DataType.FLOAT64: (4, ">d"),
}
REGISTER_TABLES = (Table.HOLDING, Table.INPUT)
BIT_TABLES = (Table.COIL, Table.DISCRETE_INPUT)


# ---- the reference: a device's memory, written by hand


class Memory:
    """What a device holds: 16-bit registers and bits by table and address."""

    def __init__(self, filler: int = 0xA5C3) -> None:
        self.cells: dict[tuple[Table, int], int] = {}
        self.filler = filler

    def reply(self, request: bytes) -> bytes:
        function, address, count = struct.unpack(">BHH", request)
        table = {1: Table.COIL, 2: Table.DISCRETE_INPUT, 3: Table.HOLDING, 4: Table.INPUT}[function]
        cells = [
            self.cells.get((table, address + n), self.filler if table in REGISTER_TABLES else 1)
            for n in range(count)
        ]
        if table in REGISTER_TABLES:
            data = b"".join(bytes((cell >> 8, cell & 0xFF)) for cell in cells)
        else:
            rows = [cells[n : n + 8] for n in range(0, count, 8)]
            data = bytes(sum(bit << n for n, bit in enumerate(row)) for row in rows)
        return bytes((function, len(data))) + data

    def write(self, point: Point, value) -> None:
        key = (point.table, point.address)
        if point.table in BIT_TABLES:
            self.cells[key] = int(value)
        elif point.type is DataType.BOOL:
            self._merge(
                key,
                self._in_order(1 << point.bit, point),
                self._in_order(value << point.bit, point),
            )
        elif point.type in (DataType.INT8, DataType.UINT8):
            shift = 8 if point.high_byte else 0
            byte = value & 0xFF
            self._merge(
                key, self._in_order(0xFF << shift, point), self._in_order(byte << shift, point)
            )
        elif point.type is DataType.STRING:
            raw = value.encode().ljust(2 * point.count, b"\0")
            for n in range(point.count):
                first, second = raw[2 * n], raw[2 * n + 1]
                self.cells[point.table, point.address + n] = self._in_order(
                    first << 8 | second, point
                )
        else:
            raw = struct.pack(WIDTH[point.type][1], value)
            words = [raw[n] << 8 | raw[n + 1] for n in range(0, len(raw), 2)]
            if point.order in (ByteOrder.CDAB, ByteOrder.DCBA):
                words = words[::-1]
            for n, word in enumerate(words):
                self.cells[point.table, point.address + n] = self._in_order(word, point)

    def _merge(self, key, mask, bits) -> None:
        self.cells[key] = self.cells.get(key, self.filler) & ~mask & 0xFFFF | bits

    @staticmethod
    def _in_order(word: int, point: Point) -> int:
        if point.order in (ByteOrder.BADC, ByteOrder.DCBA):
            return (word & 0xFF) << 8 | word >> 8
        return word


def read(planned: codec.Plan, memory: Memory):
    """Play the device for a plan; return the decoded values."""
    replies = [memory.reply(block.request) for block in planned.blocks]
    for block, reply in zip(planned.blocks, replies, strict=True):
        assert reply.startswith(block.head)
        assert len(reply) == block.reply_bytes
    return planned.decode(b"".join(replies))


def same(got, want) -> bool:
    """Equal in value and type; NaN equals NaN."""
    if isinstance(want, float) and math.isnan(want):
        return isinstance(got, float) and math.isnan(got)
    return type(got) is type(want) and got == want


# ---- layouts at random


ANY_ORDER = st.sampled_from(ByteOrder)


@st.composite
def register_points(draw, order=ANY_ORDER):
    """Points without overlap, with gaps, in any order, some of them bits or half registers."""
    points: list[tuple[Point, object]] = []
    ends = dict.fromkeys(Table, draw(st.integers(0, 3)))
    for index in range(draw(st.integers(1, 25))):
        table = draw(st.sampled_from((*REGISTER_TABLES, Table.HOLDING, Table.COIL)))
        address = ends[table] + draw(st.integers(0, 4))
        name = f"p{index}"
        if table is Table.COIL:
            points.append((Point(name, table, address, 1, DataType.BOOL), draw(st.booleans())))
            ends[table] = address + 1
            continue
        kind = draw(st.sampled_from(DataType))
        byte_order = draw(order)
        count, made = draw(values_at(name, table, address, kind, byte_order))
        points += made
        ends[table] = address + count
    return draw(st.permutations(points))


@st.composite
def values_at(draw, name, table, address, kind, order):
    base = Point(name, table, address, 1, kind, order)
    if kind is DataType.BOOL:
        bits = draw(st.sets(st.integers(0, 15), min_size=1, max_size=4))
        return 1, [
            (replace(base, name=f"{name}.{bit}", bit=bit), draw(st.booleans())) for bit in bits
        ]
    if kind in (DataType.INT8, DataType.UINT8):
        low, high = (-128, 127) if kind is DataType.INT8 else (0, 255)
        halves = draw(st.sampled_from(((True,), (False,), (True, False))))
        return 1, [
            (replace(base, name=f"{name}.{half}", high_byte=half), draw(st.integers(low, high)))
            for half in halves
        ]
    if kind is DataType.STRING:
        count = draw(st.integers(1, 6))
        letters = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=2 * count)
        return count, [(replace(base, count=count), draw(letters))]
    count, _ = WIDTH[kind]
    if kind in (DataType.FLOAT32, DataType.FLOAT64):
        value = draw(st.floats(width=32 if kind is DataType.FLOAT32 else 64))
    else:
        bits = 16 * count
        signed = kind in (DataType.INT16, DataType.INT32, DataType.INT64)
        low = -(1 << bits - 1) if signed else 0
        value = draw(st.integers(low, low + (1 << bits) - 1))
    return count, [(replace(base, count=count), value)]


LIMITS = st.builds(Limits, registers_max=st.integers(6, 125), gap_max=st.integers(0, 5))


@given(layout=register_points(), limits=LIMITS)
def test_every_type_and_byte_order_is_read_as_it_was_written(layout, limits):
    memory = Memory()
    points = [point for point, _ in layout]
    for point, value in layout:
        memory.write(point, value)

    values = read(plan(points, limits), memory)

    assert len(values) == len(points)
    for point, got, (_, want) in zip(points, values, layout, strict=True):
        assert same(got, want), point


@given(layout=register_points(st.just(ByteOrder.ABCD)), limits=LIMITS, data=st.data())
def test_values_of_blocks_that_are_left_out_are_absent_and_the_others_unchanged(
    layout, limits, data
):
    memory = Memory()
    points = [point for point, _ in layout]
    for point, value in layout:
        memory.write(point, value)
    whole = plan(points, limits)
    left_out = data.draw(st.sets(st.sampled_from(whole.blocks), min_size=1))
    absent = {i: quality.BAD_NODE_ID_UNKNOWN for block in left_out for i in block.points}

    part = plan_of(points, [b for b in whole.blocks if b not in left_out], absent)

    assert part.present == tuple(i for i in range(len(points)) if i not in absent)
    for index, got in enumerate(read(part, memory)):
        if index in absent:
            assert got is None
            assert part.status[index] == quality.BAD_NODE_ID_UNKNOWN
        else:
            assert same(got, layout[index][1])
            assert part.status[index] == quality.GOOD


# ---- planning


@st.composite
def spans(draw):
    """A few ranges of holding registers that do not touch each other."""
    found, end = [], 0
    for _ in range(draw(st.integers(0, 3))):
        address = end + draw(st.integers(1, 20))
        count = draw(st.integers(1, 8))
        found.append(Span(Table.HOLDING, address, count))
        end = address + count
    return found


@st.composite
def constrained(draw):
    """Points that respect the atomic blocks and holes they are drawn with."""
    ranges = draw(spans())
    split = draw(st.integers(0, len(ranges)))
    atomic, holes = tuple(ranges[:split]), tuple(ranges[split:])
    limits = Limits(draw(st.integers(8, 125)), draw(st.integers(0, 10)), atomic, holes)
    layout = draw(register_points())
    points = []
    for point, _ in layout:
        within = [s for s in ranges if s.touches(point.table, point.address, point.end)]
        if not within or any(s.holds(point.table, point.address, point.end) for s in atomic):
            points.append(point)
    return points, limits


@given(constrained())
def test_a_plan_keeps_to_the_limits(case):
    points, limits = case
    blocks = plan(points, limits).blocks

    assert sorted(i for block in blocks for i in block.points) == list(range(len(points)))
    for block in blocks:
        end = block.address + block.count
        assert block.request[0] in (1, 2, 3, 4)
        assert block.count <= limits.addresses_max(block.table)
        assert not any(hole.touches(block.table, block.address, end) for hole in limits.holes)
        touched = [s for s in limits.atomic if s.touches(block.table, block.address, end)]
        if block.atomic:
            assert touched == [Span(block.table, block.address, block.count)]
        else:
            assert not touched
            assert gaps(block, points) <= limits.gap_max
        for index in block.points:
            point = points[index]
            assert Span(block.table, block.address, block.count).holds(
                point.table, point.address, point.end
            )


def gaps(block: Block, points) -> int:
    """The largest run of registers in a block that no point wants."""
    wanted = {a for i in block.points for a in range(points[i].address, points[i].end)}
    longest = run = 0
    for address in range(block.address, block.address + block.count):
        run = 0 if address in wanted else run + 1
        longest = max(longest, run)
    return longest


@given(register_points(), LIMITS)
def test_halves_part_a_block_between_values(layout, limits):
    points = [point for point, _ in layout]
    for block in plan(points, limits).blocks:
        halves = block.halves(points)
        if halves is None:
            # Only what stands in one register cannot be parted.
            assert len({points[i].address for i in block.points}) == 1
            continue
        lower, upper = halves
        assert lower.points + upper.points == block.points
        assert lower.points
        assert upper.points
        assert lower.address + lower.count <= upper.address


def uint16s(*addresses: int) -> list[Point]:
    return [Point(f"r{a}", Table.HOLDING, a, 1, DataType.UINT16) for a in addresses]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), ["holding 0 x 2", "holding 4 x 1", "holding 6 x 1"]),
        (Limits(gap_max=1), ["holding 0 x 2", "holding 4 x 3"]),
        (Limits(gap_max=2), ["holding 0 x 7"]),
        (Limits(gap_max=2, registers_max=5), ["holding 0 x 5", "holding 6 x 1"]),
        (
            Limits(gap_max=9, holes=(Span(Table.HOLDING, 3, 1),)),
            ["holding 0 x 2", "holding 4 x 3"],
        ),
        (
            Limits(gap_max=9, atomic=(Span(Table.HOLDING, 4, 2),)),
            ["holding 0 x 2", "holding 4 x 2", "holding 6 x 1"],
        ),
        (Limits(gap_max=9, holes=(Span(Table.INPUT, 3, 1),)), ["holding 0 x 7"]),
    ],
)
def test_what_a_limit_does_to_a_plan(limits, expected):
    blocks = plan(uint16s(0, 1, 4, 6), limits).blocks
    assert [str(block) for block in blocks] == expected


def test_a_read_of_bits_may_be_as_long_as_a_read_of_registers_in_bytes():
    points = [Point(f"b{a}", Table.COIL, a, 1, DataType.BOOL) for a in range(3000)]
    assert [b.count for b in plan(points, Limits()).blocks] == [2000, 1000]
    assert [b.count for b in plan(points[:40], Limits(registers_max=2)).blocks] == [32, 8]


# ---- the cheap way is taken


def test_a_plain_group_is_one_call_of_struct():
    # Nothing in Python stands between the reply and its values.
    planned = plan(uint16s(0, 1, 5), Limits(gap_max=10))
    assert type(planned.decode.__self__) is struct.Struct
    assert planned.decode(bytes.fromhex("03 0c 0001 0002 0000 0000 0000 0006")) == (1, 2, 6)


# ---- values that vendors and the research have worked out


def test_the_ph_channel_of_the_hamilton_manual():
    low_first = ByteOrder.CDAB
    points = [
        Point("unit", Table.HOLDING, 2089, 2, DataType.UINT32, low_first),
        Point("ph", Table.HOLDING, 2091, 2, DataType.FLOAT32, low_first),
        Point("warning", Table.HOLDING, 2093, 1, DataType.BOOL, low_first, bit=3),
        Point("high", Table.HOLDING, 2097, 2, DataType.FLOAT32, low_first),
    ]
    planned = plan(points, Limits(atomic=(Span(Table.HOLDING, 2089, 10),)))
    assert [block.request.hex(" ") for block in planned.blocks] == ["03 08 29 00 0a"]
    reply = bytes.fromhex("0314 1000 0000 cd0c 4080 0000 0000 0000 0000 0000 4160")
    unit, ph, warning, high = planned.decode(reply)
    assert (unit, round(ph, 5), warning, high) == (0x1000, 4.02503, False, 14.0)


def test_the_float_of_the_vaisala_manual_has_its_low_word_first():
    point = Point("rh", Table.HOLDING, 0, 2, DataType.FLOAT32, ByteOrder.CDAB)
    (value,) = plan([point], Limits()).decode(bytes.fromhex("03 04 7ae1 41f4"))
    assert round(value, 2) == 30.56


def test_the_float_of_the_eurotherm_register_has_its_high_word_first():
    point = Point("pv", Table.HOLDING, 0x8002, 2, DataType.FLOAT32)
    assert plan([point], Limits()).decode(bytes.fromhex("03 04 4214 0000")) == (37.0,)


def test_the_raw_value_of_the_adam_example_is_left_unscaled():
    (raw,) = plan(uint16s(0), Limits()).decode(bytes.fromhex("03 02 68fa"))
    scale = Scale(200, -50 * 65536, 65536)
    assert scale != UNSCALED
    assert round((raw * scale.numerator + scale.shift) / scale.denominator, 1) == 32.0


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"8801\0\0\0\0", "8801"),
        (b"01\0junk", "01"),
        (b"EPHUM011  ", "EPHUM011"),
        (b"\xb5m \0", "\\xb5m"),
        (b"\0\0", ""),
    ],
)
def test_text_ends_at_the_first_zero_and_hides_nothing(raw, shown):
    assert codec.text(raw) == shown


# ---- replies that bring nothing


def failure(reply: str) -> codec.Failure:
    return codec.failure(Block(Table.HOLDING, 7, 2, (0,)), bytes.fromhex(reply))


@pytest.mark.parametrize(
    ("reply", "cause", "status", "illegal"),
    [
        ("83 01", "refused", quality.BAD_NOT_SUPPORTED, True),
        ("83 02", "refused", quality.BAD_NODE_ID_UNKNOWN, True),
        ("83 03", "refused", quality.BAD_OUT_OF_RANGE, True),
        ("83 04", "refused", quality.BAD_DEVICE_FAILURE, False),
        ("83 06", "refused", quality.BAD_RESOURCE_UNAVAILABLE, False),
        ("83 0a", "timeout", quality.BAD_NO_COMMUNICATION, False),
        ("83 0b", "timeout", quality.BAD_TIMEOUT, False),
        ("83 77", "refused", quality.BAD_COMMUNICATION_ERROR, False),
        ("84 02", "bad_reply", quality.BAD_DECODING_ERROR, False),
        ("04 04 0001 0002", "bad_reply", quality.BAD_DECODING_ERROR, False),
        ("03 02 0001", "bad_reply", quality.BAD_DECODING_ERROR, False),
        ("03 02 0001 0002", "bad_reply", quality.BAD_DECODING_ERROR, False),
    ],
)
def test_what_a_wrong_reply_means(reply, cause, status, illegal):
    found = failure(reply)
    assert (found.cause, found.status, found.illegal) == (cause, status, illegal)
    assert quality.is_bad(found.status)
    assert "holding 7 x 2" in found.detail

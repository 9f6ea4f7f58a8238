"""What to ask of a Modbus device and what its replies mean: pure functions, no I/O.

:func:`plan` turns the tags of a group into few read requests; the :class:`Plan` decodes the
replies. A plan decodes the reply PDUs as they came, joined in the order of its blocks, so a
frame's values can be computed again from its evidence.

Protocol facts: MODBUS Application Protocol Specification V1.1b3, sections 4.3 (tables), 6.1 to
6.4 (the four read functions) and 7 (exception codes).
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from edgeagent.model import quality
from edgeagent.model.frame import DataType, Value

ADDRESSES = 65_536
REGISTERS_MAX = 125
BITS_MAX = 2_000


class Table(StrEnum):
    """The four tables of a Modbus device."""

    COIL = "coil"
    DISCRETE_INPUT = "discrete_input"
    INPUT = "input"
    HOLDING = "holding"

    @property
    def function(self) -> int:
        """The function code that reads this table; no other code is ever sent."""
        return _READ_FUNCTION[self]

    @property
    def has_registers(self) -> bool:
        """Whether an address holds 16 bits; otherwise it holds one."""
        return self in (Table.INPUT, Table.HOLDING)


_READ_FUNCTION = {Table.COIL: 1, Table.DISCRETE_INPUT: 2, Table.HOLDING: 3, Table.INPUT: 4}


class ByteOrder(StrEnum):
    """Where the bytes of a value stand on the wire; A is the most significant byte."""

    ABCD = "ABCD"
    CDAB = "CDAB"
    BADC = "BADC"
    DCBA = "DCBA"

    @property
    def swaps_bytes(self) -> bool:
        """Whether the lower byte of a register comes first."""
        return self in (ByteOrder.BADC, ByteOrder.DCBA)

    @property
    def swaps_words(self) -> bool:
        """Whether the least significant register comes first."""
        return self in (ByteOrder.CDAB, ByteOrder.DCBA)


REGISTERS_OF = {
    DataType.BOOL: 1,
    DataType.INT8: 1,
    DataType.UINT8: 1,
    DataType.INT16: 1,
    DataType.UINT16: 1,
    DataType.INT32: 2,
    DataType.UINT32: 2,
    DataType.FLOAT32: 2,
    DataType.INT64: 4,
    DataType.UINT64: 4,
    DataType.FLOAT64: 4,
}
"""Registers of each type whose size is fixed."""

_FORMAT = {
    DataType.BOOL: "H",
    DataType.INT8: "b",
    DataType.UINT8: "B",
    DataType.INT16: "h",
    DataType.UINT16: "H",
    DataType.INT32: "i",
    DataType.UINT32: "I",
    DataType.FLOAT32: "f",
    DataType.INT64: "q",
    DataType.UINT64: "Q",
    DataType.FLOAT64: "d",
}

_STATUS_OF_EXCEPTION = {
    0x01: quality.BAD_NOT_SUPPORTED,  # illegal function
    0x02: quality.BAD_NODE_ID_UNKNOWN,  # illegal data address
    0x03: quality.BAD_OUT_OF_RANGE,  # illegal data value: too many, or too few, addresses
    0x04: quality.BAD_DEVICE_FAILURE,
    0x05: quality.BAD_RESOURCE_UNAVAILABLE,  # acknowledge: still working on it
    0x06: quality.BAD_RESOURCE_UNAVAILABLE,  # busy
    0x08: quality.BAD_DEVICE_FAILURE,  # memory parity error
    0x0A: quality.BAD_NO_COMMUNICATION,  # gateway: no path to the device
    0x0B: quality.BAD_TIMEOUT,  # gateway: the device did not answer
}
_ILLEGAL = frozenset((0x01, 0x02, 0x03))
_GATEWAY = frozenset((0x0A, 0x0B))


@dataclass(frozen=True, slots=True)
class Point:
    """One value and where it stands.

    :ivar address: as in the protocol data unit, from 0
    :ivar count: registers, or bits in a table of bits
    :ivar bit: of a BOOL in a register: its number, 0 the least significant
    :ivar high_byte: of an 8-bit type: whether it is the more significant byte
    """

    name: str
    table: Table
    address: int
    count: int
    type: DataType
    order: ByteOrder = ByteOrder.ABCD
    bit: int | None = None
    high_byte: bool = False

    @property
    def end(self) -> int:
        """First address behind this value."""
        return self.address + self.count


@dataclass(frozen=True, slots=True)
class Span:
    """Successive addresses of one table."""

    table: Table
    address: int
    count: int

    @property
    def end(self) -> int:
        """First address behind the span."""
        return self.address + self.count

    def touches(self, table: Table, address: int, end: int) -> bool:
        """Return whether any address is in both."""
        return self.table is table and self.address < end and address < self.end

    def holds(self, table: Table, address: int, end: int) -> bool:
        """Return whether all these addresses are in the span."""
        return self.table is table and self.address <= address and end <= self.end


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device allows to be asked at once.

    :ivar registers_max: largest read of registers; a read of bits may fill as many bytes
    :ivar gap_max: addresses that nobody wants and that may be read to save a request
    :ivar atomic: read exactly so: whole, alone
    :ivar holes: never touched
    """

    registers_max: int = REGISTERS_MAX
    gap_max: int = 0
    atomic: tuple[Span, ...] = ()
    holes: tuple[Span, ...] = ()

    def atomic_around(self, point: Point) -> Span | None:
        """Return the atomic block in which a point stands."""
        for span in self.atomic:
            if span.holds(point.table, point.address, point.end):
                return span
        return None

    def addresses_max(self, table: Table) -> int:
        """Return the largest count of one request."""
        if table.has_registers:
            return self.registers_max
        return min(BITS_MAX, 16 * self.registers_max)


@dataclass(frozen=True, slots=True)
class Block:
    """One read request and the only reply that answers it.

    :ivar points: indices of the values that it brings, in order of address
    :ivar request: the request PDU
    :ivar head: function code and byte count with which the reply must begin
    :ivar reply_bytes: length of the reply PDU
    """

    table: Table
    address: int
    count: int
    points: tuple[int, ...]
    atomic: bool = False
    request: bytes = field(init=False, repr=False, compare=False)
    head: bytes = field(init=False, repr=False, compare=False)
    reply_bytes: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        function = self.table.function
        data_bytes = 2 * self.count if self.table.has_registers else (self.count + 7) // 8
        set_once = object.__setattr__  # the dataclass is frozen
        set_once(self, "request", struct.pack(">BHH", function, self.address, self.count))
        set_once(self, "head", bytes((function, data_bytes)))
        set_once(self, "reply_bytes", 2 + data_bytes)

    def __str__(self) -> str:
        return f"{self.table.value} {self.address} x {self.count}"

    def halves(self, points: Sequence[Point]) -> "tuple[Block, Block] | None":
        """Cut in two between values, as near to the middle as can be.

        ``None`` for an atomic block and where no value can be parted from the others.
        """
        if self.atomic:
            return None
        cuts = [
            cut
            for cut in range(1, len(self.points))
            if max(points[i].end for i in self.points[:cut]) <= points[self.points[cut]].address
        ]
        if not cuts:
            return None
        cut = min(cuts, key=lambda cut: abs(2 * cut - len(self.points)))
        return _around(points, self.points[:cut]), _around(points, self.points[cut:])


@dataclass(frozen=True, slots=True)
class Plan:
    """How to read some values, and how to understand the replies.

    :ivar blocks: the requests, in the order in which they are sent
    :ivar present: indices of the values that the replies bring; ``None`` means all
    :ivar status: as in :class:`~edgeagent.model.frame.Frame`
    :ivar decode: turns the joined reply PDUs into one value per point, ``None`` where absent
    """

    blocks: tuple[Block, ...]
    present: tuple[int, ...] | None
    status: int | tuple[int, ...]
    decode: Callable[[bytes], tuple[Value, ...]]


class Failure(NamedTuple):
    """A reply that brings no values.

    :ivar cause: gap cause of ``docs/mqtt.md``
    :ivar status: what a value of this block gets instead
    :ivar illegal: whether the device refuses the address, so that a smaller read may succeed
    """

    cause: str
    status: int
    detail: str
    illegal: bool = False


def plan(points: Sequence[Point], limits: Limits) -> Plan:
    """Plan the reading of a group: adjacent values share a request where the limits allow it."""
    return plan_of(points, _merged(points, limits))


def plan_of(
    points: Sequence[Point], blocks: Iterable[Block], absent: Mapping[int, int] | None = None
) -> Plan:
    """Return the plan that reads exactly these blocks.

    :param absent: a Bad status for each point that no block brings
    """
    ordered = tuple(sorted(blocks, key=lambda block: (block.table.function, block.address)))
    status: int | tuple[int, ...] = quality.GOOD
    present: tuple[int, ...] | None = None
    if absent:
        status = tuple(absent.get(index, quality.GOOD) for index in range(len(points)))
        present = tuple(index for index in range(len(points)) if index not in absent)
    return Plan(ordered, present, status, _decoder(points, ordered))


def failure(block: Block, reply: bytes) -> Failure:
    """Say what is wrong with a reply that does not answer a block."""
    function = block.table.function
    if len(reply) == 2 and reply[0] == function | 0x80:
        return _refusal(block, reply[1])
    if reply[0] != function:
        detail = f"{block}: reply to function {reply[0]} instead of {function}"
    else:
        detail = f"{block}: reply of {len(reply)} bytes instead of {block.reply_bytes}"
        if len(reply) == block.reply_bytes:
            detail = f"{block}: reply states {reply[1]} bytes instead of {block.head[1]}"
    return Failure("bad_reply", quality.BAD_DECODING_ERROR, detail)


def _refusal(block: Block, code: int) -> Failure:
    status = _STATUS_OF_EXCEPTION.get(code, quality.BAD_COMMUNICATION_ERROR)
    cause = "timeout" if code in _GATEWAY else "refused"
    return Failure(cause, status, f"{block}: exception 0x{code:02X}", code in _ILLEGAL)


def _merged(points: Sequence[Point], limits: Limits) -> list[Block]:
    """Group points into blocks: atomic ones as declared, the others as large as allowed."""
    blocks: list[Block] = []
    run: list[int] = []
    atomic: dict[Span, list[int]] = {}
    for index in sorted(range(len(points)), key=lambda index: _place(points[index])):
        point = points[index]
        home = limits.atomic_around(point)
        if home is not None:
            atomic.setdefault(home, []).append(index)
            continue
        if run and not _joins(points, run, point, limits):
            blocks.append(_around(points, run))
            run = []
        run.append(index)
    if run:
        blocks.append(_around(points, run))
    blocks += [
        Block(span.table, span.address, span.count, tuple(members), atomic=True)
        for span, members in atomic.items()
    ]
    return blocks


def _place(point: Point) -> tuple[int, int, int]:
    return point.table.function, point.address, point.end


def _joins(points: Sequence[Point], run: Sequence[int], point: Point, limits: Limits) -> bool:
    """Return whether one request may bring this point together with those before it."""
    first = points[run[0]]
    run_end = max(points[index].end for index in run)
    end = max(run_end, point.end)
    return (
        point.table is first.table
        and point.address - run_end <= limits.gap_max
        and end - first.address <= limits.addresses_max(point.table)
        and not any(
            span.touches(point.table, first.address, end)
            for span in (*limits.holes, *limits.atomic)
        )
    )


def _around(points: Sequence[Point], members: Sequence[int]) -> Block:
    """Return the smallest block that brings these points."""
    first = points[members[0]]
    end = max(points[index].end for index in members)
    return Block(first.table, first.address, end - first.address, tuple(members))


class _Cell(NamedTuple):
    """What ``struct`` takes out for one point: which bytes, most significant first, and how."""

    where: tuple[int, ...]
    format: str


def _decoder(
    points: Sequence[Point], blocks: Sequence[Block]
) -> Callable[[bytes], tuple[Value, ...]]:
    """Compile the way from the joined reply PDUs to the values.

    One ``struct`` call does the work. Only where it cannot (another byte order, bits, text,
    values out of order or absent) a precomputed step comes before or after it.
    """
    cells, total = _cells(points, blocks)
    distinct = list(dict.fromkeys(cells[index] for index in sorted(cells)))
    unpack = _straight(distinct, total)
    if unpack is None:
        unpack = _permuted(distinct)
    else:
        distinct.sort(key=lambda cell: cell.where)
    place = {cell: position for position, cell in enumerate(distinct)}
    absent = len(distinct)
    picks = [place[cells[i]] if i in cells else absent for i in range(len(points))]
    bits = [
        (i, _mask(point, blocks))
        for i, point in enumerate(points)
        if i in cells and point.type is DataType.BOOL
    ]
    texts = [i for i in cells if points[i].type is DataType.STRING]
    if not bits and not texts and picks == list(range(absent)):
        return unpack
    return _finished(unpack, _picker(picks), bits, texts)


def _finished(
    unpack: Callable[[bytes], tuple[Any, ...]],
    pick: Callable[[tuple[Any, ...]], tuple[Any, ...]],
    bits: Sequence[tuple[int, int]],
    texts: Sequence[int],
) -> Callable[[bytes], tuple[Value, ...]]:
    def decode(raw: bytes) -> tuple[Value, ...]:
        values = list(pick((*unpack(raw), None)))
        for index, mask in bits:
            values[index] = values[index] & mask != 0
        for index in texts:
            values[index] = text(values[index])
        return tuple(values)

    return decode


def text(raw: bytes) -> str:
    """Return the text in registers: up to the first zero byte, without trailing blanks.

    A byte that is no UTF-8 is shown in hexadecimal: a wrong character set is seen, not guessed.
    """
    return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace").rstrip()


def _cells(points: Sequence[Point], blocks: Sequence[Block]) -> tuple[dict[int, _Cell], int]:
    """Return the cell of each point that the blocks bring, and the length of all replies."""
    cells: dict[int, _Cell] = {}
    start = 0
    for block in blocks:
        for index in block.points:
            cells[index] = _cell(points[index], block, start + 2)
        start += block.reply_bytes
    return cells, start


def _cell(point: Point, block: Block, data: int) -> _Cell:
    """Say where a point stands; ``data`` is where the block's data bytes begin."""
    offset = point.address - block.address
    if not point.table.has_registers:
        return _Cell((data + offset // 8,), "B")
    words = [(data + 2 * (offset + n), data + 2 * (offset + n) + 1) for n in range(point.count)]
    if point.order.swaps_bytes:
        words = [(second, first) for first, second in words]
    if point.type is DataType.STRING:
        return _Cell(tuple(byte for word in words for byte in word), f"{2 * point.count}s")
    if point.order.swaps_words:
        words.reverse()
    if point.type in (DataType.INT8, DataType.UINT8):
        return _Cell((words[0][0 if point.high_byte else 1],), _FORMAT[point.type])
    return _Cell(tuple(byte for word in words for byte in word), _FORMAT[point.type])


def _mask(point: Point, blocks: Sequence[Block]) -> int:
    """Return the bit of a BOOL within its cell."""
    if point.bit is not None:
        return 1 << point.bit
    block = next(
        b
        for b in blocks
        if Span(b.table, b.address, b.count).holds(point.table, point.address, point.end)
    )
    return 1 << (point.address - block.address) % 8


def _straight(cells: Sequence[_Cell], total: int) -> Callable[[bytes], tuple[Any, ...]] | None:
    """Unpack in order of place, straight from the replies; ``None`` if bytes stand otherwise."""
    ordered = sorted(cells, key=lambda cell: cell.where)
    in_order = all(b == a + 1 for cell in ordered for a, b in pairwise(cell.where))
    apart = all(before.where[-1] < after.where[0] for before, after in pairwise(ordered))
    if not (in_order and apart):
        return None
    layout, done = [">"], 0
    for cell in ordered:
        layout += [f"{cell.where[0] - done}x", cell.format]
        done = cell.where[-1] + 1
    layout.append(f"{total - done}x")
    return struct.Struct("".join(layout)).unpack


def _permuted(cells: Sequence[_Cell]) -> Callable[[bytes], tuple[Any, ...]]:
    """Bring the wanted bytes into order first, then unpack."""
    wanted = [byte for cell in cells for byte in cell.where]
    # A second index, for a single byte would come out of itemgetter without its tuple.
    gather = itemgetter(*wanted, wanted[0])
    unpack = struct.Struct(">" + "".join(cell.format for cell in cells) + "x").unpack
    return lambda raw: unpack(bytes(gather(raw)))


def _picker(indices: Sequence[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    if len(indices) == 1:
        (only,) = indices
        return lambda cells: (cells[only],)
    return itemgetter(*indices)

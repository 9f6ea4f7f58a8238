"""Faults of a profile that show only when its parts are held against each other.

Each fault has its place in the file, so that ``edgeagent check`` can point at the line, and its
text says what is wrong and, behind a semicolon, how to mend it.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from drivers.modbus.codec import ADDRESSES, REGISTERS_OF, Limits, Point, Span, Table
from edgeagent.model.frame import DataType

if TYPE_CHECKING:
    from drivers.modbus.profile import (
        Addressed,
        ModbusIdentityItem,
        ModbusLayout,
        ModbusTag,
        Registers,
    )

Place = tuple[str | int, ...]
"""Keys and indices from the top of the file down, as pydantic's ``loc``."""

_EIGHT_BITS = (DataType.INT8, DataType.UINT8)
_WHOLE_REGISTER = 0xFFFF
_INTEGERS = {
    DataType.INT8: range(-(2**7), 2**7),
    DataType.UINT8: range(2**8),
    DataType.INT16: range(-(2**15), 2**15),
    DataType.UINT16: range(2**16),
    DataType.INT32: range(-(2**31), 2**31),
    DataType.UINT32: range(2**32),
    DataType.INT64: range(-(2**63), 2**63),
    DataType.UINT64: range(2**64),
}
"""Raw values that each integer type can have."""


class Parts(NamedTuple):
    """What is held against each other."""

    layout: "ModbusLayout"
    groups: "Mapping[str, Mapping[str, ModbusTag]]"
    identity: "Mapping[str, ModbusIdentityItem]"


class Fault(NamedTuple):
    """One fault, where it is, and what stands there."""

    place: Place
    text: str
    value: Any = None


class _Item(NamedTuple):
    """A tag or identity item, with its place in the file and on the wire."""

    place: Place
    name: str
    stated: "Addressed"
    point: Point


class _Area(NamedTuple):
    """An atomic block or a hole, likewise."""

    place: Place
    stated: "Registers"
    span: Span


def faults(parts: Parts) -> list[Fault]:
    """Return every fault."""
    return list(_all_faults(parts))


def _all_faults(parts: Parts) -> Iterator[Fault]:
    layout = parts.layout
    areas: dict[str, list[_Area]] = {}
    for key in ("atomic", "holes"):
        areas[key] = []
        yield from _placed_areas(layout, key, areas[key])
    yield from _area_faults(layout, areas["atomic"], areas["holes"])
    for group, tags in parts.groups.items():
        items: list[_Item] = []
        for name, tag in tags.items():
            place = ("groups", group, "tags", name)
            yield from _sentinel_faults(place, tag)
            yield from _placed_item(layout, place, name, tag, items)
        yield from _overlaps(items)
        for item in items:
            yield from _item_faults(layout, item, areas["atomic"], areas["holes"])
        if tags and not any(tag.acquired for tag in tags.values()):
            yield Fault(
                ("groups", group, "tags"),
                "nothing here would be read: every tag is a STRING of privacy class drop; "
                "remove the group, or give one tag 'privacy: none'",
            )
    for name, fact in parts.identity.items():
        found: list[_Item] = []
        yield from _placed_item(layout, ("identity", name), name, fact, found)
        yield from _expect_faults(name, fact)
        for item in found:
            yield from _item_faults(layout, item, areas["atomic"], areas["holes"])


def _placed_areas(layout: "ModbusLayout", key: str, areas: list[_Area]) -> Iterator[Fault]:
    """Place the atomic blocks or the holes; tell of those that cannot be."""
    stated: tuple[Registers, ...] = getattr(layout, key)
    for index, registers in enumerate(stated):
        place = ("modbus", key, index)
        try:
            table, address = layout.place(registers.address, registers.table)
        except ValueError as error:
            yield Fault((*place, "address"), str(error), registers.address)
            continue
        span = Span(table, address, registers.count)
        if span.end > ADDRESSES:
            yield Fault((*place, "count"), _beyond(registers.count), registers.count)
        areas.append(_Area(place, registers, span))


def _area_faults(
    layout: "ModbusLayout", atomic: list[_Area], holes: list[_Area]
) -> Iterator[Fault]:
    for area in atomic:
        largest = _largest(layout, area.span.table)
        if area.span.count > largest:
            yield Fault(
                (*area.place, "count"),
                f"an atomic block of {area.span.count} cannot be read: at most {largest} may be "
                "asked at once (max_registers); raise max_registers or correct the count",
                area.span.count,
            )
    for one, other in combinations([*atomic, *holes], 2):
        span = other.span
        if one in holes or not one.span.touches(span.table, span.address, span.end):
            continue
        kind = "hole" if other in holes else "atomic block"
        yield Fault(
            (*other.place, "address"),
            f"this {kind} shares addresses with the atomic block {_numbers(one.stated)}; "
            "correct one of them",
            other.stated.address,
        )


def _placed_item(
    layout: "ModbusLayout", place: Place, name: str, stated: "Addressed", items: list[_Item]
) -> Iterator[Fault]:
    """Place a tag; tell why that cannot be, and what of its shape contradicts its type.

    Only a tag that is right by itself is held against others: one mistake, one fault.
    """
    try:
        point = layout.point(name, stated)
    except ValueError as error:
        yield Fault((*place, "address"), str(error), stated.address)
        return
    found = list(_shape_faults(place, stated, point))
    if point.end > ADDRESSES:
        found.append(Fault((*place, "address"), _beyond(point.count), stated.address))
    if not found:
        items.append(_Item(place, name, stated, point))
    yield from found


def _shape_faults(place: Place, stated: "Addressed", point: Point) -> Iterator[Fault]:
    kind = stated.type.value
    if not point.table.has_registers and stated.type is not DataType.BOOL:
        yield Fault(
            (*place, "type"),
            f"an address of the table {point.table.value} is one bit, which cannot hold {kind}; "
            "write type BOOL, or name a table of registers (input, holding)",
            kind,
        )
    yield from _bit_faults(place, stated, point)
    if stated.type in _EIGHT_BITS and stated.byte is None:
        yield Fault((*place, "byte"), f"{kind} is half a register; say 'byte: high' or 'byte: low'")
    if stated.type not in _EIGHT_BITS and stated.byte is not None:
        yield Fault((*place, "byte"), f"{kind} has no 'byte'; remove it", stated.byte)
    fixed = REGISTERS_OF.get(stated.type)
    if fixed is None and stated.length is None:
        yield Fault((*place, "length"), "a STRING has no length; add 'length', in registers")
    if fixed is not None and stated.length not in (None, fixed):
        yield Fault(
            (*place, "length"),
            f"{kind} has {fixed} registers, not {stated.length}; remove 'length' or correct the "
            "type",
            stated.length,
        )


def _bit_faults(place: Place, stated: "Addressed", point: Point) -> Iterator[Fault]:
    needs_bit = stated.type is DataType.BOOL and point.table.has_registers
    if needs_bit and stated.bit is None:
        yield Fault(
            (*place, "bit"),
            "a BOOL in a register needs the number of its bit; add 'bit', 0 (least significant) "
            "to 15, or name a table of bits (coil, discrete_input)",
        )
    if not needs_bit and stated.bit is not None:
        yield Fault((*place, "bit"), "only a BOOL in a register has a 'bit'; remove it", stated.bit)


def _sentinel_faults(place: Place, tag: "ModbusTag") -> Iterator[Fault]:
    possible = _INTEGERS.get(tag.type)
    for index, sentinel in enumerate(tag.sentinels):
        if possible is not None and sentinel not in possible:
            yield Fault(
                (*place, "sentinels", index),
                f"an {tag.type.value} is never {sentinel!r}; write the raw value before scaling, "
                f"{possible[0]} to {possible[-1]}",
                sentinel,
            )


def _expect_faults(name: str, item: "ModbusIdentityItem") -> Iterator[Fault]:
    try:
        re.compile(item.expect or "")
    except re.error as error:
        yield Fault(
            ("identity", name, "expect"),
            f"no regular expression ({error}); put a backslash before characters that stand for "
            "themselves",
            item.expect,
        )


def _item_faults(
    layout: "ModbusLayout", item: _Item, atomic: list[_Area], holes: list[_Area]
) -> Iterator[Fault]:
    """Hold one tag against the layout."""
    point = item.point
    largest = _largest(layout, point.table)
    if point.count > largest:
        yield Fault(
            (*item.place, "length"),
            f"{point.count} registers cannot be read: at most {largest} may be asked at once "
            "(max_registers); shorten the tag or raise max_registers",
            point.count,
        )
    for hole in holes:
        if hole.span.touches(point.table, point.address, point.end):
            yield Fault(
                (*item.place, "address"),
                f"{_numbers(item.stated)} is in the hole {_numbers(hole.stated)}, which is never "
                "read; move the tag or shrink the hole",
                item.stated.address,
            )
    for block in atomic:
        touches = block.span.touches(point.table, point.address, point.end)
        if touches and not block.span.holds(point.table, point.address, point.end):
            yield Fault(
                (*item.place, "address"),
                f"{_numbers(item.stated)} crosses the border of the atomic block "
                f"{_numbers(block.stated)}; correct the address, the type or the block",
                item.stated.address,
            )


def _overlaps(items: list[_Item]) -> Iterator[Fault]:
    """Tell of tags of one group that share bits of a register; once for each tag."""
    taken: dict[tuple[str, int], list[tuple[int, _Item]]] = {}
    for item in items:
        mask = _bits_of(item.stated)
        shared = None
        for address in range(item.point.address, item.point.end):
            others = taken.setdefault((item.point.table, address), [])
            shared = shared or next((other for bits, other in others if bits & mask), None)
            others.append((mask, item))
        if shared is not None:
            yield _overlap(item, shared)


def _overlap(item: _Item, other: _Item) -> Fault:
    return Fault(
        (*item.place, "address"),
        f"{_numbers(item.stated)} overlaps the tag {other.name!r} ({_numbers(other.stated)}); "
        "give each tag registers of its own, or read one register as BOOL tags with 'bit'",
        item.stated.address,
    )


def _bits_of(stated: "Addressed") -> int:
    """Return which bits of each of its registers a tag uses."""
    if stated.bit is not None:
        return 1 << stated.bit
    if stated.byte is not None:
        return 0xFF00 if stated.byte == "high" else 0x00FF
    return _WHOLE_REGISTER


def _largest(layout: "ModbusLayout", table: Table) -> int:
    return Limits(layout.max_registers).addresses_max(table)


def _numbers(stated: "Addressed | Registers") -> str:
    """Return a range in the numbers of the manual."""
    first = stated.address
    return str(first) if stated.count == 1 else f"{first} to {first + stated.count - 1}"


def _beyond(count: int) -> str:
    return f"{count} from here on end beyond the last address ({ADDRESSES - 1}); correct it"

"""What a Modbus profile may state.

Everything is checked here, before a socket opens, and all faults are reported at once, each with
the place in the file. After that the driver trusts a profile.
"""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails

from drivers.modbus.checks import Fault, Parts, faults
from drivers.modbus.codec import (
    ADDRESSES,
    REGISTERS_MAX,
    REGISTERS_OF,
    ByteOrder,
    Limits,
    Point,
    Span,
    Table,
)
from edgeagent.model.checked import fault_line, found_lines, mapping, sound, sound_ones
from edgeagent.model.frame import DataType
from edgeagent.model.profile import Group, IdentityItem, Profile, Strict, Tag
from edgeagent.model.quantity import DurationNs

AddressBase = Literal["0-based", "1-based", "4xxxx"]

_TABLE_OF_DIGIT = {
    0: Table.COIL,
    1: Table.DISCRETE_INPUT,
    3: Table.INPUT,
    4: Table.HOLDING,
}


_ADDRESS = Field(
    ge=0,
    le=499_999,
    description="where the value stands, as the manual numbers it (see modbus.address_base); of a "
    "value of several registers the lowest number",
)
_TABLE = Field(None, description="default: modbus.table; with 4xxxx the address names it")


class Addressed(Strict):
    """Where a value stands and how many registers it has."""

    type: DataType
    address: int = _ADDRESS
    table: Table | None = _TABLE
    bit: int | None = Field(
        None, ge=0, le=15, description="of a BOOL in a register; 0 is the least significant"
    )
    byte: Literal["high", "low"] | None = Field(
        None, description="of INT8 and UINT8: the more or the less significant half of the register"
    )
    length: int | None = Field(
        None, ge=1, le=REGISTERS_MAX, description="in registers; required for STRING"
    )
    byte_order: ByteOrder | None = Field(None, description="default: modbus.byte_order")

    @property
    def count(self) -> int:
        """Addresses that the value occupies."""
        return REGISTERS_OF.get(self.type) or self.length or 1


class ModbusTag(Tag, Addressed):
    """One value that is polled."""


class ModbusGroup(Group[ModbusTag]):
    """Tags that are read together at one period."""


class ModbusIdentityItem(IdentityItem, Addressed):
    """One fact that the instrument states of itself in registers.

    A number becomes a fact as it is read, in decimal digits; a BOOL as ``true`` or ``false``.
    """

    description: str | None = None
    assumed: str | None = Field(None, description="what of this item no document states")


class Registers(Strict):
    """Successive addresses, numbered as in the manual."""

    address: int = _ADDRESS
    count: int = Field(ge=1, le=ADDRESSES)
    table: Table | None = _TABLE


class ModbusQuirks(Strict):
    """What this make does that the Modbus specification does not foresee."""

    pause_between_requests: DurationNs | None = Field(
        None, description="silence that the device needs after a reply before the next request"
    )


class ModbusLayout(Strict):
    """How the device numbers, orders and hands out its registers."""

    address_base: AddressBase = Field(
        description="how the manual counts. '0-based': as on the wire; '1-based': register 1 is "
        "address 0 on the wire; '4xxxx': references of 5 or 6 digits that name the table too: "
        "1-9999 coils, 1xxxx discrete inputs, 3xxxx input, 4xxxx holding registers"
    )
    table: Table = Field(
        Table.HOLDING, description="of tags that name none; with 4xxxx the address names it"
    )
    byte_order: ByteOrder = Field(
        ByteOrder.ABCD,
        description="A is the most significant byte; each pair of letters is one register, the "
        "lower address first. 32 bits: ABCD = big endian; CDAB = low register first; BADC = bytes "
        "swapped in each register; DCBA = both. 64 bits likewise: ABCDEFGH, GHEFCDAB, BADCFEHG, "
        "HGFEDCBA. 16 and 8 bits and BOOL: AB for ABCD and CDAB, BA for BADC and DCBA. STRING: "
        "registers always in order of address; the first character in the upper byte for ABCD and "
        "CDAB, in the lower byte for BADC and DCBA",
    )
    max_registers: int = Field(
        REGISTERS_MAX, ge=1, le=REGISTERS_MAX, description="largest read that the device answers"
    )
    max_gap: int = Field(
        0,
        ge=0,
        le=REGISTERS_MAX,
        description="addresses between two tags that may be read along, unasked, to save a request",
    )
    atomic: tuple[Registers, ...] = Field(
        (), description="blocks that are read exactly so: never in parts, never with others"
    )
    holes: tuple[Registers, ...] = Field((), description="addresses that are never touched")
    quirks: ModbusQuirks = ModbusQuirks()

    def place(self, number: int, table: Table | None) -> tuple[Table, int]:
        """Return the table and the address on the wire of a number in the manual.

        :raises ValueError: if there is no such number, or it contradicts ``table``
        """
        if self.address_base == "0-based":
            return table or self.table, number
        if self.address_base == "4xxxx":
            return _reference(number, table)
        if number == 0:
            raise ValueError("1-based numbering has no 0; its first address is 1")
        return table or self.table, number - 1

    def spans(self, ranges: tuple[Registers, ...]) -> tuple[Span, ...]:
        """Return the ranges as they are on the wire."""
        return tuple(Span(*self.place(r.address, r.table), r.count) for r in ranges)

    def limits(self) -> Limits:
        """Return what a read plan must keep to."""
        return Limits(
            self.max_registers, self.max_gap, self.spans(self.atomic), self.spans(self.holes)
        )

    def point(self, name: str, item: Addressed) -> Point:
        """Return an item as it is on the wire."""
        return Point(
            name,
            *self.place(item.address, item.table),
            count=item.count,
            type=item.type,
            order=item.byte_order or self.byte_order,
            bit=item.bit,
            high_byte=item.byte == "high",
        )


class ModbusProfile(Profile[ModbusGroup, ModbusIdentityItem]):
    """One make and model that speaks Modbus."""

    driver: Literal["modbus"]
    modbus: ModbusLayout

    @model_validator(mode="wrap")
    @classmethod
    def _checked(
        cls, data: Any, handler: ModelWrapValidatorHandler["ModbusProfile"]
    ) -> "ModbusProfile":
        """Add the faults that only show when tags are held against the layout and each other.

        They are looked for also where single values are wrong, so that one run shows everything.
        """
        try:
            profile = handler(data)
        except ValidationError as error:
            lines = found_lines(error)
            parts = _readable(data)
            lines += _lines(faults(parts)) if parts else []
        else:
            tags = {name: group.tags for name, group in profile.groups.items()}
            lines = _lines(faults(Parts(profile.modbus, tags, profile.identity)))
            if not lines:
                return profile
        raise ValidationError.from_exception_data(cls.__name__, lines)

    def points(self, group: str) -> tuple[Point, ...]:
        """Return what is read of a group, in the order of its compiled schema."""
        acquired = self.groups[group].acquired()
        return tuple(self.modbus.point(name, tag) for name, tag in acquired.items())

    def identity_points(self) -> tuple[Point, ...]:
        """Return what is read to know who answers."""
        return tuple(self.modbus.point(name, item) for name, item in self.identity.items())


def _reference(number: int, table: Table | None) -> tuple[Table, int]:
    """Resolve a reference of 5 or 6 digits; leading zeros (coils) are not digits in YAML."""
    digit, index = divmod(number, 100_000 if number >= 100_000 else 10_000)
    named = _TABLE_OF_DIGIT.get(digit)
    if named is None or not 1 <= index <= ADDRESSES:
        raise ValueError(
            f"{number} is no reference; write 1-9999 (coils), 1xxxx (discrete inputs), 3xxxx "
            "(input registers) or 4xxxx (holding registers), with 5 or 6 digits"
        )
    if table not in (None, named):
        raise ValueError(
            f"reference {number} names the table {named.value}; leave the key 'table' out"
        )
    return named, index - 1


def _lines(found: Iterable[Fault]) -> list[InitErrorDetails]:
    return [fault_line(*fault) for fault in found]


def _readable(data: Any) -> Parts | None:
    """Return what is right by itself in a profile that is not."""
    top = mapping(data)
    layout = sound(ModbusLayout, top.get("modbus"))
    if layout is None:
        return None
    groups = {
        name: sound_ones(ModbusTag, mapping(group).get("tags"))
        for name, group in mapping(top.get("groups")).items()
    }
    return Parts(layout, groups, sound_ones(ModbusIdentityItem, top.get("identity")))

"""Registers by address, and reads that must not leave them."""

from collections.abc import Mapping, Sequence

from simulators.devices.contract import ModbusException, Table


def placed(address: int, registers: Sequence[int]) -> dict[int, int]:
    """Successive registers from `address` on."""
    return dict(enumerate(registers, start=address))


def read_map(registers: Mapping[int, int], address: int, count: int) -> list[int]:
    """The registers of one read.

    :raises ModbusException: illegal data address, if one of them does not exist
    """
    try:
        return [registers[at] for at in range(address, address + count)]
    except KeyError:
        raise ModbusException(ModbusException.ILLEGAL_DATA_ADDRESS) from None


def require_table(table: Table, *offered: Table) -> None:
    """:raises ModbusException: illegal function, if the device has no such table"""
    if table not in offered:
        raise ModbusException(ModbusException.ILLEGAL_FUNCTION)


def require_registers(table: Table) -> None:
    """Of a device whose functions 3 and 4 read the same.

    :raises ModbusException: illegal function, if bits are asked for
    """
    require_table(table, Table.HOLDING_REGISTERS, Table.INPUT_REGISTERS)

"""Modbus protocol data units: the bytes of a request in, the bytes of the reply out.

Source: Modbus Application Protocol Specification V1.1b3, sections 6.1 to 6.4, 6.6, 6.12 and 7.
The order of checks follows its state diagrams: function, then quantity and length (exception
03), then the range of addresses (02), then the device itself.
"""

import struct
from dataclasses import dataclass

from simulators.devices.contract import ModbusDevice, ModbusException, Table

REGISTERS_MAX = 125
BITS_MAX = 2000
WRITE_REGISTERS_MAX = 123

_WRITE_SINGLE_REGISTER = 6
_WRITE_MULTIPLE_REGISTERS = 16
_READS = {table.value: table for table in Table}
_ERROR_BIT = 0x80


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for, as far as it can be told: for the record, not for the answer."""

    function: int
    address: int | None
    count: int | None


def asked(request: bytes) -> Asked:
    """Read a request, however short, without judging it."""
    function = request[0]
    address = int.from_bytes(request[1:3]) if len(request) >= 3 else None
    count = int.from_bytes(request[3:5]) if len(request) >= 5 else None
    return Asked(function, address, 1 if function == _WRITE_SINGLE_REGISTER else count)


def reply_to(request: bytes, device: ModbusDevice) -> bytes:
    """What `device` answers to one request of at least one byte."""
    function = request[0]
    try:
        return bytes([function]) + _answer(function, request[1:], device)
    except ModbusException as refusal:
        return exception_reply(function, refusal.code)


def exception_reply(function: int, code: int) -> bytes:
    """The refusal of a request: its function with the error bit, then the code."""
    return bytes([function | _ERROR_BIT, code])


def _answer(function: int, body: bytes, device: ModbusDevice) -> bytes:
    table = _READS.get(function)
    if table is not None:
        return _read(table, body, device)
    if device.offers_writes and function == _WRITE_SINGLE_REGISTER:
        return _write_single(body, device)
    if device.offers_writes and function == _WRITE_MULTIPLE_REGISTERS:
        return _write_multiple(body, device)
    raise ModbusException(ModbusException.ILLEGAL_FUNCTION)


def _read(table: Table, body: bytes, device: ModbusDevice) -> bytes:
    bits = table in (Table.COILS, Table.DISCRETE_INPUTS)
    _require_value(len(body) == 4)
    address, count = struct.unpack(">HH", body)
    _require_value(1 <= count <= (BITS_MAX if bits else REGISTERS_MAX))
    _require_address(address, count)
    values = device.read(table, address, count)
    assert len(values) == count, (table, address, count, len(values))
    payload = _packed_bits(values) if bits else struct.pack(f">{count}H", *values)
    return bytes([len(payload)]) + payload


def _write_single(body: bytes, device: ModbusDevice) -> bytes:
    _require_value(len(body) == 4)
    address, value = struct.unpack(">HH", body)
    device.write(address, [value])
    return body


def _write_multiple(body: bytes, device: ModbusDevice) -> bytes:
    _require_value(len(body) >= 5)
    address, count, size = struct.unpack_from(">HHB", body)
    _require_value(1 <= count <= WRITE_REGISTERS_MAX and size == 2 * count == len(body) - 5)
    _require_address(address, count)
    device.write(address, struct.unpack_from(f">{count}H", body, 5))
    return body[:4]


def _packed_bits(values: list[int]) -> bytes:
    """Eight bits per byte, the first bit lowest; the rest of the last byte is zero."""
    packed = bytearray((len(values) + 7) // 8)
    for index, value in enumerate(values):
        packed[index // 8] |= value << index % 8
    return bytes(packed)


def _require_value(condition: bool) -> None:
    if not condition:
        raise ModbusException(ModbusException.ILLEGAL_DATA_VALUE)


def _require_address(address: int, count: int) -> None:
    if address + count > 0x1_0000:
        raise ModbusException(ModbusException.ILLEGAL_DATA_ADDRESS)

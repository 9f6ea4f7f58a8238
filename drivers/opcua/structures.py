"""Structures of the server's own types: bytes to fields, by the definition that the server states.

A server's types are its own affair: two servers may give one id to two types. So definitions are
kept per link, not in the library's registry. Structures, optional fields, unions, nested ones and
arrays (OPC 10000-6 sections 5.2.6 to 5.2.8); enumerations are numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import error as StructError  # noqa: N812 - a class by any other spelling
from typing import Any

from drivers.opcua.measure import (
    U32,
    Malformed,
    array_length,
    skip_extension_object,
    skip_node_id,
    skip_scalar,
)

STRUCTURE_KIND = 22
_NESTED_MAX = 20


@dataclass(frozen=True, slots=True)
class Field:
    """One field: a built-in type by its number, or another structure."""

    name: str
    type: "int | Definition"
    is_array: bool = False
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Definition:
    """One structured type.

    :ivar kind: ``structure``, ``optional`` (some fields may be absent) or ``union``
    """

    kind: str
    fields: tuple[Field, ...]


DecodeVariant = Callable[[bytes], Any]


def decode(encoded: bytes, definitions: Mapping[bytes, Definition], variant: DecodeVariant) -> Any:
    """Return the value of a Variant that holds structures: a mapping of names, or a list of such.

    :param definitions: by the encoded NodeId of their encoding
    :param variant: decodes everything else
    :raises Malformed: if the bytes do not fit the definition
    """
    try:
        if encoded[0] == STRUCTURE_KIND:
            return _object(encoded, 1, definitions, variant)
        if encoded[0] == STRUCTURE_KIND | 128:
            length, offset = array_length(encoded, 1)
            found = []
            for _ in range(length):
                found.append(_object(encoded, offset, definitions, variant))
                offset = skip_extension_object(encoded, offset)
            return found
    except (IndexError, StructError) as error:
        raise Malformed(f"a structure ends early: {error}") from None
    return variant(encoded)


def _object(
    encoded: bytes, offset: int, definitions: Mapping[bytes, Definition], variant: DecodeVariant
) -> Any:
    end = skip_node_id(encoded, offset)
    definition = definitions.get(encoded[offset:end])
    if definition is None or encoded[end] != 1:
        return variant(bytes((STRUCTURE_KIND,)) + encoded[offset : skip_extension_object(
            encoded, offset)])  # fmt: skip
    value, _ = _structure(encoded, end + 5, definition, variant, 0)
    return value


def _structure(
    body: bytes, offset: int, definition: Definition, variant: DecodeVariant, depth: int
) -> tuple[dict[str, Any] | None, int]:
    if depth > _NESTED_MAX:
        raise Malformed(f"structures within structures, more than {_NESTED_MAX} deep")
    if definition.kind == "union":
        chosen, offset = U32.unpack_from(body, offset)[0], offset + 4
        if chosen == 0:
            return None, offset
        if chosen > len(definition.fields):
            raise Malformed(f"a union of {len(definition.fields)} fields holds field {chosen}")
        field = definition.fields[chosen - 1]
        value, offset = _field(body, offset, field, variant, depth)
        return {field.name: value}, offset
    absent = 0
    if definition.kind == "optional":
        absent, offset = ~U32.unpack_from(body, offset)[0], offset + 4
    found: dict[str, Any] = {}
    bit = 1
    for field in definition.fields:
        if field.is_optional:
            is_there, bit = not absent & bit, bit << 1
            if not is_there:
                found[field.name] = None
                continue
        found[field.name], offset = _field(body, offset, field, variant, depth)
    return found, offset


def _field(
    body: bytes, offset: int, field: Field, variant: DecodeVariant, depth: int
) -> tuple[Any, int]:
    if not field.is_array:
        return _element(body, offset, field.type, variant, depth)
    length, offset = array_length(body, offset)
    found = []
    for _ in range(length):
        value, after = _element(body, offset, field.type, variant, depth)
        if after == offset:
            raise Malformed("an array of nothing")
        found.append(value)
        offset = after
    return found, offset


def _element(
    body: bytes, offset: int, kind: int | Definition, variant: DecodeVariant, depth: int
) -> tuple[Any, int]:
    if isinstance(kind, Definition):
        return _structure(body, offset, kind, variant, depth + 1)
    end = skip_scalar(body, offset, kind, depth)
    if end > len(body):
        raise Malformed("a field ends behind its structure")
    return variant(bytes((kind,)) + body[offset:end]), end

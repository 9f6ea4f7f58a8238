"""How long encoded values are, within bounds: nothing a server sends may take more than it should.

Pure functions over bytes (OPC 10000-6 section 5.2); each returns where a value ends. They raise
:class:`Malformed`, or IndexError and struct.error where the bytes end early.
"""

from struct import Struct
from typing import Final

ARRAY_LENGTH_MAX: Final = 1_000_000
"""Elements of one array; more is a server that wants our memory."""

DEPTH_MAX: Final = 100
"""Values within values that a decoder has to support (OPC 10000-6 section 5.1.5)."""

I32 = Struct("<i")
U32 = Struct("<I")

_FIXED = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 4, 8: 8, 9: 8, 10: 4, 11: 8, 13: 8, 14: 16, 19: 4}
"""Bytes of the built-in types that always have the same length."""


class Malformed(Exception):
    """A message that is not what the standard says; where and why."""


def array_length(body: bytes, offset: int) -> tuple[int, int]:
    """Return the length of an array (null is empty) and where its elements begin."""
    count = I32.unpack_from(body, offset)[0]
    if count < -1:
        raise Malformed(f"an array of {count} elements")
    if count > ARRAY_LENGTH_MAX:
        raise Malformed(f"an array of {count} elements; at most {ARRAY_LENGTH_MAX} are taken")
    return max(count, 0), offset + 4


def numbers(body: bytes, offset: int) -> tuple[tuple[int, ...], int]:
    """Return an array of UInt32 and where it ends."""
    count, offset = array_length(body, offset)
    end = offset + 4 * count
    if end > len(body):
        raise Malformed("an array ends behind its message")
    return tuple(x for (x,) in U32.iter_unpack(body[offset:end])), end


def encoding_id(body: bytes, offset: int) -> tuple[int | None, int]:
    """Return the identifier of a numeric NodeId in namespace 0, and where the NodeId ends."""
    form = body[offset]
    if form == 1 and body[offset + 1] == 0:
        return int.from_bytes(body[offset + 2 : offset + 4], "little"), offset + 4
    if form == 2 and body[offset + 1 : offset + 3] == b"\0\0":
        return U32.unpack_from(body, offset + 3)[0], offset + 7
    return None, skip_node_id(body, offset)


def skip_string(body: bytes, offset: int) -> int:
    """Return where a String, ByteString or XmlElement ends."""
    length = I32.unpack_from(body, offset)[0]
    if length < -1 or length > len(body) - offset - 4:
        raise Malformed(f"a text of {length} bytes")
    return int(offset + 4 + max(length, 0))


def skip_node_id(body: bytes, offset: int) -> int:
    """Return where a NodeId or ExpandedNodeId ends."""
    form = body[offset]
    fixed = {0: 2, 1: 4, 2: 7, 4: 19}.get(form & 63)
    if fixed is not None:
        offset += fixed
    elif form & 63 in (3, 5):
        offset = skip_string(body, offset + 3)
    else:
        raise Malformed(f"a NodeId of form {form}")
    if form & 128:
        offset = skip_string(body, offset)
    return offset + 4 if form & 64 else offset


def skip_extension_object(body: bytes, offset: int) -> int:
    """Return where an ExtensionObject ends."""
    offset = skip_node_id(body, offset)
    encoding = body[offset]
    if encoding == 0:
        return offset + 1
    if encoding in (1, 2):
        return skip_string(body, offset + 1)
    raise Malformed(f"an ExtensionObject with encoding {encoding}")


def skip_localized_text(body: bytes, offset: int) -> int:
    """Return where a LocalizedText ends."""
    mask = body[offset]
    if mask > 3:
        raise Malformed(f"a LocalizedText with mask {mask}")
    offset += 1
    if mask & 1:
        offset = skip_string(body, offset)
    return skip_string(body, offset) if mask & 2 else offset


def skip_diagnostics(body: bytes, offset: int) -> int:
    """Return where an array of DiagnosticInfo ends."""
    count, offset = array_length(body, offset)
    for _ in range(count):
        offset = skip_diagnostic(body, offset, 0)
    return offset


def skip_diagnostic(body: bytes, offset: int, depth: int) -> int:
    """Return where a DiagnosticInfo ends."""
    _check_depth(depth)
    mask = body[offset]
    offset += 1 + 4 * (mask & 15).bit_count()
    if mask & 16:
        offset = skip_string(body, offset)
    if mask & 32:
        offset += 4
    return skip_diagnostic(body, offset, depth + 1) if mask & 64 else offset


def skip_data_value(body: bytes, offset: int, depth: int) -> int:
    """Return where a DataValue ends."""
    mask = body[offset]
    offset += 1
    if mask & 1:
        offset = skip_variant(body, offset, depth + 1)
    for bit, size in ((2, 4), (4, 8), (16, 2), (8, 8), (32, 2)):
        if mask & bit:
            offset += size
    return offset


def skip_variant(body: bytes, offset: int, depth: int) -> int:
    """Return where a Variant ends."""
    _check_depth(depth)
    encoding = body[offset]
    kind = encoding & 63
    offset += 1
    if not encoding & 128:
        offset = skip_scalar(body, offset, kind, depth)
    else:
        count, offset = array_length(body, offset)
        if kind in _FIXED:
            offset += count * _FIXED[kind]
        elif kind == 0 and count:
            raise Malformed("an array of nothing")
        else:
            for _ in range(count):
                offset = skip_scalar(body, offset, kind, depth)
    if encoding & 64:
        dimensions, offset = array_length(body, offset)
        offset += 4 * dimensions
    if offset > len(body):
        raise Malformed("a value ends behind its message")
    return offset


def skip_scalar(body: bytes, offset: int, kind: int, depth: int) -> int:
    """Return where a value of a built-in type ends."""
    if kind in _FIXED:
        return offset + _FIXED[kind]
    if kind == 0:
        return offset
    if kind in (12, 15, 16) or 26 <= kind <= 31:  # 26 to 31 are reserved: a ByteString
        return skip_string(body, offset)
    if kind in (17, 18):
        return skip_node_id(body, offset)
    if kind == 20:
        return skip_string(body, offset + 2)
    if kind == 21:
        return skip_localized_text(body, offset)
    if kind == 22:
        return skip_extension_object(body, offset)
    if kind == 23:
        return skip_data_value(body, offset, depth)
    if kind == 24:
        return skip_variant(body, offset, depth + 1)
    if kind == 25:
        return skip_diagnostic(body, offset, depth + 1)
    raise Malformed(f"a value of type {kind}")


def _check_depth(depth: int) -> None:
    if depth > DEPTH_MAX:
        raise Malformed(f"values within values, more than {DEPTH_MAX} deep")

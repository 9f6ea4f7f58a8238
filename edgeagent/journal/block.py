"""Packed rows: many consecutive rows of a table as one compressed block, and back, bit for bit.

A block is a zstd frame around the columns of its rows, one behind the other: little-endian count
of rows and of chain values; then of each row its number as an offset from the first (4 bytes), its
CRC-32 (4, signed) and the length of its body (4); of each chain value the index of its row (4);
the chain values (32 each); the bodies.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import zstandard

from edgeagent.model.errors import EdgeAgentError

LEVEL = 1  # measured: level 9 gains at most 7 % on records and costs up to three times as much
CHAIN_BYTES = 32
CONTENT_BYTES_MAX = 1 << 30

_COUNTS = struct.Struct("<II")


class Row(NamedTuple):
    """A stored record, sound or not.

    :ivar crc: the CRC-32 that was stored with it; ``None`` in place of what cannot be read at all
    """

    seq: int
    crc: int | None
    body: bytes
    chain: bytes | None = None


class DamagedBlock(EdgeAgentError):
    """A stored block no longer fits its CRC, or makes no sense."""


def crc_of(content: bytes) -> int:
    """Return the CRC-32 of some bytes as SQLite stores it: signed, in four bytes."""
    crc = zlib.crc32(content)
    return crc - (1 << 32) if crc >> 31 else crc


def pack_rows(rows: Sequence[Row]) -> bytes:
    """Return the block of some rows, in order of their numbers, which need not be consecutive."""
    count = len(rows)
    chains = [(index, row.chain) for index, row in enumerate(rows) if row.chain is not None]
    columns = struct.pack(
        f"<{count}I{count}i{count}I{len(chains)}I",
        *(row.seq - rows[0].seq for row in rows),
        *(row.crc for row in rows),
        *(len(row.body) for row in rows),
        *(index for index, _ in chains),
    )
    parts = [_COUNTS.pack(count, len(chains)), columns]
    parts += [chain for _, chain in chains]
    parts += [row.body for row in rows]
    # zstd's own checksum guards against what goes wrong between unpacking and the CRC.
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(b"".join(parts))


def unpack_rows(first: int, content: bytes) -> tuple[Row, ...]:
    """Return the rows of a block whose first row has this number.

    :raises DamagedBlock: when it is no block
    """
    try:
        plain = zstandard.ZstdDecompressor().decompress(
            content, max_output_size=CONTENT_BYTES_MAX, allow_extra_data=False
        )
        count, chained = _COUNTS.unpack_from(plain)
        columns = struct.unpack_from(f"<{count}I{count}i{count}I{chained}I", plain, _COUNTS.size)
    except (zstandard.ZstdError, struct.error, MemoryError) as error:
        raise DamagedBlock(str(error)) from None
    at = _COUNTS.size + 4 * len(columns)
    chains = {}
    for index in columns[3 * count :]:
        chains[index] = plain[at : at + CHAIN_BYTES]
        at += CHAIN_BYTES
    rows = []
    for index in range(count):
        end = at + columns[2 * count + index]
        row = Row(first + columns[index], columns[count + index], plain[at:end], chains.get(index))
        rows.append(row)
        at = end
    if at != len(plain):
        raise DamagedBlock("its parts do not fit its length")
    return tuple(rows)


def pack_evidence(replies: Sequence[tuple[int, bytes]]) -> bytes:
    """Join raw replies: per reply its seq (8 bytes), its length (4 bytes), its bytes."""
    return b"".join(
        seq.to_bytes(8, "big") + len(raw).to_bytes(4, "big") + raw for seq, raw in replies
    )


def unpack_evidence(packed: bytes) -> list[tuple[int, bytes]]:
    """Return ``(seq, raw reply)`` of each reply."""
    replies = []
    at = 0
    while at < len(packed):
        seq = int.from_bytes(packed[at : at + 8], "big")
        end = at + 12 + int.from_bytes(packed[at + 8 : at + 12], "big")
        replies.append((seq, packed[at + 12 : end]))
        at = end
    return replies

"""Records, their canonical bodies, batches and the chain: envelope v1 (``docs/mqtt.md``).

Pure functions from facts to bytes and back. The bytes made here are the bytes that are hashed,
stored and sent; nothing else in the agent writes a body.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

ENVELOPE_VERSION = 1
EVIDENCE_INLINE_BYTES_MAX = 32

encode_json = msgspec.json.Encoder().encode
decode_json = msgspec.json.Decoder().decode


class Lane(StrEnum):
    """The two record streams of an epoch; each has its own numbers and its own chain."""

    DATA = "data"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class Record:
    """A record before it has its number.

    :ivar kind: ``F``, ``G``, ``S``, ``C`` or ``E``
    :ivar tail: the body behind the number: everything after ``["F",101,``, closing bracket included
    :ivar evidence: the raw reply when it is too long for the body
    :ivar number: of a schema or context record, its number
    """

    lane: Lane
    kind: str
    tail: bytes
    evidence: bytes | None = None
    number: int = 0

    def body(self, seq: int) -> bytes:
        """Return the canonical body under this sequence number."""
        return b'["%b",%d,%b' % (self.kind.encode(), seq, self.tail)


class Entry(NamedTuple):
    """A record as the journal holds it."""

    seq: int
    body: bytes


class Instant(NamedTuple):
    """One moment on both clocks of this boot."""

    utc_ns: int
    boot_ns: int


class Bound(NamedTuple):
    """Where a gap begins or ends; ``boot_ns`` is ``None`` when it belongs to another boot."""

    utc_ns: int
    boot_ns: int | None


def received_utc_ns(body: bytes) -> int:
    """Return the ``utc`` of a canonical body: the moment that it states.

    :raises ValueError: if it is no record
    """
    fields = body.split(b",", 5)
    position = 4 if fields[0] in (b'["F"', b'["G"') else 3
    if len(fields) <= position:
        raise ValueError("this is no record")
    return int(fields[position])


def genesis(epoch: str, lane: Lane) -> bytes:
    """Return h(0) of a lane."""
    return hashlib.sha256(f"edgeagent/{ENVELOPE_VERSION}|{epoch}|{lane}".encode("ascii")).digest()


def extend_chain(chain: bytes, bodies: Iterable[bytes]) -> bytes:
    """Return the chain value after these bodies."""
    sha256 = hashlib.sha256
    for body in bodies:
        chain = sha256(chain + body).digest()
    return chain


def evidence_text(raw: bytes | None) -> bytes:
    """Return position 13 of a frame: the reply itself when short, else its digest."""
    if raw is None:
        return b"null"
    if len(raw) <= EVIDENCE_INLINE_BYTES_MAX:
        return b'"x:%b"' % raw.hex().encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest())
    return b'"s:%b"' % digest.rstrip(b"=")


def schema_record(number: int, at: Instant, description: Mapping[str, Any]) -> Record:
    """Return an ``S`` record."""
    return _described("S", Lane.DATA, number, at, description)


def context_record(lane: Lane, number: int, at: Instant, description: Mapping[str, Any]) -> Record:
    """Return a ``C`` record."""
    return _described("C", lane, number, at, description)


def _described(
    kind: str, lane: Lane, number: int, at: Instant, description: Mapping[str, Any]
) -> Record:
    tail = b"%d,%d,%d,%b]" % (number, at.utc_ns, at.boot_ns, encode_json(description))
    return Record(lane, kind, tail, number=number)


def event_record(
    context: int, at: Instant, event_type: str, severity: str, text: str, facts: Mapping[str, Any]
) -> Record:
    """Return an ``E`` record: readable alone, with the words for a person and the facts."""
    content = encode_json({"severity": severity, "text": text, **facts})
    tail = b"%d,%d,%d,%b,%b]" % (context, at.utc_ns, at.boot_ns, encode_json(event_type), content)
    return Record(Lane.EVENT, "E", tail)


def gap_record(
    schema: int,
    context: int,
    at: Instant,
    gap: int,
    cause: str,
    since: Bound | Instant | None,
    until: Bound | Instant | None,
    tags: Sequence[int] | None,
    detail: str | None,
) -> Record:
    """Return a ``G`` record: open when ``until`` is ``None``."""
    rest = encode_json([gap, cause, since, until, tags, detail])
    tail = b"%d,%d,%d,%d,%b" % (schema, context, at.utc_ns, at.boot_ns, rest[1:])
    return Record(Lane.DATA, "G", tail)


class Batch(NamedTuple):
    """Consecutive records of one lane, as one message carries them.

    :ivar prev: chain value before ``first``
    :ivar chain: chain value after the last record
    :ivar missing: sequence numbers whose bodies were destroyed on the agent's disk
    """

    site: str
    epoch: str
    lane: Lane
    first: int
    bodies: Sequence[bytes]
    prev: bytes
    chain: bytes
    missing: Sequence[int] = ()

    @property
    def last(self) -> int:
        """Sequence number at the end of the range."""
        return self.first + len(self.bodies) + len(self.missing) - 1

    def encode(self) -> bytes:
        """Return the payload: a header line, then one body per line."""
        header: dict[str, Any] = {
            "v": ENVELOPE_VERSION,
            "site": self.site,
            "epoch": self.epoch,
            "lane": self.lane.value,
            "first": self.first,
            "count": len(self.bodies),
            "prev": self.prev.hex(),
            "chain": self.chain.hex(),
        }
        if self.missing:
            header |= {"missing": list(self.missing), "last": self.last}
        return b"\n".join((encode_json(header), *self.bodies))


class _BatchHeader(msgspec.Struct):
    v: int
    site: str
    epoch: str
    lane: Lane
    first: int
    count: int
    prev: str
    chain: str
    missing: list[int] = []


_decode_header = msgspec.json.Decoder(_BatchHeader).decode


def decode_batch(payload: bytes) -> Batch:
    """Return the batch of a payload; the bodies are not looked into.

    :raises ValueError: if it is no batch of this envelope version
    """
    header_line, *bodies = payload.split(b"\n")
    try:
        header = _decode_header(header_line)
        prev, chain = bytes.fromhex(header.prev), bytes.fromhex(header.chain)
    except (msgspec.DecodeError, ValueError) as error:
        raise ValueError(f"batch header: {error}") from None
    if header.v != ENVELOPE_VERSION:
        raise ValueError(f"envelope version {header.v}; this program reads {ENVELOPE_VERSION}")
    numbers = range(header.first, header.first + len(bodies) + len(header.missing))
    fits = header.first >= 1 and header.count == len(bodies) and len(prev) == len(chain) == 32
    if not fits or len({n for n in header.missing if n in numbers}) != len(header.missing):
        raise ValueError("batch header does not fit its bodies")
    return Batch(
        header.site, header.epoch, header.lane, header.first, bodies, prev, chain, header.missing
    )


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """A consumer's cumulative acknowledgement after its own commit."""

    v: int
    consumer: str
    incarnation: str
    site: str
    epoch: str
    lane: Lane
    upto: int
    chain: str
    quarantined: list[int] = []

    def encode(self) -> bytes:
        """Return the payload."""
        return encode_json(self)


decode_receipt = msgspec.json.Decoder(Receipt).decode
"""Return the receipt of a payload; raises :class:`msgspec.DecodeError`."""

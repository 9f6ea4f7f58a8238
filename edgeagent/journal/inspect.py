"""Looking into a journal: what it holds, proof of every record, copies of records.

Everything is generated piece by piece, each from one moment, so that the agent can serve it between
other reads while it writes, packs and forgets.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from edgeagent.journal.held import EVIDENCE, CorruptRecord, Epoch
from edgeagent.journal.reader import Reader
from edgeagent.model.errors import EdgeAgentError
from edgeagent.model.record import Batch, Entry, Lane, decode_json, extend_chain

READ_BYTES = 1 << 20


class NoSuchEpoch(EdgeAgentError):
    """The journal has no epoch of that name."""


def journal_state(reader: Reader) -> dict[str, Any]:
    """Return layout, sizes in bytes, the ranges of every epoch and lane, and cursors."""
    with reader.snapshot():
        usage, epochs = reader.usage(), reader.epochs()
        uuids = {epoch.number: epoch.uuid for epoch in epochs}
        return {
            "layout": reader.layout,
            "bytes": usage.file_bytes,
            "free_bytes": usage.free_bytes,
            "log_bytes": usage.log_bytes,
            "used_bytes": usage.used_bytes,
            "epochs": [_epoch_state(reader, epoch) for epoch in epochs],
            "oldest_utc_ns": {
                lane.value: None if (oldest := reader.oldest(lane)) is None else oldest[2]
                for lane in Lane
            },
            "cursors": [
                {"consumer": name, "epoch": uuids[number], "lane": lane.value, "upto": cursor.upto}
                for (name, number, lane), cursor in sorted(reader.cursors().items())
            ],
        }


def _epoch_state(reader: Reader, epoch: Epoch) -> dict[str, Any]:
    return {
        "epoch": epoch.uuid,
        "opened_utc_ns": epoch.opened_utc_ns,
        "cause": epoch.cause,
        "lanes": {
            lane.value: reader.lane_range(epoch, lane).stated()
            | {"packed": reader.packed(epoch, lane)}
            for lane in Lane
        },
        "evidence_purged": reader.purged(epoch, EVIDENCE)[0],
    }


class Progress(NamedTuple):
    """A piece of a lane that was verified.

    :ivar upto: everything up to here has been verified
    :ivar highest: where the lane ended when its verification began
    :ivar records: how many records of this piece could be read
    :ivar faults: what is wrong in this piece, in words
    """

    epoch: str
    lane: Lane
    upto: int
    highest: int
    records: int
    faults: Sequence[str]


def verify(reader: Reader) -> Iterator[Progress]:
    """Prove every record: CRC, own number, chain, and the raw evidence against its digest."""
    for epoch in reader.epochs():
        for lane in Lane:
            yield from verify_lane(reader, epoch, lane)


def verify_lane(reader: Reader, epoch: Epoch, lane: Lane) -> Iterator[Progress]:
    """Prove the records of one lane of one epoch, from the place up to which it was purged."""
    at, chain = 0, None
    _, highest = reader.bounds(epoch, lane)
    started = False
    while True:
        with reader.snapshot():
            upto, anchor = reader.purged(epoch, lane)
            if upto > at or not started:
                at, chain, started = upto, anchor, True
            if at >= highest:
                break
            count, found, at, chain = _verify_piece(reader, epoch, lane, at, chain, highest)
            if at >= highest and reader.anchor_after(epoch, lane, highest) is None:
                found.append(f"{epoch.uuid} lane {lane}: ends with record {at} inside a commit")
        yield Progress(epoch.uuid, lane, at, highest, count, found)


def _verify_piece(
    reader: Reader, epoch: Epoch, lane: Lane, after: int, chain: bytes | None, highest: int
) -> tuple[int, list[str], int, bytes | None]:
    """Return how many records were read, what is wrong, the new place and its chain value."""
    where = f"{epoch.uuid} lane {lane}"
    try:
        entries = reader.read(epoch, lane, after, bytes_max=READ_BYTES, upto=highest)
        if not entries:
            raise CorruptRecord(lane, after + 1, highest)
    except CorruptRecord as damage:
        at = min(damage.last, highest)
        known = dict(reader.anchors(epoch, lane, after, at)).get(at)
        return 0, [f"{epoch.uuid} {damage}"], at, known
    at = entries[-1].seq
    stored = dict(reader.anchors(epoch, lane, after, at))
    faults: list[str] = []
    digests: dict[int, str] = {}
    for seq, body in entries:
        chain = None if chain is None else extend_chain(chain, [body])
        try:
            own, digest = _said(body)
        except ValueError:
            faults.append(f"{where} record {seq}: is no record")
        else:
            if own != seq:
                faults.append(f"{where} record {seq}: calls itself {own}")
            elif digest is not None:
                digests[seq] = digest
        if seq in stored:
            if chain is not None and chain != stored[seq]:
                faults.append(f"{where}: the chain breaks at or before record {seq}")
            chain = stored[seq]
    if digests:
        faults += [f"{where} {f}" for f in _evidence_faults(reader, epoch, after, at, digests)]
    return len(entries), faults, at, chain


def _said(body: bytes) -> tuple[Any, str | None]:
    """Return the number that a body states, and the digest of a raw reply that stands apart.

    :raises ValueError: if it is no record
    """
    content = decode_json(body)
    try:
        evidence = content[13] if content[0] == "F" else None
        digest = evidence[2:] if isinstance(evidence, str) and evidence[:2] == "s:" else None
        return content[1], digest
    except (LookupError, TypeError):
        raise ValueError("this is no record") from None


def _evidence_faults(
    reader: Reader, epoch: Epoch, after: int, upto: int, digests: Mapping[int, str]
) -> list[str]:
    replies = dict(reader.evidence(epoch, after, upto))
    purged, _ = reader.purged(epoch, EVIDENCE)
    faults = [
        f"record {seq}: the evidence does not fit its digest"
        for seq, digest in digests.items()
        if seq in replies and not _fits(replies[seq], digest)
    ]
    lost = sorted(seq for seq in digests.keys() - replies.keys() if seq > purged)
    if len(lost) == 1:
        faults.append(f"record {lost[0]}: its evidence is lost")
    elif lost:
        faults.append(f"records {lost[0]} to {lost[-1]}: the evidence of {len(lost)} is lost")
    return faults


def _fits(raw: bytes, digest: str) -> bool:
    return base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode() == digest


def export(
    reader: Reader, site: str, epoch: Epoch, lane: Lane, first: int | None, last: int | None
) -> Iterator[bytes]:
    """Copy records out: batches in the form in which they are sent, each with a line feed.

    :param first: from here on, or from the oldest that is held
    :raises CorruptRecord: where damage makes it impossible to go on with a proved chain value
    """
    for batch in batches(reader, site, epoch, lane, first, last):
        yield batch.encode() + b"\n"


def batches(
    reader: Reader, site: str, epoch: Epoch, lane: Lane, first: int | None, last: int | None
) -> Iterator[Batch]:
    """Return records as batches; see :func:`export`."""
    at, chain = (first or 1) - 1, None
    _, end = reader.bounds(epoch, lane)
    end = end if last is None else min(end, last)
    while True:
        with reader.snapshot():
            upto, _ = reader.purged(epoch, lane)
            if chain is None or at < upto:
                at = max(at, upto)
                chain = reader.chain_at(epoch, lane, at)
            if chain is None and (anchor := reader.anchor_after(epoch, lane, at)) is not None:
                at, chain = anchor
            if chain is None or at >= end:
                return
            batch = _batch(reader, site, epoch, lane, at, chain, end)
        yield batch
        at, chain = batch.last, batch.chain


def _batch(
    reader: Reader, site: str, epoch: Epoch, lane: Lane, after: int, chain: bytes, end: int
) -> Batch:
    missing: list[int] = []
    try:
        entries = reader.read(epoch, lane, after, bytes_max=READ_BYTES, upto=end)
        new = extend_chain(chain, (entry.body for entry in entries))
    except CorruptRecord as damage:
        entries, missing, new = _around(reader, epoch, lane, after, damage)
    bodies = [entry.body for entry in entries]
    return Batch(site, epoch.uuid, lane, after + 1, bodies, chain, new, missing)


def _around(
    reader: Reader, epoch: Epoch, lane: Lane, after: int, damage: CorruptRecord
) -> tuple[list[Entry], list[int], bytes]:
    """Return what is left up to the next anchor, what is missing, and the chain value there.

    :raises CorruptRecord: if there is no anchor any more
    """
    anchor = reader.anchor_after(epoch, lane, damage.last)
    if anchor is None:
        raise damage
    last, chain = anchor
    entries: list[Entry] = []
    missing: list[int] = []
    while after < last:
        try:
            entries += reader.read(epoch, lane, after, bytes_max=READ_BYTES, upto=last)
            after = entries[-1].seq
        except CorruptRecord as error:
            after = min(error.last, last)
            missing += range(error.seq, after + 1)
    return entries, missing, chain


def epoch_named(reader: Reader, uuid: str | None) -> Epoch:
    """Return the epoch of a UUID, the newest when none is stated.

    :raises NoSuchEpoch: if the journal has none of that name
    """
    epochs = {known.uuid: known for known in reader.epochs()}
    chosen = list(epochs.values())[-1] if uuid is None else epochs.get(uuid)
    if chosen is None:
        raise NoSuchEpoch(f"no epoch {uuid}; known: {', '.join(epochs)}")
    return chosen


def chain_is_lost(reader: Reader, epoch: Epoch, damage: CorruptRecord) -> str:
    """Say where an export ends, and with which record it can go on."""
    anchor = reader.anchor_after(epoch, damage.lane, damage.last)
    hint = f"; go on with --from {anchor[0] + 1}" if anchor else ""
    return f"{epoch.uuid} {damage}: the chain is lost there{hint}"

"""Receipts: what lets a cursor move, and what is refused (``docs/mqtt.md`` section 4)."""

from collections import OrderedDict
from dataclasses import dataclass

from edgeagent.journal import Epoch, Journal
from edgeagent.journal.store import SEQ_MASK, CorruptRecord, Cursor
from edgeagent.model.record import ENVELOPE_VERSION, Batch, Lane, Receipt, decode_receipt, genesis
from edgeagent.publish.stream import provable

POINTS_MAX = 4096
UUID_CHARACTERS = 36


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a receipt was not taken.

    :ivar reason: the kind of refusal; behind a colon, what is particular
    :ivar rolled_back: the consumer holds more of the current epoch than the journal does
    :ivar settled: nothing can change it, so that it is told once
    """

    reason: str
    receipt: Receipt | None = None
    rolled_back: bool = False
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """A receipt that was taken."""

    receipt: Receipt
    epoch: Epoch
    cursor: Cursor
    moved: bool


class ReceiptDesk:
    """Checks receipts against the journal and against what was sent."""

    def __init__(self, journal: Journal, site: str) -> None:
        self._journal = journal
        self._site = site
        self._points: OrderedDict[tuple[str, Lane, int], bytes] = OrderedDict()
        # What was committed before this process began may have been sent by the one before it.
        self._sent = {(journal.epoch.uuid, lane): journal.heads[lane][0] for lane in Lane}

    def sent(self, batch: Batch) -> None:
        """Take note that a batch was handed to the broker."""
        self._points[batch.epoch, batch.lane, batch.last] = batch.chain
        if len(self._points) > POINTS_MAX:
            self._points.popitem(last=False)
        key = (batch.epoch, batch.lane)
        self._sent[key] = max(self._sent.get(key, 0), batch.last)

    async def check(self, consumer: str, payload: bytes, *, retained: bool) -> Accepted | Refusal:
        """Return the verdict on a receipt; nothing is changed."""
        if retained:
            return Refusal("retained: a receipt is a moment's statement, publish it without retain")
        try:
            receipt = decode_receipt(payload)
        except (ValueError, RecursionError) as error:
            return Refusal(f"malformed: {error!s:.200}")
        if not _within_limits(receipt):
            return Refusal("malformed: a number or a name is out of range")
        if (
            receipt.v != ENVELOPE_VERSION
            or receipt.consumer != consumer
            or receipt.site != self._site
        ):
            return Refusal("malformed: version, consumer or site do not fit the topic", receipt)
        known = self._journal.consumers.get(consumer)
        if known is None or known.state == "retired":
            return Refusal("not enrolled: edgeagent consumer enrol", receipt)
        epoch = self._journal.find_epoch(receipt.epoch)
        if epoch is None:
            return Refusal("unknown epoch", receipt)
        return await self._check_place(receipt, epoch)

    async def _check_place(self, receipt: Receipt, epoch: Epoch) -> Accepted | Refusal:
        current = epoch == self._journal.epoch
        if current and receipt.upto > self._journal.heads[receipt.lane][0]:
            return Refusal("beyond the end of the journal", receipt, rolled_back=True)
        if current and receipt.upto > self._sent.get((epoch.uuid, receipt.lane), 0):
            return Refusal("beyond what was sent", receipt)
        before = self._journal.cursor(receipt.consumer, epoch, receipt.lane)
        try:
            chain = await self._chain_at(epoch, receipt.lane, receipt.upto, before)
        except CorruptRecord as error:
            return Refusal(f"cannot be proved: {error}", receipt)
        if chain is None:
            return Refusal("not within what the journal holds", receipt, settled=not current)
        if chain.hex() != receipt.chain:
            return Refusal(
                "wrong hash: the consumer holds other records than this journal", receipt
            )
        cursor = Cursor(receipt.upto, chain)
        return Accepted(receipt, epoch, cursor, before is None or cursor.upto > before.upto)

    async def _chain_at(
        self, epoch: Epoch, lane: Lane, seq: int, cursor: Cursor | None
    ) -> bytes | None:
        """Return h(seq), from the disk only when it is not known here; a purge takes it away."""
        if seq == 0:
            return genesis(epoch.uuid, lane)
        if cursor is not None and cursor.upto == seq:
            return cursor.chain
        point = self._points.get((epoch.uuid, lane, seq))
        if point is not None:
            return point
        place = await provable(self._journal, epoch, lane, seq)
        return place.chain if place is not None and place.upto == seq else None


def _within_limits(receipt: Receipt) -> bool:
    return (
        0 <= receipt.upto <= SEQ_MASK
        and all(0 < seq <= SEQ_MASK for seq in receipt.quarantined)
        and len(receipt.epoch) <= UUID_CHARACTERS
        and len(receipt.incarnation) <= UUID_CHARACTERS
    )

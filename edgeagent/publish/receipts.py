"""Receipts: what lets a cursor move, and what is refused (``docs/mqtt.md`` section 4)."""

from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from edgeagent.journal import Epoch, Journal
from edgeagent.journal.store import CorruptRecord, Cursor
from edgeagent.model.record import ENVELOPE_VERSION, Batch, Lane, Receipt, decode_receipt

POINTS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a receipt was not taken.

    :ivar rolled_back: the consumer holds more of the current epoch than the journal does
    """

    reason: str
    receipt: Receipt | None = None
    rolled_back: bool = False


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
        except msgspec.DecodeError as error:
            return Refusal(f"malformed: {error}")
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
        chain = self._points.get((epoch.uuid, receipt.lane, receipt.upto))
        if chain is None:
            try:
                chain = await self._journal.chain_at(epoch, receipt.lane, receipt.upto)
            except CorruptRecord as error:
                return Refusal(f"cannot be proved: {error}", receipt)
        if chain is None:
            return Refusal("beyond what the journal holds", receipt)
        if chain.hex() != receipt.chain:
            return Refusal(
                "wrong hash: the consumer holds other records than this journal", receipt
            )
        before = self._journal.cursor(receipt.consumer, epoch, receipt.lane)
        cursor = Cursor(receipt.upto, chain)
        return Accepted(receipt, epoch, cursor, before is None or cursor.upto > before.upto)

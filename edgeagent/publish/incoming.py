"""What consumers send: receipts move cursors, requests are answered (``docs/mqtt.md`` 4 and 5)."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from edgeagent.journal import Epoch
from edgeagent.journal.store import SEQ_MASK, CorruptRecord, Cursor
from edgeagent.model.errors import JournalFull
from edgeagent.model.record import ENVELOPE_VERSION, Lane, Receipt, decode_json, genesis
from edgeagent.mqtt import BrokerUnreachable, Message
from edgeagent.publish.catch_up import CatchUps
from edgeagent.publish.delivery import Delivery, Heard
from edgeagent.publish.outlet import Outlet
from edgeagent.publish.receipts import Accepted, Refusal
from edgeagent.publish.stream import provable

WAITING_MAX = 1000
SAME_REFUSAL_EVERY_NS = 60 * 10**9
ANOTHER_DATABASE_EVERY_NS = 60 * 10**9
QUARANTINE_REMEMBERED_MAX = 10_000


class RequestRefused(ValueError):
    """A request that cannot be met, in words for the consumer."""


class RefusalLog:
    """Raises an event for a refusal, but not for each repetition of it; outlives connections.

    What others may choose freely, names and wordings, makes no difference here: it would let them
    fill the journal.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._recorder = delivery.recorder
        self._at_ns: dict[tuple[str | None, str], int] = {}

    def note(self, consumer: str, refusal: Refusal) -> None:
        """Take note of one refused receipt."""
        now = self._recorder.clock.boot_ns()
        known = consumer in self._recorder.journal.consumers
        key = (consumer if known else None, refusal.reason.partition(":")[0])
        before = self._at_ns.get(key)
        if before is not None and (refusal.settled or now - before < SAME_REFUSAL_EVERY_NS):
            return
        self._at_ns[key] = now
        consumer = consumer[:64]
        self._recorder.event(
            "receipt.refused",
            "alarm",
            f"receipt of {consumer} refused: {refusal.reason}",
            consumer=consumer,
            reason=refusal.reason,
            **_place(refusal.receipt),
        )


class Incoming:
    """Handles receipts and requests of one connection, one after the other.

    :param new_epoch: opens a new epoch, for the cause that is given in words
    """

    def __init__(
        self,
        delivery: Delivery,
        outlet: Outlet,
        refusals: RefusalLog,
        new_epoch: Callable[[str], Awaitable[None]],
    ) -> None:
        self._delivery = delivery
        self._outlet = outlet
        self._refusals = refusals
        self._new_epoch = new_epoch
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(WAITING_MAX)

    def on_message(self, message: Message) -> None:
        """Take a message; when too many wait it is let go, for consumers repeat their receipts."""
        with suppress(asyncio.QueueFull):
            self._waiting.put_nowait(message)

    async def run(self, catch_ups: CatchUps) -> None:
        """Handle messages for as long as the connection lasts."""
        self._catch_ups = catch_ups
        epoch = self._delivery.journal.epoch
        while self._delivery.journal.epoch == epoch:
            message = await self._waiting.get()
            parsed = self._delivery.topics.parse_incoming(message.topic)
            if parsed is None:
                continue
            kind, consumer = parsed
            if kind == "receipt":
                await self._receipt(consumer, message)
            elif not message.retain:
                await self._request(consumer, message)
        raise BrokerUnreachable("a new epoch begins on a new connection")

    # -- receipts ------------------------------------------------------------------------------

    async def _receipt(self, consumer: str, message: Message) -> None:
        delivery = self._delivery
        verdict = await delivery.desk.check(consumer, message.payload, retained=message.retain)
        if isinstance(verdict, Accepted) and self._is_second_database(verdict.receipt):
            verdict = Refusal("another database: two use one consumer's name", verdict.receipt)
        if isinstance(verdict, Refusal):
            await self._refuse(consumer, verdict)
            return
        delivery.status.receipts += 1
        heard = delivery.hear(consumer)
        try:
            replaced = await self._note_incarnation(heard, verdict)
        except JournalFull:  # a full disk is told elsewhere; the consumer repeats its receipts
            return
        if verdict.moved or replaced:
            receipt = verdict.receipt
            delivery.journal.set_cursor(consumer, verdict.epoch, receipt.lane, verdict.cursor)
            now = asyncio.get_running_loop().time()
            heard.moved_s[verdict.epoch.number, receipt.lane] = now
            delivery.moved.set()
        self._note_quarantine(heard, verdict.receipt)
        await self._catch_ups.serve(delivery.journal.consumers[consumer])

    def _is_second_database(self, receipt: Receipt) -> bool:
        """Return whether the database is another one again, so soon that there must be two."""
        known = self._delivery.journal.consumers[receipt.consumer].incarnation
        if known is None or known == receipt.incarnation:
            return False
        heard = self._delivery.heard.get(receipt.consumer)
        if heard is None or heard.replaced_ns is None:
            return False
        now = self._delivery.recorder.clock.boot_ns()
        return now - heard.replaced_ns < ANOTHER_DATABASE_EVERY_NS

    async def _note_incarnation(self, heard: Heard, verdict: Accepted) -> bool:
        """Return whether the receipt comes from another database than the one before."""
        journal, receipt = self._delivery.journal, verdict.receipt
        if journal.consumers[receipt.consumer].incarnation == receipt.incarnation:
            return False
        if any(name == receipt.consumer for name, _, _ in journal.cursors):
            await self._begin_anew(heard, verdict)
        known = journal.consumers[receipt.consumer]
        await journal.save_consumer(known._replace(incarnation=receipt.incarnation))
        return True

    async def _begin_anew(self, heard: Heard, verdict: Accepted) -> None:
        """Take the cursors back, on disk before the new database is known: a kill repeats it."""
        journal, recorder = self._delivery.journal, self._delivery.recorder
        receipt, before = verdict.receipt, journal.consumers[verdict.receipt.consumer].incarnation
        for epoch in journal.epochs:
            for lane in Lane:
                start = Cursor(0, genesis(epoch.uuid, lane))
                journal.set_cursor(receipt.consumer, epoch, lane, start)
        journal.set_cursor(receipt.consumer, verdict.epoch, receipt.lane, verdict.cursor)
        heard.replaced_ns = recorder.clock.boot_ns()
        recorder.event(
            "consumer.incarnation",
            "alarm",
            f"{receipt.consumer} has another database than before; it is served from its new place",
            consumer=receipt.consumer,
            before=before,
            now=receipt.incarnation,
        )
        await recorder.flush()

    def _note_quarantine(self, heard: Heard, receipt: Receipt) -> None:
        places = {(receipt.epoch, receipt.lane, seq) for seq in receipt.quarantined}
        fresh = sorted(seq for _, _, seq in places - heard.quarantined)
        if not fresh:
            return
        if len(heard.quarantined) > QUARANTINE_REMEMBERED_MAX:
            heard.quarantined.clear()
        heard.quarantined |= places
        self._delivery.recorder.event(
            "record.quarantined",
            "alarm",
            f"{receipt.consumer} holds records that it cannot use",
            consumer=receipt.consumer,
            epoch=receipt.epoch,
            lane=receipt.lane.value,
            seqs=fresh,
        )

    async def _refuse(self, consumer: str, refusal: Refusal) -> None:
        delivery = self._delivery
        delivery.status.refused += 1
        if refusal.receipt is not None and consumer in delivery.journal.consumers:
            delivery.hear(consumer)  # it listens: what it lacks shows it where the records differ
        self._refusals.note(consumer, refusal)
        reply = {"v": 1, "reply": "receipt-refused", "reason": refusal.reason}
        self._outlet.say(delivery.topics.reply(consumer), {**reply, **_place(refusal.receipt)})
        if refusal.rolled_back:
            await self._new_epoch(f"{consumer} holds more of the journal than this disk does")

    # -- requests ------------------------------------------------------------------------------

    async def _request(self, consumer: str, message: Message) -> None:
        request: Any = None
        try:
            request = decode_json(message.payload)
            reply = await self._answer(consumer, request)
        except KeyError as error:
            reply = {"reply": "error", "error": f"{error.args[0]} is missing"}
        except (TypeError, ValueError, RecursionError, CorruptRecord) as error:
            reply = {"reply": "error", "error": f"{error!s:.200}"}
        request_id = request.get("id") if isinstance(request, dict) else None
        reply["id"] = request_id if isinstance(request_id, str | int) else None
        topic = self._reply_topic(consumer, message.response_topic)
        self._outlet.say(topic, {"v": 1, **reply}, correlation=message.correlation)

    def _reply_topic(self, consumer: str, asked: str | None) -> str:
        topics = self._delivery.topics
        if asked is not None and topics.is_reply(asked):
            return asked
        return topics.reply(consumer)

    async def _answer(self, consumer: str, request: Any) -> dict[str, Any]:
        known = self._delivery.journal.consumers.get(consumer)
        if known is None or known.state == "retired":
            raise RequestRefused("not enrolled: edgeagent consumer enrol")
        if not isinstance(request, dict) or request.get("v") != ENVELOPE_VERSION:
            raise RequestRefused(f"a request is a JSON object with v {ENVELOPE_VERSION}")
        kind = request["request"]
        if kind not in ("replay", "conflict"):
            raise RequestRefused(f"unknown request {kind!r}")
        epoch = self._delivery.journal.find_epoch(str(request["epoch"]))
        if epoch is None:
            raise RequestRefused("unknown epoch")
        answer = self._replay if kind == "replay" else self._conflict
        return await answer(consumer, epoch, Lane(request["lane"]), request)

    async def _replay(
        self, consumer: str, epoch: Epoch, lane: Lane, request: dict[str, Any]
    ) -> dict[str, Any]:
        held = await self._delivery.journal.lane_range(epoch, lane)
        first = max(1, _number(request, "from"))
        last = held.highest if request.get("to") is None else _number(request, "to")
        high = min(last, held.highest)
        start = await self._provable(epoch, lane, min(first - 1, held.highest))
        low = max(first, start.upto + 1)
        if low <= high:
            self._delivery.hear(consumer)
            if not self._catch_ups.replay(consumer, epoch, lane, start, high):
                raise RequestRefused("too many replays are waiting")
        unavailable = [[first, min(low - 1, last)], [max(first, held.highest + 1), last]]
        return {
            "reply": "replay",
            "epoch": epoch.uuid,
            "lane": lane.value,
            "available": [low, high] if low <= high else None,
            "unavailable": [[a, b] for a, b in unavailable if a <= b],
        }

    async def _provable(self, epoch: Epoch, lane: Lane, seq: int) -> Cursor:
        """Return where to begin so that ``seq + 1`` is sent, as near to it as can be proved."""
        journal = self._delivery.journal
        try:
            place = await provable(journal, epoch, lane, seq)
        except CorruptRecord as damage:
            place = await provable(journal, epoch, lane, damage.seq - 1)
        if place is None:
            raise RequestRefused("the range cannot be proved from here")
        return place

    async def _conflict(
        self, consumer: str, epoch: Epoch, lane: Lane, request: dict[str, Any]
    ) -> dict[str, Any]:
        """Open a new epoch when the consumer proves that this journal's history is a second one."""
        journal = self._delivery.journal
        seq = _number(request, "seq")
        entries = await journal.read(epoch, lane, max(0, seq - 1), bytes_max=1, upto=seq)
        if not entries or hashlib.sha256(entries[0].body).hexdigest() != request["offered"]:
            raise RequestRefused("the offered body is not this journal's")
        if request["held"] == request["offered"]:
            raise RequestRefused("the held body is the offered one")
        if epoch == journal.epoch:
            await self._new_epoch(f"{consumer} holds another record {seq} of lane {lane}")
        return {"reply": "conflict", "epoch": journal.epoch.uuid}


def _number(request: dict[str, Any], key: str) -> int:
    number = request[key]
    if type(number) is not int or not 0 <= number <= SEQ_MASK:
        raise RequestRefused(f"{key} is no sequence number")
    return number


def _place(receipt: Receipt | None) -> dict[str, Any]:
    if receipt is None:
        return {}
    return {"epoch": receipt.epoch, "lane": receipt.lane.value, "upto": receipt.upto}

"""What consumers send: receipts move cursors, requests are answered (``docs/mqtt.md`` 4 and 5)."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from edgeagent.journal.store import CorruptRecord, Cursor
from edgeagent.model.record import Lane, Receipt, decode_json, genesis
from edgeagent.mqtt import Message
from edgeagent.publish.catch_up import CatchUps
from edgeagent.publish.delivery import Delivery, Heard
from edgeagent.publish.outlet import Outlet
from edgeagent.publish.receipts import Accepted, Refusal

WAITING_MAX = 1000
SAME_REFUSAL_EVERY_NS = 60 * 10**9
QUARANTINE_REMEMBERED_MAX = 10_000

log = structlog.get_logger()


class RequestRefused(ValueError):
    """A request that cannot be met, in words for the consumer."""


class RefusalLog:
    """Raises an event for a refusal, but not for each repetition of it; outlives connections."""

    def __init__(self, delivery: Delivery) -> None:
        self._recorder = delivery.recorder
        self._at_ns: dict[tuple[str, str], int] = {}

    def note(self, consumer: str, refusal: Refusal) -> None:
        """Take note of one refused receipt."""
        now = self._recorder.clock.boot_ns()
        key = (consumer, refusal.reason)
        if now - self._at_ns.get(key, -SAME_REFUSAL_EVERY_NS) < SAME_REFUSAL_EVERY_NS:
            return
        self._at_ns[key] = now
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
        while True:
            message = await self._waiting.get()
            parsed = self._delivery.topics.parse_incoming(message.topic)
            if parsed is None:
                continue
            kind, consumer = parsed
            if kind == "receipt":
                await self._receipt(consumer, message)
            elif not message.retain:
                await self._request(consumer, message)

    # -- receipts ------------------------------------------------------------------------------

    async def _receipt(self, consumer: str, message: Message) -> None:
        delivery = self._delivery
        verdict = await delivery.desk.check(consumer, message.payload, retained=message.retain)
        if isinstance(verdict, Refusal):
            await self._refuse(consumer, verdict)
            return
        delivery.status.receipts += 1
        heard = delivery.hear(consumer)
        await self._note_incarnation(consumer, verdict)
        if verdict.moved:
            receipt = verdict.receipt
            delivery.journal.set_cursor(consumer, verdict.epoch, receipt.lane, verdict.cursor)
            now = asyncio.get_running_loop().time()
            heard.moved_s[verdict.epoch.number, receipt.lane] = now
            delivery.moved.set()
        self._note_quarantine(heard, verdict.receipt)
        await self._catch_ups.serve(delivery.journal.consumers[consumer])

    async def _note_incarnation(self, consumer: str, verdict: Accepted) -> None:
        journal, receipt = self._delivery.journal, verdict.receipt
        known = journal.consumers[consumer]
        if known.incarnation == receipt.incarnation:
            return
        await journal.save_consumer(known._replace(incarnation=receipt.incarnation))
        if known.incarnation is None:
            return
        self._delivery.recorder.event(
            "consumer.incarnation",
            "alarm",
            f"{consumer} has another database than before; it is served from its new place",
            consumer=consumer,
            before=known.incarnation,
            now=receipt.incarnation,
        )
        for name, number, lane in list(journal.cursors):
            if name == consumer:
                epoch = journal.epochs[number]
                journal.set_cursor(name, epoch, lane, Cursor(0, genesis(epoch.uuid, lane)))
        journal.set_cursor(consumer, verdict.epoch, receipt.lane, verdict.cursor)

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
        self._delivery.status.refused += 1
        self._refusals.note(consumer, refusal)
        reply = {"v": 1, "reply": "receipt-refused", "reason": refusal.reason}
        self._outlet.say(
            self._delivery.topics.reply(consumer), {**reply, **_place(refusal.receipt)}
        )
        if refusal.rolled_back:
            await self._new_epoch(f"{consumer} holds more of the journal than this disk does")

    # -- requests ------------------------------------------------------------------------------

    async def _request(self, consumer: str, message: Message) -> None:
        delivery = self._delivery
        request: Any = None
        try:
            request = decode_json(message.payload)
            reply = await self._answer(consumer, request)
        except KeyError as error:
            reply = {"reply": "error", "error": f"{error.args[0]} is missing"}
        except (msgspec.DecodeError, TypeError, ValueError, CorruptRecord) as error:
            reply = {"reply": "error", "error": str(error)}
        request_id = request.get("id") if isinstance(request, dict) else None
        topic = delivery.topics.reply(consumer)
        asked = message.response_topic
        if asked is not None and asked.startswith(f"{delivery.topics.base}/reply/"):
            topic = asked
        answer = {"v": 1, **reply, "id": request_id}
        self._outlet.say(topic, answer, correlation=message.correlation)

    async def _answer(self, consumer: str, request: dict[str, Any]) -> dict[str, Any]:
        known = self._delivery.journal.consumers.get(consumer)
        if known is None or known.state == "retired":
            raise RequestRefused("not enrolled: edgeagent consumer enrol")
        kind = request["request"]
        if kind not in ("replay", "conflict"):
            raise RequestRefused(f"unknown request {kind!r}")
        epoch = self._delivery.journal.find_epoch(str(request["epoch"]))
        if epoch is None:
            raise RequestRefused("unknown epoch")
        answer = self._replay if kind == "replay" else self._conflict
        return await answer(consumer, epoch, Lane(request["lane"]), request)

    async def _replay(
        self, consumer: str, epoch: Any, lane: Lane, request: dict[str, Any]
    ) -> dict[str, Any]:
        journal = self._delivery.journal
        held = await journal.lane_range(epoch, lane)
        first = max(1, int(request["from"]))
        last = held.highest if request.get("to") is None else int(request["to"])
        low, high = max(first, held.lowest), min(last, held.highest)
        unavailable = []
        if first < min(low, last + 1):
            unavailable.append([first, min(low - 1, last)])
        if last > held.highest:
            unavailable.append([max(first, held.highest + 1), last])
        if low <= high:
            chain = await journal.chain_at(epoch, lane, low - 1)
            if chain is None:
                raise RequestRefused("the range cannot be proved from here")
            self._delivery.hear(consumer)
            self._catch_ups.start(consumer, epoch, lane, Cursor(low - 1, chain), high)
        return {
            "reply": "replay",
            "epoch": epoch.uuid,
            "lane": lane.value,
            "available": [low, high] if low <= high else None,
            "unavailable": unavailable,
        }

    async def _conflict(
        self, consumer: str, epoch: Any, lane: Lane, request: dict[str, Any]
    ) -> dict[str, Any]:
        """Open a new epoch when the consumer proves that this journal's history is a second one."""
        journal = self._delivery.journal
        seq = int(request["seq"])
        entries = await journal.read(epoch, lane, seq - 1, bytes_max=1, upto=seq)
        if not entries or hashlib.sha256(entries[0].body).hexdigest() != request["offered"]:
            raise RequestRefused("the offered body is not this journal's")
        if request["held"] != request["offered"] and epoch == journal.epoch:
            await self._new_epoch(f"{consumer} holds another record {seq} of lane {lane}")
        return {"reply": "conflict", "epoch": journal.epoch.uuid}


def _place(receipt: Receipt | None) -> dict[str, Any]:
    if receipt is None:
        return {}
    return {"epoch": receipt.epoch, "lane": receipt.lane.value, "upto": receipt.upto}

"""What travels between a receiver and the agents: ``docs/mqtt.md`` sections 1, 4 and 5."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from edgeagent.central.intake import SEQ_MAX, fault_of, is_identifier
from edgeagent.central.store import LaneKey, Note, OpenConflict, Unavailable, Work
from edgeagent.model.record import ENVELOPE_VERSION, Lane, decode_batch, encode_json
from edgeagent.mqtt import Message

CONFLICT_ID = "conflict-"


class Topics:
    """The topics of one consumer. ``site`` may be ``+`` for all."""

    def __init__(self, root: str, site: str, consumer: str) -> None:
        self._root = root
        self._site = site
        self._consumer = consumer

    def filters(self, *, shared: bool) -> list[str]:
        """Return what to subscribe to; ``shared`` divides the messages among many receivers."""
        base = f"{self._root}/{self._site}"
        own = f"{base}/to/{self._consumer}"
        found = [f"{base}/{lane}" for lane in Lane] + [f"{own}/{lane}" for lane in Lane]
        found += [f"{base}/head", f"{base}/reply/{self._consumer}"]
        return [f"$share/{self._consumer}/{each}" for each in found] if shared else found

    def place(self, topic: str) -> tuple[str, str]:
        """Return site and kind of message: ``data``, ``event``, ``head``, ``reply`` or ``""``."""
        site, *rest = topic.removeprefix(f"{self._root}/").split("/")
        match rest:
            case [("data" | "event" | "head") as kind]:
                return site, kind
            case ["to", self._consumer, ("data" | "event") as kind]:
                return site, kind
            case ["reply", self._consumer]:
                return site, "reply"
        return site, ""

    def receipt(self, site: str) -> str:
        """Return where receipts for a site go."""
        return f"{self._root}/{site}/receipt/{self._consumer}"

    def request(self, site: str) -> str:
        """Return where requests to a site go."""
        return f"{self._root}/{site}/request/{self._consumer}"


class _LaneHead(msgspec.Struct):
    highest: int


class _Earlier(msgspec.Struct):
    epoch: str
    lanes: dict[str, _LaneHead]


class _Head(msgspec.Struct):
    site: str
    epoch: str
    lanes: dict[str, _LaneHead]
    earlier: list[_Earlier] = []


class _Reply(msgspec.Struct):
    reply: str
    id: Any = None
    epoch: str = ""
    lane: str = ""
    available: tuple[int, int] | None = None
    unavailable: list[tuple[int, int]] = []
    upto: int | None = None
    reason: str = ""
    error: str = ""


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_reply = msgspec.json.Decoder(_Reply).decode


class Sorted(NamedTuple):
    """Messages, understood.

    :ivar highest: per lane the last record that a head announces
    :ivar rejected: how many batches could not be trusted
    """

    work: Work
    highest: dict[LaneKey, int]
    rejected: int


def sort_out(messages: Iterable[Message], topics: Topics) -> Sorted:
    """Return what messages ask for. What cannot be understood becomes an event, never an error."""
    done = Sorted(Work(), {}, 0)
    rejected = 0
    for message in messages:
        site, kind = topics.place(message.topic)
        try:
            if not is_identifier(site):
                raise ValueError(f"the site in topic {message.topic!r} is no identifier")
            if kind in ("data", "event"):
                _take_batch(message.payload, site, kind, done.work)
            elif kind == "reply":
                _take_reply(message.payload, site, done.work)
            elif kind == "head" and message.payload:  # empty: the retained one was cleared
                _take_head(message.payload, site, done)
        except (ValueError, msgspec.DecodeError) as error:
            rejected += 1
            name = "batch" if kind in ("data", "event") else kind or "message"
            text = f"A {name} on {message.topic} was not taken: {error}."
            site = site if is_identifier(site) else "?"
            done.work.notes.append(
                Note(
                    None, site, f"{name}.rejected", "warning", text, {"bytes": len(message.payload)}
                )
            )
    return done._replace(rejected=rejected)


def _take_batch(payload: bytes, site: str, lane: str, work: Work) -> None:
    batch = decode_batch(payload)
    if (batch.site, batch.lane.value) != (site, lane):
        raise ValueError(f"it says that it comes from {batch.site[:64]!r}, lane {batch.lane}")
    fault = fault_of(batch)
    if fault is not None:
        raise ValueError(f"{fault} (records from {batch.first})")
    work.batches.append((batch, payload))


def _take_head(payload: bytes, site: str, done: Sorted) -> None:
    head = _decode_head(payload)
    if head.site != site:
        raise ValueError(f"it says that it comes from {head.site[:64]!r}")
    done.work.sites.add(site)
    for epoch, lanes in [(head.epoch, head.lanes), *((e.epoch, e.lanes) for e in head.earlier)]:
        for lane in Lane:
            state = lanes.get(lane)
            if state is None:
                continue
            key = _key(site, epoch, lane)
            done.work.asked.add(key)
            done.highest[key] = state.highest


def _take_reply(payload: bytes, site: str, work: Work) -> None:
    reply = _decode_reply(payload)
    if reply.reply == "replay":
        work.unavailable += _gone(_key(site, reply.epoch, reply.lane), reply)
    elif reply.reply == "conflict":
        if not is_identifier(reply.epoch):
            raise ValueError("its epoch is no identifier")
        work.answered[_conflict_number(reply.id)] = reply.epoch
    elif reply.reply == "receipt-refused":
        key = _key(site, reply.epoch, reply.lane)
        text = f"The agent refused the receipt up to {reply.upto}: {reply.reason[:300]}"
        facts = {"upto": reply.upto}
        work.notes.append(Note(key, site, "receipt.refused", "alarm", text, facts))
    elif reply.reply == "error":
        text = f"The agent refused a request: {reply.error[:300]}"
        work.notes.append(Note(None, site, "request.refused", "warning", text, {"id": reply.id}))


def _gone(key: LaneKey, reply: _Reply) -> list[Unavailable]:
    """Return what is gone for ever: a journal cannot send what it has not written yet, either."""
    gone = []
    for first, last in reply.unavailable:
        if not 1 <= first <= last <= SEQ_MAX:
            raise ValueError(f"{first} to {last} is no range of records")
        if reply.available is not None and last < reply.available[0]:
            gone.append(Unavailable(key, first, last))
    return gone


def _key(site: str, epoch: str, lane: str) -> LaneKey:
    if not is_identifier(epoch):
        raise ValueError("its epoch is no identifier")
    return LaneKey(site, epoch, Lane(lane))


def _conflict_number(request_id: object) -> int:
    number = str(request_id).removeprefix(CONFLICT_ID)
    if not number.isdecimal() or len(number) > 18:
        raise ValueError("it answers a conflict that was never reported")
    return int(number)


def replay_request(key: LaneKey, first: int, last: int) -> bytes:
    """Return the request to send a range again, and the record behind it.

    Only when the agent has that one, what it cannot send of the range is known to be gone.
    """
    last += 1
    return _request("replay", f"replay-{key.lane}-{first}-{last}", key, {"from": first, "to": last})


def conflict_request(conflict: OpenConflict) -> bytes:
    """Return the proof that two bodies were offered under one key."""
    facts = {"seq": conflict.seq, "held": conflict.held, "offered": conflict.offered}
    return _request("conflict", f"{CONFLICT_ID}{conflict.id}", conflict.key, facts)


def _request(name: str, request_id: str, key: LaneKey, facts: dict[str, Any]) -> bytes:
    head = {"v": ENVELOPE_VERSION, "request": name, "id": request_id}
    return encode_json(head | {"epoch": key.epoch, "lane": key.lane.value} | facts)

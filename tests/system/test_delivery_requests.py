"""Requests: any range again, a proven conflict, and an answer in words to everything else.

Method: as in test_delivery_live.py; the consumer asks by hand, also for what nobody should ask.
"""

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeagent.journal.store import Consumer as Enrolled
from edgeagent.model.record import Lane
from edgeagent.publish import catch_up
from tests.brokers import Mosquitto
from tests.consumers import Consumer, until
from tests.unit.publish.site import Site

TO_CENTRAL = "to/central/data"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@asynccontextmanager
async def settled(
    site: Site, broker: Mosquitto, records: int = 20, version: str = "5"
) -> AsyncIterator[tuple[Consumer, str]]:
    """A site with a consumer that holds everything; the consumer, and the epoch."""
    async with Consumer(broker.port, site.name, version=version) as central, site:
        for _ in range(records // 5):
            site.put(5)
            await site.flush()
        await until("the cursor", lambda: site.cursor() == records)
        yield central, site.epoch


async def replayed(central: Consumer, first: int, last: int) -> None:
    """Wait until a range has come again."""

    def came() -> bool:
        found = {seq for batch in central.sent_to(TO_CENTRAL) for seq in batch.seqs}
        return found >= set(range(first, last + 1))

    await until(f"{first} to {last} again", came)


# -- replay -------------------------------------------------------------------------------------

RANGES = [
    # from, to: available, unavailable
    (1, 20, [1, 20], []),
    (1, None, [1, 20], []),
    (0, 5, [1, 5], []),
    (7, 9, [7, 9], []),
    (20, 20, [20, 20], []),
    (13, None, [13, 20], []),
    (18, 25, [18, 20], [[21, 25]]),
    (21, 25, None, [[21, 25]]),
    (1 << 47, None, None, []),
    (9, 7, None, []),
]


async def test_any_range_is_sent_again(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: what is available comes, what is not is said, and the bodies are the same bytes."""
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, epoch):
        bodies = await site.bodies()
        for first, last, available, unavailable in RANGES:
            central.messages.clear()
            facts: dict[str, Any] = {"from": first, "to": last}
            reply = await central.ask("replay", epoch=epoch, lane="data", **facts)
            expected = {"v": 1, "reply": "replay", "epoch": epoch, "lane": "data"}
            expected |= {"available": available, "unavailable": unavailable, "id": reply["id"]}
            assert reply == expected, facts
            if available:
                await replayed(central, *available)
                (batch,) = central.sent_to(TO_CENTRAL)
                assert list(batch.seqs) == list(range(available[0], available[1] + 1))
                again = [body for _, body in sorted(batch.bodies.items())]
                assert again == bodies[available[0] - 1 : available[1]]
            else:
                assert central.on(TO_CENTRAL) == []
        assert central.on("data") == [], "to this consumer alone"


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_the_event_lane_and_both_versions(
    tmp_path: Path, broker: Mosquitto, version: str
) -> None:
    site = Site(tmp_path, broker, version=version)
    async with settled(site, broker, version=version) as (central, epoch):
        site.put_event()
        await until("the event", lambda: site.cursor(lane="event") == 1)
        facts: dict[str, Any] = {"from": 1, "to": None}
        reply = await central.ask("replay", epoch=epoch, lane="event", **facts)
        assert reply["available"] == [1, 1]
        await until("again", lambda: central.on("to/central/event"))


async def test_many_replays_are_all_sent(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: a request that was answered is met, also when others are under way."""
    site = Site(tmp_path, broker, batch_bytes=1024)
    async with settled(site, broker, 200) as (central, epoch):
        wanted = [(1, 200), (50, 60), (3, 3), (150, 200), (10, 190)]
        for first, last in wanted:
            facts = {"from": first, "to": last}
            central.send_request("replay", epoch=epoch, lane="data", **facts)
        records = sum(last - first + 1 for first, last in wanted)

        def sent() -> list[int]:
            return [seq for batch in central.sent_to(TO_CENTRAL) for seq in batch.seqs]

        await until("everything", lambda: len(sent()) == records)
        one_after_the_other = [seq for a, b in wanted for seq in range(a, b + 1)]
        assert sent() == one_after_the_other
        assert len(central.on("reply/central")) == len(wanted)


async def test_too_many_replays_are_refused(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "REPLAYS_WAITING_MAX", 2)
    site = Site(tmp_path, broker, batch_bytes=1024)
    async with settled(site, broker, 300) as (central, epoch):
        for _ in range(10):
            central.send_request("replay", epoch=epoch, lane="data", **{"from": 1, "to": 300})
        await until("all answers", lambda: len(central.on("reply/central")) == 10)
        replies = [message.json for message in central.on("reply/central")]
        refused = [reply for reply in replies if reply["reply"] == "error"]
        assert refused
        assert {reply["error"] for reply in refused} == {"too many replays are waiting"}
        records = (10 - len(refused)) * 300

        def sent() -> int:
            return sum(len(batch.seqs) for batch in central.sent_to(TO_CENTRAL))

        await until("the others", lambda: sent() == records)


async def test_a_replay_is_complete_without_receipts(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: a replay of more than may be ahead is sent to its end while the cursor stands still."""
    monkeypatch.setattr(catch_up, "UNRECEIPTED_BYTES_MAX", 4000)
    site = Site(tmp_path, broker, batch_bytes=1024)
    async with settled(site, broker) as (central, epoch):
        central.drops = lambda batch: 21 in batch.seqs  # so that the cursor stands at 20
        await site.record(1)
        await site.record(30, 500)
        central.send_request("replay", epoch=epoch, lane="data", **{"from": 22, "to": 51})
        await replayed(central, 22, 51)
        assert site.cursor() == 20
        central.drops = lambda _: False
        await until("all", lambda: site.cursor() == 51)


async def test_an_earlier_epoch_can_be_asked_for(tmp_path: Path, broker: Mosquitto) -> None:
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, old):
        await site.recorder.new_epoch("a test")
        await until("on a new connection", lambda: site.stream.status.connects == 2)
        reply = await central.ask("replay", epoch=old, lane="data", **{"from": 19, "to": 30})
        assert (reply["epoch"], reply["available"]) == (old, [19, 20])
        assert reply["unavailable"] == [[21, 30]]
        await replayed(central, 19, 20)


# -- where the answer goes ----------------------------------------------------------------------


async def test_the_answer_goes_where_it_is_wanted(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: response topic and correlation are used as given, below the site's own replies only."""
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, epoch):
        base = f"edge/v1/{site.name}"
        ask: dict[str, Any] = {"epoch": epoch, "lane": "data", "from": 1, "to": 1}
        own = {"response_topic": f"{base}/reply/central/mine", "correlation": b"\x00\xff"}
        reply = await central.answer(
            central.send_request("replay", **own, **ask), "reply/central/mine"
        )
        assert (reply.correlation, reply.content_type) == (b"\x00\xff", "application/json")
        for elsewhere in (
            "somewhere/else",
            f"{base}/data",
            f"{base}/replying",
            f"{base}x/reply/central",
            "edge/v1/another/reply/central",
            f"{base}/reply/+",
            f"{base}/reply/#",
        ):
            sent = central.send_request("replay", response_topic=elsewhere, **ask)
            reply = await central.answer(sent)
            assert (reply.topic, reply.correlation) == ("reply/central", None)


# -- what is not met ----------------------------------------------------------------------------

RANGE_1 = {"from": 1, "to": 1}
ERRORS = [
    ("unknown request 'reboot'", {"request": "reboot"}),
    ("request is missing", {"request": ...}),
    ("epoch is missing", {"epoch": ...}),
    ("lane is missing", {"lane": ...}),
    ("from is missing", {"from": ...}),
    ("unknown epoch", {"epoch": "0192"}),
    ("unknown epoch", {"epoch": [[]]}),
    ("not a valid Lane", {"lane": "other"}),
    ("not a valid Lane", {"lane": []}),
    ("from is no sequence number", {"from": -1}),
    ("from is no sequence number", {"from": "1"}),
    ("from is no sequence number", {"from": True}),
    ("from is no sequence number", {"from": 1e300}),
    ("from is no sequence number", {"from": 1 << 48}),
    ("to is no sequence number", {"to": 10**30}),
    ("a request is a JSON object with v 1", {"v": 2}),
    ("a request is a JSON object with v 1", {"v": ...}),
    ("seq is no sequence number", {"request": "conflict", "seq": -1}),
    ("seq is no sequence number", {"request": "conflict", "seq": 1 << 64}),
    ("not this journal's", {"request": "conflict", "seq": 0, "offered": "x", "held": "y"}),
    ("not this journal's", {"request": "conflict", "seq": 99, "offered": "x", "held": "y"}),
    ("not this journal's", {"request": "conflict", "seq": 1, "offered": 1, "held": "y"}),
    ("offered is missing", {"request": "conflict", "seq": 1}),
]
GARBAGE = [b"", b"null", b"[]", b'"text"', b"{", b"\xff", b'{"id":"\xff"}', b"[" * 100_000]


async def test_what_cannot_be_met_is_answered_in_words(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: every request that is wrong is answered, and none ends the agent."""
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, epoch):
        for number, (words, changes) in enumerate(ERRORS, 1):
            request = {"v": 1, "request": "replay", "id": number, "epoch": epoch, "lane": "data"}
            content = request | RANGE_1 | changes
            content = {key: value for key, value in content.items() if value is not ...}
            central.publish("request/central", content)
            await until(f"{changes}", lambda n=number: len(central.on("reply/central")) == n)
            reply = central.on("reply/central")[-1].json
            assert (reply["v"], reply["reply"], reply["id"]) == (1, "error", number)
            assert words in reply["error"]
        for garbage in GARBAGE:
            before = len(central.on("reply/central"))
            central.publish("request/central", garbage)
            await until(f"{garbage[:9]!r}", lambda n=before: len(central.on("reply/central")) > n)
            assert central.on("reply/central")[-1].json["reply"] == "error"
        assert len(site.journal.epochs) == 1
        assert central.on(TO_CENTRAL) == []


async def test_an_id_that_is_no_text_or_number_is_not_repeated(
    tmp_path: Path, broker: Mosquitto
) -> None:
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, _):
        deep = b"[" * 900 + b"]" * 900
        central.publish("request/central", b'{"v":1,"request":"x","id":' + deep + b"}")
        await until("the answer", lambda: central.on("reply/central"))
        assert central.on("reply/central")[0].json["id"] is None


@pytest.mark.parametrize("state", [None, "retired"])
async def test_only_the_enrolled_are_answered(
    tmp_path: Path, broker: Mosquitto, state: str | None
) -> None:
    site = Site(tmp_path, broker, enrolled=())
    async with Consumer(broker.port, site.name) as central, site:
        await until("up", lambda: central.on("head"))
        central.answers_heads = False
        if state:
            await site.journal.save_consumer(Enrolled("central", state, None))
        await site.record(3)
        reply = await central.ask("replay", epoch=site.epoch, lane="data", **RANGE_1)
        assert reply["reply"] == "error"
        assert "not enrolled" in reply["error"]
        assert central.on(TO_CENTRAL) == []


async def test_a_retained_request_is_not_met(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: a request that lies on the broker is not met again at each connect."""
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, epoch):
        await site.stop()
        content = {"v": 1, "request": "replay", "id": 1, "epoch": epoch, "lane": "data", **RANGE_1}
        lies_there = central.publish("request/central", content, retain=True)
        await until("it lies on the broker", lies_there.is_published)
        await site.open()
        site.connect()
        await until("up", lambda: site.stream.status.state == "up")
        await site.record(1)
        await until("delivery goes on", lambda: site.cursor() == 21)
        assert central.on("reply/central") == []
        central.publish("request/central", b"", retain=True)


# -- conflict -----------------------------------------------------------------------------------


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def test_a_proven_conflict_opens_a_new_epoch(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: who shows what this journal has, and that it holds something else, is believed; it is
    told the new epoch, also when it reports the same again.
    """
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, old):
        offered = sha256((await site.bodies())[6])
        proof = {"epoch": old, "lane": "data", "seq": 7, "offered": offered, "held": sha256(b"x")}
        reply = await central.ask("conflict", **proof)
        assert len(site.journal.epochs) == 2
        assert reply == {
            "v": 1,
            "reply": "conflict",
            "id": reply["id"],
            "epoch": site.epoch,
        }
        assert site.epoch != old
        await until("on a new connection", lambda: site.stream.status.connects == 2)
        again = await central.ask("conflict", **proof)
        assert again["epoch"] == site.epoch
        assert len(site.journal.epochs) == 2
        (event,) = await site.events("epoch.opened")
        assert "another record 7 of lane data" in event["text"]
        await site.record(3)
        await until("the new epoch", lambda: site.cursor() == 3)


async def test_an_unproven_conflict_is_an_error(tmp_path: Path, broker: Mosquitto) -> None:
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, epoch):
        bodies = await site.bodies()
        for facts in (
            {"seq": 7, "offered": sha256(b"x"), "held": sha256(b"y")},
            {"seq": 8, "offered": sha256(bodies[6]), "held": sha256(b"y")},
            {"seq": 7, "offered": sha256(bodies[6]), "held": sha256(bodies[6])},
        ):
            reply = await central.ask("conflict", epoch=epoch, lane="data", **facts)
            assert reply["reply"] == "error"
        assert len(site.journal.epochs) == 1


# -- what was purged ----------------------------------------------------------------------------


async def test_what_was_purged_is_named(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: a range that is gone is told as such; a new consumer gets everything that there is,
    from the oldest record on, and can show that the rest is gone by asking for it.
    """
    site = Site(tmp_path, broker)
    async with Consumer(broker.port, site.name) as central, site:
        epoch = site.epoch
        for _ in range(3):
            site.put(20)
            await site.flush()
        await until("the cursor", lambda: site.cursor() == 60)
        assert await site.journal.purge(site.journal.epoch, Lane.DATA, 12) == 12
        ask: dict[str, Any] = {"epoch": epoch, "lane": "data"}
        for first, last, available, unavailable in (
            (1, 60, [13, 60], [[1, 12]]),
            (3, None, [13, 60], [[3, 12]]),
            (1, 5, None, [[1, 5]]),
            (58, 70, [58, 60], [[61, 70]]),
            (10, 70, [13, 60], [[10, 12], [61, 70]]),
        ):
            central.messages.clear()
            reply = await central.ask("replay", **ask, **{"from": first, "to": last})
            assert (reply.get("available"), reply["unavailable"]) == (available, unavailable)
            if available:
                await replayed(central, *available)
        await until("the head", lambda: central.on("head"))
        assert central.on("head")[-1].json["lanes"]["data"]["lowest"] == 13
        await site.enrol("late")
        async with Consumer(broker.port, site.name, "late") as late:
            await site.record(2)
            there_is = list(range(13, 63))

            def held() -> list[int]:
                return sorted(late.held[epoch, "data"].bodies) if late.held else []

            await until("what there is", lambda: held() == there_is)
            assert late.upto(epoch, "data") == 0
            reply = await late.ask("replay", **ask, **{"from": 1, "to": 13})
            assert (reply["available"], reply["unavailable"]) == ([13, 13], [[1, 12]])
        await until("the other is not troubled", lambda: site.cursor() == 62)

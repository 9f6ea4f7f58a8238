"""The live stream: everything that is committed goes out once, in order, and not before.

Method: journal, recorder and stream of an agent in this loop, on a real disk, with a real mosquitto
between them and a consumer that was written from docs/mqtt.md alone.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeagent.journal import Journal
from tests.brokers import Mosquitto
from tests.consumers import Consumer, until
from tests.unit.publish.site import Site

BOTH_VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@BOTH_VERSIONS
async def test_every_record_arrives_once_and_in_order(
    tmp_path: Path, broker: Mosquitto, version: str
) -> None:
    site = Site(tmp_path, broker, version=version)
    async with Consumer(broker.port, site.name, version=version) as central, site:
        for _ in range(20):
            site.put(7)
            site.put_event()
            await site.flush()
        site.put(500)
        await until("all data", lambda: central.upto(site.epoch, "data") == 640)
        await until("all events", lambda: central.upto(site.epoch, "event") == 20)
        for lane in ("data", "event"):
            assert central.bodies(site.epoch, lane) == await site.bodies(lane)
            sent = [seq for batch in central.sent_to(lane) for seq in batch.seqs]
            assert sent == list(range(1, site.highest(lane) + 1)), "once, and in order"
        types = {m.content_type for m in central.on("data")}
        assert types == {"application/x-ndjson" if version == "5" else None}
        status = site.stream.status
        assert (status.state, status.cause, status.connects) == ("up", None, 1)
        assert status.records == 660


async def test_a_header_says_where_a_batch_belongs(tmp_path: Path, broker: Mosquitto) -> None:
    site = Site(tmp_path, broker)
    async with Consumer(broker.port, site.name) as central, site:
        await site.record(1)
        await until("the first", lambda: central.upto(site.epoch, "data") == 1)
        site.put(3)
        await until("both batches", lambda: central.upto(site.epoch, "data") == 4)
        first, second = central.sent_to("data")
        assert first.header == {
            "v": 1,
            "site": site.name,
            "epoch": site.epoch,
            "lane": "data",
            "first": 1,
            "count": 1,
            "prev": first.header["prev"],
            "chain": second.header["prev"],
        }
        assert (second.first, second.header["count"]) == (2, 3)


async def test_nothing_is_published_before_it_is_on_disk(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: append has returned before anything of it is published, whatever is sent meanwhile.

    Method: the commit is on disk a while before append returns; the stream reads a backlog from
    the disk at the same time, where it could see those rows.
    """
    returned = 0
    published: list[tuple[int, int]] = []
    append, commit = Journal.append, Journal._write_all

    async def noted_append(self: Journal, *args: Any, **more: Any) -> Any:
        nonlocal returned
        committed = await append(self, *args, **more)
        returned = max([returned, *(part.last for part in committed if part.lane == "data")])
        return committed

    def slow_commit(self: Journal, *args: Any) -> Any:
        committed = commit(self, *args)
        time.sleep(0.02)  # in the writer's thread
        return committed

    monkeypatch.setattr(Journal, "append", noted_append)
    monkeypatch.setattr(Journal, "_write_all", slow_commit)
    site = Site(tmp_path, broker)
    await site.open()
    site.put(2000)
    await site.flush()
    sent = site.delivery.desk.sent

    def note(batch: Any) -> None:
        if batch.lane == "data":
            published.append((batch.last, returned))
        sent(batch)

    monkeypatch.setattr(site.delivery.desk, "sent", note)
    site.delivery.tails["data"]._commits.clear()  # as after a restart: read from the disk
    async with Consumer(broker.port, site.name) as central, site.connected():
        for _ in range(30):
            site.put(100)
            await site.flush()
            site.delivery.tails["data"]._commits.clear()
        await until("everything", lambda: central.upto(site.epoch, "data") == 5000)
        early = [(last, durable) for last, durable in published if last > durable]
        assert not early, f"published before append returned: {early}"
        assert len(site.journal.epochs) == 1, "a receipt came before append returned"


async def test_an_event_does_not_wait_behind_a_data_backlog(
    tmp_path: Path, broker: Mosquitto
) -> None:
    """Goal: an alarm arrives while megabytes of data still wait to be sent."""
    site = Site(tmp_path, broker, window_messages=2, batch_bytes=4096)
    await site.open()
    for _ in range(20):
        site.put(200, 1000)
        await site.flush()
    async with Consumer(broker.port, site.name) as central, site.connected():
        await until("the backlog drains", lambda: central.upto(site.epoch, "data") > 20)
        site.put_event("alarm")
        await site.flush()
        await until("the event", lambda: central.upto(site.epoch, "event") == 1)
        assert central.upto(site.epoch, "data") < 3000, "the backlog was too small to tell"
        await until("the backlog", lambda: central.upto(site.epoch, "data") == 4000)


async def test_batches_keep_within_their_size(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: no message is much larger than batch_bytes, from memory or from disk, unless a single
    record is. Brokers refuse what is too large for them, and would refuse it for ever.
    """
    site = Site(tmp_path, broker, batch_bytes=2048)
    await site.open()
    site.put(300, 100)
    await site.flush()
    async with Consumer(broker.port, site.name) as central:
        site.connect()
        try:
            await until("the backlog", lambda: central.upto(site.epoch, "data") == 300)
            site.put(300, 100)
            site.put(1, 10_000)
            site.put(300, 100)
            await until("the large commit", lambda: central.upto(site.epoch, "data") == 901)
            await site.record(5, 100)
            await until("small commits", lambda: central.upto(site.epoch, "data") == 906)
        finally:
            await site.stop()
        sizes = {batch.seqs: batch.size for batch in central.sent_to("data")}
        (oversized,) = [seqs for seqs, size in sizes.items() if size > 4096]
        assert oversized == range(601, 602), "the large record travels alone"
        bodies = {
            seqs: sum(map(len, batch.bodies.values()))
            for seqs, batch in ((b.seqs, b) for b in central.sent_to("data"))
        }
        assert all(size <= 2048 for seqs, size in bodies.items() if seqs != oversized)


async def test_what_a_late_joiner_needs_is_retained(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: who comes late can read frames: schemas, contexts and the head are retained."""
    async with Site(tmp_path, broker) as site:
        site.recorder.set_context({"boot_id": "b", "batches": {}})
        number = site.recorder.schema_number({"instrument": "i", "group": "g", "tags": []})
        await site.flush()
        site.recorder.set_context({"boot_id": "b", "batches": {"u": "lot 7"}})
        await site.flush()

        async with Consumer(broker.port, site.name, "early") as early:
            for lane in ("data", "event"):
                await until(
                    "the second context is published",
                    lambda la=lane: any(m.json["number"] == 2 for m in early.on(f"context/{la}")),
                )
        async with Consumer(broker.port, site.name, "late") as late:
            await until("all that is retained", lambda: len(late.messages) >= 4)
            retained = {message.topic: message for message in late.messages if message.retain}
        assert "head" in retained
        schema = retained[f"schema/{site.epoch}/{number}"]
        assert schema.content_type == "application/json"
        assert schema.json == {
            "v": 1,
            "site": site.name,
            "epoch": site.epoch,
            "lane": "data",
            "number": number,
            "content": {"instrument": "i", "group": "g", "tags": []},
        }
        for lane in ("data", "event"):
            context = retained[f"context/{lane}"].json
            assert (context["lane"], context["number"]) == (lane, 2)
            assert context["content"]["batches"] == {"u": "lot 7"}
        in_lane = [json.loads(body) for body in await site.bodies("data")]
        assert in_lane[1][5] == schema.json["content"], "the object of the record, as it is"


async def test_the_head_tells_the_truth(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: at connect and every head_every the head says where each lane stands."""
    site = Site(tmp_path, broker)
    async with Consumer(broker.port, site.name) as central, site:
        site.recorder.set_context({"configuration": "c0ffee"})
        await until("the first head", lambda: central.on("head"))
        began = asyncio.get_running_loop().time()
        await site.record(9)
        site.put_event()
        await until("all", lambda: central.upto(site.epoch, "data") == 10)
        heads = len(central.on("head"))
        await until("three more", lambda: len(central.on("head")) >= heads + 3)
        took = asyncio.get_running_loop().time() - began
        assert 0.3 < took < 3, "every 200 ms"
        head = central.on("head")[-1].json
        assert head["site"] == site.name
        assert head["epoch"] == site.epoch
        assert abs(head["at"] - site.clock.utc_ns()) < 10e9
        assert (head["period"], head["next_by"] - head["at"]) == (200_000_000, 600_000_000)
        assert head["state"] == "running"
        assert head["configuration"] == "c0ffee"
        assert head["suppressed_alarms"] == []
        assert head["earlier"] == []
        for lane, highest in (("data", 10), ("event", 2)):
            chain = central.held[site.epoch, lane].chain.hex()
            assert head["lanes"][lane] == {"lowest": 1, "highest": highest, "chain": chain}


async def test_a_head_carries_what_health_says(tmp_path: Path, broker: Mosquitto) -> None:
    site = Site(tmp_path, broker)
    health = {"state": "fault", "checks": ["links", "clock"]}

    async def brief() -> dict[str, Any]:
        return health

    async with Consumer(broker.port, site.name) as central, site:
        await until("the first head", lambda: central.on("head"))
        assert central.on("head")[0].json["health"] is None, "nobody was asked"
        site.stream.report_health(brief)
        await until("health", lambda: central.on("head")[-1].json["health"] == health)


async def test_silence_is_known_from_the_last_head_alone(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: who comes late reads from the retained head until when silence is no alarm: seconds
    after a kill, an hour after a stop by command, and that it was a stop.
    """
    site = Site(tmp_path, broker)

    async def left_behind(name: str) -> Any:
        async with Consumer(broker.port, site.name, name) as late:
            await until("the retained head", lambda: late.on("head"))
            (head,) = late.on("head")
            assert head.retain
            return head.json

    async with Consumer(broker.port, site.name) as central, site:
        await until("the first head", lambda: central.on("head"))
        await site.stop()
        head = await left_behind("after-a-kill")
        assert (head["state"], head["next_by"] - head["at"]) == ("running", 600_000_000)

        await site.open()
        site.connect()
        site.put_event()
        await site.flush()
        await until("all", lambda: central.upto(site.epoch, "event") == site.highest("event"))
        await site.stream.say_stopped()
        heads = len(central.on("head"))
        await until("heads go on", lambda: len(central.on("head")) > heads + 1)
        assert {m.json["state"] for m in central.on("head")[heads:]} == {"stopped"}
        await site.stop()
        head = await left_behind("after-a-stop")
        assert (head["state"], head["next_by"] - head["at"]) == ("stopped", 3600 * 10**9)
        assert head["health"] is None
        assert head["lanes"]["event"]["highest"] == site.highest("event")

        await site.open()
        site.connect()
        await until("it runs", lambda: central.on("head")[-1].json["state"] == "running")


async def test_a_stop_while_the_broker_is_away_says_nothing(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        site = Site(tmp_path, broker)
        async with site:
            await until("up", lambda: site.stream.status.state == "up")
            broker.kill()
            await until("down", lambda: site.stream.status.state == "down")
            await site.stream.say_stopped()


async def test_a_site_without_consumers_repeats_nothing(tmp_path: Path) -> None:
    """Goal: while nobody is enrolled, what comes is sent once, and goes on behind a broken
    connection; what was there before is not sent at all, for it is owed to nobody.
    """
    with Mosquitto(tmp_path) as broker:
        site = Site(tmp_path, broker, enrolled=())
        await site.open()
        await site.record(50)
        async with site.connected():
            await until("up", lambda: site.serving)
            await site.record(20)
            await until("sent", lambda: site.stream.status.records == 20)
            broker.kill()
            await until("down", lambda: site.stream.status.state == "down")
            await site.record(20)
            broker.start()
            await until("sent", lambda: site.stream.status.records == 40)
            await site.record(5)
            await until("sent", lambda: site.stream.status.records == 45)


async def test_a_broker_that_comes_and_goes_is_not_filled_for_nobody(tmp_path: Path) -> None:
    """Goal: while no consumer listens, a connection that breaks again and again does not send the
    backlog again and again; who comes at last gets all of it.
    """
    with Mosquitto(tmp_path) as broker:
        site = Site(tmp_path, broker)
        await site.open()
        await site.record(100)
        async with site.connected():
            await until("sent", lambda: site.stream.status.records == 100)
            for connects in (2, 3):
                broker.kill()
                broker.start()
                await until("again", lambda n=connects: site.stream.status.connects == n)
            await site.record(1)
            await until("the live record", lambda: site.stream.status.records >= 101)
            assert site.stream.status.records == 101
            async with Consumer(broker.port, site.name) as central:
                await until("everything", lambda: central.upto(site.epoch, "data") == 101)

"""Catch-ups: who is behind gets what it lacks, alone, while the live stream goes on.

Method: as in test_delivery_live.py; consumers that lose messages, stand still, fall silent and come
back. The bounds that hold back 32 MiB are made small, and what is sent beyond need is counted.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.publish import catch_up, live
from tests.brokers import Mosquitto
from tests.consumers import Batch, Consumer, Held, until
from tests.unit.publish.site import Site

TO_CENTRAL = "to/central/data"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


def bound(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let so many bytes be ahead of what is receipted."""
    monkeypatch.setattr(live, "UNRECEIPTED_BYTES_MAX", size)
    monkeypatch.setattr(catch_up, "UNRECEIPTED_BYTES_MAX", size)


def seqs(batches: list[Batch]) -> list[int]:
    return [seq for batch in batches for seq in batch.seqs]


async def heads(consumer: Consumer, count: int) -> None:
    """Wait for so many heads more."""
    before = len(consumer.on("head"))
    await until(f"{count} heads", lambda: len(consumer.on("head")) >= before + count)


# -- what is lost on the way --------------------------------------------------------------------


async def test_what_was_lost_on_the_way_is_sent_again(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: a message that the broker took and lost is sent again, to this consumer alone.

    Method: two live messages never arrive. The consumer goes on answering, as far as its prefix
    reaches. It holds what came behind the hole: that is not sent again.
    """
    site = Site(tmp_path, broker, batch_bytes=1024)
    async with Consumer(broker.port, site.name) as central, site:
        await site.record(5)
        await until("settled", lambda: site.cursor() == 5)
        central.drops = lambda batch: batch.topic == "data" and 7 in batch.seqs
        for _ in range(40):
            await site.record(1, 500)
        await until("everything", lambda: central.upto(site.epoch, "data") == 45)
        await until("receipted", lambda: site.cursor() == 45)
        await heads(central, 2)
        again = seqs(central.sent_to(TO_CENTRAL))
        assert 7 in again
        assert max(again) < 15, "what it held behind the hole was sent again"


async def test_the_last_message_is_missed_too(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: the tail is not forgotten when nothing follows that would show the hole."""
    site = Site(tmp_path, broker)
    async with Consumer(broker.port, site.name) as central, site:
        central.drops = lambda batch: batch.topic in ("data", "event")
        await site.record(3)
        site.put_event()
        await until("the tail", lambda: central.upto(site.epoch, "data") == 3)
        await until("the event", lambda: central.upto(site.epoch, "event") == 1)
        await until("receipted", lambda: site.cursor() == 3)
        await heads(central, 3)
        assert seqs(central.sent_to(TO_CENTRAL)) == [1, 2, 3]


async def test_a_lost_catch_up_is_sent_again(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: also what is lost of a catch-up is sent again, and it never waits for ever.

    Method: of each catch-up message the first copy is lost, with more to send than may be ahead.
    """
    bound(monkeypatch, 4000)
    site = Site(tmp_path, broker, batch_bytes=1024)
    async with Consumer(broker.port, site.name) as central, site:
        seen: set[range] = set()

        def drops(batch: Batch) -> bool:
            if batch.topic == "data":
                return True
            first_copy = batch.seqs not in seen
            seen.add(batch.seqs)
            return first_copy and len(seen) < 6

        central.drops = drops
        await site.record(30, 500)
        await until("everything", lambda: site.cursor() == 30)
        assert central.bodies(site.epoch, "data") == await site.bodies()


async def test_a_bad_line_loses_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: when every second message is lost, live or not, everything arrives all the same."""
    site = Site(tmp_path, broker, batch_bytes=1024, resend_after="100 ms")
    async with Consumer(broker.port, site.name) as central, site:
        count = 0

        def drops(_: Batch) -> bool:
            nonlocal count
            count += 1
            return count % 2 == 0

        central.drops = drops
        for _ in range(20):
            site.put(5, 100)
            site.put_event()
            await site.flush()
        await until("all data", lambda: site.cursor() == 100)
        await until("all events", lambda: site.cursor(lane="event") == 20)
        assert central.bodies(site.epoch, "data") == await site.bodies()
        assert central.bodies(site.epoch, "event") == await site.bodies("event")


# -- who stands still, who is silent ------------------------------------------------------------


async def test_a_consumer_that_does_not_commit_is_not_flooded(
    tmp_path: Path, broker: Mosquitto
) -> None:
    """Goal: while a consumer answers but its database takes nothing, it is sent a batch from time
    to time, not its whole backlog; when the database is back it gets all of it.
    """
    site = Site(tmp_path, broker, batch_bytes=1024)
    async with Consumer(broker.port, site.name) as central, site:
        central.commits = False
        for _ in range(100):
            await site.record(1, 500)
        await until("catch-ups", lambda: len(central.on(TO_CENTRAL)) >= 2)
        began, before = asyncio.get_running_loop().time(), len(central.on(TO_CENTRAL))
        await heads(central, 5)
        took_s = asyncio.get_running_loop().time() - began
        batches = len(central.on(TO_CENTRAL)) - before
        assert batches <= 2 + 2 * took_s / 0.2, f"{batches} batches in {took_s:.1f} s"
        assert set(seqs(central.sent_to(TO_CENTRAL))) <= set(range(1, 5))
        central.commits = True
        await until("everything", lambda: site.cursor() == 100)


async def test_a_silent_consumer_is_not_resent_to(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: what nobody answers is not repeated; who speaks up after a long time gets everything,
    from where it stood, while the live stream goes on.
    """
    site = Site(tmp_path, broker, batch_bytes=1024)
    async with Consumer(broker.port, site.name) as central, site:
        await site.record(5)
        await until("settled", lambda: site.cursor() == 5)
        central.commits = central.answers_heads = False
        await heads(central, 4)
        assert not site.delivery.listens("central")
        await site.record(50, 500)
        await heads(central, 3)
        assert central.on(TO_CENTRAL) == []
        live_messages = len(central.on("data"))
        central.commits = central.answers_heads = True
        for _ in range(20):
            await site.record(1)
            await asyncio.sleep(0.01)
        await until("everything", lambda: site.cursor() == 75)
        assert central.bodies(site.epoch, "data") == await site.bodies()
        live = seqs(central.sent_to("data")[live_messages:])
        assert live == list(range(56, 76)), "the live stream went on, and not back"
        again = seqs(central.sent_to(TO_CENTRAL))
        assert again[0] == 6
        assert len(again) < 2 * 70, "once, not again and again"


# -- two consumers ------------------------------------------------------------------------------


async def test_a_slow_consumer_does_not_delay_a_fast_one(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: while one consumer works off a backlog that is much larger than what may be ahead, the
    other gets each record at once, and none twice.

    Method: the slow one commits a little at a time, so that its cursor moves all the while.
    """
    bound(monkeypatch, 20_000)
    site = Site(tmp_path, broker, enrolled=("fast", "slow"), batch_bytes=1024, resend_after="1 s")
    fast = Consumer(broker.port, site.name, "fast")
    slow = Consumer(broker.port, site.name, "slow")
    async with fast, slow, site:
        slow.commits = slow.answers_heads = False
        site.put(250, 500)
        await until("the fast one", lambda: site.cursor("fast") == 250)
        slow.commits = slow.answers_heads = True
        received: asyncio.Queue[Batch] = asyncio.Queue()

        def queues(batch: Batch) -> bool:
            if batch.topic == "to/slow/data":
                received.put_nowait(batch)
            return True

        async def work_off() -> None:
            while True:
                batch = await received.get()
                slow.held.setdefault(batch.key, Held(*batch.key)).take(batch)
                slow.send_receipt(*batch.key)
                await asyncio.sleep(0.005)

        slow.drops = queues
        working = asyncio.create_task(work_off())
        try:
            await until("the slow one moves", lambda: site.cursor("slow") > 0)
            longest_s, loop = 0.0, asyncio.get_running_loop()
            for _ in range(40):
                began = loop.time()
                await site.record(1, 500)
                await until("the fast one", lambda: site.cursor("fast") == site.highest())
                longest_s = max(longest_s, loop.time() - began)
            behind = site.highest() - site.cursor("slow")
            assert behind > 100, "the backlog was too small to tell"
            assert longest_s < 0.5, "a record waited for the slow one"
            once = seqs(fast.sent_to("data"))
            assert once == list(range(1, 291))
            assert fast.on("to/fast/data") == []
            slow.drops = lambda batch: False
            await until("the slow one, too", lambda: site.cursor("slow") == 290, 20)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


async def test_a_consumer_that_stands_still_does_not_stop_the_live_stream(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: data go on to a healthy consumer although another one listens and never commits, and
    although cursors of the other lane move all the time.
    """
    bound(monkeypatch, 3000)
    site = Site(tmp_path, broker, enrolled=("central", "stuck"), batch_bytes=1024)
    central = Consumer(broker.port, site.name)
    stuck = Consumer(broker.port, site.name, "stuck")
    async with central, stuck, site:
        stuck.commits = False
        await until("both are heard", lambda: len(site.delivery.heard) == 2)

        async def events() -> None:
            while True:
                site.put_event()
                await asyncio.sleep(0.02)

        talking = asyncio.create_task(events())
        try:
            for count in range(1, 41):
                await site.record(1, 500)
                await until("at once", lambda n=count: site.cursor() == n, 2)
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)


async def test_who_was_ahead_and_died_is_no_measure(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: a consumer behind one that is gone is served, also over a new connection."""
    site = Site(tmp_path, broker, enrolled=("central", "gone"))
    async with Consumer(broker.port, site.name) as central, site:
        central.commits = False
        async with Consumer(broker.port, site.name, "gone"):
            await site.record(20)
            await until("the other", lambda: site.cursor("gone") == 20)
        await site.restart()
        central.commits = True
        await until("everything", lambda: site.cursor() == 20)
        await site.record(3)
        await until("everything", lambda: site.cursor() == 23)


# -- bounds -------------------------------------------------------------------------------------


async def test_what_is_ahead_of_receipts_is_bounded(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: no more than the bound is sent ahead of a consumer that listens, however long it takes
    to commit, as far as its patience reaches; and nothing piles up in memory.
    """
    bound(monkeypatch, 8000)
    site = Site(tmp_path, broker, batch_bytes=1024, resend_after="1 s")
    async with Consumer(broker.port, site.name) as central, site:
        central.commits = False
        await until("heard", lambda: site.delivery.listens("central"))
        site.put(200, 500)
        await until("the bound", lambda: sum(len(m.payload) for m in central.on("data")) > 8000)
        await heads(central, 2)
        ahead = sum(len(message.payload) for message in central.on("data"))
        assert ahead < 8000 + 1500
        assert len(site.delivery.tails["data"]._commits) < 10
        central.commits = True
        await until("everything", lambda: site.cursor() == 200, 20)


async def test_suspended_consumers_are_not_served(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: a suspended consumer gets no catch-up; resumed, it gets what it missed."""
    site = Site(tmp_path, broker, enrolled=("other",))
    central = Consumer(broker.port, site.name)
    async with Consumer(broker.port, site.name, "other"), central, site:
        await site.enrol("central", "suspended")
        central.commits = False
        await site.record(10)
        await until("the other", lambda: site.cursor("other") == 10)
        await heads(central, 3)
        assert central.on(TO_CENTRAL) == []
        central.commits = True
        known = site.journal.consumers["central"]
        await site.journal.save_consumer(known._replace(state="enrolled"))
        await until("what it missed", lambda: site.cursor() == 10)


async def test_a_consumer_that_is_enrolled_late_gets_everything(
    tmp_path: Path, broker: Mosquitto
) -> None:
    """Goal: also what was recorded before it was enrolled, when nobody was."""
    site = Site(tmp_path, broker, enrolled=())
    await site.open()
    site.put(500, 200)
    await site.flush()
    async with Consumer(broker.port, site.name) as central, site.connected():
        await until("up", lambda: central.on("head"))
        await site.enrol("central")
        await until("everything", lambda: site.cursor() == 500)
        assert central.bodies(site.epoch, "data") == await site.bodies()

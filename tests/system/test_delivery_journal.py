"""What the journal's disk may do to delivery: damaged rows, lost rows, a full disk.

Method: as in test_delivery_live.py; while the agent is stopped its database is changed by hand.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from edgeagent.journal import store as store_module
from edgeagent.journal.journal import FILE_NAME
from edgeagent.model.errors import JournalFull
from edgeagent.model.record import Lane
from tests.brokers import Mosquitto
from tests.consumers import Consumer, until
from tests.unit.publish.site import Site


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


def flip(database: apsw.Connection, key: int) -> None:
    """Change one bit of a body on disk."""
    ((body,),) = database.execute("SELECT body FROM data WHERE key = ?", (key,))
    damaged = body[:9] + bytes([body[9] ^ 1]) + body[10:]
    database.execute("UPDATE data SET body = ? WHERE key = ?", (damaged, key))


async def commits_of_five(site: Site, count: int) -> None:
    for _ in range(count):
        site.put(5)
        await site.flush()


@pytest.mark.parametrize(
    "damaged",
    [[8], [6], [10], [6, 7, 8, 9, 10], [1], [7, 9], [3, 12], [20], [10, 11]],
    ids=str,
)
async def test_delivery_goes_round_a_damaged_record(
    tmp_path: Path, broker: Mosquitto, damaged: list[int]
) -> None:
    """Goal: a record that is destroyed on the disk is named, once, and costs no other record.

    Method: bits are flipped in some of 20 records, in commits of five, that were never sent. What
    is sent later continues the chain of the original bytes.
    """
    site = Site(tmp_path, broker)
    await site.open()
    await commits_of_five(site, 4)
    bodies = await site.bodies()
    async with site.opened_by_hand() as database:
        for key in damaged:
            flip(database, key)
    async with Consumer(broker.port, site.name) as central:
        try:
            await commits_of_five(site, 1)
            await until("everything", lambda: site.cursor() == 25)
            held = central.held[site.epoch, "data"]
            whole = [seq for seq in range(1, 21) if seq not in damaged]
            assert {seq: held.bodies[seq] for seq in whole} == {n: bodies[n - 1] for n in whole}
            assert held.missing == set(damaged)
            await site.restart()  # which asks for nothing that was receipted
            events = await site.events("record.corrupt")
            named = [range(event["seq"], event["last"] + 1) for event in events]
            assert sorted(itertools.chain(*named)) == damaged
            assert {(e["epoch"], e["lane"], e["severity"]) for e in events} == {
                (site.epoch, "data", "alarm")
            }
            assert await site.events("receipt.refused") == []
        finally:
            await site.stop()


async def test_damage_is_told_once(tmp_path: Path) -> None:
    """Goal: connections that break again and again do not raise the same event again and again."""
    with Mosquitto(tmp_path) as broker:
        site = Site(tmp_path, broker)
        await site.open()
        await commits_of_five(site, 2)
        async with site.opened_by_hand() as database:
            flip(database, 3)
        try:
            for connects in (1, 2, 3):
                await until("up", lambda n=connects: site.stream.status.connects == n)
                async with Consumer(broker.port, site.name) as central:
                    central.receipts = False
                    await until("it came", lambda c=central: c.batches)
                if connects < 3:
                    broker.kill()
                    broker.start()
            assert len(await site.events("record.corrupt")) == 1
        finally:
            await site.stop()


async def test_a_damaged_block_is_one_alarm_and_costs_no_other_record(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: what is packed is delivered as it was; a block that rots is named as a whole, once."""
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 1000)
    site = Site(tmp_path, broker)
    await site.open()
    await commits_of_five(site, 8)
    bodies = await site.bodies()
    while await site.journal.pack(Lane.DATA, keep_newest=5):
        pass
    async with site.opened_by_hand() as database:
        _, (first, last), *_ = database.execute("SELECT first, key FROM data_block ORDER BY key")
        database.execute("UPDATE data_block SET crc = crc + 1 WHERE key = ?", (last,))
    async with Consumer(broker.port, site.name) as central:
        try:
            await until("everything", lambda: site.cursor() == 40)
            held = central.held[site.epoch, "data"]
            assert held.missing == set(range(first, last + 1))
            whole = set(range(1, 41)) - held.missing
            assert {seq: held.bodies[seq] for seq in whole} == {n: bodies[n - 1] for n in whole}
            (told,) = await site.events("record.corrupt")
            assert (told["seq"], told["last"]) == (first, last)
        finally:
            await site.stop()


async def test_lost_rows_are_missing_records(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: rows that are gone from the middle are named like damaged ones, not papered over."""
    site = Site(tmp_path, broker)
    await site.open()
    await commits_of_five(site, 4)
    async with site.opened_by_hand() as database:
        database.execute("DELETE FROM data WHERE key IN (7, 8, 13)")
    async with Consumer(broker.port, site.name) as central:
        try:
            await until("everything", lambda: site.cursor() == 20)
            assert central.held[site.epoch, "data"].missing == {7, 8, 13}
        finally:
            await site.stop()


async def test_a_replay_begins_before_a_damaged_record(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: a range that cannot be proved because of a record before it is sent all the same."""
    site = Site(tmp_path, broker)
    async with Consumer(broker.port, site.name) as central, site:
        await commits_of_five(site, 4)
        await until("everything", lambda: site.cursor() == 20)
        async with site.opened_by_hand() as database:
            flip(database, 12)
        central.messages.clear()
        await until("up", lambda: central.on("head"))
        facts = {"from": 14, "to": 17}
        reply = await central.ask("replay", epoch=site.epoch, lane="data", **facts)
        assert reply["available"] == [14, 17]
        await until("again", lambda: any(17 in b.seqs for b in central.sent_to("to/central/data")))
        (batch, *_) = central.sent_to("to/central/data")
        assert (batch.first, batch.header["missing"]) == (12, [12])


async def test_a_torn_page_does_not_end_the_agent(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: what SQLite itself cannot read stops delivery, in words, but not the agent.

    Method: a page in the middle of the data table is overwritten.
    """
    site = Site(tmp_path, broker, batch_bytes=4096)
    await site.open()
    for _ in range(10):
        site.put(20, 400)
        await site.flush()
    await site.stop()
    path = site.directory / FILE_NAME
    with apsw.Connection(str(path)) as database:
        database.pragma("wal_checkpoint(TRUNCATE)")
        pages = [
            page
            for page, kind in database.execute(
                "SELECT pageno, pagetype FROM dbstat WHERE name = 'data' ORDER BY path"
            )
            if kind == "leaf"
        ]
        size = database.pragma("page_size")
    database.close()
    with path.open("r+b") as file:
        file.seek((pages[len(pages) // 2] - 1) * size)
        file.write(b"\xff" * size)
    async with Consumer(broker.port, site.name) as central, site:
        await until("it is said", lambda: "cannot be read" in (site.stream.status.cause or ""))
        await site.record(3)
        assert site.highest() == 203, "acquisition goes on"
        assert 0 < central.upto(site.epoch, "data") < 200


async def test_a_full_disk_does_not_end_delivery(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: a consumer that comes for the first time while the disk is full is served later."""
    site = Site(tmp_path, broker)
    await site.open()
    save = site.journal.save_consumer
    failed = 0

    async def full(consumer: object) -> None:
        nonlocal failed
        failed += 1
        raise JournalFull("no space left")

    site.journal.save_consumer = full  # type: ignore[method-assign]
    async with Consumer(broker.port, site.name), site.connected():
        await site.record(3)
        await until("some receipts", lambda: failed > 2)
        assert site.cursor() == 0
        site.journal.save_consumer = save  # type: ignore[method-assign]
        await until("served", lambda: site.cursor() == 3)

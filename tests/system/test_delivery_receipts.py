"""Receipts: the right ones move a cursor that outlives the agent, the wrong ones move nothing.

Method: as in test_delivery_live.py; the consumer sends by hand what a broken, a forged or a rolled
back one would send. The agent's clock is put forward where the contract speaks of minutes.
"""

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeagent.journal.store import Consumer as Enrolled
from tests.brokers import Mosquitto
from tests.consumers import Consumer, extend, genesis, until
from tests.unit.publish.site import Site


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@asynccontextmanager
async def settled(
    site: Site, broker: Mosquitto, records: int = 10, version: str = "5"
) -> AsyncIterator[tuple[Consumer, str]]:
    """A site with a consumer that has receipted everything; the consumer, and the epoch."""
    async with Consumer(broker.port, site.name, version=version) as central, site:
        await site.record(records)
        await until("the cursor", lambda: site.cursor() == records)
        central.answers_heads = False
        yield central, site.epoch


def wrong_chain(text: str = "forged") -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def refusal(central: Consumer, reason: str) -> dict[str, Any]:
    """Wait until a receipt is refused for that reason."""

    def said() -> list[dict[str, Any]]:
        replies = [message.json for message in central.on(f"reply/{central.name}")]
        return [each for each in replies if reason in each["reason"]]

    await until(f"refused: {reason}", said)
    reply = said()[0]
    assert (reply["v"], reply["reply"]) == (1, "receipt-refused")
    return reply


# -- taken --------------------------------------------------------------------------------------


async def test_a_cursor_moves_with_a_receipt_and_never_back(
    tmp_path: Path, broker: Mosquitto
) -> None:
    """Goal: any point of the prefix is taken; the highest stays."""
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, epoch):
        for upto in (0, 4):
            chain = extend(genesis(epoch, "data"), central.bodies(epoch, "data")[:upto])
            taken = site.stream.status.receipts
            central.send_receipt(epoch, "data", upto=upto, chain=chain.hex())
            await until("taken", lambda before=taken: site.stream.status.receipts == before + 1)
            assert site.cursor() == 10
        assert site.stream.status.refused == 0
        assert await site.events("receipt.refused") == []


async def test_a_cursor_is_durable_and_delivery_goes_on_behind_it(
    tmp_path: Path, broker: Mosquitto
) -> None:
    """Goal: another process goes on where the receipts were; some is repeated, nothing is left out.

    Method: stop and start on the same journal in mid-stream, with receipts outstanding.
    """
    site = Site(tmp_path, broker)
    async with Consumer(broker.port, site.name) as central, site:
        await site.record(30)
        await until("receipted", lambda: site.cursor() == 30)
        central.receipts = False
        await site.record(10)
        await until("sent, not receipted", lambda: central.upto(site.epoch, "data") == 40)
        central.messages.clear()
        central.answers_heads = False
        await site.restart()
        assert site.cursor() == 30, "written when the journal closed"
        await until("sent again", lambda: central.sent_to("data"))
        assert central.sent_to("data")[0].first == 31
        central.receipts = True
        await site.record(5)
        await until("everything", lambda: central.upto(site.epoch, "data") == 45)
        await until("receipted", lambda: site.cursor() == 45)
        assert central.bodies(site.epoch, "data") == await site.bodies()


async def test_a_cursor_is_on_disk_with_the_next_commit(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: after a kill the cursor is as of the last commit, not older."""
    site = Site(tmp_path, broker)
    async with settled(site, broker):
        await site.record(1)  # its commit carries the cursor
        after_kill = await site.journal._in_reader(site.journal._reading().cursors)
        assert after_kill["central", 0, "data"].upto >= 10


async def test_quarantined_records_raise_one_event_each(tmp_path: Path, broker: Mosquitto) -> None:
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, epoch):
        for quarantined in ([3], [3], [3, 7], [7, 3]):
            taken = site.stream.status.receipts
            central.send_receipt(epoch, "data", quarantined=quarantined)
            await until("taken", lambda before=taken: site.stream.status.receipts > before)
        events = await site.events("record.quarantined")
        assert [event["seqs"] for event in events] == [[3], [7]]
        assert {(e["consumer"], e["epoch"], e["lane"], e["severity"]) for e in events} == {
            ("central", epoch, "data", "alarm")
        }


# -- refused ------------------------------------------------------------------------------------

RANGE = "malformed: a number or a name is out of range"
FORGED = [
    ("wrong hash", {"upto": 12, "chain": wrong_chain()}),
    ("wrong hash", {"upto": 0, "chain": wrong_chain()}),
    ("unknown epoch", {"epoch": "0192", "upto": 12, "chain": wrong_chain()}),
    ("malformed: version, consumer or site", {"v": 2}),
    ("malformed: version, consumer or site", {"consumer": "another"}),
    ("malformed: version, consumer or site", {"site": "another"}),
    ("malformed: Invalid", {"lane": "other"}),
    ("malformed: Expected", {"upto": 1.5}),
    (RANGE, {"upto": -1}),
    (RANGE, {"upto": 1 << 48}),
    (RANGE, {"upto": 10**30}),
    (RANGE, {"quarantined": [0]}),
    (RANGE, {"quarantined": [1 << 64]}),
    (RANGE, {"incarnation": "x" * 100}),
    (RANGE, {"epoch": "x" * 100}),
]


async def test_a_forged_receipt_moves_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: whatever is wrong is refused in words, recorded, and moves no cursor and no epoch."""
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, epoch):
        central.receipts = False
        await site.record(5)
        await until("sent", lambda: central.upto(epoch, "data") == 15)
        for number, (reason, changes) in enumerate(FORGED, 1):
            site.clock.forward(61)
            content = central.receipt(epoch, "data") | changes
            central.publish("receipt/central", content)
            await until(f"refused: {changes}", lambda n=number: site.stream.status.refused == n)
            await until("the reply", lambda n=number: len(central.on("reply/central")) == n)
            reply = central.on("reply/central")[-1].json
            assert (reply["v"], reply["reply"]) == (1, "receipt-refused")
            assert reason in reply["reason"]
            if not reason.startswith("malformed"):
                assert (reply["epoch"], reply["lane"]) == (content["epoch"], "data")
                assert reply["upto"] == content["upto"]
            events = await site.events("receipt.refused")
            assert len(events) == number, changes
            assert (events[-1]["consumer"], events[-1]["severity"]) == ("central", "alarm")
            assert reason in events[-1]["reason"]
        assert (site.cursor(), len(site.journal.epochs)) == (10, 1)


GARBAGE = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff\xfe",
    b'{"v":1,"consumer":"\xff"}',
    b"[" * 100_000,
    b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    b'{"v":1e999}',
]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_garbage_is_refused_and_endured(
    tmp_path: Path, broker: Mosquitto, version: str
) -> None:
    """Goal: no bytes that anyone may send on a receipt topic end the agent."""
    site = Site(tmp_path, broker, version=version)
    async with settled(site, broker, version=version) as (central, _):
        for number, garbage in enumerate(GARBAGE, 1):
            central.publish("receipt/central", garbage)
            await until(
                f"refused: {garbage[:20]!r}",
                lambda n=number: site.stream.status.refused == n,
            )
        await site.record(1)
        await until("delivery goes on", lambda: site.cursor() == 11)
        assert len(await site.events("receipt.refused")) == 1, "one kind, one minute"


async def test_a_retained_receipt_is_refused(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: a receipt that lies on the broker speaks for a moment that is over.

    Method: it is retained while the agent is away; MQTT clears the mark for who listens already.
    """
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, epoch):
        await site.stop()
        stale = central.receipt(epoch, "data", upto=0)
        lies_there = central.publish("receipt/central", stale, retain=True)
        await until("it lies on the broker", lies_there.is_published)
        await site.open()
        site.connect()
        await refusal(central, "retained")
        assert not site.delivery.listens("central"), "it is no sign of life either"
        central.publish("receipt/central", b"", retain=True)


@pytest.mark.parametrize("state", [None, "retired"])
async def test_only_the_enrolled_are_heard(
    tmp_path: Path, broker: Mosquitto, state: str | None
) -> None:
    site = Site(tmp_path, broker, enrolled=())
    await site.open()
    if state:
        await site.enrol("central", state)
    async with Consumer(broker.port, site.name) as central, site.connected():
        await site.record(3)
        reply = await refusal(central, "not enrolled")
        assert "edgeagent consumer enrol" in reply["reason"]
        assert site.journal.cursors == {}


async def test_one_event_a_minute_for_the_same_refusal(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: a consumer that is wrong for days does not fill the journal with it.

    Method: the same refusal again and again, with the clock put forward; then such that differ in
    words that the sender may choose.
    """
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, epoch):

        async def forge(count: int = 3, topic: str = "receipt/central", **changes: Any) -> None:
            for _ in range(count):
                refused = site.stream.status.refused
                central.publish(topic, central.receipt(epoch, "data") | changes)
                await until("refused", lambda n=refused: site.stream.status.refused > n)

        await forge(chain=wrong_chain())
        assert len(await site.events("receipt.refused")) == 1
        site.clock.forward(59)
        await forge(chain=wrong_chain())
        assert len(await site.events("receipt.refused")) == 1
        site.clock.forward(2)
        await forge(chain=wrong_chain())
        assert len(await site.events("receipt.refused")) == 2
        for number in range(5):
            await forge(1, lane=f"lane-{number}")
        assert len(await site.events("receipt.refused")) == 3
        for number in range(5):
            await forge(1, topic=f"receipt/nobody-{number}", consumer=f"nobody-{number}")
        assert len(await site.events("receipt.refused")) == 4


async def test_one_database_at_a_time(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: two databases under one name cause neither a flood of events nor of repetitions.

    Method: receipts of two incarnations in turns. Each change of the database makes everything
    begin anew, and its event is one more record to be receipted: that must not go round for ever.
    """
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, epoch):
        for number in range(10):
            for incarnation in ("one", "other"):
                seen = site.stream.status.refused + site.stream.status.receipts
                central.send_receipt(epoch, "data", incarnation=f"{incarnation}-{number % 2}")
                await until(
                    "handled",
                    lambda n=seen: site.stream.status.refused + site.stream.status.receipts > n,
                )
        events = await site.events("consumer.incarnation")
        assert len(events) == 1
        (event,) = await site.events("receipt.refused")
        assert "another database" in event["reason"]
        site.clock.forward(61)
        central.send_receipt(epoch, "data", incarnation="other-1")
        consumers = site.journal.consumers
        await until("a minute later", lambda: consumers["central"].incarnation == "other-1")


# -- another database ---------------------------------------------------------------------------


async def test_a_new_database_is_given_everything_again(tmp_path: Path, broker: Mosquitto) -> None:
    """Goal: a consumer that says it has a new database gets all that the journal holds."""
    site = Site(tmp_path, broker)
    async with settled(site, broker, 50) as (central, epoch):
        site.put_event()
        await until("the event", lambda: site.cursor(lane="event") == 1)
        central.forget()
        before, central.incarnation = central.incarnation, "new"
        central.answers_heads = True
        await until("all data again", lambda: central.upto(epoch, "data") == 50)
        await until("all events again", lambda: central.upto(epoch, "event") == 2)
        await until("receipted", lambda: site.cursor() == 50 and site.cursor(lane="event") == 2)
        (event,) = await site.events("consumer.incarnation")
        assert (event["before"], event["now"]) == (before, "new")
        again = [seq for batch in central.sent_to("to/central/data") for seq in batch.seqs]
        assert sorted(set(again)) == list(range(1, 51)), "to this consumer alone"


async def test_a_kill_does_not_make_a_new_database_look_old(
    tmp_path: Path, broker: Mosquitto
) -> None:
    """Goal: that the database is new is never on disk before that its cursors went back.

    Method: look at what a kill would leave at the moment when the new database becomes known.
    """
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, epoch):
        save = site.journal.save_consumer
        on_disk: list[int] = []

        async def look(consumer: Enrolled) -> None:
            cursors = await site.journal._in_reader(site.journal._reading().cursors)
            on_disk.append(cursors["central", 0, "data"].upto)
            await save(consumer)

        site.journal.save_consumer = look  # type: ignore[method-assign]
        central.receipts = False
        central.forget()
        central.send_receipt(epoch, "data", incarnation="new")
        await until("the new one is known", lambda: on_disk)
        assert on_disk == [0]


async def test_a_consumer_that_is_enrolled_again_may_begin_anew(
    tmp_path: Path, broker: Mosquitto
) -> None:
    """Goal: a retired consumer that is enrolled again with an empty database gets everything."""
    site = Site(tmp_path, broker)
    async with settled(site, broker, 20) as (central, epoch):
        await site.journal.save_consumer(Enrolled("central", "retired", None))
        central.forget()
        central.incarnation = "new"
        await site.journal.save_consumer(Enrolled("central", "enrolled", None))
        central.answers_heads = True
        await until("everything", lambda: central.upto(epoch, "data") == 20)


# -- a journal that was rolled back -------------------------------------------------------------


async def test_a_consumer_that_holds_more_than_the_journal_opens_a_new_epoch(
    tmp_path: Path, broker: Mosquitto
) -> None:
    """Goal: after a roll-back nothing new is swallowed, and what the old epoch still holds comes.

    Method: the consumer holds 15 records, the journal comes back with 10, of which only 6 are
    receipted there. The consumer goes on to state 15 for the old epoch, as it must.
    """
    site = Site(tmp_path, broker)
    async with settled(site, broker, 6) as (central, old):
        central.receipts = False
        await site.record(4)
        await until("sent, not receipted", lambda: central.upto(old, "data") == 10)
        lost = [b'["G",%d,"lost"]' % seq for seq in range(11, 16)]
        held = central.held[old, "data"]
        held.bodies |= dict(enumerate(lost, 11))
        held.upto, held.chain = 15, extend(held.chain, lost)
        central.receipts = central.answers_heads = True
        await until("a new epoch", lambda: len(site.journal.epochs) == 2)
        assert (await refusal(central, "beyond the end of the journal"))["upto"] == 15
        await until("the rest of the old epoch", lambda: site.cursor(epoch=0) == 10)
        await site.record(5)
        await until("the new epoch", lambda: site.cursor() == 5)
        assert central.bodies(site.epoch, "data") == await site.bodies()
        (event,) = await site.events("epoch.opened")
        assert event["previous"] == old
        assert "central holds more" in event["text"]
        await until("the head tells", lambda: central.on("head")[-1].json["earlier"])
        (earlier,) = central.on("head")[-1].json["earlier"]
        assert (earlier["epoch"], earlier["lanes"]["data"]["highest"]) == (old, 10)
        sent = len(central.messages)
        for _ in range(3):  # it states 15 at each head for as long as the old epoch is there
            refused = site.stream.status.refused
            await until("refused", lambda n=refused: site.stream.status.refused > n)
            site.clock.forward(61)
        assert len(await site.events("receipt.refused")) == 2, "of each kind one, not one a minute"
        later = [m.topic for m in central.messages[sent:] if m.topic.startswith("to/")]
        assert later == [], "what it has receipted is not sent again"


async def test_a_claim_does_not_open_an_epoch_again_within_a_minute(
    tmp_path: Path, broker: Mosquitto
) -> None:
    site = Site(tmp_path, broker)
    async with settled(site, broker) as (central, _):

        async def claim() -> None:
            refused = site.stream.status.refused
            central.send_receipt(site.epoch, "data", upto=99, chain=wrong_chain())
            await until("refused", lambda: site.stream.status.refused > refused)

        await claim()
        await until("again up", lambda: site.stream.status.connects == 2)
        for _ in range(3):
            await claim()
        assert len(site.journal.epochs) == 2
        site.clock.forward(61)
        await claim()
        await until("a third epoch", lambda: len(site.journal.epochs) == 3)


async def test_a_consumer_with_another_history_is_shown_the_difference(
    tmp_path: Path, broker: Mosquitto
) -> None:
    """Goal: a consumer whose receipts are refused as wrong is served all the same.

    Method: the journal was rolled back to 6 and wrote others as 7 to 12, which another consumer
    holds already, so that the live stream does not come back for them. Ours was away; it holds its
    own 7 to 10. Only when it is sent the others it can find the difference and report it.
    """
    site = Site(tmp_path, broker, enrolled=("central", "other"))
    other = Consumer(broker.port, site.name, "other")
    async with settled(site, broker, 6) as (central, epoch), other:
        central.commits = False
        await site.record(6)
        await until("the other", lambda: site.cursor("other") == 12)
        await site.restart()
        await until("up", lambda: site.stream.status.state == "up")
        mine = [b'["G",%d,"mine"]' % seq for seq in range(7, 11)]
        chain = extend(central.held[epoch, "data"].chain, mine).hex()
        central.send_receipt(epoch, "data", upto=10, chain=chain)
        await refusal(central, "wrong hash")
        await until("the difference", lambda: central.on("to/central/data"))
        assert central.sent_to("to/central/data")[0].first == 7
        assert site.cursor() == 6

"""The loop on a real journal: what goes and what stays, what is said of it, kills and races."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from edgeagent.journal import Epoch, Journal, Recorder, Storing, recorder, retention
from edgeagent.journal.growth import Growth
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.reserve import Reserve
from edgeagent.journal.retention import Retention
from edgeagent.journal.store import Consumer, Cursor, Reader
from edgeagent.journal.survey import received_upto
from edgeagent.model.record import Lane, Record, decode_json, evidence_text, genesis
from edgeagent.model.settings import JournalSettings
from tests.clocks import ManualClock
from tests.storage import Disk

DAY_S = 86_400.0
SMALL = JournalSettings().model_copy(update={"budget": 40_000_000, "reserve": 4_000_000})
"""Sizes that a test fills in no time; as settings they would be refused."""
WIDE = 400
"""Values of a frame of about 4 KB."""


class Desk:
    """A journal, its recorder and retention at work, turn by turn."""

    def __init__(
        self, journal: Journal, clock: ManualClock, settings: JournalSettings, directory: Path
    ) -> None:
        self.journal = journal
        self.clock = clock
        self.recorder = Recorder(journal, clock, commit_within_s=0.0, held_bytes_max=100_000)
        self.retention = Retention(self.recorder, settings, directory)

    def frame(self, value: float, raw: bytes = b"", width: int = 1) -> Record:
        at = self.recorder.now()
        values = b",".join([b"%r" % value] * width)
        tail = b"1,1,%d,%d,0,0,null,null,null,[%b],null,%b]" % (*at, values, evidence_text(raw))
        return Record(Lane.DATA, "F", tail, raw if len(raw) > 32 else None)

    async def fill(self, count: int, raw: int = 0, width: int = 1) -> None:
        """Commit so many frames of so many values, with a raw reply of some size each."""
        for number in range(count):
            reply = Random(number).randbytes(raw)
            self.recorder.put(self.frame(number / 8, reply, width))
            if number % 500 == 499:
                await self.recorder.flush()
        await self.recorder.flush()
        await self.journal.move_log()

    async def turns(self, limit: int = 1000) -> None:
        """Let retention work until it has nothing to do."""
        for _ in range(limit):
            if not await self.retention.turn():
                return
        raise AssertionError("retention finds no end")

    async def enrol(self, name: str = "central", state: str = "enrolled") -> None:
        await self.journal.save_consumer(Consumer(name, state, None))

    async def receipt(self, upto: int, name: str = "central", lane: Lane = Lane.DATA) -> None:
        chain = await self.journal.chain_at(self.journal.epoch, lane, upto)
        assert chain is not None
        self.journal.set_cursor(name, self.journal.epoch, lane, Cursor(upto, chain))

    async def held(self, lane: Lane = Lane.DATA) -> tuple[int, int]:
        found = await self.journal.lane_range(self.journal.epoch, lane)
        return found.lowest, found.highest

    async def events(self, kind: str) -> list[dict[str, Any]]:
        await self.recorder.flush()
        bodies = await self.journal.read(self.journal.epoch, Lane.EVENT, 0, bytes_max=1 << 30)
        stated = [decode_json(entry.body) for entry in bodies]
        return [body[6] for body in stated if body[0] == "E" and body[5] == kind]


@asynccontextmanager
async def at_work(
    directory: Path, settings: JournalSettings = SMALL, vfs: str | None = None
) -> AsyncIterator[Desk]:
    clock = ManualClock()
    journal = await Journal.open(directory, clock, vfs=vfs)
    desk = Desk(journal, clock, settings, directory)
    await desk.recorder.load()
    committing = asyncio.create_task(desk.recorder.run())
    try:
        async with asyncio.timeout(60):
            yield desk
    finally:
        committing.cancel()
        await asyncio.wait([committing])
        await journal.close()


@pytest.fixture(autouse=True)
def no_lull(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is at work here."""
    monkeypatch.setattr(retention, "LULL_S", 0.0)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with at_work(tmp_path) as desk:
        yield desk


# -- who has received what -----------------------------------------------------------------------


async def test_received_is_what_everybody_has_who_is_enrolled_or_suspended(desk):
    await desk.fill(10)

    def received() -> int:
        return received_upto(desk.journal, desk.journal.epoch, Lane.DATA)

    assert received() == 0, "nobody has received anything when there is nobody"
    await desk.enrol("central")
    assert received() == 0
    await desk.receipt(7, "central")
    assert received() == 7
    await desk.enrol("archive", "suspended")
    assert received() == 0, "a suspended consumer will be served again"
    await desk.receipt(4, "archive")
    assert received() == 4
    await desk.enrol("archive", "retired")
    assert received() == 7


# -- in the ordinary course ------------------------------------------------------------------------


async def test_received_records_go_when_they_are_past_their_time(desk):
    await desk.enrol()
    await desk.fill(500)
    desk.clock.advance(60 * DAY_S)
    await desk.fill(500)
    await desk.receipt(900)
    await desk.turns()
    assert await desk.held() == (1, 1000), "nothing is 90 days old"
    desk.clock.advance(40 * DAY_S)
    await desk.turns()
    assert await desk.held() == (501, 1000)
    (gone,) = [e for e in await desk.events("journal.purged") if e["what"] == "records"]
    assert (gone["first"], gone["last"], gone["cause"]) == (1, 500, "keep")
    assert (gone["lane"], gone["epoch"]) == ("data", desk.journal.epoch.uuid)
    assert gone["severity"] == "info"


async def test_what_was_not_received_stays_however_old_it_is(desk):
    await desk.enrol()
    await desk.fill(100)
    await desk.receipt(30)
    desk.clock.advance(1000 * DAY_S)
    await desk.turns()
    assert await desk.held() == (31, 100)
    await desk.enrol("archive")
    await desk.receipt(60)
    await desk.turns()
    assert await desk.held() == (31, 100), "the new consumer has received nothing yet"


async def test_raw_replies_go_before_their_records(desk):
    await desk.fill(50, raw=100)
    desk.clock.advance(32 * DAY_S)
    await desk.fill(50, raw=100)
    await desk.turns()
    assert await desk.held() == (1, 100)
    reader = desk.journal._reading()
    kept = await desk.journal._in_reader(lambda: reader.evidence(desk.journal.epoch, 0, 100))
    assert [seq for seq, _ in kept] == list(range(51, 101))
    (gone,) = await desk.events("journal.purged")
    assert (gone["what"], gone["cause"], gone["first"], gone["last"]) == (
        ("raw replies", "evidence_keep", 1, 50)
    )


async def test_a_clock_that_is_known_to_be_wrong_tells_no_age(desk):
    await desk.enrol()
    await desk.fill(100)
    await desk.receipt(100)
    desk.recorder.set_context({"clock": {"state": "unsynced"}})
    desk.clock.step(1000 * DAY_S)
    await desk.turns()
    assert (await desk.held())[0] == 1
    desk.recorder.set_context({"clock": {"state": "synced"}})
    await desk.turns()
    assert (await desk.held())[0] == 101


async def test_what_a_start_must_read_back_stays(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continuity is rebuilt from the checkpoint and the data records behind it."""
    monkeypatch.setattr(recorder, "CHECKPOINT_EVERY_NS", 1 << 62)
    await desk.enrol()
    desk.recorder.snapshot = lambda: b"state"
    await desk.fill(100)
    assert (await desk.journal.checkpoint() or ())[:2] == (0, 100)
    await desk.fill(100)
    await desk.receipt(200)
    desk.clock.advance(100 * DAY_S)
    await desk.turns()
    assert (await desk.held())[0] == 101
    monkeypatch.setattr(recorder, "CHECKPOINT_EVERY_NS", 0)
    await desk.fill(1)
    await desk.turns()
    assert (await desk.held())[0] == 201, "the next checkpoint stands behind them"


# -- under pressure --------------------------------------------------------------------------------


async def test_under_pressure_received_records_yield_and_it_is_audited_before(desk):
    await desk.enrol()
    await desk.fill(9_000, width=WIDE)
    await desk.receipt(5_000)
    await desk.turns()
    lowest, highest = await desk.held()
    state = desk.retention.state()
    assert 1 < lowest <= 5_001
    assert highest == 9_000
    assert state["fill_percent"] < 86
    assert state["stage"] == 80
    gone = [e for e in await desk.events("journal.purged") if e["what"] == "records"]
    assert [e["first"] for e in gone] == [1, *(e["last"] + 1 for e in gone[:-1])]
    assert gone[-1]["last"] == lowest - 1
    assert {(e["cause"], e["severity"]) for e in gone} == {("budget", "warning")}
    first = (await desk.events("journal.budget"))[0]
    assert first["severity"] == "alarm"
    assert first["used_bytes"] > 0.8 * first["budget_bytes"]


async def test_what_nobody_has_received_fills_the_journal_and_pauses_it(desk):
    await desk.enrol()
    seen = []
    for _ in range(100):
        if desk.recorder.storing is not Storing.ALL:
            break
        await desk.fill(300, width=WIDE)
        await desk.turns()
        seen.append(desk.retention.state()["stage"])
    assert sorted(set(seen)) == [0, 80, 90, 95]
    assert seen == sorted(seen)
    stages = [(e["stage"], e["severity"]) for e in await desk.events("journal.budget")]
    assert stages == [(80, "alarm"), (90, "alarm"), (95, "alarm")]
    assert desk.recorder.storing is Storing.RESERVED
    (full,) = await desk.events("journal.full")
    assert "budget" in full["text"]
    assert desk.retention.state()["paused_since_utc_ns"] == desk.clock.utc_ns()
    lowest, highest = await desk.held()
    assert lowest == 1
    await desk.receipt(highest // 2)
    await desk.turns()
    assert desk.recorder.storing is Storing.ALL
    assert len(await desk.events("journal.resumed")) == 1
    assert 1 < (await desk.held())[0] <= highest // 2 + 1


async def test_with_the_reserve_used_up_records_wait_in_memory_and_nothing_goes(desk):
    await desk.enrol()
    while desk.recorder.storing is not Storing.NOTHING:
        await desk.fill(300, width=WIDE)
        await desk.turns()
    before = await desk.held()
    for number in range(100):
        desk.recorder.put(desk.frame(float(number), width=WIDE))
    waiting = asyncio.create_task(desk.recorder.flush())
    await desk.turns()
    assert await desk.held() == before
    assert not desk.recorder.accepting, "held in memory up to held_bytes"
    used = desk.retention.state()["used_bytes"]
    assert SMALL.budget + SMALL.reserve <= used < SMALL.budget + 3 * SMALL.reserve
    await desk.receipt(before[1])
    while not waiting.done():
        await desk.turns()
        await asyncio.sleep(0)
    assert (await desk.held())[1] == before[1] + 100
    assert desk.recorder.accepting
    assert desk.recorder.storing is Storing.ALL


# -- races and kills -------------------------------------------------------------------------------


async def in_the_middle_of_a_purge(desk: Desk) -> int:
    """Have a purge of 9000 records under way; return how many are gone."""
    await desk.enrol()
    await desk.fill(9_000)
    await desk.receipt(9_000)
    desk.clock.advance(100 * DAY_S)
    while (await desk.held())[0] == 1:
        await desk.retention.turn()
    lowest, _ = await desk.held()
    assert 1 < lowest < 9_000
    return lowest - 1


async def test_a_consumer_with_a_new_database_is_owed_what_is_still_there(desk):
    """Its cursors are taken back in the middle of a purge: what is gone is gone, honestly."""
    gone = await in_the_middle_of_a_purge(desk)
    epoch = desk.journal.epoch
    for lane in Lane:
        start = Cursor(0, genesis(epoch.uuid, lane))
        desk.journal.set_cursor("central", epoch, lane, start)
    await desk.turns()
    assert await desk.held() == (gone + 1, 9_000), "lowest says from where on it is available"
    assert await desk.journal.chain_at(epoch, Lane.DATA, gone - 1) is None


async def test_a_consumer_that_is_enrolled_in_the_middle_of_a_purge_is_owed_the_rest(desk):
    gone = await in_the_middle_of_a_purge(desk)
    await desk.enrol("archive")
    await desk.turns()
    assert await desk.held() == (gone + 1, 9_000)


async def test_the_cursor_is_durable_before_the_record_goes(tmp_path: Path) -> None:
    """Goal: no kill or power loss leaves a purged record that no cursor on that disk covers."""
    with Disk(tmp_path / "state") as disk:
        async with at_work(disk.directory, vfs=disk.name) as desk:
            await desk.enrol()
            await desk.fill(5_000)
            desk.clock.advance(100 * DAY_S)
            began = len(disk.log)
            random = Random(4711)
            for upto in sorted(random.sample(range(1, 5_001), 4)):
                await desk.receipt(upto)
                await desk.turns()
        moments = random.sample(range(began, len(disk.log)), 60)
        lowest = set()
        for number, moment in enumerate(moments):
            directory = disk.power_loss(tmp_path / f"after-{number}", number, moment)
            lowest.add(check_nothing_unreceived_went(directory, 5_000))
    assert len(lowest) > 4, "moments before, between and behind the purges"


def check_nothing_unreceived_went(directory: Path, highest: int) -> int:
    """Fail unless each record behind the cursor that is on this disk is there."""
    reader = Reader(directory / FILE_NAME, read_only=False)
    try:
        (epoch,) = reader.epochs()
        cursor = reader.cursors().get(("central", 0, Lane.DATA))
        upto = cursor.upto if cursor else 0
        low, high = reader.bounds(epoch, Lane.DATA)
        assert low <= upto + 1
        assert high == highest
        entries = reader.read(epoch, Lane.DATA, low - 1, bytes_max=1 << 30)
        assert [entry.seq for entry in entries] == list(range(low, high + 1))
        return low
    finally:
        reader.close()


async def test_records_of_an_earlier_epoch_go_first_and_alone(desk):
    await desk.enrol()
    await desk.fill(300)
    await desk.receipt(300)
    old = desk.journal.epoch
    await desk.recorder.new_epoch("test")
    await desk.fill(300)
    desk.clock.advance(100 * DAY_S)
    await desk.turns()
    assert await held_of(desk, old) == (301, 300), "all of it was received"
    assert (await desk.held())[0] == 1
    await desk.receipt(200)
    await desk.turns()
    assert (await desk.held())[0] == 201


async def held_of(desk: Desk, epoch: Epoch) -> tuple[int, int]:
    found = await desk.journal.lane_range(epoch, Lane.DATA)
    return found.lowest, found.highest


# -- packing ---------------------------------------------------------------------------------------


async def test_records_are_packed_when_they_are_old_enough(desk):
    await desk.fill(4_000)
    await desk.turns()
    desk.clock.advance(600)
    await desk.fill(4_000)
    before = (await desk.journal.usage()).used_bytes
    await desk.turns()
    assert (await desk.journal.usage()).used_bytes >= before, "younger than pack_after"
    desk.clock.advance(3_100)
    await desk.turns()
    await desk.journal.move_log(at_once=True)
    after = await desk.journal.usage()
    assert after.free_bytes > before // 10
    assert await desk.held() == (1, 8_000)
    entries = await desk.journal.read(desk.journal.epoch, Lane.DATA, 0, bytes_max=1 << 30)
    assert [entry.seq for entry in entries] == list(range(1, 8_001))


# -- what is said of it --------------------------------------------------------------------------


async def test_the_state_says_how_long_it_lasts_if_nobody_receipts(desk):
    await desk.enrol()
    await desk.turns()
    assert desk.retention.state()["hours_left"] is None
    await desk.fill(2_000, width=WIDE)
    desk.clock.advance(2 * 3_600)
    await desk.turns()
    state = desk.retention.state()
    grown = state["bytes_per_hour"] * 2
    assert grown == pytest.approx(state["used_bytes"], rel=0.5)
    left = state["budget_bytes"] - state["used_bytes"]
    assert state["hours_left"] == pytest.approx(left / state["bytes_per_hour"], abs=0.1)
    assert state["days_left"] == pytest.approx(state["hours_left"] / 24, abs=0.1)
    assert state["received_share"] == 0
    assert state["oldest_utc_ns"] == desk.clock.utc_ns() - 2 * 3_600 * 10**9
    await desk.receipt(2_000)
    await desk.retention.turn()
    state = desk.retention.state()
    assert state["received_share"] > 0.99
    whole = state["budget_bytes"] / state["bytes_per_hour"]
    assert state["hours_left"] == pytest.approx(whole, rel=0.02), "received records yield"


def test_growth_counts_what_was_given_up_as_grown():
    growth, hour = Growth(), 3600 * 10**9
    assert growth.per_hour(0, 0) is None
    growth.sample(0, 1_000, 0, dict.fromkeys(Lane, 0))
    assert growth.per_hour(10**9, 1_000) is None
    growth.freed(5_000)
    assert growth.per_hour(2 * hour, 1_000) == 2_500


def test_growth_looks_back_a_day_and_knows_where_lanes_ended():
    growth, hour = Growth(), 3600 * 10**9
    for number in range(48 * 60):
        heads = dict.fromkeys(Lane, number)
        growth.sample(number * hour // 60, max(0, number - 24 * 60), number // 2000, heads)
    now = 47 * hour + 59 * hour // 60
    assert growth.per_hour(now, 24 * 60 - 1) == pytest.approx(60, rel=0.01), "the first day is over"
    assert growth.head_at(now - hour, 1, Lane.DATA) == 48 * 60 - 61
    assert growth.head_at(now - 23 * hour, 1, Lane.DATA) == 0, "that was in the epoch before"
    assert growth.head_at(now - 30 * hour, 1, Lane.DATA) is None


# -- the reserve ---------------------------------------------------------------------------------


def test_a_reserve_is_allocated_given_up_in_parts_and_found_again(tmp_path: Path) -> None:
    reserve, file = Reserve(tmp_path), tmp_path / "reserve"
    assert reserve.resize(1 << 20)
    assert file.stat().st_blocks * 512 >= 1 << 20
    assert reserve.resize(1 << 18)
    assert file.stat().st_size == reserve.held == 1 << 18
    reserve.close()
    again = Reserve(tmp_path)
    assert again.held == 0
    again.look()
    assert again.held == 1 << 18
    again.close()


def test_a_copy_with_holes_reserves_nothing(tmp_path: Path) -> None:
    with (tmp_path / "reserve").open("wb") as file:
        file.truncate(1 << 20)
    reserve = Reserve(tmp_path)
    reserve.look()
    assert reserve.held == 0
    assert reserve.resize(1 << 20)
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 1 << 20
    reserve.close()


def test_a_reserve_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "nowhere")
    reserve.look()
    assert not reserve.resize(1 << 20)
    assert reserve.held == 0
    reserve.close()

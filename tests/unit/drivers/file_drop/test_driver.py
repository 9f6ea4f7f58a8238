"""The folder: only read, only what has settled, each row once, whatever happens between."""

import asyncio
import os
import threading
from random import Random

import pytest

from drivers.file_drop import driver as driver_module
from drivers.file_drop.driver import FORGET_AFTER_S
from drivers.file_drop.folder import Aside
from edgeagent.driver import Identity, LinkLost, Loss
from simulators.devices.run_report import (
    Manner,
    Run,
    Sample,
    apheresis_json,
    deliver,
    freezer_csv,
    freezer_run,
    processing_xml,
)
from simulators.process.controlled_rate_freezer import (
    ControlledRateFreezer,
    ControlledRateFreezerSettings,
)
from tests.unit.drivers.file_drop.reports import (
    driver,
    frames,
    instrument,
    losses,
    places,
    profile,
    shipped,
    taken,
    until_loss,
    values,
)

SETTLE_S = 0.05


def rows(*numbers: int) -> str:
    return "".join(f"2026-11-23 12:{n // 60:02d}:{n % 60:02d},{n}\n" for n in numbers)


def table(*numbers: int) -> str:
    return "time,x\n" + rows(*numbers)


@pytest.fixture
def one():
    return instrument(profile())


async def everything(folder, *instruments, count: int, marks=None, **settings):
    """What a driver that begins now gives, up to so many frames; and no more within a moment."""
    made = driver(folder, *instruments, **settings)
    made.take_up({g: dict(marks or {}) for i in instruments for g in i.groups})
    await made.connect()
    try:
        items = await taken(made, count)
        await asyncio.sleep(SETTLE_S * 3)
        if made._ready:
            items += await made.next()
        return items
    finally:
        await made.close()


def marks_of(items) -> dict[str, str]:
    return {key: place for place, key in places(items).items()}


class TestItOnlyReads:
    async def test_a_folder_without_permission_to_write(self, tmp_path, one):
        """As whoever: nothing is made, renamed, touched or read into the access time."""
        file = tmp_path / "a.csv"
        file.write_text(table(1, 2))
        os.utime(file, ns=(10**18, 10**18))
        before = file.stat()
        tmp_path.chmod(0o555)
        try:
            assert values(await everything(tmp_path, one, count=2)) == [1, 2]
        finally:
            tmp_path.chmod(0o755)
        after = file.stat()
        assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
        assert after.st_atime_ns == before.st_atime_ns
        assert list(tmp_path.iterdir()) == [file]

    async def test_what_is_no_file_is_left_alone(self, tmp_path, one):
        (tmp_path / "folder.csv").mkdir()
        os.mkfifo(tmp_path / "pipe.csv")
        outside = tmp_path / "elsewhere"
        outside.write_text(table(9))
        (tmp_path / "link.csv").symlink_to(outside)
        (tmp_path / "a.csv").write_text(table(1))
        items = await everything(tmp_path, one, count=1)
        assert (values(items), losses(items)) == ([1], [])


class TestItSettles:
    async def test_a_file_is_not_read_before_it_has_stood_still(self, tmp_path, one):
        (tmp_path / "a.csv").write_text(table(1))
        made = driver(tmp_path, one, settle="1 h")
        await made.connect()
        assert len(await made.next()) == 1
        await asyncio.sleep(SETTLE_S * 4)
        assert not made._ready
        await made.close()

    async def test_what_changes_begins_to_settle_again(self, tmp_path, one):
        file = tmp_path / "a.csv"
        file.write_text(table(1))
        made = driver(tmp_path, one, look_every="1 h", settle="1 ms")
        await made.connect()
        for number in (2, 3):
            with file.open("a") as growing:
                growing.write(rows(number))
            await asyncio.sleep(SETTLE_S)
            await made._look()
            assert made._settled() == [], "seen once since it changed"
        await asyncio.sleep(SETTLE_S)
        await made._look()
        assert len(made._settled()) == 1
        await made.close()


class TestEachRowOnce:
    async def test_a_file_that_grows_goes_on_behind_what_was_read(self, tmp_path):
        log = tmp_path / "log.csv"
        log.write_text(table(1, 2))
        made = driver(tmp_path, instrument(profile(("file_drop/grows", True))))
        await made.connect()
        items = await taken(made, 2)
        with log.open("a") as file:
            file.write(rows(3)[:-4])
        await asyncio.sleep(SETTLE_S)
        with log.open("a") as file:
            file.write(rows(3)[-4:] + rows(4))
        items += await taken(made, 2)
        await made.close()
        assert (values(items), losses(items)) == ([1, 2, 3, 4], [])

    async def test_what_was_stored_is_known_after_a_restart_under_any_name(self, tmp_path, one):
        (tmp_path / "a.csv").write_text(table(1, 2))
        first = await everything(tmp_path, one, count=2)
        (tmp_path / "a.csv").rename(tmp_path / "renamed.csv")
        (tmp_path / "copy.csv").write_text(table(1, 2))
        (tmp_path / "b.csv").write_text(table(3))
        again = await everything(tmp_path, one, count=1, marks=marks_of(first))
        assert values(again) == [3]

    async def test_a_kill_in_the_middle_of_a_file_gives_the_rest(self, tmp_path, one):
        (tmp_path / "a.csv").write_text(table(*range(50)))
        first = await everything(tmp_path, one, count=50)
        stored = frames(first)[:20]
        again = await everything(tmp_path, one, count=30, marks=marks_of(stored))
        assert values(again) == list(range(20, 50))

    async def test_what_is_not_durable_comes_again_after_the_link_was_lost(self, tmp_path, one):
        (tmp_path / "a.csv").write_text(table(1, 2, 3))
        made = driver(tmp_path, one)
        await made.connect()
        items = await taken(made, 3)
        await asyncio.sleep(SETTLE_S)  # it is read to its end
        await made.committed(frames(items)[0])
        await made.close()
        await made.connect()
        again = await taken(made, 2)
        await made.close()
        assert values(again) == [2, 3]

    async def test_a_copy_that_grows_leaves_the_mark_of_its_original(self, tmp_path):
        one = instrument(profile(("file_drop/grows", True)))
        (tmp_path / "a.csv").write_text(table(1, 2))
        made = driver(tmp_path, one)
        await made.connect()
        items = await taken(made, 2)
        await asyncio.sleep(SETTLE_S)
        (tmp_path / "b.csv").write_text(table(1, 2, 3))
        items += await taken(made, 1)
        await made.close()
        assert values(items) == [1, 2, 3]
        (tmp_path / "c.csv").write_text(table(9))
        again = await everything(tmp_path, one, count=1, marks=marks_of(items))
        assert values(again) == [9]

    async def test_another_content_under_the_name_is_new_and_is_told(self, tmp_path, one):
        file = tmp_path / "a.csv"
        file.write_text(table(1, 2))
        made = driver(tmp_path, one)
        await made.connect()
        items = await taken(made, 2)
        await asyncio.sleep(SETTLE_S)
        file.write_text(table(7))
        items += await taken(made, 1)
        await made.close()
        assert values(items) == [1, 2, 7]
        assert "was replaced by" in losses(items)[0]

    async def test_touching_a_file_changes_nothing(self, tmp_path, one):
        file = tmp_path / "a.csv"
        file.write_text(table(1))
        made = driver(tmp_path, one)
        await made.connect()
        items = await taken(made, 1)
        file.touch()
        await asyncio.sleep(SETTLE_S)
        (tmp_path / "b.csv").write_text(table(2))
        items += await taken(made, 1)
        await made.close()
        assert (values(items), losses(items)) == ([1, 2], [])

    async def test_two_groups_of_one_report_go_on_each_from_its_own_place(self, tmp_path):
        stated = profile(
            ("groups/h", {"period": "1 s", "tags": {"y": {"type": "INT64", "field": "x"}}})
        )
        two = instrument(stated)
        (tmp_path / "a.csv").write_text(table(1, 2))
        items = frames(await everything(tmp_path, two, count=4))
        made = driver(tmp_path, two)
        g, h = two.groups
        stored = [f for f in items if f.group.group == "g"]
        made.take_up({g: marks_of(stored), h: {}})
        await made.connect()
        again = frames(await taken(made, 2))
        await made.close()
        assert [(f.group.group, f.values) for f in again] == [("h", (1,)), ("h", (2,))]

    @pytest.mark.parametrize("manner", Manner)
    async def test_however_a_platform_writes_its_files(self, tmp_path, manner):
        rng = Random(4711)
        process = ControlledRateFreezer(ControlledRateFreezerSettings(), rng)
        run = freezer_run(process, 1_795_435_200.0, 40, "0042")
        made = driver(tmp_path, instrument(shipped("controlled-rate-freezer-report")))
        await made.connect()
        items = []
        for _ in deliver(tmp_path, "r.csv", freezer_csv(run).encode("cp1252"), manner, rng):
            await asyncio.sleep(SETTLE_S)
        items = await taken(made, 40)
        await asyncio.sleep(SETTLE_S)
        await made.close()
        assert [f.source_utc_ns // 10**9 for f in frames(items)] == [s.utc_s for s in run.samples]
        assert [f.values[0] for f in frames(items)] == [round(s.values[0], 2) for s in run.samples]

    async def test_marks_of_reports_that_are_long_gone_are_forgotten(
        self, tmp_path, one, monkeypatch
    ):
        monkeypatch.setattr(driver_module, "FORGET_AFTER_S", 0.0)
        made = driver(tmp_path, one)
        (group,) = one.groups
        made.take_up({group: {"gone": "00" * 16}})
        await made.connect()
        await asyncio.sleep(SETTLE_S)
        (tmp_path / "a.csv").write_text(table(1))
        (frame,) = frames(await taken(made, 1))
        await made.close()
        assert ("gone", None) in frame.marks
        assert FORGET_AFTER_S == 86_400.0

    async def test_a_copy_keeps_the_mark_when_its_original_goes(self, tmp_path, monkeypatch):
        monkeypatch.setattr(driver_module, "FORGET_AFTER_S", 0.0)
        log = tmp_path / "a.csv"
        log.write_text(table(1))
        made = driver(tmp_path, instrument(profile(("file_drop/grows", True))))
        await made.connect()
        items = await taken(made, 1)
        log.write_text(table(1, 2))
        items += await taken(made, 1)
        (tmp_path / "b.csv").write_text(table(1, 2))
        await asyncio.sleep(SETTLE_S * 2)
        log.unlink()
        await asyncio.sleep(SETTLE_S * 2)
        (tmp_path / "c.csv").write_text(table(3))
        items += await taken(made, 1)
        await made.close()
        assert values(items) == [1, 2, 3]
        assert not any(word is None for frame in frames(items) for _, word in frame.marks)


class TestWhatCannotBeRead:
    async def test_a_file_is_told_once_until_it_changes(self, tmp_path, one):
        file = tmp_path / "donor-4711.csv"
        file.write_text("garbage\n")
        made = driver(tmp_path, one)
        await made.connect()
        items = await until_loss(made, "report of 8 bytes has no line")
        await asyncio.sleep(SETTLE_S * 2)
        (tmp_path / "b.csv").write_text(table(1))
        items += await taken(made, 1)
        assert len(losses(items)) == 1
        assert "4711" not in repr(losses(items))
        file.write_text(table(2))
        items += await taken(made, 1)
        await made.close()
        assert values(items) == [1, 2]

    async def test_a_name_that_says_nothing_of_a_person_may_be_told(self, tmp_path):
        (tmp_path / "run-1.csv").write_text("garbage\n")
        made = driver(tmp_path, instrument(profile(("file_drop/opaque_names", True))))
        await made.connect()
        await until_loss(made, "run-1.csv has no line")
        await made.close()

    async def test_a_file_that_is_too_large(self, tmp_path, one):
        (tmp_path / "a.csv").write_text(table(*range(100)))
        made = driver(tmp_path, one, file_bytes_max="1 kB")
        await made.connect()
        await until_loss(made, "more than file_bytes_max 1000")
        await made.close()

    async def test_too_many_files(self, tmp_path, one):
        for number in range(4):
            (tmp_path / f"{number}.csv").write_text(table(number))
        with pytest.raises(LinkLost, match="raise files_max"):
            await driver(tmp_path, one, files_max=3).connect()


class TestTheLink:
    async def test_a_folder_that_is_not_there_is_a_lost_link_with_the_mend(self, tmp_path, one):
        with pytest.raises(LinkLost, match="No such file or directory; let the agent's account"):
            await driver(tmp_path / "none", one).connect()

    async def test_that_the_folder_is_watched_ends_the_gap(self, tmp_path, one):
        made = driver(tmp_path, one)
        await made.connect()
        (watched,) = await made.next()
        await made.close()
        assert isinstance(watched, Loss)
        assert watched.from_utc_ns == watched.to_utc_ns is not None

    async def test_a_file_system_that_hangs_is_a_lost_link_and_blocks_nobody(self):
        """And no second thread is begun before the first has come back."""
        back = threading.Event()
        aside = Aside("folder /x", 0.05)
        for _ in range(2):
            with pytest.raises(LinkLost, match=r"folder /x does not answer within 0\.05 s"):
                await aside.do(back.wait, 10.0)
        assert sum(t.name == "folder /x" for t in threading.enumerate()) == 1
        back.set()
        (left_behind,) = (t for t in threading.enumerate() if t.name == "folder /x")
        await asyncio.to_thread(left_behind.join, 5.0)
        assert await aside.do(lambda: 6) == 6

    async def test_a_mount_that_hangs_is_told_at_connect(self, tmp_path, one, monkeypatch):
        back = threading.Event()
        monkeypatch.setattr(driver_module, "look", lambda *_: back.wait(10.0))
        made = driver(tmp_path, one, timeout="50 ms")
        with pytest.raises(LinkLost, match="see whether its file system is there"):
            await made.connect()
        await made.close()
        back.set()

    async def test_who_does_not_commit_is_not_given_everything(self, tmp_path, one, monkeypatch):
        monkeypatch.setattr(driver_module, "WAITING_MAX", 512)
        (tmp_path / "a.csv").write_text(table(*range(3000)))
        made = driver(tmp_path, one)
        await made.connect()
        items = await taken(made, 512)
        await asyncio.sleep(SETTLE_S)
        assert not made._ready
        while len(frames(items)) < 3000:
            await made.committed(frames(items)[-1])
            items += await made.next()
        await made.close()
        assert values(items) == list(range(3000))


class TestWhoWroteIt:
    RUN = Run("0042", "3.1", (Sample(1_795_435_200.0, (36.5, 900.0, 12.5, 3.0)),), "DE-4711 & co")

    async def test_the_report_says_it_before_its_values(self, tmp_path):
        mine = instrument(shipped("cell-processing-report"), expected=(("serial_number", "0042"),))
        (tmp_path / "a.xml").write_text(processing_xml(self.RUN))
        items = await everything(tmp_path, mine, count=1)
        identity = next(item for item in items if isinstance(item, Identity))
        assert dict(identity.facts) == {
            "model": "CPP-7", "serial_number": "0042", "firmware": "3.1",
        }  # fmt: skip
        assert identity.mismatches == ()
        assert items.index(identity) < items.index(frames(items)[0])
        assert values(items) == [(36.5, 900, 12.5, 3)]

    async def test_another_serial_number_is_a_mismatch_also_after_a_reconnect(self, tmp_path):
        mine = instrument(shipped("apheresis-report"), expected=(("serial_number", "0001"),))
        (tmp_path / "a.json").write_text(apheresis_json(self.RUN))
        made = driver(tmp_path, mine)
        assert await made.connect() == ()
        items = await taken(made, 1)
        (identity,) = [item for item in items if isinstance(item, Identity)]
        assert identity.mismatches == ("serial_number is '0042'; the site expects '0001'",)
        await made.close()
        assert await made.connect() == (identity,)
        await made.close()

    @pytest.mark.parametrize(
        ("name", "write"),
        [("cell-processing-report", processing_xml), ("apheresis-report", apheresis_json)],
    )
    async def test_numbers_of_persons_do_not_leave_the_driver(self, tmp_path, name, write):
        mine = instrument(shipped(name))
        suffix = mine.profile.file_drop.format
        (tmp_path / f"DE-4711.{suffix}").write_text(write(self.RUN))
        items = await everything(tmp_path, mine, count=1)
        assert "DE-4711" not in repr(items)

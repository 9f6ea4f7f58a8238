"""The journal as the event loop sees it: who may hold it, its cursors, and how it is mended.

What storage faults do to it is in ``tests/simulation/test_storage_faults.py``.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from edgeagent.journal import Journal
from edgeagent.journal import store as store_module
from edgeagent.journal.journal import FILE_NAME, StateDirectory
from edgeagent.journal.store import Consumer, Cursor, Reader, Store
from edgeagent.model.errors import JournalFailed, JournalFull, StartRefused
from edgeagent.model.record import Lane
from tests.clocks import START_UTC_NS, ManualClock
from tests.storage import Disk
from tests.unit.journal.witness import AT, State, chain_of, context, event, frame, look, schema

ALL = 1 << 40


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with Disk(tmp_path / "state") as disk:
        yield disk


@pytest.fixture
async def journal(disk: Disk) -> AsyncIterator[Journal]:
    journal = await Journal.open(disk.directory, ManualClock(), vfs=disk.name)
    yield journal
    await journal.close()


# -- the state directory -----------------------------------------------------------------------


def test_a_state_directory_belongs_to_one_agent(tmp_path):
    path = tmp_path / "var" / "lib" / "edgeagent"
    held = StateDirectory(path)
    assert path.stat().st_mode & 0o777 == 0o700
    with pytest.raises(StartRefused, match="another agent is running") as caught:
        StateDirectory(path)
    assert caught.value.code == 75
    held.release()
    StateDirectory(path).release()


@pytest.mark.parametrize("below", ["", "state", "state/deeper"])
def test_a_state_directory_that_cannot_be_made_is_refused(tmp_path, below):
    """Under a file; that refuses root, too."""
    (tmp_path / "file").touch()
    with pytest.raises(StartRefused, match="state_dir cannot be written") as caught:
        StateDirectory(tmp_path / "file" / below)
    assert caught.value.code == 73


# -- opening and closing -----------------------------------------------------------------------


async def test_a_new_journal_is_empty_and_its_heads_are_the_beginning(journal):
    assert (journal.epoch.opened_utc_ns, journal.epoch.cause) == (START_UTC_NS, "created")
    assert journal.heads == {lane: (0, chain_of(journal.epoch.uuid, lane, [])) for lane in Lane}
    assert journal.find_epoch(journal.epoch.uuid) == journal.epoch
    assert journal.find_epoch("another") is None
    assert (journal.consumers, journal.cursors, await journal.checkpoint()) == ({}, {}, None)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("not a database, but long enough\n" * 40), "not a database"),
        (lambda path: path.mkdir(), "unable to open"),
        (lambda path: _altered(path, "PRAGMA user_version = 3"), "reads layouts 1 to 2"),
        (lambda path: _altered(path, "PRAGMA application_id = 1"), "is no edgeagent journal"),
    ],
)
async def test_what_cannot_be_opened_is_said_in_words(tmp_path, make, words):
    make(tmp_path / FILE_NAME)
    with pytest.raises(JournalFailed, match=f"cannot be opened: .*{words}"):
        await Journal.open(tmp_path, ManualClock())
    assert not [t.name for t in threading.enumerate() if t.name.startswith("journal-")]


async def test_an_unfixed_sqlite_is_said_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.40.1")
    with pytest.raises(JournalFailed, match=r"SQLite 3\.40\.1 can corrupt"):
        await Journal.open(tmp_path, ManualClock())


def _altered(path: Path, sql: str) -> None:
    Store(path, 0).close()
    db = apsw.Connection(str(path))
    db.execute(sql)
    db.close()


async def test_closing_twice_is_fine_and_a_closed_journal_takes_nothing(journal):
    await journal.close()
    await journal.close()
    with pytest.raises((JournalFailed, RuntimeError)):
        await journal.append([frame(1.0)])


async def test_the_old_is_packed_purged_and_given_back_through_the_loop(journal, monkeypatch):
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 400)
    records = [frame(n / 8, bytes(100)) for n in range(100)]
    await journal.append(records)
    before, epoch = await journal.usage(), journal.epoch
    while await journal.pack(Lane.DATA, keep_newest=10):
        pass
    assert await journal.oldest(Lane.DATA) == (epoch, 1, AT.utc_ns)
    assert await journal.purge_evidence(epoch, 80) == 80
    assert await journal.purge(epoch, Lane.DATA, 60) == 60
    assert await journal.purge(epoch, Lane.DATA, 60) == 0
    assert await journal.oldest(Lane.DATA) == (epoch, 61, AT.utc_ns)
    assert await journal.lane_range(epoch, Lane.DATA) == (61, 100, journal.heads[Lane.DATA][1])
    while await journal.shrink():
        pass
    after = await journal.usage()
    assert after.free_bytes == 0
    assert after.file_bytes < before.file_bytes
    entries = await journal.read(epoch, Lane.DATA, 0, bytes_max=ALL)
    assert entries == [(n, records[n - 1].body(n)) for n in range(61, 101)]


async def test_a_receipt_that_allows_a_purge_is_on_disk_with_it(journal, disk):
    """A cursor that was only in memory when its records went would ask for them for ever."""
    await journal.append([frame(n / 8) for n in range(20)])
    await journal.save_consumer(Consumer("central", "enrolled", None))
    journal.set_cursor("central", journal.epoch, Lane.DATA, Cursor(10, bytes(32)))
    with pytest.raises(ValueError, match=r"not receipted by central \(10\)"):
        await journal.purge(journal.epoch, Lane.DATA, 11)
    assert look(disk.directory).cursors == {}
    assert await journal.purge(journal.epoch, Lane.DATA, 10) == 10
    assert look(disk.directory).cursors == {("central", 0, Lane.DATA): Cursor(10, bytes(32))}


async def test_everything_can_be_asked_through_the_loop(journal):
    records = [schema(1), context(Lane.DATA, 1), frame(1.0), event("a")]
    committed = await journal.append(records, checkpoint=b"state")
    epoch, bodies = journal.epoch, [r.body(n) for n, r in enumerate(records[:3], 1)]
    chain = chain_of(epoch.uuid, Lane.DATA, bodies)
    assert journal.heads == {part.lane: (part.last, part.chain) for part in committed}
    assert [e.body for e in await journal.read(epoch, Lane.DATA, 0, bytes_max=ALL)] == bodies
    assert len(await journal.read(epoch, Lane.DATA, 0, bytes_max=ALL, upto=2)) == 2
    assert await journal.chain_at(epoch, Lane.DATA, 3) == chain
    assert await journal.anchor_after(epoch, Lane.DATA, 1) == (3, chain)
    assert await journal.lane_range(epoch, Lane.DATA) == (1, 3, chain)
    assert [d.number for d in await journal.descriptions(Lane.DATA, "S")] == [1]
    assert await journal.checkpoint() == (0, 3, b"state")
    assert await journal.file_bytes() >= 4096


# -- consumers and cursors ---------------------------------------------------------------------


def on_disk(disk: Disk) -> dict[Any, Cursor]:
    reader = Reader(disk.directory / FILE_NAME)
    try:
        return reader.cursors()
    finally:
        reader.close()


async def test_a_cursor_is_written_with_the_next_commit(disk, journal):
    key = ("central", 0, Lane.DATA)
    journal.set_cursor("central", journal.epoch, Lane.DATA, Cursor(1, bytes(32)))
    assert journal.cursor("central", journal.epoch, Lane.DATA) == Cursor(1, bytes(32))
    assert journal.cursor("central", journal.epoch, Lane.EVENT) is None
    assert on_disk(disk) == {}
    await journal.append([frame(1.0)])
    assert on_disk(disk) == {key: Cursor(1, bytes(32))}


async def test_cursors_that_moved_last_are_written_on_close(disk, journal):
    journal.set_cursor("central", journal.epoch, Lane.DATA, Cursor(1, bytes(32)))
    await journal.close()
    assert on_disk(disk) == {("central", 0, Lane.DATA): Cursor(1, bytes(32))}
    again = await Journal.open(disk.directory, ManualClock(), vfs=disk.name)
    assert again.cursor("central", again.epoch, Lane.DATA) == Cursor(1, bytes(32))
    await again.close()


async def test_a_cursor_survives_a_commit_that_was_refused(disk, journal):
    journal.set_cursor("central", journal.epoch, Lane.DATA, Cursor(1, bytes(32)))
    disk.fill()
    with pytest.raises(JournalFull):
        await journal.append([frame(1.0)])
    journal.set_cursor("other", journal.epoch, Lane.DATA, Cursor(2, bytes(32)))
    disk.heal()
    await journal.append([frame(1.0)])
    assert {name: at.upto for (name, _, _), at in on_disk(disk).items()} == {
        "central": 1,
        "other": 2,
    }


async def test_a_cursor_that_moved_is_not_forgotten_by_a_new_epoch(journal):
    old = journal.epoch
    journal.set_cursor("central", old, Lane.DATA, Cursor(1, bytes(32)))
    await journal.open_epoch("test")
    assert journal.cursor("central", old, Lane.DATA) == Cursor(1, bytes(32))


async def test_consumers_are_kept(disk, journal):
    await journal.save_consumer(Consumer("central", "enrolled", None))
    await journal.save_consumer(Consumer("lab", "enrolled", "0192"))
    await journal.save_consumer(Consumer("lab", "suspended", "0192"))
    assert [consumer.name for consumer in journal.active_consumers()] == ["central"]
    await journal.close()
    again = await Journal.open(disk.directory, ManualClock(), vfs=disk.name)
    assert again.consumers == {
        "central": Consumer("central", "enrolled", None),
        "lab": Consumer("lab", "suspended", "0192"),
    }
    await again.close()


async def test_a_consumer_that_cannot_be_written_is_not_taken(disk, journal):
    disk.fill()
    with pytest.raises(JournalFull, match="no space left"):
        await journal.save_consumer(Consumer("central", "enrolled", None))
    assert journal.consumers == {}
    disk.heal()
    disk.fail_syncs()
    await journal.save_consumer(Consumer("central", "enrolled", None))
    assert journal.mended == 1


async def test_a_change_of_a_consumer_holds_with_the_record_of_it_or_not_at_all(disk, journal):
    """Goal: no act without its audit record, and no record of an act that was not done."""
    enrolled = Consumer("central", "enrolled", None)

    def found() -> tuple[dict[str, Consumer], int]:
        reader = Reader(disk.directory / FILE_NAME, disk.name)
        try:
            return reader.consumers(), reader.lane_range(journal.epoch, Lane.EVENT).highest
        finally:
            reader.close()

    act: dict[str, Any] = {"consumers": {"central": enrolled}}
    assert (journal.consumers, found()) == ({}, ({}, 0))
    disk.fill()
    with pytest.raises(JournalFull):
        await journal.append([event("consumer.enrolled")], **act)
    assert (journal.consumers, found()) == ({}, ({}, 0))
    disk.heal()
    await journal.append([event("consumer.enrolled")], **act)
    assert journal.consumers == {"central": enrolled}
    assert found() == ({"central": enrolled}, 1)


async def test_a_note_is_written_with_its_records_and_found_again(disk, journal):
    await journal.append([frame(1.0)], notes={"job/1": b"one", "job/2": b"two"})
    disk.fill()
    with pytest.raises(JournalFull):
        await journal.append([frame(2.0)], notes={"job/1": b"gone on"})
    assert journal.notes == {"job/1": b"one", "job/2": b"two"}
    disk.heal()
    await journal.append([frame(2.0)], notes={"job/1": b"gone on", "job/2": None})
    await journal.close()
    again = await Journal.open(disk.directory, ManualClock(), vfs=disk.name)
    assert again.notes == {"job/1": b"gone on"}
    await again.close()


# -- epochs ------------------------------------------------------------------------------------


async def test_epoch_and_heads_change_together(journal):
    """Whoever runs meanwhile never sees the new epoch with the old heads: he would say so."""
    await journal.append([schema(1), frame(1.0), frame(2.0), frame(3.0)])
    seen: set[tuple[int, int]] = set()
    opening = asyncio.create_task(journal.open_epoch("test"))
    while not opening.done():
        seen.add((journal.epoch.number, journal.heads[Lane.DATA][0]))
        await asyncio.sleep(0)
    seen.add((journal.epoch.number, journal.heads[Lane.DATA][0]))
    assert seen == {(0, 4), (1, 1)}
    assert [epoch.cause for epoch in journal.epochs] == ["created", "test"]


async def test_an_epoch_is_opened_in_spite_of_a_failed_sync(disk, journal):
    await journal.append([schema(1), frame(1.0)])
    state = State().with_commit([schema(1), frame(1.0)]).with_epoch()
    disk.fail_syncs()
    (part,) = await journal.open_epoch("test")
    assert (part.epoch, part.last, journal.mended) == (journal.epoch.uuid, 1, 1)
    assert look(disk.directory) == state


# -- mending -----------------------------------------------------------------------------------


async def test_records_that_are_there_after_all_are_not_written_twice(disk, journal, monkeypatch):
    """The commit was written and synced, and then the answer was an error."""
    commit = Store.commit

    def fail_once(store: Store, *args: Any, **more: Any) -> None:
        commit(store, *args, **more)
        monkeypatch.undo()
        raise apsw.IOError("too late")

    await journal.append([frame(1.0)])
    monkeypatch.setattr(Store, "commit", fail_once)
    committed = await journal.append([frame(2.0), event("a"), frame(3.0)])
    state = State().with_commit([frame(1.0)]).with_commit([frame(2.0), event("a"), frame(3.0)])
    assert look(disk.directory) == state
    assert [(part.lane, part.first, part.last) for part in committed] == [
        (Lane.DATA, 2, 3),
        (Lane.EVENT, 1, 1),
    ]
    assert journal.heads == {part.lane: (part.last, part.chain) for part in committed}
    assert journal.mended == 1


async def test_a_journal_that_holds_something_else_is_not_written_to(disk, journal, monkeypatch):
    """Another hand wrote to the file: nothing can be proved any more."""
    commit = Store.commit

    def meddle(store: Store, *_: Any, **__: Any) -> None:
        commit(store, [frame(9.0)])
        raise apsw.IOError("unexpected")

    monkeypatch.setattr(Store, "commit", meddle)
    with pytest.raises(JournalFailed, match="lane data is not what was written last"):
        await journal.append([frame(1.0)])
    monkeypatch.undo()
    assert look(disk.directory) == State().with_commit([frame(9.0)])


async def test_somebody_who_reads_for_long_hinders_neither_writing_nor_mending(disk, journal):
    await journal.append([frame(1.0)])
    shell = apsw.Connection(str(disk.directory / FILE_NAME))
    shell.execute("BEGIN")
    assert shell.execute("SELECT count(*) FROM data").get == 1
    disk.fail_syncs()
    await journal.append([frame(2.0)])
    assert journal.mended == 1
    await journal.move_log()
    await journal.append([frame(3.0)])
    assert shell.execute("SELECT count(*) FROM data").get == 1
    shell.close()
    assert len(await journal.read(journal.epoch, Lane.DATA, 0, bytes_max=ALL)) == 3

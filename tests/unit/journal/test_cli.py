"""``edgeagent journal``: what a person or a script sees of a journal, sound or damaged."""

import json
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest
from click.testing import CliRunner, Result

from edgeagent.cli.journal import journal
from edgeagent.journal import store as store_module
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import Consumer, Cursor, Reader, Store
from edgeagent.model.record import Lane, Record, decode_batch
from tests.unit.journal.witness import AT, chain_of, context, event, frame, schema

RECORDS: list[list[Record]] = [
    [schema(1), context(Lane.DATA, 1), event("a")],
    [frame(1.0, bytes(50)), frame(2.0), frame(3.0)],
    [frame(4.0), event("b")],
]
BODIES = [
    record.body(seq)
    for seq, record in enumerate((r for c in RECORDS for r in c if r.lane is Lane.DATA), 1)
]


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stopped agent's state directory, named by a site file that needs no more."""
    (tmp_path / "site.yaml").write_text("state_dir: .\n")
    monkeypatch.setattr(store_module, "ANCHOR_EVERY", 1)
    settings = SimpleNamespace(state_dir=tmp_path, site="berlin-1")
    monkeypatch.setattr(
        "edgeagent.cli.journal.load_plan", lambda _: SimpleNamespace(settings=settings)
    )
    store = Store(tmp_path / FILE_NAME, 0)
    for records in RECORDS:
        store.commit(records)
    store.close()
    return tmp_path


def run(state_dir: Path, *words: str) -> Result:
    return CliRunner().invoke(journal, [*words, "--config", str(state_dir / "site.yaml")])


def alter(state_dir: Path, sql: str) -> None:
    db = apsw.Connection(str(state_dir / FILE_NAME))
    db.execute(sql)
    db.close()


def uuid_of(state_dir: Path) -> str:
    reader = Reader(state_dir / FILE_NAME)
    (epoch,) = reader.epochs()
    reader.close()
    return epoch.uuid


def test_status_shows_epochs_and_lanes(state_dir):
    shown = run(state_dir, "status")
    assert shown.exit_code == 0
    assert f"epoch {uuid_of(state_dir)}  (created)" in shown.output
    assert "  data   1..6  chain " in shown.output
    assert "  event  1..2  chain " in shown.output
    (epoch,) = json.loads(run(state_dir, "status", "--json").output)["epochs"]
    chain = chain_of(uuid_of(state_dir), Lane.DATA, BODIES).hex()
    assert epoch["lanes"]["data"] == {
        "lowest": 1,
        "highest": 6,
        "chain": chain,
        "packed": 0,
    }


@pytest.fixture
def old(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal of which the first three records are purged and the rest is packed."""
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 1)
    store = Store(state_dir / FILE_NAME, 0)
    store.save_consumer(Consumer("central", "enrolled", None))
    cursor = {
        ("central", 0, Lane.DATA): Cursor(3, chain_of(store.epoch.uuid, Lane.DATA, BODIES[:3]))
    }
    assert store.purge(store.epoch, Lane.DATA, 3, cursors=cursor) == 3
    while store.pack(Lane.DATA, keep_newest=1):
        pass
    store.close()
    return state_dir


def test_status_shows_what_is_packed_receipted_and_free(old):
    shown = run(old, "status").output
    assert "layout 2" in shown
    assert "  data   4..6  chain " in shown
    assert ", packed to 5" in shown
    assert "  data   receipted by central: 3" in shown
    state = json.loads(run(old, "status", "--json").output)
    assert state["cursors"] == [
        {"consumer": "central", "epoch": uuid_of(old), "lane": "data", "upto": 3}
    ]
    assert state["oldest_utc_ns"] == {"data": AT.utc_ns, "event": AT.utc_ns}
    assert state["used_bytes"] == state["bytes"] - state["free_bytes"] + state["log_bytes"]
    assert state["epochs"][0]["lanes"]["data"]["packed"] == 5
    assert state["epochs"][0]["evidence_purged"] == 3


def test_a_packed_and_purged_journal_is_proved_and_exported_from_its_oldest_record(old):
    assert run(old, "verify").output == "5 records: intact\n"
    for words in ((), ("--from", "1"), ("--from", "4")):
        batch = decode_batch(run(old, "export", *words).stdout_bytes.rstrip(b"\n"))
        assert (batch.first, list(batch.bodies)) == (4, BODIES[3:])
        assert batch.prev == chain_of(uuid_of(old), Lane.DATA, BODIES[:3])
    alter(old, "UPDATE data_block SET content = zeroblob(20) WHERE key = 4")
    shown = run(old, "verify")
    assert (shown.exit_code, shown.stdout) == (1, "4 records: 1 faults\n")
    assert shown.stderr == f"{uuid_of(old)} record 4 of lane data is damaged on disk\n"


def test_a_journal_of_a_newer_version_is_refused_with_what_to_do(state_dir):
    alter(state_dir, "PRAGMA user_version = 5")
    for command in ("status", "verify", "export"):
        shown = run(state_dir, command)
        assert shown.exit_code == 74
        assert f"{state_dir / FILE_NAME} has layout 5" in shown.stderr
        assert "newer; or move" in shown.stderr


def test_a_sound_journal_is_proved(state_dir):
    shown = run(state_dir, "verify")
    assert (shown.exit_code, shown.output) == (0, "8 records: intact\n")
    shown = run(state_dir, "verify", "--json")
    assert json.loads(shown.output) == {"records": 8, "faults": []}


def test_a_damaged_journal_is_told_by_the_exit_code_and_in_words(state_dir):
    alter(state_dir, "UPDATE data SET body = replace(body, '2.0', '2.5') WHERE key = 4")
    alter(state_dir, "UPDATE event SET chain = zeroblob(32) WHERE key = 2")
    shown = run(state_dir, "verify")
    uuid = uuid_of(state_dir)
    assert shown.exit_code == 1
    assert shown.stderr.splitlines() == [
        f"{uuid} record 4 of lane data is damaged on disk",
        f"{uuid} lane event: the chain breaks at or before record 2",
    ]
    assert shown.stdout == "7 records: 2 faults\n"
    faults = json.loads(run(state_dir, "verify", "--json").output)["faults"]
    assert faults == shown.stderr.splitlines()


@pytest.mark.parametrize(
    ("words", "first", "last"),
    [
        ((), 1, 6),
        (("--from", "3"), 3, 6),
        (("--from", "2", "--to", "4"), 2, 4),
        (("--to", "99"), 1, 6),
    ],
)
def test_an_export_is_what_would_be_sent(state_dir, words, first, last):
    shown = run(state_dir, "export", *words)
    assert shown.exit_code == 0
    batch = decode_batch(shown.stdout_bytes.rstrip(b"\n"))
    uuid = uuid_of(state_dir)
    assert (batch.site, batch.epoch, batch.lane) == ("berlin-1", uuid, Lane.DATA)
    assert (batch.first, list(batch.bodies)) == (first, BODIES[first - 1 : last])
    assert batch.prev == chain_of(uuid, Lane.DATA, BODIES[: first - 1])
    assert batch.chain == chain_of(uuid, Lane.DATA, BODIES[:last])


def test_an_export_names_what_is_missing(state_dir):
    alter(state_dir, "DELETE FROM data WHERE key = 4")
    lines = run(state_dir, "export").stdout_bytes.splitlines()
    headers = [json.loads(line) for line in lines if line.startswith(b"{")]
    assert [(h["first"], h["count"], h.get("missing")) for h in headers] == [
        (1, 3, None),
        (4, 1, [4]),
        (6, 1, None),
    ]
    assert [line for line in lines if line.startswith(b"[")] == BODIES[:3] + BODIES[4:]


def test_an_export_that_cannot_be_proved_ends_in_words(state_dir):
    """No chain value is known where it begins; or none behind the damage."""
    alter(state_dir, "UPDATE data SET body = 'x' WHERE key = 4")
    shown = run(state_dir, "export", "--from", "5")
    assert shown.exit_code == 1
    assert "record 4 of lane data is damaged" in shown.stderr
    assert "go on with --from 6" in shown.stderr
    assert run(state_dir, "export", "--from", "6").exit_code == 0
    alter(state_dir, "DELETE FROM data WHERE key > 4")
    shown = run(state_dir, "export")
    assert shown.exit_code == 1
    assert decode_batch(shown.stdout_bytes.rstrip(b"\n")).last == 3
    assert "record 4 of lane data is damaged" in shown.stderr


def test_an_unknown_epoch_and_no_journal_are_refused(state_dir):
    shown = run(state_dir, "export", "--epoch", "other")
    assert shown.exit_code == 2
    assert f"known: {uuid_of(state_dir)}" in shown.output
    assert run(state_dir, "export", "--epoch", uuid_of(state_dir)).exit_code == 0
    (state_dir / FILE_NAME).unlink()
    shown = run(state_dir, "verify")
    assert shown.exit_code == 74
    assert "there is no journal yet" in shown.output

"""Verification and export piece by piece, beside an agent that writes, packs and forgets.

Method: between two pieces the store does what it may do; what is said must stay true.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.journal import inspect
from edgeagent.journal import store as store_module
from edgeagent.journal.inspect import batches, verify
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import Reader, Store
from edgeagent.model.record import Lane
from tests.unit.journal.witness import chain_of, event, frame

RECORDS = [frame(n / 8, n.to_bytes(40, "big")) for n in range(1, 61)]
BODIES = [record.body(seq) for seq, record in enumerate(RECORDS, 1)]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 500)
    monkeypatch.setattr(inspect, "READ_BYTES", 700)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / FILE_NAME, 0)
    for at in range(0, 60, 3):
        opened.commit([*RECORDS[at : at + 3], event(f"event {at}")])
    yield opened
    opened.close()


@pytest.fixture
def reader(store: Store, tmp_path: Path) -> Iterator[Reader]:
    opened = Reader(tmp_path / FILE_NAME)
    yield opened
    opened.close()


def test_progress_is_told_piece_by_piece(store, reader):
    pieces = list(verify(reader))
    data = [piece for piece in pieces if piece.lane is Lane.DATA]
    assert len(data) > 8
    assert [piece.upto for piece in data] == sorted({piece.upto for piece in data})
    assert data[-1].upto == data[-1].highest == 60
    assert sum(piece.records for piece in data) == 60
    assert sum(piece.records for piece in pieces) == 80
    assert {piece.epoch for piece in pieces} == {store.epoch.uuid}
    assert not any(piece.faults for piece in pieces)


def test_what_the_agent_does_meanwhile_is_no_fault(store, reader):
    """It packs in front of the place, forgets beyond it, and writes on."""
    seen, faults = 0, []
    for number, piece in enumerate(verify(reader)):
        seen += piece.records
        faults += piece.faults
        store.pack(Lane.DATA, keep_newest=3)
        store.commit([frame(1000.0 + number)])
        if number == 3:
            assert store.purge(store.epoch, Lane.DATA, 40) == 40
        if number == 4:
            store.purge_evidence(store.epoch, 50)
    assert faults == []
    assert 80 > seen > 40


@pytest.mark.parametrize("purged", [5, 30])
def test_an_export_goes_on_behind_what_is_purged_meanwhile(store, reader, purged):
    found = []
    for batch in batches(reader, "site", store.epoch, Lane.DATA, 2, 58):
        if not found:
            store.purge(store.epoch, Lane.DATA, purged)
            store.pack(Lane.DATA, keep_newest=0)
        found.append(batch)
        assert list(batch.bodies) == BODIES[batch.first - 1 : batch.last]
        assert batch.prev == chain_of(store.epoch.uuid, Lane.DATA, BODIES[: batch.first - 1])
        assert batch.chain == chain_of(store.epoch.uuid, Lane.DATA, BODIES[: batch.last])
    assert found[0].first == 2
    assert found[1].first == max(found[0].last, purged) + 1
    assert found[-1].last == 58

"""What was lost: the agent's journal against the receiver's database, record by record."""

import sqlite3
from pathlib import Path
from typing import Any

from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import Reader
from edgeagent.model.record import Lane, decode_json

READ_BYTES = 1 << 20
NOT_COUNTED = ("first_value", "agent_stopped")
"""Gaps that begin and end a run; every other one is counted."""


def compare(state_dir: Path, database: Path, received: dict[str, Any]) -> dict[str, int]:
    """Return acquired, delivered, lost, duplicates and gaps."""
    reader = Reader(state_dir / FILE_NAME)
    acquired = delivered = 0
    gaps: set[tuple[str, int]] = set()
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as held:
        for epoch in reader.epochs():
            for lane in Lane:
                at = 0
                while entries := reader.read(epoch, lane, at, bytes_max=READ_BYTES):
                    at = entries[-1].seq
                    acquired += len(entries)
                    delivered += _held_unaltered(held, epoch.uuid, lane, entries)
                    gaps |= {(epoch.uuid, n) for e in entries if (n := _counted_gap(e.body))}
    return {
        "acquired": acquired,
        "delivered": delivered,
        "lost": acquired - delivered,
        "duplicates": received.get("duplicates", 0),
        "gaps": len(gaps),
    }


def _held_unaltered(held: sqlite3.Connection, epoch: str, lane: Lane, entries: list[Any]) -> int:
    rows = held.execute(
        "SELECT seq, body FROM record WHERE epoch = ? AND lane = ? AND seq BETWEEN ? AND ?",
        (epoch, lane.value, entries[0].seq, entries[-1].seq),
    )
    bodies = {seq: bytes(body) for seq, body in rows}
    return sum(bodies.get(entry.seq) == entry.body for entry in entries)


def _counted_gap(body: bytes) -> int | None:
    if body[2:3] != b"G":
        return None
    content = decode_json(body)
    return None if content[7] in NOT_COUNTED else content[6]

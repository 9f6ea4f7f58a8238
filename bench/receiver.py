"""``edgeagent receive``, noting when each record was committed.

    python -m bench.receiver COMMITS OPTIONS...

The same program with the same options. Only the moment at which a transaction had returned is
noted beside it; the bodies are looked into at the end, after the measured window.
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.commits import Commit, write_commits
from edgeagent.central.store import Outcome, Store, Work
from edgeagent.cli import main as edgeagent
from edgeagent.model.record import Lane

VALUES = 11
"""Position of the values in the body of a frame (``docs/mqtt.md``); the first is the stamp."""


class Transaction(NamedTuple):
    """What one commit held of the data lane."""

    committed_utc_ns: int
    bodies: Sequence[bytes]


def note_commits(transactions: list[Transaction]) -> None:
    """Make every database of this process note its commits."""
    do = Store.do

    def do_and_note(store: Store, work: Work) -> Outcome:
        outcome = do(store, work)
        committed_utc_ns = time.time_ns()
        for batch, _ in work.batches:
            if batch.lane is Lane.DATA:
                transactions.append(Transaction(committed_utc_ns, batch.bodies))
        return outcome

    Store.do = do_and_note  # type: ignore[method-assign, assignment]


def frames(transactions: Iterable[Transaction]) -> Iterator[Commit]:
    """Yield the first commit of each frame; one that was sent again counts once."""
    seen = set()
    for committed_utc_ns, bodies in transactions:
        for body in bodies:
            record = json.loads(body)
            if record[0] == "F" and record[1] not in seen:
                seen.add(record[1])
                yield Commit(committed_utc_ns, record[VALUES][0])


def main() -> None:
    """Receive until SIGTERM."""
    path, *options = sys.argv[1:]
    transactions: list[Transaction] = []
    note_commits(transactions)
    try:
        edgeagent(["receive", *options])
    finally:
        write_commits(Path(path), frames(transactions))


if __name__ == "__main__":
    main()

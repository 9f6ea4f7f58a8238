"""What one side of the comparison is: two programs, the file of commits, and how to stop them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.processes import Program
from bench.world import World


class JournalFigures(NamedTuple):
    """What the journal costs on disk, in bytes, and what it says was missed.

    :ivar values: values of all frames in it
    :ivar bodies: bytes of the frames' bodies
    :ivar table: pages of the table that holds them: bodies, keys, CRC, chain, unused room; less
        the bodies of schemas and contexts, which are written once and weigh heavily in a short run
    :ivar evidence: pages of the raw replies, which are kept apart
    :ivar file: the whole database file, write-ahead log moved into it
    :ivar gaps: gap records that the start and the end of the agent do not explain
    """

    values: int
    bodies: int
    table: int
    evidence: int
    file: int
    gaps: int


def _no_journal() -> JournalFigures | None:
    return None


@dataclass(frozen=True, slots=True)
class Running:
    """One side at work.

    :ivar edge: the program that polls and publishes
    :ivar consumer: the program that commits; writes ``commits`` when it is stopped
    :ivar journal_figures: to be asked after :meth:`stop`; ``None`` from a side without a journal
    """

    edge: Program
    consumer: Program
    commits: Path
    journal_figures: Callable[[], JournalFigures | None] = field(default=_no_journal)

    def check(self) -> None:
        """Raise :class:`RuntimeError` if one of the programs has ended."""
        self.edge.check()
        self.consumer.check()

    def stop(self) -> None:
        """Stop the edge first, so that the consumer sees its last words."""
        try:
            self.edge.stop()
        finally:
            self.consumer.stop()


class Side(Protocol):
    """How one side is started; returns when its programs run."""

    def __call__(self, world: World) -> Running: ...

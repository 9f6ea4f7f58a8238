"""What a journal holds, in words of its own: epochs, ranges, commits, cursors, consumers."""

from collections.abc import Sequence
from typing import NamedTuple

from edgeagent.model.errors import EdgeAgentError
from edgeagent.model.record import Lane

EPOCH_SHIFT = 48
SEQ_MASK = (1 << EPOCH_SHIFT) - 1
EVIDENCE = "evidence"


class CorruptRecord(EdgeAgentError):
    """A stored body no longer fits its CRC, or is gone.

    :ivar seq: the first record that cannot be read
    :ivar last: those up to here cannot be read either, for the same cause
    """

    def __init__(self, lane: Lane, seq: int, last: int | None = None) -> None:
        self.lane = lane
        self.seq = seq
        self.last = seq if last is None else last
        which = f"record {seq}" if self.last == seq else f"records {seq} to {last}"
        verb = "is" if self.last == seq else "are"
        super().__init__(f"{which} of lane {lane} {verb} damaged on disk")


class Epoch(NamedTuple):
    """One life of the journal."""

    number: int
    uuid: str
    opened_utc_ns: int
    cause: str


class LaneRange(NamedTuple):
    """Records that the journal holds of one lane of one epoch, and h(highest).

    Everything below ``lowest`` was purged. When nothing is held, ``lowest`` is ``highest`` + 1.
    """

    lowest: int
    highest: int
    chain: bytes

    def stated(self) -> dict[str, int | str]:
        """Return it as a head and a person state it."""
        return {"lowest": self.lowest, "highest": self.highest, "chain": self.chain.hex()}


class Committed(NamedTuple):
    """One lane's part of a commit, now durable."""

    epoch: str
    lane: Lane
    first: int
    bodies: Sequence[bytes]
    prev: bytes
    chain: bytes

    @property
    def last(self) -> int:
        """Sequence number of the last record."""
        return self.first + len(self.bodies) - 1


class Description(NamedTuple):
    """A schema or context in force: its number and the JSON that it describes."""

    number: int
    content: bytes


class Cursor(NamedTuple):
    """How far a consumer has receipted one lane of one epoch."""

    upto: int
    chain: bytes


class Consumer(NamedTuple):
    """An enrolled receiver. ``state`` is ``enrolled``, ``suspended`` or ``retired``."""

    name: str
    state: str
    incarnation: str | None


class Usage(NamedTuple):
    """How much disk the journal takes.

    :ivar file_bytes: size of the database
    :ivar free_bytes: of these, pages that wait to be used again
    :ivar log_bytes: size of the write-ahead log
    """

    file_bytes: int
    free_bytes: int
    log_bytes: int

    @property
    def used_bytes(self) -> int:
        """What records and their indexes take."""
        return self.file_bytes - self.free_bytes + self.log_bytes

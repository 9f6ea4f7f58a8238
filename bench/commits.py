"""When each record was committed at a consumer: noted in memory, written at the end.

Both consumers write the same file, so both sides are counted and timed by the same code, and
neither pays for the bookkeeping inside the measured window more than one append per record.
"""

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple


class Commit(NamedTuple):
    """One record of one device.

    :ivar committed_utc_ns: when the transaction that holds it had returned
    :ivar answered_utc_ns: the device's own stamp in the record: when it made its reply
    """

    committed_utc_ns: int
    answered_utc_ns: int


def write_commits(path: Path, commits: Iterable[Commit]) -> None:
    """Write the file: pairs of 64-bit integers in the machine's byte order."""
    flat = array("q")
    for commit in commits:
        flat.extend(commit)
    path.write_bytes(flat.tobytes())


def read_commits(path: Path) -> list[Commit]:
    """Read what :func:`write_commits` wrote."""
    flat = array("q")
    flat.frombytes(path.read_bytes())
    return [Commit(*pair) for pair in zip(flat[::2], flat[1::2], strict=True)]


def within(commits: Iterable[Commit], start_utc_ns: int, end_utc_ns: int) -> list[Commit]:
    """Return what was committed in a window, its start included."""
    return [commit for commit in commits if start_utc_ns <= commit.committed_utc_ns < end_utc_ns]


def latencies_ms(commits: Iterable[Commit]) -> list[float]:
    """Return the time from the device's answer to the commit, in milliseconds, sorted."""
    return sorted((committed - answered) / 1e6 for committed, answered in commits)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of sorted numbers; NaN of none."""
    if not ordered:
        return float("nan")
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]

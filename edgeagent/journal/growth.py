"""How fast the journal grows, and where its lanes ended some time ago."""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from edgeagent.model.record import Lane

HOUR_NS = 3600 * 10**9
WINDOW_NS = 24 * HOUR_NS
SAMPLE_EVERY_NS = 60 * 10**9


class _Sample(NamedTuple):
    boot_ns: int
    grown: int
    epoch: int
    heads: Mapping[Lane, int]


class Growth:
    """Samples of the last day, one a minute, on the boot-time clock."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()
        self._freed = 0

    def freed(self, size: int) -> None:
        """Take note of bytes that were given up: they had grown before."""
        self._freed += size

    def sample(self, boot_ns: int, used: int, epoch: int, heads: Mapping[Lane, int]) -> None:
        """Take a sample, unless there is one of this minute.

        :param epoch: number of the epoch of which ``heads`` are the last records
        """
        samples = self._samples
        if samples and boot_ns - samples[-1].boot_ns < SAMPLE_EVERY_NS:
            return
        samples.append(_Sample(boot_ns, used + self._freed, epoch, heads))
        while len(samples) > 1 and samples[1].boot_ns <= boot_ns - WINDOW_NS:
            samples.popleft()

    def per_hour(self, boot_ns: int, used: int) -> float | None:
        """Return bytes per hour over the last day, or since the start; ``None`` at the start."""
        if not self._samples or boot_ns - self._samples[0].boot_ns < SAMPLE_EVERY_NS:
            return None
        first = self._samples[0]
        return (used + self._freed - first.grown) / ((boot_ns - first.boot_ns) / HOUR_NS)

    def head_at(self, boot_ns: int, epoch: int, lane: Lane) -> int | None:
        """Return the last record of a lane at a time, 0 if that was in an earlier epoch.

        ``None`` when it is not known: the time was before the first sample.
        """
        for sample in reversed(self._samples):
            if sample.boot_ns <= boot_ns:
                return sample.heads[lane] if sample.epoch == epoch else 0
        return None

"""Measurements of the last minute: cheap to take, sorted only for whoever asks."""

import math
from collections import deque

WINDOW_S = 60.0
KEPT_MAX = 8192
"""Most measurements kept: a minute of commits at the shortest wait for a tick (12 ms) fits."""


class Recent:
    """Measurements in a sliding window, with their count and sum since the start.

    :ivar count: measurements since the start
    :ivar total: their sum
    """

    __slots__ = ("_kept", "_window_s", "count", "total")

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self.count = 0
        self.total = 0.0
        self._window_s = window_s
        self._kept: deque[tuple[float, float]] = deque(maxlen=KEPT_MAX)

    def add(self, at_s: float, value: float) -> None:
        """Take a measurement.

        :param at_s: when, on a clock that never goes back: the event loop's ``time()``
        """
        self.count += 1
        self.total += value
        kept = self._kept
        kept.append((at_s, value))
        while kept[0][0] < at_s - self._window_s:
            kept.popleft()

    def values(self, now_s: float) -> list[float]:
        """Return the measurements of the window that ends now, smallest first."""
        since_s = now_s - self._window_s
        return sorted(value for at_s, value in self._kept if at_s >= since_s)

    def quantile(self, share: float, now_s: float) -> float:
        """Return the value that this share of the window does not exceed (nearest rank).

        :param share: 0.99 for the 99th percentile, 1 for the maximum
        :return: 0 when nothing was measured in the window
        """
        values = self.values(now_s)
        return values[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0

"""The poll schedule: a grid on the monotonic clock, the same for every link.

Tick ``k`` of a period is due at ``k * period``; so groups of one period are due together on all
links, and a late poll never shifts the ones after it.
"""

import math
from dataclasses import dataclass


def tick_after(now_s: float, period_s: float) -> int:
    """Return the first tick that is not yet due."""
    return math.floor(now_s / period_s) + 1


def following_tick(tick: int, now_s: float, period_s: float) -> tuple[int, int]:
    """Return the tick to poll after ``tick`` and how many were missed altogether.

    A tick that is due but not yet over is polled late; one whose period has passed is missed.
    """
    upcoming = max(tick + 1, math.floor(now_s / period_s))
    return upcoming, upcoming - tick - 1


@dataclass(slots=True)
class Due:
    """When one group is polled next."""

    period_s: float
    tick: int

    @property
    def at_s(self) -> float:
        """Monotonic time at which the tick is due."""
        return self.tick * self.period_s

    def advance(self, now_s: float) -> int:
        """Go on to the following tick; return how many were missed."""
        self.tick, missed = following_tick(self.tick, now_s, self.period_s)
        return missed

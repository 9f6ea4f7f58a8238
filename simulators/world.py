"""Simulated time: processes and instruments move together, and events happen to them.

Time moves in ticks of a tenth of a real second, only when somebody asks for it. What the parts
do depends on the ticks and never on how often they are read.
"""

import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from simulators.disturbance import Stepped

_TICKS_PER_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happens to a part at a simulated time, and perhaps ends and repeats."""

    at_s: float
    target: str
    what: str
    for_s: float | None = None
    """How long it lasts; None for ever."""
    every_s: float | None = None
    """Starts again so long after each start; None for once."""


class World:
    """All parts of a site on one simulated clock, which runs `speed` times as fast as ours."""

    def __init__(
        self,
        parts: Mapping[str, Stepped],
        events: Iterable[Event] = (),
        *,
        speed: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now_s = 0.0
        self._parts = parts
        self._tick_s = speed / _TICKS_PER_S
        self._ticks = 0
        self._monotonic = monotonic
        self._started_s = monotonic()
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, bool, Event]] = []
        for event in events:
            self._plan(event, event.at_s)

    def advance(self) -> None:
        """Catch up with the real clock."""
        due = int((self._monotonic() - self._started_s) * _TICKS_PER_S)
        while self._ticks < due:
            self._ticks += 1
            self.run_to(self._ticks * self._tick_s)

    def run_to(self, time_s: float) -> None:
        """Move to a simulated time, stopping at each event on the way."""
        while self._agenda and self._agenda[0][0] <= time_s:
            at_s, _, begins, event = heapq.heappop(self._agenda)
            self._step_to(at_s)
            disturbances = self._parts[event.target].disturbances
            if begins:
                disturbances.begin(event.what)
                if event.every_s is not None:
                    self._plan(event, at_s + event.every_s)
            else:
                disturbances.end(event.what)
        self._step_to(time_s)

    def _plan(self, event: Event, at_s: float) -> None:
        heapq.heappush(self._agenda, (at_s, next(self._order), True, event))
        if event.for_s is not None:
            heapq.heappush(self._agenda, (at_s + event.for_s, next(self._order), False, event))

    def _step_to(self, time_s: float) -> None:
        dt_s = time_s - self.now_s
        if dt_s > 0.0:
            for part in self._parts.values():
                part.step(dt_s)
            self.now_s = time_s

"""Named things that happen to a part of the simulated site while it runs."""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol


class Disturbances:
    """Which disturbances are in force now, and how many times each.

    Two people in a room are one disturbance in force twice, so overlapping events add up and
    each ends on its own.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = frozenset(names)
        self._in_force: Counter[str] = Counter()

    def begin(self, name: str) -> None:
        assert name in self.names, name
        self._in_force[name] += 1

    def end(self, name: str) -> None:
        assert self._in_force[name] > 0, name
        self._in_force[name] -= 1

    def count(self, name: str) -> int:
        """How many times `name` is in force."""
        assert name in self.names, name
        return self._in_force[name]

    def active(self, name: str) -> bool:
        return self.count(name) > 0


class Stepped(Protocol):
    """A part of the site that moves with simulated time: a process or an instrument."""

    @property
    def disturbances(self) -> Disturbances: ...

    def step(self, dt_s: float) -> None:
        """Move forward by `dt_s` simulated seconds; any positive length is allowed."""

"""What every settings dataclass of the simulators uses to check itself."""

from dataclasses import dataclass


class Refused(ValueError):
    """A setting has a value that cannot be used; `key` says which one."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


def require(condition: bool, key: str, reason: str) -> None:
    """:raises Refused: if `condition` does not hold"""
    if not condition:
        raise Refused(key, reason)


@dataclass(frozen=True, slots=True)
class Range:
    """A fixed value, or a span from which one is drawn. In YAML: `0.2` or `[0.1, 0.5]`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        require(0.0 <= self.low <= self.high, "range", "needs 0 <= low <= high")

"""Conditioning: raw values of a frame to engineering values with a status.

Compiled once per group. Neighbouring tags with the same treatment form a run, and a run whose
smallest, largest and summed value are in order needs no look at its single values.
"""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from edgeagent.model import quality
from edgeagent.model.frame import UNSCALED, DataType, Frame, Scale, TagSchema, Value

_FLOATS = (DataType.FLOAT32, DataType.FLOAT64)
_BINARY32 = struct.Struct("<f")

Statuses = list[tuple[int, int]]
"""``(index of the tag, status)`` of the values that are not Good."""


@dataclass(slots=True)
class Conditioned:
    """Engineering values in the order of the schema; ``None`` where bad or not present."""

    values: list[Value]
    statuses: Statuses


def _to_binary32(value: float) -> float:
    try:
        return float(_BINARY32.unpack(_BINARY32.pack(value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _as_held(tag: TagSchema, stated: Any) -> Any:
    """Return a number of the profile as the tag holds it: no FLOAT32 is ever -9999.9."""
    return _to_binary32(stated) if tag.type is DataType.FLOAT32 else stated


def _scaler(tag: TagSchema) -> Callable[[Sequence[float]], list[Value]] | None:
    """Return what scales a run of raw numbers, ``None`` when nothing is to be done."""
    if tag.scale == UNSCALED:
        return None
    numerator, shift, denominator = tag.scale
    if tag.type is DataType.FLOAT32:
        return lambda raw: [_to_binary32((x * numerator + shift) / denominator) for x in raw]
    if tag.type is DataType.FLOAT64:
        return lambda raw: [(x * numerator + shift) / denominator for x in raw]
    if denominator == 1:
        return lambda raw: [x * numerator + shift for x in raw]
    if tag.scale == Scale(1, 0, denominator):
        return lambda raw: [x / denominator for x in raw]
    return lambda raw: [(x * numerator + shift) / denominator for x in raw]


class _Run:
    """Neighbouring tags that are scaled and checked alike."""

    def __init__(self, start: int, tags: Sequence[TagSchema]) -> None:
        self.span = slice(start, start + len(tags))
        self.start = start
        tag = tags[0]
        self.checked = tag.type not in (DataType.BOOL, DataType.STRING)
        self.is_float = tag.type in _FLOATS
        self.low = -math.inf if tag.low is None else _as_held(tag, tag.low)
        self.high = math.inf if tag.high is None else _as_held(tag, tag.high)
        self.sentinels = tuple(_as_held(tag, sentinel) for sentinel in tag.sentinels)
        self.scale = _scaler(tag)

    def condition(self, raw: Sequence[Value], statuses: Statuses) -> Sequence[Value]:
        """Return engineering values; note what is not Good."""
        if None in raw or any(sentinel in raw for sentinel in self.sentinels):
            return self._one_by_one(raw, statuses)
        if not self.checked:
            return raw
        values = self.scale(raw) if self.scale else raw  # type: ignore[arg-type]
        fine = self.low <= min(values) and max(values) <= self.high  # type: ignore[type-var,operator]
        if fine and (not self.is_float or math.isfinite(sum(values))):  # type: ignore[arg-type]
            return values
        return self._one_by_one(raw, statuses)

    def _one_by_one(self, raw: Sequence[Value], statuses: Statuses) -> list[Value]:
        return [self._one(index, x, statuses) for index, x in enumerate(raw, self.start)]

    def _one(self, index: int, raw: Value, statuses: Statuses) -> Value:
        if raw is None:
            return None
        if raw in self.sentinels:
            statuses.append((index, quality.BAD_SENSOR_FAILURE))
            return None
        if not self.checked or isinstance(raw, str):
            return raw
        if not math.isfinite(raw):
            statuses.append((index, quality.non_finite(raw)))
            return None
        value = self.scale([raw])[0] if self.scale else raw
        assert isinstance(value, int | float)
        if not math.isfinite(value):
            statuses.append((index, quality.non_finite(value)))
            return None
        if not self.low <= value <= self.high:
            statuses.append((index, quality.UNCERTAIN_ENGINEERING_UNITS_EXCEEDED))
        return value


def compile_conditioner(tags: Sequence[TagSchema]) -> Callable[[Frame], Conditioned]:
    """Compile the conditioning of one group.

    A status that the device itself gave is kept; a Bad one leaves no value.
    """
    runs: list[_Run] = []
    start = 0
    alike = lambda tag: (tag.type, tag.scale, tag.low, tag.high, tag.sentinels)  # noqa: E731
    for _, members in groupby(tags, alike):
        run = _Run(start, list(members))
        runs.append(run)
        start = run.span.stop

    def condition(frame: Frame) -> Conditioned:
        values: list[Value] = []
        statuses: Statuses = []
        raw = frame.values
        for run in runs:
            values += run.condition(raw[run.span], statuses)
        if frame.status:
            _merge_device_status(frame, values, statuses)
        return Conditioned(values, statuses)

    return condition


def _merge_device_status(frame: Frame, values: list[Value], statuses: Statuses) -> None:
    """Let the device's own status stand before ours, whichever is worse wins."""
    present = range(len(values)) if frame.present is None else frame.present
    ours = dict(statuses)
    for index in present:
        theirs = frame.status if isinstance(frame.status, int) else frame.status[index]
        if theirs >> 30 >= ours.get(index, 0) >> 30 and theirs:
            ours[index] = theirs
        if quality.is_bad(ours.get(index, 0)):
            values[index] = None
    statuses[:] = sorted(ours.items())

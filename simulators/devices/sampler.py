"""What a particle counter does between its inlet and its registers: samples of fixed length."""

import math
from collections import deque
from dataclasses import dataclass
from random import Random

from simulators.devices.counting import poisson
from simulators.process.clean_room import CleanRoom

LITRES_PER_CUBIC_FOOT = 28.316_846_592
"""Most counters draw one of these in a minute."""
_SMALL_UM, _LARGE_UM = 0.5, 5.0
_EPSILON_S = 1e-6


@dataclass(slots=True)
class Sample:
    """One sample, running or complete; each count holds all larger particles too."""

    started_utc_s: float
    counts: list[int]
    elapsed_s: float = 0.0
    volume_l: float = 0.0
    faults: int = 0
    """Bits that were set at any time during the sample."""


class Sampler:
    """Counts what its flow draws from a room, sample after sample.

    Between 0.5 and 5 um, which the room knows, and beyond, concentrations follow a power of the
    diameter, as in ISO 14644-1.
    """

    def __init__(
        self,
        room: CleanRoom,
        sizes_um: tuple[float, ...],
        *,
        litres_per_min: float,
        period_s: float,
        keep: int,
        rng: Random,
        utc_s: float,
    ) -> None:
        self.utc_s = utc_s
        self.period_s = period_s
        self.complete: deque[Sample] = deque(maxlen=keep)
        self._room = room
        self._sizes_um = sizes_um
        self._litres_per_min = litres_per_min
        self._rng = rng
        self.running = self._fresh()

    def step(
        self, dt_s: float, *, flow_share: float = 1.0, blind: bool = False, faults: int = 0
    ) -> int:
        """Let time pass; return how many samples were completed.

        :param blind: the laser is off: air is drawn, nothing is counted
        """
        completed = 0
        while dt_s > _EPSILON_S:
            sample = self.running
            piece_s = min(dt_s, self.period_s - sample.elapsed_s)
            volume_l = self._litres_per_min * flow_share * piece_s / 60.0
            sample.elapsed_s += piece_s
            sample.volume_l += volume_l
            sample.faults |= faults
            if not blind:
                self._count(sample, volume_l / 1_000.0)
            self.utc_s += piece_s
            dt_s -= piece_s
            if sample.elapsed_s >= self.period_s - _EPSILON_S:
                self.complete.append(sample)
                self.running = self._fresh()
                completed += 1
        return completed

    def _fresh(self) -> Sample:
        return Sample(self.utc_s, [0] * len(self._sizes_um))

    def _count(self, sample: Sample, volume_m3: float) -> None:
        """From the largest size down, so that each count holds the larger ones."""
        above_per_m3 = 0.0
        arrived = 0
        for index in reversed(range(len(self._sizes_um))):
            per_m3 = self._per_m3(self._sizes_um[index])
            arrived += poisson(max(per_m3 - above_per_m3, 0.0) * volume_m3, self._rng)
            above_per_m3 = per_m3
            sample.counts[index] += arrived

    def _per_m3(self, size_um: float) -> float:
        small, large = self._room.particles_05um_per_m3, self._room.particles_5um_per_m3
        if small <= 0.0 or large <= 0.0:
            return small if size_um <= _SMALL_UM else large
        slope = math.log(large / small) / math.log(_LARGE_UM / _SMALL_UM)
        return small * math.pow(size_um / _SMALL_UM, slope)

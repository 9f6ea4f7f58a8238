"""What lies between a quantity and the number that a probe reports."""

import math
from random import Random


class Sensor:
    """First-order lag and white noise.

    `lag_s` is the time to cover 63 % of a step, `noise` the standard deviation in the unit of
    the quantity. The noise is drawn when time moves, not when the value is read: reading twice
    gives the same number.
    """

    def __init__(self, value: float, *, lag_s: float, noise: float, rng: Random) -> None:
        self.value = value
        self._settled = value
        self._lag_s = lag_s
        self._noise = noise
        self._rng = rng

    def follow(self, true_value: float, dt_s: float) -> None:
        """Let `dt_s` pass while the quantity stands at `true_value`."""
        self._settled += (true_value - self._settled) * -math.expm1(-dt_s / self._lag_s)
        self.value = self._settled + self._rng.gauss(0.0, self._noise)

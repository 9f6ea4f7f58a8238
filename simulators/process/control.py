"""The controller that sits inside a simulated plant."""


class PiController:
    """Proportional-integral control with a bounded output.

    The integral stands still while the output is at a bound and the error would push it
    further, so it does not wind up.
    """

    def __init__(
        self, *, gain: float, integral_time_s: float, low: float, high: float, start: float
    ) -> None:
        self._gain = gain
        self._integral_time_s = integral_time_s
        self._low = low
        self._high = high
        self._integral = start

    def output(self, error: float, dt_s: float) -> float:
        """The output for `error` = set-point minus measured value, after `dt_s`."""
        step = self._gain * error * dt_s / self._integral_time_s
        wanted = self._gain * error + self._integral + step
        if self._low < wanted < self._high or (wanted >= self._high) != (error > 0.0):
            self._integral += step
        return min(max(wanted, self._low), self._high)

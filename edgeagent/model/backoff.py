"""Waiting before the next attempt: exponential, with jitter so that many do not come at once."""


def backoff_s(attempt: int, random: float, *, base_s: float = 0.2, cap_s: float = 30.0) -> float:
    """Return how long to wait after a failed attempt.

    :param attempt: 1 after the first failure
    :param random: uniform in [0, 1), from the caller's generator
    """
    ceiling = min(cap_s, base_s * 2.0 ** min(attempt, 30))
    return ceiling * (0.1 + 0.9 * random)

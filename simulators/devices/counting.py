"""Counting noise: the particles that a counter sees are whole and arrive at random."""

import math
from random import Random

_NORMAL_FROM = 30.0


def poisson(mean: float, rng: Random) -> int:
    """A count drawn from the Poisson distribution of that `mean`.

    Small means by multiplying uniforms (Knuth), large ones by the normal distribution, which
    above thirty differs by less than one count.
    """
    if mean > _NORMAL_FROM:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit = math.exp(-mean)
    product = rng.random()
    count = 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count

"""python -m tests.simulation SEED [--log]: replay a day, and say what was found.

python -m tests.simulation FIRST LAST: live through many days; print those that are not well.
"""

import argparse
import sys

from tests.simulation.invariants import judge
from tests.simulation.run import simulate

SHOWN = 5


def main() -> int:
    """Return 1 if an invariant did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int, nargs="?")
    parser.add_argument("--log", action="store_true", help="show the product's log, virtual time")
    options = parser.parse_args()
    last = options.first if options.last is None else options.last
    worst = 0
    for seed in range(options.first, last + 1):
        evidence = simulate(seed, log=options.log)
        faults = judge(evidence)
        if faults or last == options.first:
            lines = [f"  {name}: {text}" for name, each in faults.items() for text in each[:SHOWN]]
            lines = [str(evidence.day), *lines, f"trace {evidence.trace()}"]
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
        worst |= bool(faults)
    return worst


if __name__ == "__main__":
    sys.exit(main())

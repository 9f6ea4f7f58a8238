"""Two hundred bad days, each from its seed, on virtual time; whatever happens, the invariants hold.

The shipped acquisition, journal, delivery and receiver run in one event loop; devices, broker,
consumers' databases, clock, disk and threads are simulated at their ports. A seed that fails is
replayed by ``python -m tests.simulation SEED --log`` and kept in ``seeds.txt``.
"""

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.simulation.day import EACH, EVERY_MINUTE
from tests.simulation.invariants import judge
from tests.simulation.run import simulate

SEEDS = 200
CHUNK = 25
ROOT = Path(__file__).parents[2]
SHOWN = 3

KEPT = [
    int(line.partition("#")[0])
    for line in Path(__file__).with_name("seeds.txt").read_text(encoding="utf-8").splitlines()
    if line.partition("#")[0].strip()
]


@cache
def day(seed: int) -> tuple[str, Counter[str]]:
    """Live through one day; return what was found, in words, and which faults happened."""
    evidence = simulate(seed)
    found = judge(evidence)
    if not found:
        return "", evidence.day.happened
    texts = [f"  {name}: {each}" for name, faults in found.items() for each in faults[:SHOWN]]
    replay = f"  replay: .venv/bin/python -m tests.simulation {seed} --log"
    return "\n".join((str(evidence.day), *texts, replay)), evidence.day.happened


@pytest.mark.parametrize("first", range(1, SEEDS, CHUNK))
def test_every_invariant_holds_on_a_bad_day(first):
    found = [text for text, _ in map(day, range(first, first + CHUNK)) if text]
    assert not found, "\n" + "\n".join(found)


def test_what_was_found_once_stays_mended():
    found = [text for text, _ in map(day, KEPT) if text]
    assert not found, "\n" + "\n".join(found)


def test_every_kind_of_fault_happens():
    happened: Counter[str] = Counter()
    for seed in range(1, SEEDS // 2):
        happened += day(seed)[1]
    assert set(happened) == set(EACH) | set(EVERY_MINUTE)


@pytest.mark.parametrize("seed", [13, 16])
def test_a_seed_replays_the_same_day_in_another_process(seed):
    """Byte for byte and to the microsecond, whatever the process hashes or where it puts things."""
    trace = simulate(seed).trace()
    replay = subprocess.run(
        [sys.executable, "-m", "tests.simulation", str(seed)],
        cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "4711"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert replay.returncode == 0, replay.stdout + replay.stderr
    assert replay.stdout.splitlines()[-1] == f"trace {trace}"

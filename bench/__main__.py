"""``python -m bench``: the agent beside the script, in alternating windows of one run."""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from bench.agent import start_agent
from bench.measure import Case, Sample, measure
from bench.report import AGENT, SCRIPT, as_json, show
from bench.script import start_script
from bench.side import Side
from bench.world import AT_ONCE, SPREAD, Load

SIDES: dict[str, Side] = {AGENT: start_agent, SCRIPT: start_script}


class Window(NamedTuple):
    """One measurement to be made."""

    round: int
    load: Load
    side: str


def plan(rounds: int, loads: Sequence[Load], sides: Sequence[str]) -> Iterator[Window]:
    """Yield the windows: per load the sides in turn, the first side changing every round.

    Alternating, so that a machine that becomes slower during the run does not favour a side.
    """
    for load in loads:
        for number in range(1, rounds + 1):
            for side in sides if number % 2 else reversed(sides):
                yield Window(number, load, side)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="length of a window")
    parser.add_argument("--warm-up", type=float, default=4, help="seconds before each window")
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--period-ms", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="do not remove the folder afterwards")
    load = parser.add_mutually_exclusive_group()
    load.add_argument("--at-once-only", action="store_true", help="only replies without delay")
    load.add_argument("--spread-only", action="store_true", help="only replies after 5 to 50 ms")
    side = parser.add_mutually_exclusive_group()
    side.add_argument("--agent-only", action="store_true")
    side.add_argument("--script-only", action="store_true")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, folder: Path, console: Console) -> tuple[Case, list[Sample]]:
    """Make all measurements, saying on the console which one is under way."""
    case = Case(options.devices, options.period_ms, options.seconds, options.warm_up)
    loads = [AT_ONCE] * (not options.spread_only) + [SPREAD] * (not options.at_once_only)
    sides = [AGENT] * (not options.script_only) + [SCRIPT] * (not options.agent_only)
    samples = []
    for number, window in enumerate(plan(options.rounds, loads, sides)):
        place = folder / f"{number:02}-{window.side}"
        console.print(f"round {window.round}: {window.side}, replies {window.load.name}")
        sample = measure(window.side, SIDES[window.side], case, window.load, window.round, place)
        samples.append(sample)
    return case, samples


def main() -> int:
    """Measure and report."""
    options = parse()
    progress = Console(stderr=True, quiet=options.json and not sys.stderr.isatty())
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder))
    try:
        case, samples = run(options, folder, progress)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if options.keep:
            progress.print(f"everything that was written is in {folder}")
        else:
            shutil.rmtree(folder)
    if options.json:
        print(json.dumps(as_json(case, samples), indent=1))
    else:
        show(Console(), samples)
    return 0


if __name__ == "__main__":
    sys.exit(main())

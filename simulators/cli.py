"""The command line: `python -m simulators`."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from simulators.scenario import PORT_FIRST, load_faults, load_scenario, shipped
from simulators.site import RunOptions, Site
from simulators.strict_yaml import ScenarioError

EXIT_UNAVAILABLE = 69  # sysexits.h: a port or a file cannot be had
EXIT_CONFIG = 78  # sysexits.h: a scenario or a fault file cannot be used

_EXAMPLE = """\
example:
  python -m simulators run demo --ephemeral --ledger truth.jsonl

When all wires listen, one line of JSON on the standard output says where each device is.
SIGTERM or SIGINT stops the run.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "list":
            _list()
            return 0
        return _run(options)
    except ScenarioError as error:
        _say(str(error), sys.stderr)
        return EXIT_CONFIG
    except OSError as error:
        _say(f"simulators: {error}", sys.stderr)
        return EXIT_UNAVAILABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulators",
        description="Simulated instruments of a cell-therapy site, on real wires.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="name the scenarios that come with the package")
    run = commands.add_parser(
        "run",
        help="run a scenario until it is stopped",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("scenario", help="a file, or the name of a scenario that comes along")
    run.add_argument("--ledger", type=Path, metavar="FILE", help="append every reply to FILE")
    run.add_argument("--seed", type=int, help="of noise and faults, instead of the files' own")
    run.add_argument("--faults", metavar="FILE", help="faults for every wire, as YAML")
    run.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    ports = run.add_mutually_exclusive_group()
    ports.add_argument(
        "--port-base",
        type=int,
        default=PORT_FIRST,
        metavar="N",
        help=f"listen from N on instead of {PORT_FIRST}, wires in their distance",
    )
    ports.add_argument("--ephemeral", action="store_true", help="let the system choose TCP ports")
    run.add_argument(
        "--serial-dir",
        type=Path,
        metavar="DIR",
        help="where the serial ports appear; default: a directory that goes with the run",
    )
    return parser


def _say(line: str, stream: TextIO | None = None) -> None:
    """Write one line at once, whether or not a terminal listens."""
    stream = stream or sys.stdout
    stream.write(line + "\n")
    stream.flush()


def _list() -> None:
    for name, description in shipped().items():
        _say(f"{name:24} {description}")


def _run(options: argparse.Namespace) -> int:
    scenario = load_scenario(options.scenario)
    run_options = RunOptions(
        host=options.host,
        port_base=options.port_base,
        ephemeral=options.ephemeral,
        seed=options.seed,
        serial_dir=options.serial_dir,
        faults=load_faults(options.faults, scenario) if options.faults else None,
        ledger=options.ledger,
    )
    asyncio.run(_serve(Site(scenario, run_options)))
    return 0


async def _serve(site: Site) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with site:
        ready = {"ready": True, "devices": site.endpoints}
        _say(json.dumps(ready, separators=(",", ":")))
        await stopped.wait()

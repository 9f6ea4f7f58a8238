"""The command: start everything, show it, stop it, say what was lost."""

import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgeagent.cli.client import NotRunning, ask
from edgeagent.cli.demo.parts import DEMO_CONSUMER, Demo
from edgeagent.cli.demo.summary import compare
from edgeagent.cli.exits import CommandFailed, Exit, ends_well

REFRESH_S = 0.5


@click.command()
@click.option("--seconds", type=float, help="End after this long; default: at Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a second, no screen.")
@click.option("--broker", help="Use this broker (mqtt://host:port) instead of starting one.")
@click.option(
    "--embedded",
    is_flag=True,
    help="Use the embedded broker (MQTT 3.1.1) in any case.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="Keep site file, journal, database and logs in this directory.",
)
@click.pass_context
@ends_well
def demo(
    ctx: click.Context,
    seconds: float | None,
    as_json: bool,
    broker: str | None,
    embedded: bool,
    keep: Path | None,
) -> None:
    """Show instruments, agent, journal, broker and receiver at work, all simulated but the chain.

    \b
    edgeagent demo
    edgeagent demo --seconds 20 --json

    The last line is {"acquired","delivered","lost","duplicates","gaps"}: records in the agent's
    journal, records found unaltered in the receiver's database, the difference, batches that came
    more than once, and gaps opened while running. Exit code 1 if anything was lost.
    """
    with tempfile.TemporaryDirectory(prefix="edgeagent-demo-") as scratch:
        place = keep or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise CommandFailed(f"{place}: not empty; name another directory", Exit.USAGE)
        stopping = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopping.set())
        parts = Demo(place, broker, embedded=embedded)
        try:
            parts.start()
            _show(parts, stopping, seconds, as_json=as_json)
            parts.stop()
        finally:
            parts.kill()
        result = compare(parts.state_dir, parts.database, parts.received())
    click.echo(json.dumps(result))
    ctx.exit(Exit.RECORDS if result["lost"] else Exit.OK)


def _show(parts: Demo, stopping: threading.Event, seconds: float | None, *, as_json: bool) -> None:
    if as_json or not sys.stdout.isatty():
        _until_over(parts, stopping, seconds, 1.0, lambda view: _line(view, as_json=as_json))
        return
    from rich.live import Live

    from edgeagent.cli.demo.view import demo_view

    with Live(screen=True, auto_refresh=False) as live:
        _until_over(
            parts,
            stopping,
            seconds,
            REFRESH_S,
            lambda view: live.update(demo_view(parts, view), refresh=True),
        )


def _until_over(
    parts: Demo,
    stopping: threading.Event,
    seconds: float | None,
    every_s: float,
    show: Callable[[dict[str, Any]], None],
) -> None:
    """Show what is going on until Ctrl-C or the end of the time.

    :raises CommandFailed: if a part ended by itself
    """
    over_s = None if seconds is None else time.monotonic() + seconds  # noqa: TID251 - a person waits
    while not stopping.wait(every_s):
        parts.require_alive()
        try:
            view = ask(parts.site_file, "GET", "/status")
        except NotRunning:
            raise CommandFailed(
                f"the agent ended; see {parts.log_of('agent')}", Exit.INTERNAL
            ) from None
        view["received"] = parts.received()
        show(view)
        if over_s is not None and time.monotonic() >= over_s:  # noqa: TID251
            return


def _line(view: dict[str, Any], *, as_json: bool) -> None:
    journal, delivery = view["journal"], view["delivery"]
    lag = {c["consumer"]: c["lanes"]["data"]["lag"] for c in delivery["consumers"]}
    row = {
        "links_up": sum(link["state"] == "up" for link in view["links"]),
        "links": len(view["links"]),
        "frames": journal["frames"],
        "journal": journal["highest"]["data"] + journal["highest"]["event"],
        "broker": delivery["state"],
        "receipts": delivery["receipts"],
        "lag": lag.get(DEMO_CONSUMER),
        "gaps_open": view["gaps"]["open"],
    }
    if as_json:
        click.echo(json.dumps(row))
    else:
        click.echo("  ".join(f"{key} {value}" for key, value in row.items()))

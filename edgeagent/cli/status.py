"""``edgeagent status`` and ``edgeagent watch``: what the running agent sees."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from edgeagent.cli.client import ask, follow
from edgeagent.cli.exits import Exit, ends_well
from edgeagent.cli.options import config_option, echo_json, json_option


def moment(utc_ns: int) -> str:
    """Return a moment as local time with its offset."""
    return datetime.fromtimestamp(utc_ns / 1e9, UTC).astimezone().isoformat(" ", "milliseconds")


@click.command()
@config_option
@json_option
@ends_well
def status(config: Path, as_json: bool) -> None:
    """Show health, links, values, journal, delivery and gaps of the running agent.

    \b
    edgeagent status --config /etc/edgeagent/site.yaml

    Ends with 0 while health is ok or has warnings, with 3 when it is at fault.
    """
    found = ask(config, "GET", "/status")
    if as_json:
        echo_json(found)
    else:
        from rich.console import Console

        from edgeagent.cli.screen import status_view

        Console().print(status_view(found))
    if found["health"]["state"] == "fault":
        sys.exit(Exit.FAULT)


@click.command()
@config_option
@json_option
@click.option("--once", is_flag=True, help="Show the values once and end.")
@ends_well
def watch(config: Path, as_json: bool, once: bool) -> None:
    """Show the values as they come.

    \b
    edgeagent watch --config /etc/edgeagent/site.yaml
    """
    updates = follow(config, "/watch")
    if as_json or not sys.stdout.isatty():
        _print_lines(updates, as_json=as_json, once=once)
        return
    from rich.live import Live

    from edgeagent.cli.screen import values_table

    with Live(refresh_per_second=4) as live:
        for update in updates:
            live.update(values_table(update["groups"]))
            if once:
                return


def _print_lines(updates: Iterator[dict[str, Any]], *, as_json: bool, once: bool) -> None:
    seen: dict[tuple[str, str], int] = {}
    for update in updates:
        for group in update["groups"]:
            key = (group["instrument"], group["group"])
            if seen.get(key) == group["utc_ns"]:
                continue
            seen[key] = group["utc_ns"]
            if as_json:
                echo_json(group)
            else:
                values = " ".join(f"{v['tag']}={v['value']}" for v in group["values"])
                click.echo(f"{moment(group['utc_ns'])} {'/'.join(key)} {values}")
        if once:
            return

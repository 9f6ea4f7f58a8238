"""``edgeagent journal``: look into the journal, prove it, copy records out."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import click

from edgeagent.cli.client import NotRunning, ask, lines
from edgeagent.cli.exits import CommandFailed, Exit, ends_well
from edgeagent.cli.offline import open_reader
from edgeagent.cli.options import config_option, echo_json, json_option
from edgeagent.configure import load_plan
from edgeagent.configure.place import find_place
from edgeagent.journal.inspect import (
    NoSuchEpoch,
    chain_is_lost,
    epoch_named,
    export,
    journal_state,
    verify,
)
from edgeagent.journal.store import CorruptRecord
from edgeagent.model.record import Lane


@click.group()
def journal() -> None:
    """Look into the journal; works while the agent runs and when it is stopped.

    \b
    edgeagent journal verify --config site.yaml
    """


@journal.command("status")
@config_option
@json_option
@ends_well
def journal_status(config: Path, as_json: bool) -> None:
    """Show epochs, lanes, sizes, cursors, and how long there is room."""
    try:
        state = ask(config, "GET", "/journal")
    except NotRunning:
        state = journal_state(open_reader(find_place(config).state_dir))
    if as_json:
        echo_json(state)
        return
    free, log = state["free_bytes"] / 1e6, state["log_bytes"] / 1e6
    click.echo(
        f"{state['bytes'] / 1e6:.1f} MB (of these free: {free:.1f}), log {log:.1f} MB,"
        f" layout {state['layout']}"
    )
    if state.get("budget"):
        click.echo(room(state["budget"]))
    for epoch in state["epochs"]:
        click.echo(f"epoch {epoch['epoch']}  ({epoch['cause']})")
        for name, held in epoch["lanes"].items():
            chain = held["chain"][:16]
            packed = f", packed to {held['packed']}" if held["packed"] else ""
            click.echo(f"  {name:<6} {held['lowest']}..{held['highest']}  chain {chain}…{packed}")
        for at in state["cursors"]:
            if at["epoch"] == epoch["epoch"]:
                click.echo(f"  {at['lane']:<6} receipted by {at['consumer']}: {at['upto']}")


@journal.command("verify")
@config_option
@json_option
@click.pass_context
@ends_well
def verify_journal(ctx: click.Context, config: Path, as_json: bool) -> None:
    """Prove every record: CRC, own number, chain, and the digests of raw evidence."""
    checked = 0
    faults: list[str] = []
    for piece in _verified(config):
        checked += piece["records"]
        faults += piece["faults"]
        if not as_json:
            for fault in piece["faults"]:
                click.echo(fault, err=True)
    if as_json:
        echo_json({"records": checked, "faults": faults})
    else:
        click.echo(f"{checked} records: {'intact' if not faults else f'{len(faults)} faults'}")
    ctx.exit(Exit.RECORDS if faults else Exit.OK)


def _verified(config: Path) -> Iterator[dict[str, Any]]:
    """Yield each piece that was verified: by the running agent, else by ourselves."""
    try:
        for line in lines(config, "/journal/verify"):
            yield json.loads(line)
    except NotRunning:
        for piece in verify(open_reader(find_place(config).state_dir)):
            yield piece._asdict()


@journal.command("export")
@config_option
@click.option("--lane", type=click.Choice([lane.value for lane in Lane]), default="data")
@click.option("--epoch", help="UUID; default: the newest.")
@click.option("--from", "first", type=int, help="First sequence number.")
@click.option("--to", "last", type=int, help="Last sequence number.")
@click.option(
    "--output", type=click.File("wb"), default="-", help="File, or - for standard output."
)
@ends_well
def export_records(
    config: Path,
    lane: str,
    epoch: str | None,
    first: int | None,
    last: int | None,
    output: BinaryIO,
) -> None:
    """Copy records out as batches, one after the other, in the form in which they are sent.

    Each batch is a header line and one body per line; see docs/mqtt.md section 2.
    """
    chosen = {"lane": lane, "epoch": epoch, "from": first, "to": last}
    try:
        for line in lines(config, "/journal/export", **chosen):
            if line.startswith(b'{"error"'):
                raise CommandFailed(json.loads(line)["error"], Exit.RECORDS)
            output.write(line)
    except NotRunning:
        _export_while_stopped(config, Lane(lane), epoch, first, last, output)


def _export_while_stopped(
    config: Path,
    lane: Lane,
    uuid: str | None,
    first: int | None,
    last: int | None,
    output: BinaryIO,
) -> None:
    plan = load_plan(config)
    reader = open_reader(plan.settings.state_dir)
    try:
        epoch = epoch_named(reader, uuid)
    except NoSuchEpoch as error:
        raise CommandFailed(str(error), Exit.USAGE) from None
    try:
        for batch in export(reader, plan.settings.site, epoch, lane, first, last):
            output.write(batch)
    except CorruptRecord as error:
        raise CommandFailed(chain_is_lost(reader, epoch, error), Exit.RECORDS) from None


def room(budget: Mapping[str, Any]) -> str:
    """Say how far the journal's budget is used and how long the rest lasts at today's rate."""
    used, allowed = budget["used_bytes"], budget["budget_bytes"]
    if used is None:
        return f"budget {allowed / 1e9:.1f} GB, not measured yet"
    text = f"budget {allowed / 1e9:.1f} GB, {budget['fill_percent']} % used"
    if budget["hours_left"] is not None:
        hours, days = budget["hours_left"], budget["days_left"]
        text += f"; at today's rate it lasts {hours:.0f} h ({days} days) without any receipt"
    if budget["storing"] != "all":
        text += f"; storing {budget['storing']} only"
    return text

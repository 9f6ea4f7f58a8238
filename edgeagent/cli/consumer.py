"""``edgeagent consumer``: who receives, with what claim on the journal."""

from pathlib import Path
from typing import Any

import click

from edgeagent.cli.client import NotRunning, ask
from edgeagent.cli.exits import ends_well
from edgeagent.cli.options import config_option, echo_json, json_option
from edgeagent.configure.place import find_place


@click.group()
def consumer() -> None:
    """Enrol, suspend, resume, retire and list consumers.

    The journal forgets nothing that an enrolled consumer has not receipted. A suspended consumer
    is not waited for and not served; a retired one has no claim any more.

    \b
    edgeagent consumer enrol central --reason "new historian, change 4711"
    """


def _verb(name: str, help_text: str) -> None:
    @consumer.command(name, help=help_text)
    @click.argument("consumer_name", metavar="NAME")
    @click.option("--reason", required=True, help="Why; kept on record.")
    @config_option
    @ends_well
    def command(consumer_name: str, reason: str, config: Path) -> None:
        from edgeagent.cli.offline import perform
        from edgeagent.operate.consumers import consumer_acts

        done = perform(
            config,
            lambda _, recorder: consumer_acts(recorder),
            f"consumer.{name}",
            reason,
            consumer=consumer_name,
        )
        click.echo(f"{consumer_name}: {done['state']}")


_verb("enrol", "Give a consumer a claim on every record from now back to the oldest.")
_verb("suspend", "Do not wait for a consumer and do not serve it, until it is resumed.")
_verb("resume", "Serve a suspended consumer again, from its own cursor.")
_verb("retire", "End a consumer's claim.")


@consumer.command("list")
@config_option
@json_option
@ends_well
def list_consumers(config: Path, as_json: bool) -> None:
    """Show every consumer with its cursors."""
    try:
        rows = ask(config, "GET", "/status")["delivery"]["consumers"]
    except NotRunning:
        rows = _rows_while_stopped(find_place(config).state_dir)
    if as_json:
        echo_json(rows)
    else:
        _print(rows)


def _rows_while_stopped(state_dir: Path) -> list[dict[str, Any]]:
    from edgeagent.cli.offline import open_reader
    from edgeagent.model.record import Lane

    reader = open_reader(state_dir)
    epoch, cursors = reader.epochs()[-1], reader.cursors()
    rows = []
    for known in reader.consumers().values():
        lanes = {}
        for lane in Lane:
            cursor = cursors.get((known.name, epoch.number, lane))
            upto = cursor.upto if cursor else 0
            lanes[lane.value] = {"upto": upto, "lag": reader.lane_range(epoch, lane).highest - upto}
        rows.append(
            {
                "consumer": known.name,
                "state": known.state,
                "incarnation": known.incarnation,
                "lanes": lanes,
            }
        )
    return rows


def _print(rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo("no consumer is enrolled: edgeagent consumer enrol NAME --reason '...'")
    for row in rows:
        lanes = "  ".join(
            f"{k}: up to {v['upto']}, {v['lag']} behind" for k, v in row["lanes"].items()
        )
        click.echo(f"{row['consumer']:<20} {row['state']:<10} {lanes}")

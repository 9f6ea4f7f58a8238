"""``edgeagent reload``: have the running agent take up a changed configuration."""

from pathlib import Path
from typing import Any

import click

from edgeagent.cli.client import act
from edgeagent.cli.exits import ends_well
from edgeagent.cli.options import config_option, echo_json, json_option


@click.command()
@click.option("--reason", required=True, help="Why; kept on record.")
@config_option
@json_option
@ends_well
def reload(reason: str, config: Path, as_json: bool) -> None:
    """Have the running agent take up the site file and the profiles as they are now.

    All of it or nothing: with any fault everything stays as it was, and the faults are shown.
    Links that are stated as before go on and miss no poll.

    \b
    edgeagent check && edgeagent reload --reason "second freezer, change 4712"
    """
    done = act(config, "configuration.reload", reason)
    if as_json:
        echo_json(done)
    else:
        _print(done)


def _print(done: dict[str, Any]) -> None:
    before, after = done["before"][:12], done["after"][:12]
    click.echo(f"configuration {before} -> {after}" if before != after else f"unchanged: {after}")
    for verb in ("started", "stopped", "restarted"):
        if done[verb]:
            click.echo(f"links {verb}: {', '.join(done[verb])}")
    click.echo(f"links untouched: {len(done['kept'])}; delivery {done['delivery']}")

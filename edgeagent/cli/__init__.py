"""The command line: one file per group of commands, loaded only when it is used."""

from importlib import import_module
from typing import Any

import click

from edgeagent import __version__

COMMANDS = {
    "backfill": "edgeagent.cli.backfill:backfill",
    "certs": "edgeagent.cli.certs:certs",
    "check": "edgeagent.cli.check:check",
    "consumer": "edgeagent.cli.consumer:consumer",
    "demo": "edgeagent.cli.demo:demo",
    "discover": "edgeagent.cli.discover:discover",
    "journal": "edgeagent.cli.journal:journal",
    "metrics": "edgeagent.cli.metrics:metrics",
    "receive": "edgeagent.cli.receive:receive",
    "reload": "edgeagent.cli.reload:reload",
    "run": "edgeagent.cli.run:run",
    "schema": "edgeagent.cli.schema:schema",
    "status": "edgeagent.cli.status:status",
    "watch": "edgeagent.cli.status:watch",
}


class _Lazy(click.Group):
    """A group that imports a command when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: Any = getattr(import_module(module), name)
        return command  # type: ignore[no-any-return]


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeagent")
def main() -> None:
    """Instruments of a cell-therapy centre to central systems, without losing a value.

    \b
    edgeagent demo                                   see it work, without hardware
    edgeagent check --config /etc/edgeagent/site.yaml
    edgeagent status --config /etc/edgeagent/site.yaml

    Exit codes: 0 done; 1 something is wrong with the records; 2 wrong use of the command; 3 the
    agent runs and its health is at fault (status); 69 the agent, or who was asked, is not there;
    70 internal error; 73 state directory or file not usable; 74 journal failed; 75 another agent is
    running; 77 not allowed; 78 configuration.
    """

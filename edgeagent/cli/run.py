"""``edgeagent run``: the daemon."""

import asyncio
from pathlib import Path

import click

from edgeagent.cli.exits import ends_well
from edgeagent.cli.options import config_option


@click.command()
@config_option
@click.option("--debug", is_flag=True, help="Log more.")
@ends_well
def run(config: Path, debug: bool) -> None:
    """Run the agent of one site until it is told to stop (SIGTERM).

    \b
    edgeagent run --config /etc/edgeagent/site.yaml
    """
    from edgeagent.app import run_agent
    from edgeagent.configure import load_plan
    from edgeagent.operate.logs import set_up_logs

    plan = load_plan(config)
    set_up_logs(debug=debug)
    asyncio.run(run_agent(plan))

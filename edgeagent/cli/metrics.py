"""``edgeagent metrics``: what the running agent measures, for time series."""

from pathlib import Path

import click

from edgeagent.cli.client import ask_text
from edgeagent.cli.exits import ends_well
from edgeagent.cli.options import config_option


@click.command()
@config_option
@ends_well
def metrics(config: Path) -> None:
    """Print metrics in the text format of Prometheus.

    \b
    edgeagent metrics --config /etc/edgeagent/site.yaml

    For node_exporter's textfile collector, from a timer, into a name that appears at once:

    \b
    edgeagent metrics --config /etc/edgeagent/site.yaml > edgeagent.$$ \\
        && mv edgeagent.$$ /var/lib/prometheus/node-exporter/edgeagent.prom
    """
    click.echo(ask_text(config, "/metrics"), nl=False)

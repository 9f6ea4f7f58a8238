"""Options and output that several commands share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CONFIG = Path("/etc/edgeagent/site.yaml")


def config_option(command: F) -> F:
    """Add ``--config``."""
    return click.option(
        "--config",
        "-c",
        type=click.Path(path_type=Path),
        default=DEFAULT_CONFIG,
        show_default=True,
        envvar="EDGEAGENT_CONFIG",
        help="The site file.",
    )(command)


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")(command)


def echo_json(value: Any) -> None:
    """Print one JSON value on one line."""
    click.echo(json.dumps(value, ensure_ascii=False))

"""``edgeagent schema``: JSON Schema of the files that people write."""

import json
from typing import Any, Literal, Union

import click
from pydantic import BaseModel, Field, create_model

from edgeagent.configure.plan import driver_kinds
from edgeagent.driver import DriverKind
from edgeagent.model.profile import Name
from edgeagent.model.settings import InstrumentSettings, LinkSettings, SiteSettings


def site_schema() -> dict[str, Any]:
    """Return the schema of a site file, with the drivers' own keys of links and instruments."""
    links, instruments = [], []
    for kind in driver_kinds().values():
        driver: Any = Literal[kind.name]
        links.append(_joined(kind, LinkSettings, kind.link_settings, driver=(driver, ...)))
        instruments.append(_joined(kind, InstrumentSettings, kind.instrument_settings))
    site = create_model(
        "SiteFile", __base__=SiteSettings, links=_named(links), instruments=_named(instruments)
    )
    return site.model_json_schema()


def _joined(
    kind: DriverKind, ours: type[BaseModel], own: type[BaseModel], **more: Any
) -> type[BaseModel]:
    """Return the model of keys that are ours and the driver's; no others are allowed."""
    return create_model(f"{kind.name}.{ours.__name__}", __base__=(ours, own), **more)


def _named(models: list[type[BaseModel]]) -> Any:
    one_of: Any = Union[tuple(models)]  # noqa: UP007 - made at run time
    return dict[Name, one_of], Field(min_length=1)


def profile_schema(driver: str) -> dict[str, Any]:
    """Return the schema of a profile of one driver."""
    return driver_kinds()[driver].profile.model_json_schema()


@click.command()
@click.argument("what", type=click.Choice(["site", "profile"]))
@click.option("--driver", default="modbus", show_default=True, help="Whose profiles.")
def schema(what: str, driver: str) -> None:
    """Print the JSON Schema of a site file or of a profile, for editors.

    \b
    edgeagent schema profile --driver modbus > profile.schema.json
    """
    if what == "profile" and driver not in driver_kinds():
        raise click.BadParameter(f"installed: {', '.join(driver_kinds())}", param_hint="--driver")
    found = site_schema() if what == "site" else profile_schema(driver)
    click.echo(json.dumps(found, indent=2, ensure_ascii=False))

"""``edgeagent schema``: JSON Schema of the files that people write."""

import json
from typing import Any

import click

from edgeagent.configure.plan import driver_kinds
from edgeagent.model.settings import SiteSettings


def site_schema() -> dict[str, Any]:
    """Return the schema of a site file, with the drivers' own keys of links and instruments."""
    schema = SiteSettings.model_json_schema()
    for part, attribute in (
        ("LinkSettings", "link_settings"),
        ("InstrumentSettings", "instrument_settings"),
    ):
        own = {k.name: getattr(k, attribute).model_json_schema() for k in driver_kinds().values()}
        definition = schema["$defs"][part]
        definition["properties"] |= {
            key: rule
            for own_schema in own.values()
            for key, rule in own_schema.get("properties", {}).items()
        }
        definition["additionalProperties"] = False
        for own_schema in own.values():
            schema["$defs"] |= own_schema.get("$defs", {})
    return schema


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

"""``edgeagent discover``: draw a profile from what a server says of itself."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from edgeagent.cli.exits import CommandFailed, Exit, ends_well
from edgeagent.cli.options import DEFAULT_CONFIG, config_option
from edgeagent.configure.document import Document, read_document
from edgeagent.configure.place import find_place
from edgeagent.configure.plan import driver_kinds
from edgeagent.configure.validate import validate
from edgeagent.driver import Draft, DriverKind
from edgeagent.model.clock import SystemClock
from edgeagent.model.errors import ConfigurationError, Fault, LinkLost
from edgeagent.model.profile import Name, Strict


class _Named(Strict):
    """A name for a profile, for its check."""

    profile: Name


@click.command()
@click.argument("driver")
@click.argument("url", required=False)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="NAME.yaml; default: stdout.")
@click.option("--device", help="Which one, where the server has several.")
@click.option("--link", help="Take address and security from this link of the site file.")
@click.option("--set", "stated", multiple=True, metavar="KEY=VALUE",
              help="A key of a link or an instrument, e.g. security=none, start=i=85.")  # fmt: skip
@config_option
@ends_well
def discover(
    driver: str,
    url: str | None,
    output: Path | None,
    device: str | None,
    link: str | None,
    stated: tuple[str, ...],
    config: Path,
) -> None:
    """Browse a server and write a draft profile of a device; acquires and changes nothing.

    A person holds the draft against the manual and removes its line 'draft: true'; before that
    'edgeagent check' refuses it. The certificates are those of the site file.

    \b
    edgeagent discover opcua opc.tcp://10.20.1.9:4840 -o acme-u80.yaml
    edgeagent discover opcua --link freezers -o acme-u80.yaml
    edgeagent discover opcua opc.tcp://127.0.0.1:4840 --set security=none --device freezer
    """
    kind = _kind(driver)
    name = None if output is None else _name(output)
    keys = _keys(url, link, stated, config)
    link_settings, place = _settings(kind, keys)
    if config != DEFAULT_CONFIG or config.exists():
        link_settings = kind.at_site(link_settings, find_place(config).pki)
    assert kind.discover is not None
    try:
        drafts = asyncio.run(kind.discover(link_settings, place, SystemClock()))
    except LinkLost as error:
        raise CommandFailed(str(error), Exit.NOT_RUNNING) from None
    chosen = _chosen(drafts, device)
    text = chosen.text(name or chosen.profile)
    if output is None:
        click.echo(text, nl=False)
        return
    _write(output, text)
    click.echo(
        f"{output}: {chosen.summary}. Hold it against the manual, remove its line 'draft: true', "
        f"then: edgeagent check --profile {output}",
        err=True,
    )


def _kind(driver: str) -> DriverKind:
    kinds = driver_kinds()
    able = [name for name in kinds if kinds[name].discover is not None]
    if driver not in able:
        mend = f"drivers that can: {', '.join(able) or 'none'}"
        raise click.BadParameter(f"{driver} cannot discover; {mend}", param_hint="DRIVER")
    return kinds[driver]


def _name(output: Path) -> str:
    """Return the profile's name, which is that of its file."""
    faults: list[Fault] = []
    nowhere = Document(str(output), b"", {})
    named = validate(_Named, {"profile": output.stem}, nowhere, (), faults)
    if named is None or output.suffix != ".yaml":
        raise click.BadParameter(
            f"{output.name!r} is no name for a profile; write e.g. acme-u80.yaml, in lower-case "
            "letters, digits, - and _",
            param_hint="--output",
        )
    if output.exists():
        raise CommandFailed(f"{output} exists; name another file", Exit.CANNOT_CREATE)
    return named.profile


def _keys(url: str | None, link: str | None, stated: Sequence[str], config: Path) -> dict[str, Any]:
    """Return the keys of a link and of an instrument, as a site file would hold them."""
    keys: dict[str, Any] = {}
    if link is not None:
        document = read_document(config)
        links = document.data.get("links")
        known = links if isinstance(links, dict) else {}
        if not isinstance(known.get(link), dict):
            mend = f"use one of: {', '.join(known) or 'none'}"
            raise ConfigurationError([document.fault(("links",), f"no link {link!r}", mend)])
        keys |= {key: value for key, value in known[link].items() if key != "driver"}
    if url is not None:
        keys["url"] = url
    for item in stated:
        path, is_stated, text = item.partition("=")
        if not is_stated:
            raise click.BadParameter(f"{item!r} is not KEY=VALUE", param_hint="--set")
        at = keys
        *above, last = path.split(".")
        for step in above:
            below = at.get(step)
            at[step] = dict(below) if isinstance(below, dict) else {}
            at = at[step]
        try:
            at[last] = YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            at[last] = text
    return keys


def _settings(kind: DriverKind, keys: dict[str, Any]) -> tuple[BaseModel, BaseModel]:
    """Return settings of a link and of an instrument.

    :raises ConfigurationError: with all faults
    """
    faults: list[Fault] = []
    stated = Document("discover", b"", keys)
    of_place = kind.instrument_settings.model_fields
    place_keys = {key: value for key, value in keys.items() if key in of_place}
    link_keys = {key: value for key, value in keys.items() if key not in of_place}
    link = validate(kind.link_settings, link_keys, stated, (), faults, of_place)
    place = validate(kind.instrument_settings, place_keys, stated, (), faults)
    if link is None or place is None:
        raise ConfigurationError(faults)
    return link, place


def _chosen(drafts: Sequence[Draft], device: str | None) -> Draft:
    if not drafts:
        raise CommandFailed("nothing with a value was found; correct start", Exit.NOT_RUNNING)
    fitting = [draft for draft in drafts if device in (None, draft.profile)]
    if len(fitting) == 1:
        return fitting[0]
    problem = "there are several devices" if device is None else f"there is no device {device}"
    lines = "".join(f"\n  {draft.profile}: {draft.summary}" for draft in drafts)
    raise CommandFailed(f"{problem}; name one with --device:{lines}", Exit.USAGE)


def _write(output: Path, text: str) -> None:
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CommandFailed(f"{output}: {error.strerror}", Exit.CANNOT_CREATE) from None

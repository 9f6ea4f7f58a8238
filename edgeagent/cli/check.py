"""``edgeagent check``: is this configuration sound? Touches no network and no instrument."""

from pathlib import Path
from typing import Any

import click

from edgeagent.cli.exits import Exit
from edgeagent.cli.options import config_option, echo_json, json_option
from edgeagent.configure import SitePlan, load_plan
from edgeagent.configure.document import read_document
from edgeagent.configure.plan import load_profile
from edgeagent.configure.units import unit_faults
from edgeagent.model.errors import ConfigurationError, Fault


@click.command()
@config_option
@click.option("--profile", type=click.Path(path_type=Path), help="Check one profile file instead.")
@json_option
@click.pass_context
def check(ctx: click.Context, config: Path, profile: Path | None, as_json: bool) -> None:
    """Check the site file and every profile that it uses; report all faults at once.

    \b
    edgeagent check --config site.yaml
    edgeagent check --profile my-instrument.yaml
    """
    faults: list[Fault] = []
    summary: dict[str, Any] = {}
    try:
        if profile is not None:
            checked = load_profile(profile)
            faults += unit_faults([read_document(profile)])
            summary = {"profile": checked.profile, "groups": len(checked.groups)}
        else:
            plan = load_plan(config)
            faults += unit_faults(plan.profiles)
            summary = _summary(plan)
    except ConfigurationError as error:
        faults += error.faults
    if as_json:
        echo_json({"ok": not faults, "faults": [_as_dict(f) for f in faults], **summary})
    else:
        for fault in faults:
            click.echo(str(fault), err=True)
        if not faults:
            click.echo("ok: " + ", ".join(f"{key} {value}" for key, value in summary.items()))
    ctx.exit(Exit.CONFIGURATION if faults else Exit.OK)


def _as_dict(fault: Fault) -> dict[str, Any]:
    return {
        "file": fault.file,
        "line": fault.line,
        "key": fault.key,
        "problem": fault.problem,
        "mend": fault.mend,
    }


def _summary(plan: SitePlan) -> dict[str, Any]:
    values_per_s = sum(len(g.tags) * 1e9 / g.period_ns for g in plan.groups if g.period_ns)
    return {
        "site": plan.settings.site,
        "links": len(plan.links),
        "instruments": len(plan.instruments),
        "groups": len(plan.groups),
        "tags": sum(len(g.tags) for g in plan.groups),
        "values_per_s": round(values_per_s, 2),
        "revision": plan.revision[:12],
    }

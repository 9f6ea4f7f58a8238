"""``edgeagent backfill``: fetch what devices remember of a stretch of time."""

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from edgeagent.cli.client import act, ask
from edgeagent.cli.exits import CommandFailed, Exit, ends_well
from edgeagent.cli.options import config_option, echo_json, json_option
from edgeagent.cli.status import moment


@click.group()
def backfill() -> None:
    """Fetch what devices remember; after a gap this happens by itself.

    \b
    edgeagent backfill list
    edgeagent backfill start freezer-1 temperatures --from 2026-11-23T02:00+01:00 \\
        --to 2026-11-23T04:00+01:00 --reason "comparison with the logger, deviation 88"
    """


class Moment(click.ParamType[int]):
    """A moment with its offset from UTC, in nanoseconds."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return UTC in nanoseconds."""
        try:
            stated = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no moment; write e.g. 2026-11-23T02:00+01:00", param, ctx)
        if stated.tzinfo is None:
            self.fail(f"{value!r} has no offset from UTC; add it, e.g. {value}+01:00", param, ctx)
        return int(stated.timestamp() * 1e6) * 1000


@backfill.command("start")
@click.argument("instrument")
@click.argument("group")
@click.option("--from", "first", type=Moment(), required=True, help="Later than this.")
@click.option("--to", "last", type=Moment(), required=True, help="Earlier than this.")
@click.option("--reason", required=True, help="Why; kept on record.")
@config_option
@json_option
@ends_well
def start(
    instrument: str, group: str, first: int, last: int, reason: str, config: Path, as_json: bool
) -> None:
    """Fetch a stretch of the device's time once more, marked as back-filled."""
    stretch = {"instrument": instrument, "group": group, "from_utc_ns": first, "to_utc_ns": last}
    _show(act(config, "backfill.start", reason, **stretch), as_json=as_json)


def _verb(name: str, help_text: str) -> None:
    @backfill.command(name, help=help_text)
    @click.argument("job", type=int)
    @click.option("--reason", required=True, help="Why; kept on record.")
    @config_option
    @json_option
    @ends_well
    def command(job: int, reason: str, config: Path, as_json: bool) -> None:
        _show(act(config, f"backfill.{name}", reason, job=job), as_json=as_json)


_verb("cancel", "End a job before its time; what it has fetched stays.")
_verb("resume", "Let a cancelled job go on behind what it has fetched.")


@backfill.command("list")
@config_option
@json_option
@ends_well
def list_jobs(config: Path, as_json: bool) -> None:
    """Show every job, the youngest last."""
    jobs = ask(config, "GET", "/status")["backfills"]
    if as_json:
        echo_json(jobs)
        return
    if not jobs:
        click.echo("no back-fill was needed or asked for")
    for job in jobs:
        _show(job, as_json=False)


@backfill.command("show")
@click.argument("job", type=int)
@config_option
@json_option
@ends_well
def show(job: int, config: Path, as_json: bool) -> None:
    """Show one job."""
    jobs = {each["job"]: each for each in ask(config, "GET", "/status")["backfills"]}
    if job not in jobs:
        known = ", ".join(map(str, jobs)) or "none"
        raise CommandFailed(f"there is no back-fill {job}; known: {known}", Exit.USAGE)
    _show(jobs[job], as_json=as_json)


def _show(job: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo_json(job)
        return
    span = f"{moment(job['from_utc_ns'])} to {moment(job['to_utc_ns'])}"
    text = f"{job['job']:>4} {job['state']:<9} {job['percent']:>5} %  {job['group']}  {span}"
    click.echo(f"{text}  {job['frames']} frames  ({job['why']})")
    if job["error"]:
        click.echo(f"     {job['attempts']} attempts failed: {job['error']}")

"""Tables for people: health, links, values, journal, delivery. Colour is never the only signal."""

from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_STYLES = {
    "up": "green",
    "down": "bold red",
    "good": "",
    "connecting": "yellow",
    "ok": "green",
    "warning": "yellow",
    "fault": "bold red",
}


def _age(utc_ns: int, now_ns: int) -> str:
    seconds = max(0.0, (now_ns - utc_ns) / 1e9)
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def number(value: Any) -> str:
    """Return a value as people read it: at most seven significant digits."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.7g}"
    return str(value)


def values_table(groups: list[dict[str, Any]], *, brief: bool = False) -> Table:
    """Return the latest value of every tag, group by group, in 80 columns.

    :param brief: leave out Good values without a unit: flags, codes, settings
    """
    table = Table(expand=True, pad_edge=False, box=SIMPLE_HEAD)
    table.add_column("tag", no_wrap=True, ratio=3)
    table.add_column("value", justify="right", no_wrap=True, ratio=2)
    table.add_column("unit", no_wrap=True, ratio=1)
    table.add_column("quality", no_wrap=True, ratio=2)
    for group in groups:
        values = [value for value in group["values"] if not brief or _telling(value)]
        if not values:
            continue
        at = datetime.fromtimestamp(group["utc_ns"] / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3]
        gap = Text(f"gap: {group['gap']}" if group["gap"] else "", style="bold red")
        name = Text(f"{group['instrument']} / {group['group']}", style="bold")
        table.add_row(name, Text(f"{at} UTC", style="dim"), "", gap)
        for value in values:
            style = "" if value["quality"] == "good" else "yellow"
            shown = Text(value["quality"], style=style)
            unit = "" if value["unit"] == "1" else value["unit"]
            table.add_row(f"  {value['tag']}", number(value["value"]), Text(unit), shown)
    return table


def _telling(value: dict[str, Any]) -> bool:
    return bool(value["unit"] != "1" or value["quality"] != "good")


def links_table(found: dict[str, Any]) -> Table:
    """Return one line per link."""
    table = Table(expand=True, pad_edge=False, box=SIMPLE_HEAD)
    for column in ("link", "state", "since", "frames", "failures", "late ms", "cause"):
        table.add_column(column)
    for link in found["links"]:
        cause = link["cause"] or "; ".join(f"{k}: {v}" for k, v in link["silent"].items())
        table.add_row(
            link["link"],
            Text(link["state"], style=_STYLES.get(link["state"], "")),
            _age(link["since_utc_ns"], found["at_utc_ns"]),
            str(link["frames"]),
            str(link["failures"]),
            str(link["late_ms"]),
            cause,
        )
    return table


def delivery_lines(found: dict[str, Any]) -> Text:
    """Return the journal, the broker and the consumers in a few lines."""
    journal, delivery = found["journal"], found["delivery"]
    text = Text()
    highest = journal["highest"]
    text.append(f"journal   {highest['data']} data records, {highest['event']} event records, ")
    text.append(f"{journal['bytes'] / 1e6:.1f} MB, epoch {journal['epoch'][:8]}")
    if journal["full_since_utc_ns"]:
        text.append("  FULL", style="bold red")
    text.append(f"\nbroker    {delivery['broker']} ")
    text.append(delivery["state"], style=_STYLES.get(delivery["state"], ""))
    text.append(f"  {delivery['cause'] or ''}".rstrip())
    text.append(f"  {delivery['messages']} messages, {delivery['receipts']} receipts")
    for consumer in delivery["consumers"]:
        lanes = ", ".join(f"{k} {v['lag']} behind" for k, v in consumer["lanes"].items())
        text.append(f"\nconsumer  {consumer['consumer']} ({consumer['state']}): {lanes}")
    if not delivery["consumers"]:
        text.append("\nconsumer  none enrolled", style="yellow")
    text.append(f"\ngaps      {found['gaps']['open']} open, {found['gaps']['opened']} since start")
    return text


def health_table(health: dict[str, Any]) -> Table:
    """Return the state of health, and of each check that is not ok what was found and mends it."""
    table = Table.grid(padding=(0, 1))
    checks = health["checks"]
    bad = [check for check in checks if check["state"] != "ok"]
    passed = f"{len(checks) - len(bad)} of {len(checks)} checks ok"
    table.add_row("health   ", _state(health["state"]), passed)
    for check in sorted(bad, key=lambda check: str(check["state"])):  # "fault" before "warning"
        text = Text(f"{check['name']}: ", style="bold")
        text.append(Text(check["text"], style="not bold"))
        text.append(Text(f"\nmend: {check['mend']}", style="not bold"))
        table.add_row("", _state(check["state"]), text)
    return table


def _state(state: str) -> Text:
    return Text(state, style=_STYLES[state])


def status_view(found: dict[str, Any]) -> RenderableType:
    """Return the whole status."""
    head = Text(
        f"{found['site']}  edgeagent {found['agent']}  configuration {found['configuration'][:12]}",
        style="bold",
    )
    return Group(
        head,
        health_table(found["health"]),
        links_table(found),
        values_table(found["groups"]),
        delivery_lines(found),
    )

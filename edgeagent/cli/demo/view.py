"""The demo's one screen."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from edgeagent.cli.demo.parts import Demo
from edgeagent.cli.screen import delivery_lines, links_table, values_table

QUICK_NS = 5 * 10**9
COUNTS = ("records", "duplicates", "conflicts")


def demo_view(parts: Demo, view: dict[str, Any]) -> RenderableType:
    """Return live values, links, journal, lag and receipts."""
    received = view.get("received") or {}
    text = delivery_lines(view)
    counts = ", ".join(f"{received.get(key, 0)} {key}" for key in COUNTS)
    text.append(f"\nreceiver  {counts}")
    title = f"edgeagent demo: simulated instruments, {parts.broker_name}. Ctrl-C ends it."
    quick = [group for group in view["groups"] if group["period_ns"] <= QUICK_NS]
    return Group(
        Text(title, style="bold"),
        text,
        links_table(view),
        values_table(quick, brief=True),
    )

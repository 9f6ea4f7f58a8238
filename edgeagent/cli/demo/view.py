"""The demo's one screen."""

from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from edgeagent.cli.demo.parts import Demo
from edgeagent.cli.screen import delivery_lines, links_table, values_table

COUNTS = ("records", "duplicates", "conflicts")


def demo_view(parts: Demo, view: dict[str, Any]) -> RenderableType:
    """Return live values, links, journal, lag and receipts."""
    received = view.get("received") or {}
    text = delivery_lines(view)
    counts = ", ".join(f"{received.get(key, 0)} {key}" for key in COUNTS)
    text.append(f"\nreceiver  {counts}")
    title = f"edgeagent demo: simulated instruments, {parts.broker_name}. Ctrl-C ends it."
    return Group(
        Text(title, style="bold"),
        values_table(view["groups"], brief=True),
        Panel(links_table(view), title="links", title_align="left"),
        Panel(text, title="from the journal to the database", title_align="left"),
    )

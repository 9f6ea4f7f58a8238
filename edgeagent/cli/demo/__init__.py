"""``edgeagent demo``: the whole chain on one machine, without hardware."""

from edgeagent.cli.demo.command import demo

__all__ = ["demo"]

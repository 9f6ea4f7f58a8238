"""``python -m edgeagent``."""

from edgeagent.cli import main

main(prog_name="edgeagent")

"""edgeagent: the instrument-integration edge agent for automated cell-therapy manufacturing.

The packages stand in the order in which data pass them: :mod:`edgeagent.driver` is what a
driver author reads, :mod:`edgeagent.acquire` polls and conditions, :mod:`edgeagent.journal`
makes durable, :mod:`edgeagent.publish` delivers, :mod:`edgeagent.central` is the other end.
"""

__version__ = "0.1.0"

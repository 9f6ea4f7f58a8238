"""The durable store: what append accepted is never lost, reordered or altered unseen.

:mod:`~edgeagent.journal.store` is the database, synchronous and single-threaded;
:mod:`~edgeagent.journal.journal` gives it to the event loop and mends it;
:mod:`~edgeagent.journal.recorder` is the one door through which records come in, and decides
when to commit.
"""

from edgeagent.journal.journal import Journal
from edgeagent.journal.recorder import Recorder
from edgeagent.journal.store import Committed, Epoch, LaneRange

__all__ = ["Committed", "Epoch", "Journal", "LaneRange", "Recorder"]

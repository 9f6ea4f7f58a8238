"""The durable store: what append accepted is never lost, reordered or altered unseen.

:mod:`~edgeagent.journal.layout` is the file, :mod:`~edgeagent.journal.reader` reads it and
:mod:`~edgeagent.journal.store` writes it, synchronous and single-threaded; old rows are packed into
the blocks of :mod:`~edgeagent.journal.block`; :mod:`~edgeagent.journal.inspect` proves and exports;
:mod:`~edgeagent.journal.journal` gives it to the event loop and mends it;
:mod:`~edgeagent.journal.recorder` is the one door through which records come in, and decides
when to commit.
"""

from edgeagent.journal.journal import Journal
from edgeagent.journal.recorder import Recorder, Storing
from edgeagent.journal.store import Committed, Epoch, LaneRange, Usage

__all__ = ["Committed", "Epoch", "Journal", "LaneRange", "Recorder", "Storing", "Usage"]

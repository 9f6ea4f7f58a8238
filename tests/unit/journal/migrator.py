"""A process that opens a journal and is killed at a moment: ``test_layout.py`` starts it.

The moment is a number of things done to the disk; it prints ``done`` when it got to its end.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import Store
from tests.storage import Disk


class Fuse(list[Any]):
    """A log that ends the process when so much more is in it."""

    def __init__(self, log: list[Any], more: int) -> None:
        super().__init__(log)
        self.end = len(log) + more

    def append(self, entry: Any) -> None:
        super().append(entry)
        if len(self) >= self.end:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    with Disk(Path(sys.argv[1])) as disk:
        disk.log = Fuse(disk.log, int(sys.argv[2]))
        Store(disk.directory / FILE_NAME, 0, disk.name).close()
    sys.stdout.write("done\n")

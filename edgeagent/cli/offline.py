"""Reading the journal of an agent that is not running."""

from pathlib import Path

import apsw

from edgeagent.cli.exits import CommandFailed, Exit
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import Reader, UnknownLayout


def open_reader(state_dir: Path) -> Reader:
    """Open the journal read-only.

    :raises CommandFailed: in one line, when there is none or it cannot be read
    """
    path = state_dir / FILE_NAME
    if not path.exists():
        raise CommandFailed(f"{path}: there is no journal yet", Exit.JOURNAL)
    try:
        return Reader(path)
    except UnknownLayout as error:
        raise CommandFailed(str(error), Exit.JOURNAL) from None
    except apsw.Error as error:
        raise CommandFailed(f"{path}: cannot be read: {error}", Exit.JOURNAL) from None

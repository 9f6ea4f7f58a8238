"""What is done on the files of an agent that is not running."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw

from edgeagent.cli.client import NotRunning, act
from edgeagent.cli.exits import CommandFailed, Exit
from edgeagent.configure import SitePlan, load_plan
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import Reader, UnknownLayout

if TYPE_CHECKING:
    from edgeagent.journal import Recorder
    from edgeagent.operate.acts import ActKind

KindsOf = Callable[[SitePlan, "Recorder"], "list[ActKind]"]
"""Which acts can be done without an agent."""


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


def perform(config: Path, kinds: KindsOf, name: str, reason: str, **arguments: Any) -> Any:
    """Have an act done by the running agent, or, if none runs, on its files; both on record.

    :raises CommandFailed: in words for the person who asked
    """
    try:
        return act(config, name, reason, **arguments)
    except NotRunning:
        request = {"act": name, "reason": reason, "arguments": arguments}
        return asyncio.run(_perform(load_plan(config), kinds, request))


async def _perform(plan: SitePlan, kinds: KindsOf, request: dict[str, Any]) -> dict[str, Any]:
    from edgeagent.journal import Journal, Recorder
    from edgeagent.journal.journal import StateDirectory
    from edgeagent.model.clock import SystemClock
    from edgeagent.operate.access import account_of, every_role
    from edgeagent.operate.acts import ActRefused, Acts
    from edgeagent.operate.logs import set_up_logs

    set_up_logs()
    _refuse_others(plan.settings.state_dir)
    clock = SystemClock()
    directory = StateDirectory(plan.settings.state_dir)
    journal = await Journal.open(directory.path, clock)
    recorder = Recorder(journal, clock, commit_within_s=0.0, held_bytes_max=1 << 20)
    await recorder.load()
    committing = asyncio.create_task(recorder.run())
    person = every_role(account_of(os.getuid()), os.getuid())  # who may write the files
    try:
        recorder.set_context({"boot_id": clock.boot_id, "configuration": plan.revision})
        return await Acts(recorder, kinds(plan, recorder)).perform(person, request)
    except ActRefused as error:
        raise CommandFailed(str(error), Exit.USAGE) from None
    finally:
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)
        await journal.close()
        directory.release()


def _refuse_others(state_dir: Path) -> None:
    """Refuse root what the service could not read afterwards.

    :raises CommandFailed: if the state directory belongs to somebody else
    """
    try:
        owner = state_dir.stat().st_uid
    except OSError:
        return
    if owner != os.geteuid():
        from edgeagent.operate.access import account_of

        name = account_of(owner)
        raise CommandFailed(
            f"{state_dir} belongs to {name}: start the agent first, or run this as that account: "
            f"sudo -u {name} edgeagent ...",
            Exit.NOT_ALLOWED,
        )

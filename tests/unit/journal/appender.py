"""A process that appends to a journal and packs it until it is killed: ``test_kill.py`` starts it.

It prints where each append ended and the chain there, after the append has returned.
"""

import asyncio
import sys
from pathlib import Path
from random import Random

import structlog

from edgeagent.journal import Journal
from edgeagent.journal import store as store_module
from edgeagent.model.clock import SystemClock
from edgeagent.model.record import Lane
from tests.unit.journal.witness import event, frame


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def append_for_ever(directory: Path, seed: int) -> None:
    random = Random(seed)
    journal = await Journal.open(directory, SystemClock())
    say("open")
    while True:
        records, most = [], random.choice([3, 30])
        for lane in Lane:
            at = journal.heads[lane][0]
            make = frame if lane is Lane.DATA else lambda n: event(str(n))
            records += [make(float(at + i)) for i in range(1, random.randint(1, most))]
        for part in await journal.append(records):
            say(part.lane, part.last, part.chain.hex())
        for lane in Lane:
            await journal.pack(lane, keep_newest=random.choice([0, 20]))
        await journal.move_log()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    store_module.LOG_PAGES_MAX = 50
    store_module.BLOCK_BYTES = 2000
    asyncio.run(append_for_ever(Path(sys.argv[1]), int(sys.argv[2])))

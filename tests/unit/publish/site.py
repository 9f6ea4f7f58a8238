"""One site for tests: journal, recorder and stream of an agent, in the test's own event loop.

async with Site(tmp_path, broker) as site:
    site.put(100)
    await site.flush()
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

import apsw

from edgeagent.journal import Epoch, Journal, Recorder
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import Consumer, Cursor
from edgeagent.model.record import Lane, gap_record
from edgeagent.model.settings import BrokerSettings, StreamSettings
from edgeagent.publish.delivery import Delivery
from edgeagent.publish.lossless import LosslessStream
from tests.brokers import Mosquitto

NAME = "berlin-1"
QUICK = {"head_every": "200 ms", "resend_after": "200 ms"}

_numbers = itertools.count(1)


class HandClock:
    """The machine's clocks, which a test can put forward."""

    boot_id = "4711"

    def __init__(self) -> None:
        self._ahead_ns = 0

    def forward(self, seconds: float) -> None:
        self._ahead_ns += int(seconds * 1e9)

    def utc_ns(self) -> int:
        return time.time_ns() + self._ahead_ns

    def boot_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) + self._ahead_ns


class Site:
    """One agent without instruments; started again and again on the same journal.

    :param enrolled: consumers that are enrolled from the beginning
    :param settings: of the stream, as the site file has them; quick when not stated
    """

    def __init__(
        self,
        directory: Path,
        broker: Mosquitto,
        *,
        enrolled: tuple[str, ...] = ("central",),
        version: str = "5",
        login: dict[str, Any] | None = None,
        commit_within_s: float = 0.002,
        **settings: Any,
    ) -> None:
        self.name = f"{NAME}-{next(_numbers)}"
        self.directory = directory / self.name
        self.directory.mkdir(parents=True, exist_ok=True)
        self.clock = HandClock()
        self._broker = BrokerSettings(url=broker.url, version=version, **(login or {}))
        self._settings = StreamSettings(**(QUICK | settings))
        self._commit_within_s = commit_within_s
        self._enrolled = enrolled
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Site":
        await self.open()
        self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def open(self) -> None:
        """Open the journal and commit what is put, without delivering it yet."""
        self.journal = await Journal.open(self.directory, self.clock)
        self.recorder = Recorder(
            self.journal,
            self.clock,
            commit_within_s=self._commit_within_s,
            held_bytes_max=1 << 24,
        )
        await self.recorder.load()
        for name in self._enrolled:
            if name not in self.journal.consumers:
                await self.enrol(name)
        self.stream = LosslessStream(
            self.name, "edge/v1", self._broker, self._settings, self.recorder, Random(4711)
        )
        self._tasks = [asyncio.create_task(self.recorder.run(), name="journal")]

    def connect(self) -> None:
        """Begin to deliver."""
        self._tasks.append(asyncio.create_task(self.stream.run(), name="publish"))

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Deliver from here on; stop at the end. For a journal that is open already."""
        self.connect()
        try:
            yield
        finally:
            await self.stop()

    @property
    def serving(self) -> bool:
        """Whether the live stream has begun on a connection."""
        return any(task.get_name() == "publish:data" for task in asyncio.all_tasks())

    async def stop(self) -> None:
        """End as the agent does; fail if one of its tasks had ended before."""
        tasks, self._tasks = self._tasks, []
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.journal.close()
        for task in ended:
            task.result()
        assert not ended, "a task of the agent has ended by itself"
        left = [task for task in asyncio.all_tasks() if task.get_name().startswith("publish")]
        assert not left, f"tasks outlive the stream: {left}"

    async def restart(self) -> None:
        """Become a new process on the same journal."""
        await self.stop()
        await self.open()
        self.connect()

    # -- what it does --------------------------------------------------------------------------

    def put(self, count: int = 1, size: int = 40) -> None:
        """Put records into the data lane; each is told apart by its words."""
        for _ in range(count):
            words = f"{next(_numbers)} ".ljust(size, "x")
            at = self.recorder.now()
            gap = gap_record(1, 1, at, 1, "timeout", at, at, None, words)
            self.recorder.put(gap)

    def put_event(self, text: str = "hello") -> None:
        self.recorder.event("test.event", "info", text)

    async def record(self, count: int, size: int = 40) -> None:
        """Put records, each in a commit of its own."""
        for _ in range(count):
            self.put(1, size)
            await self.flush()

    async def flush(self) -> None:
        await self.recorder.flush()

    async def enrol(self, name: str, state: str = "enrolled") -> None:
        await self.journal.save_consumer(Consumer(name, state, None))

    # -- what it holds -------------------------------------------------------------------------

    @property
    def delivery(self) -> Delivery:
        return self.stream._delivery

    @property
    def epoch(self) -> str:
        return self.journal.epoch.uuid

    def highest(self, lane: str = "data") -> int:
        return self.journal.heads[Lane(lane)][0]

    def cursor(self, consumer: str = "central", lane: str = "data", epoch: int = -1) -> int:
        found: Cursor | None = self.journal.cursor(consumer, self.journal.epochs[epoch], Lane(lane))
        return found.upto if found else 0

    async def bodies(self, lane: str = "data", epoch: Epoch | None = None) -> list[bytes]:
        """Return every body that the journal holds."""
        entries = await self.journal.read(
            epoch or self.journal.epoch, Lane(lane), 0, bytes_max=1 << 30
        )
        return [entry.body for entry in entries]

    async def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the facts of the recorded events of a type, in all epochs."""
        await self.flush()
        found = []
        for epoch in self.journal.epochs:
            records = [json.loads(body) for body in await self.bodies("event", epoch)]
            found += [record[6] for record in records if record[0] == "E" and record[5] == kind]
        return found

    # -- what happens to its disk --------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def opened_by_hand(self) -> AsyncIterator[apsw.Connection]:
        """Stop the agent, give its database to the test, start the agent again."""
        await self.stop()
        with contextlib.closing(apsw.Connection(str(self.directory / FILE_NAME))) as database:
            yield database
        await self.open()
        self.connect()

"""A consumer: the shipped receiver on a database in memory, killed, restored, replaced."""

import asyncio
import itertools
import sqlite3
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple, TypeVar

from edgeagent.central.receiver import Receiver, ReceiverSettings
from edgeagent.central.store import DatabaseFailed, Store
from edgeagent.model.clock import Clock
from edgeagent.model.settings import BrokerSettings
from tests.simulation.broker import Broker
from tests.simulation.day import Day
from tests.simulation.devices import Life
from tests.simulation.loop import VirtualLoop

T = TypeVar("T")

_databases = itertools.count(1)

PREFIXES = """
SELECT p.epoch, p.lane, p.upto FROM prefix p
JOIN lane l ON l.site = p.site AND l.epoch = p.epoch AND l.lane = p.lane AND l.active = p.branch
"""
ROWS = "SELECT epoch, lane, seq, body FROM record ORDER BY epoch, lane, branch, seq"


class Row(NamedTuple):
    """One record as a consumer holds it."""

    epoch: str
    lane: str
    seq: int
    body: bytes


class Database:
    """A SQLite database that lives as long as this object; receivers come and go.

    The checkers read it here, past the receiver.
    """

    def __init__(self) -> None:
        name = f"consumer-{next(_databases)}"
        self.url = f"sqlite:///file:{name}?mode=memory&cache=shared&uri=true"
        self._door = sqlite3.connect(f"file:{name}?mode=memory&cache=shared", uri=True)

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        """Return rows; none while nobody has made the tables."""
        try:
            return self._door.execute(question).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise

    def prefixes(self) -> dict[tuple[str, str], int]:
        """Return how far each lane of each epoch is held without a hole."""
        return {(epoch, lane): upto for epoch, lane, upto in self.ask(PREFIXES)}

    def rows(self) -> list[Row]:
        """Return every record."""
        return [Row(*row) for row in self.ask(ROWS)]

    def backup(self) -> sqlite3.Connection:
        """Return a copy."""
        copy = sqlite3.connect(":memory:")
        self._door.backup(copy)
        return copy

    def restore(self, copy: sqlite3.Connection) -> None:
        """Become the copy again."""
        copy.backup(self._door)

    def close(self) -> None:
        self._door.close()


class _InLoop:
    """Transactions of one life of a receiver, in the loop; some fail in their middle."""

    def __init__(self, day: Day, name: str, store: Store) -> None:
        self._day = day
        self._name = name
        self._store = store
        self._random: Random = day.random(f"{name}/rollback")

    async def do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self, lambda: self._now(work))

    def _now(self, work: Callable[[], T]) -> T:
        if not self._day.strikes("consumer.rolls-back", self._name):
            return work()
        connection = self._store._connection.connection.dbapi_connection
        connection.set_progress_handler(lambda: 1, self._random.randint(1, 2_000))
        try:
            return work()
        finally:
            connection.set_progress_handler(None, 0)

    def stop(self) -> None:
        """No thread is to be stopped."""


class Consumer:
    """One consumer of the site's records; whoever runs it starts it again when it ends.

    :ivar database: what it holds now
    :ivar databases: what it has ever held, the database of now last
    """

    def __init__(self, name: str, day: Day, broker: Broker, clock: Clock, url: BrokerSettings):
        self.name = name
        self.day = day
        self.broker = broker
        self.clock = clock
        self.settings = ReceiverSettings(url, consumer=name, site="+")
        self.random = day.random(name)
        self.databases = [Database()]
        self.backups: list[sqlite3.Connection] = []
        self.failures = 0
        self.receiver: Receiver | None = None
        self._life = Life()
        self._running: asyncio.Task[None] | None = None
        self._before_start: Callable[[], None] = lambda: None

    @property
    def database(self) -> Database:
        return self.databases[-1]

    async def supervise(self) -> None:
        """Start the receiver again whenever it has ended, as a service manager does."""
        while True:
            self._life = Life()
            self._running = asyncio.create_task(self._live(self._life), name=self.name)
            await asyncio.wait([self._running])
            self._life.end()
            self.receiver = None
            change, self._before_start = self._before_start, lambda: None
            change()
            await asyncio.sleep(self.random.uniform(0.1, 5.0))

    async def _live(self, life: Life) -> None:
        try:
            store = Store(self.database.url, self.clock)
        except DatabaseFailed:
            self.failures += 1
            return
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        try:
            self.receiver = Receiver(
                self.settings, store, f"{self.name}-1", self.clock, self.random,
                connect=self.broker.connect_for(life), database=_InLoop(self.day, self.name, store),
            )  # fmt: skip
            await self.receiver.run()
        except DatabaseFailed:
            self.failures += 1
        finally:
            store.close()

    def kill(self) -> None:
        """End it at whatever await it is."""
        self._life.end()
        if self._running is not None:
            self._running.cancel()

    def back_up(self) -> None:
        """Keep a copy, to be restored some time."""
        self.backups.append(self.database.backup())

    def restore(self) -> None:
        """Go back to some copy."""
        if self.backups:
            copy = self.random.choice(self.backups)
            self._before_start = lambda: self.database.restore(copy)
            self.kill()

    def replace(self) -> None:
        """Begin with an empty database."""
        self.backups.clear()
        self._before_start = lambda: self.databases.append(Database())
        self.kill()

    def close(self) -> None:
        for each in [*self.databases, *self.backups]:
            each.close()

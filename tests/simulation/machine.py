"""The machine on which the agent runs: its clocks, its disk, and how it dies."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import apsw

from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import SEQ_MASK
from tests.clocks import MachineClock
from tests.simulation.day import Day
from tests.simulation.loop import VirtualLoop
from tests.storage import Create, Delete, Disk, Op, Truncate, Write, _apply, _rename

WORK_S = 0.004
SLOW = 100
FULL_S_MAX = 60
ROT_KEEPS = 20
"""Newest records that rot leaves alone: a torn end is what power losses are for."""


class Rotten(NamedTuple):
    """A record that was changed on the disk: its key, and the body that it had."""

    epoch: str
    lane: str
    seq: int
    body: bytes


class Machine:
    """Clocks and disk. A dead process leaves a disk of its own behind: it may still write there.

    :ivar rotten: records that were changed on the disk
    :ivar hindered_s: when the disk was full or slow: beginning and end
    :ivar steps: when UTC was moved, and by how many seconds
    """

    def __init__(self, day: Day, directory: Path, loop: VirtualLoop) -> None:
        self.clock = MachineClock(now_s=loop.time, drift=day.drift)
        self.rotten: list[Rotten] = []
        self.hindered_s: list[tuple[float, float]] = []
        self.steps: list[tuple[float, float]] = []
        self._random = day.random("machine")
        self._directory = directory
        self._disks = [Disk(directory / "0")]
        self._loop = loop
        self._slow_until_s = 0.0
        self._full_until_s = 0.0
        self._rotting = 0
        loop.pace = self._pace

    @property
    def disk(self) -> Disk:
        """The disk as the living process has it."""
        return self._disks[-1]

    def _pace(self, _executor: object) -> float:
        slow = SLOW if self._loop.time() < self._slow_until_s else 1
        return WORK_S * self._random.random() * slow

    # -- dying ---------------------------------------------------------------------------------

    def kill(self, moment: int | None) -> None:
        """Keep what the page cache has at a moment of the disk (now)."""
        log = self.disk.log[:moment]
        target = self._directory / str(len(self._disks))
        target.mkdir()
        for name, content in page_cache(log).items():
            (target / name).write_bytes(content)
        self._go_on(Disk(target, log))

    def lose_power(self, moment: int | None) -> None:
        """Keep what was synced, and of the rest what chance keeps; boot again."""
        target = self._directory / str(len(self._disks))
        self.disk.power_loss(target, self._random.randint(0, 1 << 30), moment)
        self.clock.reboot()
        self._go_on(Disk(target))

    def _go_on(self, disk: Disk) -> None:
        self._disks.append(disk)
        if self._loop.time() < self._full_until_s:
            disk.fill()

    # -- what happens to it --------------------------------------------------------------------

    def fail_syncs(self) -> None:
        """Let some of the next syncs fail."""
        self.disk.fail_syncs(self._random.randint(1, 3), self._random.choice([1, 1, 2, 5]))

    def fill_disk(self) -> None:
        """Let the disk be full for a while."""
        now = self._loop.time()
        self._full_until_s = max(self._full_until_s, now + self._random.uniform(1, FULL_S_MAX))
        self.hindered_s.append((now, self._full_until_s))
        self.disk.fill(self._random.randint(0, 10))
        self._loop.call_at(self._full_until_s, self._find_space)

    def _find_space(self) -> None:
        if self._loop.time() >= self._full_until_s:
            for disk in self._disks:
                disk.heal()

    def slow_disk(self, for_s: float) -> None:
        """Let each call take a hundred times as long."""
        self._slow_until_s = self._loop.time() + for_s
        self.hindered_s.append((self._loop.time(), self._slow_until_s))

    def mend_disk(self) -> None:
        """Let the disk be good again, quick and with room."""
        self._slow_until_s = self._full_until_s = 0.0
        self._find_space()

    def step_clock(self) -> None:
        """Set UTC."""
        step_s = self._random.choice([-3600.0, -5.0, -0.5, 0.5, 5.0, 3600.0, 3.2e8])
        self.clock.step(step_s)
        self.steps.append((self._loop.time(), step_s))

    def let_rot(self) -> None:
        """Change a bit of an old record when the agent is down next."""
        self._rotting += 1

    def rot(self) -> None:
        """Do what :meth:`let_rot` promised; nobody has the file open."""
        path = self.disk.directory / FILE_NAME
        if not self._rotting or not path.exists() or self._loop.time() < self._full_until_s:
            return
        count, self._rotting = self._rotting, 0
        with closing(apsw.Connection(str(path), vfs=self.disk.name)) as database:
            rows = database.execute(
                "SELECT d.key, e.uuid, d.body FROM data d JOIN epoch e ON e.number = d.key >> 48"
                " WHERE substr(d.body, 3, 1) = CAST('F' AS BLOB)"
                f" AND d.key & {SEQ_MASK} <= (SELECT max(key) & {SEQ_MASK} FROM data) - {ROT_KEEPS}"
            ).fetchall()
            known = {(each.epoch, each.seq) for each in self.rotten}
            fresh = [row for row in rows if (row[1], row[0] & SEQ_MASK) not in known]
            for key, epoch, body in self._random.sample(fresh, min(count, len(fresh))):
                damaged = bytearray(body)
                damaged[self._random.randrange(len(body))] ^= 1 << self._random.randrange(8)
                changed = "UPDATE data SET body = ? WHERE key = ?"
                database.execute(changed, (bytes(damaged), key))
                self.rotten.append(Rotten(epoch, "data", key & SEQ_MASK, body))

    def close(self) -> None:
        """Give everything back at the end of the day."""
        for disk in self._disks:
            disk.unregister()


def page_cache(log: Sequence[Op]) -> dict[str, bytes]:
    """Return the files as every process sees them behind the last entry of this log."""
    files: dict[int, bytearray] = defaultdict(bytearray)
    names: dict[str, int] = {}
    for op in log:
        if isinstance(op, Write | Truncate):
            _apply(files[op.file], op)
        elif isinstance(op, Create | Delete):
            _rename(names, op)
    return {name: bytes(files[file]) for name, file in names.items()}

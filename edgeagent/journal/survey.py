"""What the journal holds and what of it was received, kept at hand for retention."""

from collections.abc import Callable

from edgeagent.journal.held import CorruptRecord, Epoch
from edgeagent.journal.journal import Journal
from edgeagent.journal.policy import Oldest, Replies
from edgeagent.journal.recorder import Recorder
from edgeagent.model.record import Lane, received_utc_ns


def received_upto(journal: Journal, epoch: Epoch, lane: Lane) -> int:
    """Return up to where every consumer that is enrolled or suspended has receipted a lane.

    It is 0 when there is none: nobody has received anything.
    """
    owed = [each.name for each in journal.consumers.values() if each.state != "retired"]
    cursors = [journal.cursor(name, epoch, lane) for name in owed]
    return min((cursor.upto if cursor else 0 for cursor in cursors), default=0)


class Survey:
    """Where lanes begin and end, and how old their ends are; read once and noted."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._journal = recorder.journal
        self._ends: dict[tuple[int, Lane], tuple[int, int]] = {}
        self._times: dict[str, tuple[tuple[Epoch, int], int]] = {}
        self._epoch = recorder.journal.epoch

    async def look(self) -> None:
        """Take note of what has changed."""
        if self._epoch != self._journal.epoch:
            self._epoch = self._journal.epoch
            self._ends.clear()
        for epoch in self._journal.epochs:
            for lane in Lane:
                await self._note_ends(epoch, lane)

    def purged(self, epoch: Epoch, lane: Lane) -> None:
        """Forget where a lane begins."""
        self._ends.pop((epoch.number, lane), None)

    async def _note_ends(self, epoch: Epoch, lane: Lane) -> None:
        """Know the lowest and the highest record of a lane; the highest of today's moves."""
        key = (epoch.number, lane)
        if key not in self._ends:
            try:
                held = await self._journal.lane_range(epoch, lane)
            except CorruptRecord:
                return  # nothing of it can be proved, and so nothing is given up
            self._ends[key] = (held.lowest, held.highest)
        if epoch == self._journal.epoch:
            self._ends[key] = (self._ends[key][0], self._journal.heads[lane][0])

    def received_share(self) -> float:
        """Return which part of the records was received by everybody."""
        held = received = 0
        for epoch in self._journal.epochs:
            for lane in Lane:
                lowest, highest = self._ends.get((epoch.number, lane), (1, 0))
                held += highest - lowest + 1
                upto = min(highest, received_upto(self._journal, epoch, lane))
                received += max(0, upto - lowest + 1)
        return received / held if held else 0.0

    async def oldest(
        self, lane: Lane, leave_out: Callable[[tuple[int, Lane]], bool]
    ) -> Oldest | None:
        """Return the oldest records of a lane that were received and that no start needs.

        :param leave_out: of ``(epoch number, lane)``: whether to pass it over
        """
        for epoch in self._journal.epochs:
            lowest, highest = self._ends.get((epoch.number, lane), (1, 0))
            received = min(highest, received_upto(self._journal, epoch, lane))
            if lane is Lane.DATA:
                received = min(received, self._recorder.start_needs_behind(epoch))
            if lowest <= received and not leave_out((epoch.number, lane)):
                utc_ns = await self._time_of(lane.value, epoch, lane, lowest)
                return Oldest(epoch, lane, lowest, received, highest - lowest + 1, utc_ns)
        return None

    async def oldest_utc_ns(self) -> int | None:
        """Return when the oldest record that is held was received."""
        times = []
        for lane in Lane:
            for epoch in self._journal.epochs:
                lowest, highest = self._ends.get((epoch.number, lane), (1, 0))
                if lowest <= highest:
                    times.append(await self._time_of(f"{lane} held", epoch, lane, lowest))
                    break
        return min(times, default=None)

    async def replies(self) -> Replies | None:
        """Return the oldest raw replies."""
        for epoch in self._journal.epochs:
            lowest, highest = self._ends.get((epoch.number, Lane.DATA), (1, 0))
            first = await self._journal.oldest_evidence(epoch)
            if first is not None and first <= highest:
                utc_ns = await self._time_of("replies", epoch, Lane.DATA, first)
                return Replies(epoch, first, highest, highest - lowest + 1, utc_ns)
        return None

    async def _time_of(self, oldest_of: str, epoch: Epoch, lane: Lane, seq: int) -> int:
        """Return when the oldest of something was received, read when it is another one."""
        known = self._times.get(oldest_of)
        if known is None or known[0] != (epoch, seq):
            known = (epoch, seq), await self._read_time(epoch, lane, seq)
            self._times[oldest_of] = known
        return known[1]

    async def _read_time(self, epoch: Epoch, lane: Lane, seq: int) -> int:
        """Return when a record was received, or the next one that can be read."""
        after = seq - 1
        while True:
            try:
                entries = await self._journal.read(epoch, lane, after, bytes_max=1)
            except CorruptRecord as damage:
                after = damage.last
                continue
            return received_utc_ns(entries[0].body) if entries else epoch.opened_utc_ns

    async def last_before(
        self, epoch: Epoch, lane: Lane, lowest: int, highest: int, utc_ns: int
    ) -> int:
        """Return the last record that is older than a time; ``lowest`` is known to be."""
        while lowest < highest:
            middle = (lowest + highest + 1) // 2
            if await self._read_time(epoch, lane, middle) < utc_ns:
                lowest = middle
            else:
                highest = middle - 1
        return lowest

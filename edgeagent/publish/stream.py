"""A place in one lane from which batches are taken, in order."""

from bisect import bisect_right
from collections import deque
from itertools import islice

from edgeagent.journal import Committed, Epoch, Journal
from edgeagent.journal.store import CorruptRecord, Cursor
from edgeagent.model.record import Batch, Entry, Lane, extend_chain

TAIL_BYTES_MAX = 4 << 20


class Tail:
    """The newest commits of one lane, so that the live stream need not read them back."""

    def __init__(self) -> None:
        self._commits: deque[tuple[Committed, int]] = deque()
        self._bytes = 0

    def add(self, committed: Committed) -> None:
        """Take a commit; the oldest are let go when there are too many."""
        if self._commits and self._commits[-1][0].epoch != committed.epoch:
            self._commits.clear()
            self._bytes = 0
        size = sum(map(len, committed.bodies))
        self._commits.append((committed, size))
        self._bytes += size
        while self._bytes > TAIL_BYTES_MAX and len(self._commits) > 1:
            self._bytes -= self._commits.popleft()[1]

    def after(self, epoch: str, seq: int, bytes_max: int) -> list[Committed] | None:
        """Return whole commits that begin right behind ``seq``.

        ``None`` if they are not here, or if the first one is too large for one batch.
        """
        commits = self._commits
        if not commits or commits[0][0].epoch != epoch or commits[0][0].first > seq + 1:
            return None
        if seq >= commits[-1][0].last:
            return []
        skip = bisect_right(commits, seq, key=lambda each: each[0].last)
        if commits[skip][0].first != seq + 1:
            return None
        chosen: list[Committed] = []
        size = 0
        for commit, commit_size in islice(commits, skip, None):
            size += commit_size
            if size > bytes_max and (chosen or len(commit.bodies) > 1):
                break
            chosen.append(commit)
        return chosen or None


class Stream:
    """A reader of one lane of one epoch that knows the chain value at its place.

    :ivar after: everything up to here has been taken
    :ivar chain: h(after)
    :ivar end: last record that is wanted; ``None`` for ever
    """

    def __init__(
        self,
        journal: Journal,
        site: str,
        epoch: Epoch,
        lane: Lane,
        after: int,
        chain: bytes,
        *,
        end: int | None = None,
        tail: Tail | None = None,
    ) -> None:
        self._journal = journal
        self._site = site
        self._tail = tail
        self.epoch = epoch
        self.lane = lane
        self.after = after
        self.chain = chain
        self.end = end

    @property
    def finished(self) -> bool:
        """Whether everything that was wanted has been taken."""
        return self.end is not None and self.after >= self.end

    async def next_batch(self, bytes_max: int) -> Batch | None:
        """Take what comes next, at most about ``bytes_max``; ``None`` when there is nothing now."""
        if self.finished:
            return None
        commits = self._tail.after(self.epoch.uuid, self.after, bytes_max) if self._tail else None
        if commits is None:
            return await self._from_disk(bytes_max)
        if not commits:
            return None
        bodies = [body for commit in commits for body in commit.bodies]
        return self._take(bodies, commits[-1].chain)

    def go_on_behind(self, cursor: Cursor) -> None:
        """Leave out what is behind the stream's place and before a later one."""
        if cursor.upto > self.after:
            self.after, self.chain = cursor

    async def _from_disk(self, bytes_max: int) -> Batch | None:
        end = self._durable_end
        try:
            entries = await self._journal.read(
                self.epoch, self.lane, self.after, bytes_max=bytes_max, upto=end
            )
        except CorruptRecord as error:
            return await self._around(error.seq, bytes_max)
        if entries and entries[0].seq == self.after + 1:
            bodies = [entry.body for entry in entries]
            return self._take(bodies, extend_chain(self.chain, bodies))
        gone = entries or (end is not None and self.after < end)
        return await self._around(self.after + 1, bytes_max) if gone else None

    @property
    def _durable_end(self) -> int | None:
        """How far may be read: the disk shows a commit before the journal has vouched for it."""
        if self.end is None and self.epoch == self._journal.epoch:
            return self._journal.heads[self.lane][0]
        return self.end

    def _take(self, bodies: list[bytes], chain: bytes) -> Batch:
        batch = Batch(
            self._site, self.epoch.uuid, self.lane, self.after + 1, bodies, self.chain, chain
        )
        self.after, self.chain = batch.last, chain
        return batch

    async def _around(self, damaged: int, bytes_max: int) -> Batch | None:
        """Take the rest up to the next anchor, naming the damaged records that are missing.

        Go on behind a prefix that was purged.
        """
        held = await self._journal.lane_range(self.epoch, self.lane)
        if damaged < held.lowest:
            start = await provable(self._journal, self.epoch, self.lane, self.after)
            if start is None:
                return None
            self.go_on_behind(start)
            return await self._from_disk(bytes_max)
        anchor = await self._journal.anchor_after(self.epoch, self.lane, damaged)
        if anchor is None:
            return None
        last, chain = anchor
        if self.epoch == self._journal.epoch and last > self._journal.heads[self.lane][0]:
            return None  # of a commit that the journal has not vouched for yet
        found = await self._readable(last)
        missing = sorted(set(range(self.after + 1, last + 1)) - {entry.seq for entry in found})
        batch = Batch(
            self._site,
            self.epoch.uuid,
            self.lane,
            self.after + 1,
            [entry.body for entry in found],
            self.chain,
            chain,
            missing,
        )
        self.after, self.chain = last, chain
        return batch

    async def _readable(self, last: int) -> list[Entry]:
        found: list[Entry] = []
        at = self.after
        while at < last:
            try:
                entries = await self._journal.read(
                    self.epoch, self.lane, at, bytes_max=1 << 20, upto=last
                )
            except CorruptRecord as error:
                at = error.last
            else:
                found += entries
                at = entries[-1].seq if entries else last
        return found


async def provable(journal: Journal, epoch: Epoch, lane: Lane, seq: int) -> Cursor | None:
    """Return the place ``seq`` with its chain value, ``None`` if the journal does not hold it.

    For places within a purged prefix, its end is returned; where damage made that unprovable, the
    first anchor behind it.

    :raises CorruptRecord: if a damaged record stands between ``seq`` and the anchor before
    """
    held = await journal.lane_range(epoch, lane)
    if seq > held.highest:
        return None
    seq = max(seq, held.lowest - 1)
    chain = await journal.chain_at(epoch, lane, seq)
    if chain is not None:
        return Cursor(seq, chain)
    anchor = await journal.anchor_after(epoch, lane, seq)
    return None if anchor is None else Cursor(*anchor)

"""Checkers that never failed prove nothing: each mistake here is caught by what it breaks.

A mistake is put into the shipped code for days that are well without it.
"""

import dataclasses
import itertools
from collections.abc import Callable
from contextlib import suppress
from unittest.mock import patch

import pytest

from edgeagent.acquire import link
from edgeagent.acquire.acquisition import Acquisition
from edgeagent.acquire.continuity import Continuity
from edgeagent.acquire.polled import PolledLink
from edgeagent.central import store as central
from edgeagent.journal.journal import Journal
from edgeagent.journal.recorder import Recorder
from edgeagent.journal.store import SEQ_MASK, Cursor, Store
from edgeagent.publish.outlet import Outlet
from tests.simulation.invariants import judge
from tests.simulation.run import simulate

DAYS_MAX = 20
PURGES = {"journal.purge": 30.0, "agent.kill": 1.0}
FULL_DISKS = {"disk.full": 4.0}
REFUSALS = {"device.refuses": 0.1}


def nth(number: int) -> Callable[[], bool]:
    """Return what says yes the ``number``-th time that it is asked."""
    calls = itertools.count(1)
    return lambda: next(calls) == number


def acknowledged_before_published():
    """The agent takes a message for receipted when it hands it to the broker."""
    send = Outlet.send

    async def hasty(self, topic, batch, window):
        journal = self._delivery.journal
        for consumer in journal.active_consumers():
            epoch = journal.find_epoch(batch.epoch)
            journal.set_cursor(consumer.name, epoch, batch.lane, Cursor(batch.last, batch.chain))
        return await send(self, topic, batch, window)

    return patch.object(Outlet, "send", hasty)


class Undone(Exception):
    """Rolls a transaction back."""


def receipted_before_committed():
    """The consumer receipts a transaction that is rolled back afterwards."""
    do, now = central.Store.do, nth(10)

    def hasty(self, work):
        if not now():
            return do(self, work)
        with suppress(Undone), self._transaction() as connection:
            task = central._Task(connection, self._hot, self._insert, self._clock.utc_ns())
            task.do(work)
            raise Undone
        return task.outcome

    return patch.object(central.Store, "do", hasty)


def append_returns_before_the_sync():
    """A commit is said to be on the disk while it is in the page cache."""
    init = Store.__init__

    def hasty(self, *facts):
        init(self, *facts)
        self._db.execute("PRAGMA synchronous = OFF")

    return patch.object(Store, "__init__", hasty)


def deleted_before_the_cursor_is_durable():
    """Records go first; the cursor that allows it is written with the next commit."""

    async def hasty(self, epoch, lane, upto):
        def forget(store):
            with patch.object(store, "_require_receipted"):
                return store.purge(epoch, lane, upto)

        return await self._in_writer(lambda: self._write(forget))

    return patch.object(Journal, "purge", hasty)


def purged_what_a_start_reads_back():
    """Records behind the last checkpoint are forgotten: the next start knows too little."""
    return patch.object(Recorder, "start_needs_behind", lambda self, epoch: SEQ_MASK)


def one_record_dropped():
    """The fortieth frame of a day is forgotten on its way to the journal."""
    put, now = Recorder.put, nth(40)

    def careless(self, record, *facts):
        if record.kind != "F" or not now():
            put(self, record, *facts)

    return patch.object(Recorder, "put", careless)


def one_record_restamped():
    """One frame gets the time at which it was handed on, a millisecond later."""
    take, now = Acquisition.take, nth(30)

    def careless(self, frame, skipped=0):
        late = frame.received_utc_ns + (10**6 if now() else 0)
        take(self, dataclasses.replace(frame, received_utc_ns=late), skipped)

    return patch.object(Acquisition, "take", careless)


def one_gap_skipped():
    """One gap is not recorded."""
    bad, now = Continuity.bad, nth(3)

    def careless(self, *facts):
        return [] if now() else bad(self, *facts)

    return patch.object(Continuity, "bad", careless)


def a_gap_for_another_cause():
    """An instrument that refuses is said to be silent."""
    bad = Continuity.bad

    def careless(self, group, context, at, cause, *facts):
        return bad(self, group, context, at, "timeout" if cause == "refused" else cause, *facts)

    return patch.object(Continuity, "bad", careless)


def values_rounded():
    """Values keep three decimals."""
    take = Acquisition.take

    def careless(self, frame, skipped=0):
        values = tuple(round(v, 3) if type(v) is float else v for v in frame.values)
        take(self, dataclasses.replace(frame, values=values), skipped)

    return patch.object(Acquisition, "take", careless)


def a_commit_in_reverse_order():
    """The records of a commit are numbered from the last to the first."""
    append = Journal.append

    async def careless(self, records, **facts):
        if len({record.tail.split(b",", 1)[0] for record in records}) < len(records) - 1:
            records = records[::-1]
        return await append(self, records, **facts)

    return patch.object(Journal, "append", careless)


def polls_wait_for_the_disk():
    """A link goes on when its last tick is on the disk."""
    tick = PolledLink._poll_tick

    async def careless(self, ready):
        await tick(self, ready)
        await self._recorder.committed()

    return patch.object(PolledLink, "_poll_tick", careless)


def frames_are_held_without_limit():
    """Whatever the disk refuses waits in memory."""
    return patch.object(Recorder, "accepting", property(lambda self: True))


def a_lost_link_stays_lost():
    """The next attempt comes in three hours."""
    return patch.object(link, "backoff_s", lambda *facts, **limits: 10_000.0)


@pytest.mark.parametrize(
    ("mistake", "invariant", "says", "rates"),
    [
        (acknowledged_before_published, "I2", "the cursor is at", None),
        (receipted_before_committed, "I2", "are held", None),
        (append_returns_before_the_sync, "I2", "has another body", {"agent.power-loss": 2.0}),
        (deleted_before_the_cursor_is_durable, "I2", "and its cursor there is at", PURGES),
        (purged_what_a_start_reads_back, "I1", "begins at", PURGES),
        (one_record_dropped, "I1", "was not delivered", None),
        (one_record_restamped, "I12", "is stamped", None),
        (one_gap_skipped, "I1", "no gap", REFUSALS),
        (a_gap_for_another_cause, "I5", "a gap says timeout", REFUSALS),
        (values_rounded, "I4", "values", None),
        (a_commit_in_reverse_order, "I3", "stands behind", None),
        (polls_wait_for_the_disk, "I8", "was not asked", FULL_DISKS),
        (frames_are_held_without_limit, "I9", "pending_bytes", FULL_DISKS),
        (a_lost_link_stays_lost, "I10", "gaps are open", {"link.cut": 0.1}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_mistake_is_caught(mistake, invariant, says, rates):
    others: set[str] = set()
    for seed in range(1, DAYS_MAX + 1):
        with mistake():
            found = judge(simulate(seed, rates=rates))
        if any(says in text for text in found.get(invariant, ())):
            return
        others |= {f"{name}: {texts[0]}" for name, texts in found.items()}
    raise AssertionError(f"{invariant} found nothing in {DAYS_MAX} days; but {sorted(others)}")


@pytest.mark.parametrize("rates", [PURGES, FULL_DISKS, REFUSALS])
def test_the_same_days_are_well_without_a_mistake(rates):
    for seed in range(1, 6):
        assert not judge(simulate(seed, rates=rates))

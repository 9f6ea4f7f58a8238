"""What to keep and what to store, decided: from a situation to what is to be done now. Pure.

Space is given up in this order: raw replies past ``evidence_keep``, received records past ``keep``;
under pressure the remaining raw replies, then received records before their time, oldest first.
Records that were not received by every consumer are never given up: when nothing else is left,
ordinary storage pauses, and a reserve takes what must not stop.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from edgeagent.journal.held import Epoch, Usage
from edgeagent.journal.recorder import Storing
from edgeagent.model.record import Lane
from edgeagent.model.settings import DAY_NS, JournalSettings

STAGES = (80, 90, 95)
"""Per cent of the budget at which an alarm is raised."""
HYSTERESIS = 2
"""Per cent by which the journal falls below a stage before the stage is left."""
YIELD_AT = 85
"""Per cent at which records and replies yield before their time. In between two stages, so that a
journal that lives from yielding keeps its first alarm and does not come near the second."""
RESUME_BELOW = 98
"""Per cent of the budget at which ordinary storage resumes."""
HOUSEKEEPING_PARTS = 4
"""Part of the reserve that records may not use: moving the log and purging take space, too."""
PIECES = 50
"""Parts of a lane that yield one after the other."""
PIECE_RECORDS_MIN = 100
"""Each piece is audited: so its record takes little of the space that it makes."""
SHRINK_BYTES_MIN = 1 << 20


class Oldest(NamedTuple):
    """The oldest records of a lane that may go, all of one epoch: ``lowest`` to ``received``.

    :ivar held: how many records of the lane the journal holds
    """

    epoch: Epoch
    lane: Lane
    lowest: int
    received: int
    held: int
    oldest_utc_ns: int


class Replies(NamedTuple):
    """The oldest raw replies, all of one epoch: those of data records ``first`` to ``highest``.

    :ivar held: how many data records the journal holds
    """

    epoch: Epoch
    first: int
    highest: int
    held: int
    oldest_utc_ns: int


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known when it is decided.

    :ivar disk_free: bytes that the file system has left
    :ivar reserve: bytes that the reserve holds
    :ivar stage: the stage before
    :ivar storing: what is stored until now
    :ivar utc_ns: now; ``None`` when the clock is known to be wrong, and no age can be told
    :ivar oldest: of each lane that has received records
    :ivar replies: ``None`` when there are none
    :ivar rested: whether nothing has yielded for a while, so that a small piece is worth an audit
    :ivar shrunk: whether the file cannot be made smaller as it is
    :ivar packable: lanes with records to pack, and how many of the newest are not
    """

    usage: Usage
    disk_free: int
    reserve: int
    stage: int
    storing: Storing
    utc_ns: int | None
    oldest: tuple[Oldest, ...] = ()
    replies: Replies | None = None
    rested: bool = True
    shrunk: bool = False
    packable: tuple[tuple[Lane, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Purge:
    """Give up records from the oldest up to ``upto``, those received before a time if one is given.

    :ivar cause: ``keep`` or ``budget``
    """

    epoch: Epoch
    lane: Lane
    lowest: int
    upto: int
    cause: str
    before_utc_ns: int | None = None


@dataclass(frozen=True, slots=True)
class PurgeReplies:
    """Give up raw replies; see :class:`Purge`. ``cause`` is ``evidence_keep`` or ``budget``."""

    epoch: Epoch
    lowest: int
    upto: int
    cause: str
    before_utc_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Shrink:
    """Give free pages of the file back to the disk."""


@dataclass(frozen=True, slots=True)
class Pack:
    """Pack one block of the oldest records of a lane."""

    lane: Lane
    keep_newest: int


Work: TypeAlias = Purge | PurgeReplies | Shrink | Pack


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done now.

    :ivar stage: the stage that holds, 0 when there is none
    :ivar reserve: bytes that the reserve is to hold
    :ivar work: the piece of housekeeping that is next
    """

    stage: int
    storing: Storing
    reserve: int
    work: Work | None


def decide(now: Situation, settings: JournalSettings) -> Decision:
    """Return what is to be done in a situation."""
    full = fill(now, settings)
    work = _by_age(now, settings) or _under_pressure(now, full) or _back_to_disk(now)
    storing, reserve = _storage(now, settings, idle=work is None)
    if work is None and now.packable and storing is not Storing.NOTHING:
        work = Pack(*now.packable[0])
    return Decision(_stage(full, now.stage), storing, reserve, work)


def room(now: Situation, settings: JournalSettings) -> int:
    """Return how many bytes the journal may still grow: by its budget, and by its disk."""
    disk = max(0, now.disk_free - max(0, settings.reserve - now.reserve)) + now.usage.free_bytes
    return min(max(0, settings.budget - now.usage.used_bytes), disk)


def fill(now: Situation, settings: JournalSettings) -> float:
    """Return how full the journal is, in per cent of what it may take."""
    used = now.usage.used_bytes
    capacity = min(settings.budget, used + room(now, settings))
    return 100 * used / max(1, capacity)


def housekeeping_share(reserve: int) -> int:
    """Return the part of the reserve that is kept when records use the rest, in bytes."""
    return reserve // HOUSEKEEPING_PARTS


def _stage(full: float, before: int) -> int:
    """Return the highest stage that is reached, or was and is not left yet."""
    reached = (s for s in STAGES if full >= s or (before >= s and full >= s - HYSTERESIS))
    return max(reached, default=0)


def _storage(now: Situation, settings: JournalSettings, *, idle: bool) -> tuple[Storing, int]:
    by_disk, reserve = _as_the_disk_allows(now, settings.reserve, idle=idle)
    return min(by_disk, _as_the_budget_allows(now, settings)), reserve


def _as_the_disk_allows(now: Situation, whole: int, *, idle: bool) -> tuple[Storing, int]:
    """Ordinary storage goes on while the reserve stands, with something to spare to make it."""
    share = housekeeping_share(whole)
    if now.reserve >= whole:
        return Storing.ALL, whole
    if now.disk_free - (whole - now.reserve) >= share:
        return Storing.ALL, whole
    if now.storing is not Storing.NOTHING:
        return Storing.RESERVED, share
    if now.disk_free - (share - now.reserve) >= share:
        return Storing.RESERVED, share
    return Storing.NOTHING, min(now.reserve, share) if idle else 0


def _as_the_budget_allows(now: Situation, settings: JournalSettings) -> Storing:
    used, budget, reserve = now.usage.used_bytes, settings.budget, settings.reserve
    if now.storing is Storing.NOTHING:
        reserve -= housekeeping_share(reserve)
    if used >= budget + reserve:
        return Storing.NOTHING
    paused = now.storing is not Storing.ALL
    limit = budget * RESUME_BELOW // 100 if paused else budget
    return Storing.RESERVED if used >= limit else Storing.ALL


def _slack_ns(keep_ns: int) -> int:
    """Return how much older than wanted things may get, so that they go in worthwhile pieces."""
    return min(DAY_NS, keep_ns // 64)


def _by_age(now: Situation, settings: JournalSettings) -> Work | None:
    if now.utc_ns is None:
        return None
    replies, keep_ns = now.replies, settings.evidence_keep
    before = now.utc_ns - keep_ns
    if replies is not None and replies.oldest_utc_ns < before - _slack_ns(keep_ns):
        return PurgeReplies(replies.epoch, replies.first, replies.highest, "evidence_keep", before)
    before = now.utc_ns - settings.keep
    for rows in now.oldest:
        if rows.oldest_utc_ns < before - _slack_ns(settings.keep):
            return Purge(rows.epoch, rows.lane, rows.lowest, rows.received, "keep", before)
    return None


def _under_pressure(now: Situation, full: float) -> Work | None:
    if full < YIELD_AT:
        return None
    replies = now.replies
    if replies is not None:
        upto = _piece(replies.first - 1, replies.highest, replies.held, now.rested)
        if upto is not None:
            return PurgeReplies(replies.epoch, replies.first, upto, "budget")
    for rows in sorted(now.oldest, key=lambda each: each.oldest_utc_ns):
        upto = _piece(rows.lowest - 1, rows.received, rows.held, now.rested)
        if upto is not None:
            return Purge(rows.epoch, rows.lane, rows.lowest, upto, "budget")
    return None


def _piece(after: int, last: int, held: int, rested: bool) -> int | None:
    """Return the end of the piece behind ``after`` that yields next, if it is worth an audit."""
    size = max(PIECE_RECORDS_MIN, held // PIECES)
    if last - after >= size:
        return after + size
    return last if rested and last > after else None


def _back_to_disk(now: Situation) -> Work | None:
    """Free pages serve the journal as well as the disk, unless the disk lacks them."""
    paused = now.storing is not Storing.ALL
    useful = now.usage.free_bytes >= SHRINK_BYTES_MIN and not now.shrunk
    return Shrink() if paused and useful else None

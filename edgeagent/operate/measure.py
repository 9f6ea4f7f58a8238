"""Measuring a running agent.

Counters are kept where things happen. Here they are read, and what takes a look at the journal is
looked up: only when somebody asks.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import apsw

from edgeagent.acquire.acquisition import Acquisition, LinkStatus
from edgeagent.configure import SitePlan
from edgeagent.journal import Epoch, Journal, Recorder
from edgeagent.journal.store import Consumer, CorruptRecord, LaneRange
from edgeagent.model.recent import Recent
from edgeagent.model.record import Bound, Instant, Lane, decode_json
from edgeagent.operate.expiry import Expiries
from edgeagent.operate.facts import (
    BrokerFacts,
    BudgetFacts,
    CertificateFacts,
    ClockFacts,
    ConsumerFacts,
    Facts,
    GapFacts,
    JournalFacts,
    LaneLag,
    LinkFacts,
    Spread,
)
from edgeagent.operate.timekeeping import ClockTrust
from edgeagent.publish.delivery import DeliveryStatus
from edgeagent.publish.lossless import LosslessStream

LOOP_SAMPLE_S = 0.25
GAP_RATE_WINDOW_S = 3600.0
MENDED_WINDOW_S = 24 * 3600.0
OVERDUE_PERIODS = 3
OVERDUE_EXTRA_S = 10.0
"""A group gives values or is in a gap; time-outs and retries of its link fit in between."""


@dataclass(slots=True)
class Vitals:
    """What nobody else measures; kept by :func:`watch_vitals`, and by others as they say.

    :ivar clock: kept by ``keep_time``
    :ivar expiries: kept by ``keep_expiries``
    :ivar loop_lag: how late the event loop woke a task that asked for a time, in seconds
    :ivar gaps: gaps that opened within the last hour, each time some did
    :ivar mended: writes that were mended within the last day, each time some were
    """

    started_s: float
    clock: ClockTrust = field(default_factory=ClockTrust)
    expiries: Expiries = field(default_factory=Expiries)
    loop_lag: Recent = field(default_factory=Recent)
    gaps: Recent = field(default_factory=lambda: Recent(GAP_RATE_WINDOW_S))
    mended: Recent = field(default_factory=lambda: Recent(MENDED_WINDOW_S))


async def watch_vitals(vitals: Vitals, acquisition: Acquisition) -> None:
    """Keep them, for ever."""
    loop, journal = asyncio.get_running_loop(), acquisition.recorder.journal
    opened = acquisition.continuity.gaps_opened  # those of the start are no news
    mended = 0
    while True:
        due_s = loop.time() + LOOP_SAMPLE_S
        await asyncio.sleep(LOOP_SAMPLE_S)
        now_s = loop.time()
        vitals.loop_lag.add(now_s, now_s - due_s)
        before, opened = opened, acquisition.continuity.gaps_opened
        if opened > before:
            vitals.gaps.add(now_s, opened - before)
        before, mended = mended, journal.mended
        if mended > before:
            vitals.mended.add(now_s, mended - before)


async def measure(
    version: str,
    plan: SitePlan,
    recorder: Recorder,
    acquisition: Acquisition,
    stream: LosslessStream,
    vitals: Vitals,
    budget: Mapping[str, Any] | None = None,
) -> Facts:
    """Return the facts of this moment.

    :param version: of the agent
    :param budget: how the journal stands, as ``Retention.state`` says
    """
    now, now_s = recorder.now(), asyncio.get_running_loop().time()
    uptime_s = now_s - vitals.started_s
    gaps = tuple(_open_gaps(plan, acquisition, now))
    consumers = await _consumers(recorder.journal, stream, now)
    return Facts(
        site=plan.settings.site,
        agent=version,
        configuration=plan.revision,
        uptime_s=uptime_s,
        groups=len(plan.groups),
        broker=_broker(plan.settings.broker.url, stream.status, now),
        consumers=consumers,
        links=tuple(_links(plan, acquisition, gaps, uptime_s, now, now_s)),
        gaps=gaps,
        gaps_opened=acquisition.continuity.gaps_opened,
        gaps_last_hour=int(sum(vitals.gaps.values(now_s))),
        overdue=tuple(_overdue(plan, acquisition, now)),
        journal=await _journal(recorder, vitals, budget, now, now_s),
        clock=_clock(vitals.clock, now_s),
        certificates=tuple(
            CertificateFacts(
                each.place, each.name, each.fingerprint, (each.not_after_ns - now.utc_ns) / 1e9
            )
            for each in vitals.expiries.found
        ),
        loop_lag=Spread.of(vitals.loop_lag, now_s),
    )


def _since(utc_ns: int, now: Instant) -> float:
    return max(0.0, (now.utc_ns - utc_ns) / 1e9)


# -- acquisition -------------------------------------------------------------------------------


def _open_gaps(plan: SitePlan, acquisition: Acquisition, now: Instant) -> Iterator[GapFacts]:
    for group in plan.groups:
        line = acquisition.continuity.lines.get(str(group))
        for gap in line.gaps.values() if line else ():
            yield GapFacts(str(group), gap.cause, _gap_age(gap.since, now), group.period_ns / 1e9)


def _gap_age(since: Bound | None, now: Instant) -> float | None:
    if since is None:
        return None
    if since.boot_ns is None:
        return _since(since.utc_ns, now)
    return (now.boot_ns - since.boot_ns) / 1e9


def _overdue(plan: SitePlan, acquisition: Acquisition, now: Instant) -> Iterator[tuple[str, float]]:
    for group in plan.groups:
        key = str(group)
        line, latest = acquisition.continuity.lines.get(key), acquisition.latest.get(key)
        if line is None or latest is None or line.whole is not None or not group.period_ns:
            continue
        age_s = (now.boot_ns - latest[0].received_boot_ns) / 1e9
        if age_s > OVERDUE_PERIODS * group.period_ns / 1e9 + OVERDUE_EXTRA_S:
            yield key, age_s


def _links(
    plan: SitePlan,
    acquisition: Acquisition,
    gaps: Iterable[GapFacts],
    uptime_s: float,
    now: Instant,
    now_s: float,
) -> Iterator[LinkFacts]:
    silent_s: dict[str, float] = {}
    for gap in gaps:
        instrument = gap.group.partition("/")[0]
        age_s = uptime_s if gap.age_s is None else gap.age_s
        silent_s[instrument] = max(silent_s.get(instrument, 0.0), age_s)
    for link in plan.links:
        status = acquisition.links.get(link.name)
        if link.instruments and status is not None:
            names = tuple(instrument.name for instrument in link.instruments)
            yield _link(status, names, silent_s, now, now_s)


def _link(
    status: LinkStatus,
    instruments: tuple[str, ...],
    silent_s: Mapping[str, float],
    now: Instant,
    now_s: float,
) -> LinkFacts:
    return LinkFacts(
        name=status.name,
        instruments=instruments,
        state=status.state,
        cause=status.cause,
        for_s=_since(status.since_utc_ns, now),
        silent={name: (silent_s.get(name, 0.0), why) for name, why in status.silent.items()},
        frames=status.frames,
        failures=status.failures,
        connects=status.connects,
        skipped=status.skipped,
        late=Spread.of(status.late, now_s),
        late_p99=status.late_share.quantile(0.99, now_s),
        late_max=status.late_share.quantile(1, now_s),
        missed=int(sum(status.missed.values(now_s))),
    )


# -- journal and delivery ----------------------------------------------------------------------


async def _journal(
    recorder: Recorder, vitals: Vitals, budget: Mapping[str, Any] | None, now: Instant, now_s: float
) -> JournalFacts:
    journal, full_since_ns = recorder.journal, recorder.full_since_ns
    commits, under_way_since_s = Spread.of(recorder.commits, now_s), recorder.committing_since_s
    under_way_s = 0.0 if under_way_since_s is None else now_s - under_way_since_s
    return JournalFacts(
        used_bytes=await journal.file_bytes(),
        highest={lane.value: journal.heads[lane][0] for lane in Lane},
        storing=recorder.storing.name.lower(),
        full_for_s=None if full_since_ns is None else _since(full_since_ns, now),
        mended=journal.mended,
        mended_today=int(sum(vitals.mended.values(now_s))),
        commits=Spread(
            commits.p99_s, max(commits.max_s, under_way_s), commits.count, commits.total_s
        ),
        budget=None if budget is None else _budget(budget),
    )


def _budget(state: Mapping[str, Any]) -> BudgetFacts | None:
    """Return ``None`` while it is not known."""
    filled, hours_left = state["fill_percent"], state["hours_left"]
    if filled is None:
        return None
    left_s = None if hours_left is None else 3600 * hours_left
    return BudgetFacts(state["budget_bytes"], filled / 100, state["stage"], left_s)


def _broker(url: str, status: DeliveryStatus, now: Instant) -> BrokerFacts:
    return BrokerFacts(
        url=url,
        state=status.state,
        cause=status.cause,
        for_s=_since(status.since_utc_ns, now),
        connects=status.connects,
        messages=status.messages,
        records=status.records,
        receipts=status.receipts,
        refused=status.refused,
    )


async def _consumers(
    journal: Journal, stream: LosslessStream, now: Instant
) -> tuple[ConsumerFacts, ...]:
    known = [consumer for consumer in journal.consumers.values() if consumer.state != "retired"]
    held = await _held(journal) if known else {}
    return tuple(
        [
            ConsumerFacts(
                consumer.name,
                consumer.state,
                stream.listens(consumer.name),
                any(what.startswith(f"{consumer.name}/") for what in stream.status.catching_up),
                tuple([await _lane_lag(journal, held, consumer, lane, now) for lane in Lane]),
            )
            for consumer in known
        ]
    )


async def _held(journal: Journal) -> dict[tuple[Epoch, Lane], LaneRange]:
    """Return what the journal holds; a lane that cannot be read is left out."""
    held = {}
    for epoch in journal.epochs:
        for lane in Lane:
            try:
                held[epoch, lane] = await journal.lane_range(epoch, lane)
            except (apsw.Error, CorruptRecord):
                continue
    return held


async def _lane_lag(
    journal: Journal,
    held: Mapping[tuple[Epoch, Lane], LaneRange],
    consumer: Consumer,
    lane: Lane,
    now: Instant,
) -> LaneLag:
    records, oldest_s = 0, None
    for (epoch, of), have in held.items():
        if of is not lane:
            continue
        cursor = journal.cursor(consumer.name, epoch, lane)
        upto = max(cursor.upto if cursor else 0, have.lowest - 1)
        if have.highest > upto:
            if not records:
                oldest_s = await _age(journal, epoch, lane, upto, now)
            records += have.highest - upto
    return LaneLag(lane.value, records, oldest_s if records else 0.0)


async def _age(
    journal: Journal, epoch: Epoch, lane: Lane, after: int, now: Instant
) -> float | None:
    """Return the age of the record behind ``after``, ``None`` if it cannot be read."""
    try:
        entries = await journal.read(epoch, lane, after, bytes_max=1)
    except (apsw.Error, CorruptRecord):
        return None
    if not entries:
        return None
    body = decode_json(entries[0].body)
    return _since(body[4 if body[0] in "FG" else 3], now)


def _clock(trust: ClockTrust, now_s: float) -> ClockFacts:
    state = trust.state
    return ClockFacts(
        state=state.state,
        source=state.source,
        error_s=None if state.error_ns is None else state.error_ns / 1e9,
        answered_ago_s=None if trust.answered_s is None else now_s - trust.answered_s,
        steps=trust.steps.count,
        steps_today=len(trust.steps.values(now_s)),
    )

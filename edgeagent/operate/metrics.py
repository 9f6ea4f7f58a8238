"""Metrics in the text format of Prometheus, version 0.0.4: what is measured, for time series.

Names and units follow https://prometheus.io/docs/practices/naming: seconds, bytes and ratios; a
counter ends in ``_total``. Quantiles are those of the last minute; 1 is the maximum.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from edgeagent.operate.facts import Facts, JournalFacts, LinkFacts, Spread
from edgeagent.operate.health import STATES, health

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_CLOCK_STATES = ("synced", "holdover", "unsynced", "unknown")
_GAP_CAUSES = (
    "link_lost", "timeout", "refused", "bad_reply", "overrun", "agent_stopped", "agent_killed",
    "journal_full", "internal_error", "first_value", "reconfigured",
)  # fmt: skip
"""Of ``docs/mqtt.md`` section 3.4: a series that is there before its first gap can be alarmed."""

_Samples: TypeAlias = Iterable[tuple[Sequence[str], float]]


@dataclass(frozen=True, slots=True)
class _Collector:
    """The facts of one moment, as the library asks for them."""

    facts: Facts

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        facts = self.facts
        yield from _agent(facts)
        yield from _acquisition(facts)
        yield from _gaps(facts)
        yield from _journal(facts.journal)
        yield from _delivery(facts)
        yield from _clock(facts)
        yield from ProcessCollector(registry=None).collect()


def metrics_text(facts: Facts) -> str:
    """Return the exposition of what was measured; its content type is :data:`CONTENT_TYPE`."""
    return generate_latest(_Collector(facts)).decode()


def _gauge(name: str, text: str, labels: Sequence[str], samples: _Samples) -> Metric:
    family = GaugeMetricFamily(f"edgeagent_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _counter(name: str, text: str, labels: Sequence[str], samples: _Samples) -> Metric:
    family = CounterMetricFamily(f"edgeagent_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _summary(
    name: str, text: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], Spread]]
) -> Metric:
    family = SummaryMetricFamily(f"edgeagent_{name}", text, labels=labels)
    for values, spread in samples:
        named = dict(zip(labels, values, strict=True))
        for quantile, value in (("0.99", spread.p99_s), ("1", spread.max_s)):
            family.add_sample(family.name, {**named, "quantile": quantile}, value)
        family.add_metric(values, spread.count, spread.total_s)
    return family


def _agent(facts: Facts) -> Iterator[Metric]:
    build = (facts.site, facts.agent, facts.configuration)
    yield _gauge(
        "build_info",
        "Version of the agent and digest of the configuration in force.",
        ("site", "version", "configuration"),
        [(build, 1)],
    )
    yield _gauge("uptime_seconds", "Time since the agent started.", (), [((), facts.uptime_s)])
    found = health(facts)
    yield _gauge(
        "health_state",
        "Worst of all checks: 0 ok, 1 warning, 2 fault.",
        (),
        [((), STATES.index(found.state))],
    )
    yield _gauge(
        "health_check_state",
        "State of one check: 0 ok, 1 warning, 2 fault.",
        ("check",),
        [((check.name,), STATES.index(check.state)) for check in found.checks],
    )
    yield _summary(
        "event_loop_lag_seconds",
        "How late the event loop woke a task that had asked for a time.",
        (),
        [((), facts.loop_lag)],
    )


def _acquisition(facts: Facts) -> Iterator[Metric]:
    def by_link(what: Sequence[float]) -> _Samples:
        return [((link.name,), value) for link, value in zip(links, what, strict=True)]

    links, one = facts.links, ("link",)
    up = [link.state == "up" for link in links]
    yield _gauge("link_up", "Whether the link is up.", one, by_link(up))
    connects = [link.connects for link in links]
    yield _counter("link_connects_total", "Connections that came up.", one, by_link(connects))
    frames = [link.frames for link in links]
    yield _counter("frames_total", "Frames of values that were acquired.", one, by_link(frames))
    failures = [link.failures for link in links]
    yield _counter("poll_failures_total", "Polls without a valid answer.", one, by_link(failures))
    skipped = [link.skipped for link in links]
    yield _counter(
        "ticks_missed_total", "Ticks that went by without a poll.", one, by_link(skipped)
    )
    yield _summary(
        "poll_lateness_seconds",
        "How late polls began after their tick.",
        one,
        [((link.name,), link.late) for link in links],
    )
    yield _gauge(
        "poll_lateness_ratio",
        "99th percentile of the lateness of the last minute, as a share of the period.",
        one,
        by_link([link.late_p99 for link in links]),
    )
    yield _gauge(
        "instrument_silent",
        "Whether the instrument does not answer.",
        ("link", "instrument"),
        _silent(links),
    )


def _silent(links: Iterable[LinkFacts]) -> _Samples:
    for link in links:
        for instrument in link.instruments:
            yield (link.name, instrument), instrument in link.silent


def _gaps(facts: Facts) -> Iterator[Metric]:
    causes = dict.fromkeys(_GAP_CAUSES, 0) | Counter(gap.cause for gap in facts.gaps)
    yield _gauge(
        "gaps_open",
        "Gaps that have not ended, by cause.",
        ("cause",),
        [((cause,), count) for cause, count in causes.items()],
    )
    yield _counter("gaps_total", "Gaps opened since the start.", (), [((), facts.gaps_opened)])
    oldest_s = max((gap.age_s or 0.0 for gap in facts.gaps), default=0.0)
    yield _gauge(
        "gap_oldest_age_seconds",
        "Time since the last value before the oldest open gap; 0 when there is none.",
        (),
        [((), oldest_s)],
    )
    yield _gauge(
        "groups_overdue",
        "Groups that give no value and are in no gap: always 0 while all drivers are sound.",
        (),
        [((), len(facts.overdue))],
    )


def _journal(journal: JournalFacts) -> Iterator[Metric]:
    yield _gauge("journal_used_bytes", "Size of the journal.", (), [((), journal.used_bytes)])
    yield _gauge(
        "journal_head",
        "Sequence number of the last record; begins again with each epoch.",
        ("lane",),
        [((lane,), seq) for lane, seq in journal.highest.items()],
    )
    full = journal.full_for_s is not None
    yield _gauge("journal_full", "Whether not everything can be stored.", (), [((), full)])
    yield _counter(
        "journal_mends_total", "Writes that failed and were mended.", (), [((), journal.mended)]
    )
    yield _summary("journal_commit_seconds", "How long commits took.", (), [((), journal.commits)])
    budget = journal.budget
    if budget is None:
        return
    yield _gauge(
        "journal_budget_bytes", "Most that the journal may take.", (), [((), budget.budget_bytes)]
    )
    yield _gauge(
        "journal_filled_ratio",
        "Share that is used of what the journal may take, by its budget and by its disk.",
        (),
        [((), budget.filled)],
    )
    left = [] if budget.left_s is None else [((), budget.left_s)]
    yield _gauge(
        "journal_left_seconds",
        "Time until the journal is full without receipts; absent while that is not in sight.",
        (),
        left,
    )


def _delivery(facts: Facts) -> Iterator[Metric]:
    broker = facts.broker
    up = broker.state == "up"
    yield _gauge("broker_up", "Whether the broker is connected.", (), [((), up)])
    for name, text, value in (
        ("broker_connects_total", "Connections to the broker that came up.", broker.connects),
        ("messages_published_total", "Batches that were published.", broker.messages),
        ("records_published_total", "Records that were published.", broker.records),
        ("receipts_total", "Receipts that were taken.", broker.receipts),
        ("receipts_refused_total", "Receipts that were refused.", broker.refused),
    ):
        yield _counter(name, text, (), [((), value)])
    yield _gauge(
        "consumer_listening",
        "Whether the consumer was heard lately.",
        ("consumer", "state"),
        [((each.name, each.state), each.listens) for each in facts.consumers],
    )
    lanes = [((each.name, lane.lane), lane) for each in facts.consumers for lane in each.lanes]
    labels = ("consumer", "lane")
    yield _gauge(
        "delivery_lag_records",
        "Records that the consumer has not receipted.",
        labels,
        [(names, lane.records) for names, lane in lanes],
    )
    yield _gauge(
        "delivery_lag_seconds",
        "Age of the oldest record that the consumer has not receipted; 0 when it holds all.",
        labels,
        [(names, lane.oldest_s) for names, lane in lanes if lane.oldest_s is not None],
    )


def _clock(facts: Facts) -> Iterator[Metric]:
    clock = facts.clock
    yield _gauge(
        "clock_state",
        "1 for the state in which UTC is.",
        ("state",),
        [((state,), state == clock.state) for state in _CLOCK_STATES],
    )
    for name, text, value in (
        ("clock_error_bound_seconds", "Bound of the error of UTC, if one is stated.",
         clock.error_s),
        ("clock_answer_age_seconds", "Time since the time service last answered, if it has.",
         clock.answered_ago_s),
    ):  # fmt: skip
        yield _gauge(name, text, (), [] if value is None else [((), value)])
    yield _counter(
        "clock_steps_total", "Times that UTC was moved by a step.", (), [((), clock.steps)]
    )
    yield _gauge(
        "certificate_left_seconds",
        "Time until the end of a certificate or revocation list; negative when it has passed.",
        ("place", "fingerprint", "name"),
        [((e.place, e.fingerprint, e.name), e.left_s) for e in facts.certificates],
    )

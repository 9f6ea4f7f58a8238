"""What was measured of a running agent at one moment: plain facts, for health and for metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeagent.model.recent import Recent


@dataclass(frozen=True, slots=True)
class Spread:
    """Durations in seconds: 99th percentile and maximum of the last minute, all since the start."""

    p99_s: float = 0.0
    max_s: float = 0.0
    count: int = 0
    total_s: float = 0.0

    @classmethod
    def of(cls, recent: Recent, now_s: float) -> "Spread":
        """Return the spread of what was measured."""
        p99_s, max_s = recent.quantile(0.99, now_s), recent.quantile(1, now_s)
        return cls(p99_s, max_s, recent.count, recent.total)


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """One link.

    :ivar for_s: how long it has been in its state
    :ivar silent: instruments that do not answer: how long, and what was said of it
    :ivar late_p99: lateness as a share of the period, last minute; so is ``late_max``
    :ivar missed: ticks of the last minute that went by without a poll
    """

    name: str
    instruments: tuple[str, ...] = ()
    state: str = "up"
    cause: str | None = None
    for_s: float = 0.0
    silent: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    frames: int = 0
    failures: int = 0
    connects: int = 0
    skipped: int = 0
    late: Spread = Spread()
    late_p99: float = 0.0
    late_max: float = 0.0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class GapFacts:
    """One open gap.

    :ivar group: ``instrument/group``
    :ivar age_s: since the last value before it; ``None`` if there never was one
    """

    group: str
    cause: str
    age_s: float | None
    period_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LaneLag:
    """What one consumer has not receipted of one lane, in all epochs.

    :ivar oldest_s: age of the oldest such record; ``None`` if it cannot be read
    """

    lane: str
    records: int = 0
    oldest_s: float | None = 0.0


@dataclass(frozen=True, slots=True)
class ConsumerFacts:
    """One consumer that is not retired.

    :ivar listens: whether it was heard lately
    :ivar catching_up: whether it is being sent what it missed
    """

    name: str
    state: str = "enrolled"
    listens: bool = True
    catching_up: bool = False
    lanes: tuple[LaneLag, ...] = ()


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """The connection, and what went over it since the start."""

    url: str
    state: str = "up"
    cause: str | None = None
    for_s: float = 0.0
    connects: int = 0
    messages: int = 0
    records: int = 0
    receipts: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class BudgetFacts:
    """How the journal stands against its budget and its disk.

    :ivar filled: share that is used of what it may take, by the nearer of the two
    :ivar stage: per cent that were last passed on the way up, 0 below the first stage
    :ivar left_s: until it is full at today's rate if no consumer receipted any more; ``None`` if
        that is not in sight
    """

    budget_bytes: int
    filled: float
    stage: int = 0
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class JournalFacts:
    """The journal and its disk.

    :ivar storing: ``all``, ``reserved`` (critical tags, gaps and events) or ``nothing``
    :ivar full_for_s: how long it has not been all; ``None`` if it is
    :ivar mended: writes that failed and were mended, since the start; ``mended_today`` of them
        within the last day
    :ivar commits: how long commits took; the maximum includes one that is under way
    """

    used_bytes: int = 0
    highest: Mapping[str, int] = field(default_factory=dict)
    storing: str = "all"
    full_for_s: float | None = None
    mended: int = 0
    mended_today: int = 0
    commits: Spread = Spread()
    budget: BudgetFacts | None = None


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """UTC.

    :ivar error_s: bound of its error, if the time service states one
    :ivar answered_ago_s: since the time service last answered; ``None`` if it never has
    :ivar steps: how often UTC was moved since the start; ``steps_today`` of them within the last
        day
    """

    state: str = "synced"
    source: str = "chrony"
    error_s: float | None = 0.0
    answered_ago_s: float | None = 0.0
    steps: int = 0
    steps_today: int = 0


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """A certificate or revocation list that the agent relies on.

    :ivar place: ``own``, ``trusted``, ``issuers`` or ``crl``
    :ivar left_s: until its end; negative when it has passed
    """

    place: str
    name: str
    fingerprint: str
    left_s: float


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was measured at one moment.

    :ivar overdue: groups that give no value and are in no gap, with seconds since their last value
    :ivar gaps_opened: since the start
    :ivar gaps_last_hour: opened within the last hour, those of the start left out
    """

    site: str
    agent: str
    configuration: str
    uptime_s: float
    groups: int
    broker: BrokerFacts
    consumers: tuple[ConsumerFacts, ...]
    links: tuple[LinkFacts, ...]
    gaps: tuple[GapFacts, ...] = ()
    gaps_opened: int = 0
    gaps_last_hour: int = 0
    overdue: tuple[tuple[str, float], ...] = ()
    journal: JournalFacts = JournalFacts()
    clock: ClockFacts = ClockFacts()
    certificates: tuple[CertificateFacts, ...] = ()
    loop_lag: Spread = Spread()

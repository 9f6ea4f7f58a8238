"""Health: whether values arrive, are kept and are delivered, and whether their time can be trusted.

Not whether a process is up. A pure function from facts to checks; each says what was found, with
its figures, and what mends it.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from edgeagent.operate.facts import CertificateFacts, ConsumerFacts, Facts, GapFacts, LinkFacts
from edgeagent.operate.timekeeping import ASK_EVERY_S

State: TypeAlias = Literal["ok", "warning", "fault"]
STATES: tuple[State, ...] = ("ok", "warning", "fault")
"""From best to worst. A warning can wait for the morning; a fault wants somebody now, because
values are being lost, cannot be kept, or nobody else will notice."""

LAG_WARNING_S = 60.0
"""A reconnect with its back-off and a catch-up of some seconds pass below it."""
UNDELIVERED_FAULT_S = 900.0
"""Nobody at the centre has seen anything of the site for so long; holds for the broker, too."""
DOWN_FAULT_S = 60.0
"""A link or an instrument that restarts is back by then."""
GAP_FAULT_S = 300.0
GAP_FAULT_PERIODS = 3
"""A group that is read once an hour cannot end its gap sooner."""
GAPS_AN_HOUR_WARNING = 12
"""One in five minutes is no accident; a link that is lost opens one for each group, though."""
LATE_WARNING_SHARE = 0.1
LATE_FAULT_SHARE = 1.0
"""Of the period, at the 99th percentile: a tenth can be seen in the data, a whole one is a loss."""
LATE_WARNING_S = 0.05
"""Below it a busy machine is no news, however short the period: frames carry their true time."""
COMMIT_WARNING_S = 1.0
COMMIT_FAULT_S = 5.0
"""A sync takes milliseconds; a disk that takes seconds is about to fail, or is shared."""
LOOP_WARNING_S = 0.1
LOOP_FAULT_S = 1.0
"""The shortest usual poll period, and the usual one, at the 99th percentile; once may happen."""
BUDGET_WARNING_STAGE = 1
BUDGET_FAULT_STAGE = 90
"""Per cent; the first stage, whichever it is, is a warning: from there on received records yield.
What comes near the end is records that somebody still waits for."""
CLOCK_SILENT_S = 3 * ASK_EVERY_S
CERTIFICATE_WARNING_D = 60
CERTIFICATE_FAULT_D = 7
"""A week holds a working day; behind its end nothing is read over it."""

_SHOWN = 3  # names in a text; the rest is counted


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    :ivar text: what was found, for a person, with the figures
    :ivar mend: what to do, ``None`` when all is well
    """

    name: str
    state: State
    text: str
    mend: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """All checks; together they are as bad as the worst."""

    checks: tuple[Check, ...]

    @property
    def state(self) -> State:
        """The worst state of all checks."""
        return worst(check.state for check in self.checks)

    def stated(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"state": self.state, "checks": [asdict(check) for check in self.checks]}

    def brief(self) -> dict[str, Any]:
        """Return it as a head states it: the names of the checks that are not ok."""
        return {
            "state": self.state,
            "checks": [check.name for check in self.checks if check.state != "ok"],
        }


def worst(states: Iterable[State]) -> State:
    """Return the worst of some states, ``ok`` if there is none."""
    return STATES[max((STATES.index(state) for state in states), default=0)]


def health(facts: Facts) -> Health:
    """Judge what was measured."""
    return Health(tuple(check(facts) for check in _CHECKS))


def _graded(value: float, warning: float, fault: float) -> State:
    return "fault" if value >= fault else "warning" if value >= warning else "ok"


def seconds(value: float) -> str:
    """Return a duration as people read it: two or three digits."""
    if value < 1:
        return f"{value * 1e3:.0f} ms"
    for unit, size, most in (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172_800.0)):
        if value < most:
            return f"{value / size:.3g} {unit}"
    return f"{value / 86_400:.0f} d"


def _named(names: Iterable[str]) -> str:
    """Return the first few names and how many more there are."""
    known = list(names)
    more = len(known) - _SHOWN
    return ", ".join(known[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


# -- acquisition -------------------------------------------------------------------------------


def _links(facts: Facts) -> Check:
    away = [link for link in facts.links if link.state != "up"]
    if not away:
        return Check("links", "ok", f"{len(facts.links)} of {len(facts.links)} up")
    text = "; ".join(
        f"{link.name} {link.state} for {seconds(link.for_s)}"
        + (f" ({link.cause})" if link.cause else "")
        for link in away[:_SHOWN]
    )
    return Check(
        "links",
        worst(_graded(link.for_s, 0.0, DOWN_FAULT_S) for link in away),
        f"{len(away)} of {len(facts.links)} not up: {text}",
        "check power, cable and address of the device or gateway",
    )


def _instruments(facts: Facts) -> Check:
    silent = [(name, *why) for link in facts.links for name, why in link.silent.items()]
    every = sum(len(link.instruments) for link in facts.links)
    if not silent:
        return Check("instruments", "ok", f"none of {every} is silent on a link that is up")
    shown = (f"{name} for {seconds(for_s)} ({why})" for name, for_s, why in silent[:_SHOWN])
    lasting = (min(for_s, facts.uptime_s) for _, for_s, _ in silent)
    return Check(
        "instruments",
        worst(_graded(for_s, 0.0, DOWN_FAULT_S) for for_s in lasting),
        f"{len(silent)} of {every} silent: {'; '.join(shown)}",
        "check that the instrument is on, and its unit id or address",
    )


_GAP_MEND = "see instruments and links; a gap closes with the next value"
_GAP_MENDS = {
    "link_lost": "see links",
    "timeout": "see instruments",
    "refused": "the device has no such value: compare the profile with its manual and firmware",
    "bad_reply": "replies are damaged: check line, terminators and baud rate, or the profile",
    "overrun": "see polling",
    "journal_full": "see journal",
    "internal_error": "report this with the agent's log: a driver has a defect",
}
"""What mends a gap, by its cause."""


def _gaps(facts: Facts) -> Check:
    often = facts.gaps_last_hour > max(GAPS_AN_HOUR_WARNING, 2 * facts.groups)
    rate = f"{facts.gaps_last_hour} opened within the last hour"
    if not facts.gaps:
        if often:
            mend = "find which link or instrument comes and goes: journalctl -u edgeagent"
            return Check("gaps", "warning", f"none open, {rate}", mend)
        return Check("gaps", "ok", f"none open, {rate}")
    longest = max(facts.gaps, key=lambda gap: _lasting(gap, facts.uptime_s))
    age = "no value yet" if longest.age_s is None else f"for {seconds(longest.age_s)}"
    counted = Counter(gap.cause for gap in facts.gaps).most_common()
    causes = ", ".join(f"{cause} {count}" for cause, count in counted)
    text = f"{len(facts.gaps)} open ({causes}), longest: {longest.group}, {age}; {rate}"
    state = worst(_gap_state(gap, facts) for gap in facts.gaps)
    return Check("gaps", state, text, _GAP_MENDS.get(longest.cause, _GAP_MEND))


def _lasting(gap: GapFacts, uptime_s: float) -> float:
    """Return how long this process has failed to end a gap; one that it found may be older."""
    return uptime_s if gap.age_s is None else min(gap.age_s, uptime_s)


def _gap_state(gap: GapFacts, facts: Facts) -> State:
    patience_s = max(GAP_FAULT_S, GAP_FAULT_PERIODS * gap.period_s)
    return _graded(_lasting(gap, facts.uptime_s), 0.0, patience_s)


def _polling(facts: Facts) -> Check:
    if facts.overdue:
        shown = _named(f"{group} for {seconds(age_s)}" for group, age_s in facts.overdue)
        return Check(
            "polling",
            "fault",
            f"neither values nor a gap: {shown}",
            "restart the agent and report this with its log: a driver hangs",
        )
    state = worst(_poll_state(link) for link in facts.links)
    latest = max(facts.links, key=lambda link: link.late_p99, default=None)
    missed = sum(link.missed for link in facts.links)
    text = f"{missed} ticks missed in the last minute"
    if latest is not None:
        text += (
            f"; most late: {latest.name}, p99 {latest.late_p99:.0%} and at most "
            f"{latest.late_max:.0%} of the period ({seconds(latest.late.max_s)})"
        )
    mend = "lengthen the period, read fewer tags, or divide the link's instruments"
    return Check("polling", state, text, None if state == "ok" else mend)


def _poll_state(link: LinkFacts) -> State:
    late = _graded(link.late_p99, LATE_WARNING_SHARE, LATE_FAULT_SHARE)
    if late == "warning" and link.late.p99_s < LATE_WARNING_S:
        late = "ok"
    return worst([late, "warning" if link.missed else "ok"])


# -- journal -----------------------------------------------------------------------------------


_STORING = {
    "all": "all is stored again",
    "reserved": "only critical tags, gaps and events are stored",
    "nothing": "nothing is stored, records wait in memory",
}


def _journal(facts: Facts) -> Check:
    journal = facts.journal
    if journal.full_for_s is not None:
        what = _STORING.get(journal.storing, journal.storing)
        text = f"full for {seconds(journal.full_for_s)}: {what}"
        mend = "free space on this disk, or raise journal.budget; nothing else is needed"
        return Check("journal", "fault", text, mend)
    if journal.mended_today:
        text = f"{journal.mended_today} writes failed and were mended within the last day"
        mend = "nothing was lost; look at the disk: smartctl -a, journalctl -k"
        return Check("journal", "warning", text, mend)
    return Check("journal", "ok", f"every write succeeded, {journal.used_bytes / 1e6:.1f} MB")


def _budget(facts: Facts) -> Check:
    budget = facts.journal.budget
    if budget is None:
        return Check("budget", "ok", "not measured yet")
    left = "" if budget.left_s is None else f", full in {seconds(budget.left_s)} without receipts"
    text = f"{budget.filled:.0%} used, budget {budget.budget_bytes / 1e9:.3g} GB{left}"
    state = _graded(budget.stage, BUDGET_WARNING_STAGE, BUDGET_FAULT_STAGE)
    mend = "see delivery: unreceived records are kept; or more disk, and a larger journal.budget"
    return Check("budget", state, text, None if state == "ok" else mend)


def _commits(facts: Facts) -> Check:
    commits = facts.journal.commits
    state = _graded(commits.max_s, COMMIT_WARNING_S, COMMIT_FAULT_S)
    text = f"at most {seconds(commits.max_s)}, p99 {seconds(commits.p99_s)} in the last minute"
    mend = "the disk is slow: find what else writes to it (iotop), or give state_dir its own"
    return Check("commits", state, text, None if state == "ok" else mend)


# -- delivery ----------------------------------------------------------------------------------


def _broker(facts: Facts) -> Check:
    broker = facts.broker
    if broker.state == "up":
        return Check("broker", "ok", f"connected for {seconds(broker.for_s)}")
    text = f"{broker.url} {broker.state} for {seconds(broker.for_s)}"
    return Check(
        "broker",
        _graded(broker.for_s, 0.0, UNDELIVERED_FAULT_S),
        f"{text}: {broker.cause}" if broker.cause else text,
        "check network, address and access; records wait in the journal and are not lost",
    )


def _consumers(facts: Facts) -> Check:
    if not facts.consumers:
        return Check(
            "consumers",
            "warning",
            "nobody is enrolled: records are published, but nobody says that they arrived",
            "edgeagent consumer enrol NAME --reason '...'",
        )
    suspended = [each.name for each in facts.consumers if each.state != "enrolled"]
    if suspended:
        text = f"suspended: {_named(suspended)}; the journal keeps everything for them"
        mend = "edgeagent consumer resume NAME, or retire NAME, with --reason '...'"
        return Check("consumers", "warning", text, mend)
    names = _named(each.name for each in facts.consumers)
    return Check("consumers", "ok", f"enrolled: {names}")


def _delivery(facts: Facts) -> Check:
    behind = [each for each in facts.consumers if each.state == "enrolled"]
    if not behind:
        return Check("delivery", "ok", "no consumer is to be served")
    state = worst(_graded(_lag_s(each), LAG_WARNING_S, UNDELIVERED_FAULT_S) for each in behind)
    shown = sorted(behind, key=_lag_s, reverse=True)[:_SHOWN]
    text = "; ".join(_lag_text(each) for each in shown)
    if state == "ok":
        return Check("delivery", "ok", text)
    mend = "check that the receiver of this consumer runs and that its database takes records"
    if facts.broker.state != "up":
        mend = "see broker"
    elif all(each.catching_up for each in behind if _lag_s(each) >= LAG_WARNING_S):
        mend = "wait: it is being sent what it missed"
    return Check("delivery", state, text, mend)


def _lag_s(consumer: ConsumerFacts) -> float:
    """Return the age of its oldest undelivered record; one that cannot be read may be old."""
    return max(
        (LAG_WARNING_S if lane.oldest_s is None else lane.oldest_s for lane in consumer.lanes),
        default=0.0,
    )


def _lag_text(consumer: ConsumerFacts) -> str:
    lanes = []
    for lane in consumer.lanes:
        age = "" if lane.oldest_s is None else f", oldest {seconds(lane.oldest_s)}"
        lanes.append(f"{lane.lane} {lane.records} behind" + (age if lane.records else ""))
    silent = "" if consumer.listens else " (not heard lately)"
    return f"{consumer.name}{silent}: {'; '.join(lanes)}"


# -- machine -----------------------------------------------------------------------------------


def _clock(facts: Facts) -> Check:
    clock = facts.clock
    ago_s = clock.answered_ago_s
    error = "" if clock.error_s is None else f", error at most {seconds(clock.error_s)}"
    asked = "never answered" if ago_s is None else f"answered {seconds(ago_s)} ago"
    text = f"{clock.state}{error}; time service {asked}"
    if clock.steps_today:
        text += f"; UTC was moved {clock.steps_today} times within the last day"
    if clock.state == "unknown":
        mend = "install chrony and let the service run chronyc; records say that UTC is not proven"
        return Check("clock", "warning", text, mend)
    if clock.state == "unsynced":
        mend = "check the time sources: chronyc sources; chronyc tracking"
        return Check("clock", "fault", text, mend)
    silent = ago_s is not None and ago_s > CLOCK_SILENT_S
    if clock.state != "synced" or silent or clock.steps_today:
        mend = "check the time sources: chronyc sources; chronyc tracking"
        return Check("clock", "warning", text, mend)
    return Check("clock", "ok", text)


_CERTIFICATE_MENDS = {
    "own": "edgeagent certs create --replace --reason '...', and have the servers trust it",
    "trusted": "have it renewed and trust the new one; if it is not used any more: "
    "edgeagent certs reject",
    "issuers": "put the authority's new certificate into issuers/",
    "crl": "put the authority's new revocation list into crl/",
}
"""What mends a certificate that ends, by where it lies."""


def _certificates(facts: Facts) -> Check:
    known = sorted(facts.certificates, key=lambda each: each.left_s)
    soon = [each for each in known if _certificate_state(each) != "ok"]
    if not soon:
        lasting = [each for each in known if each.place != "crl"]
        text = f"first end in {seconds(lasting[0].left_s)}" if lasting else "none in use"
        return Check("certificates", "ok", text)
    shown = "; ".join(
        f"{each.name} ({each.place}, {each.fingerprint[:12]}) "
        + (f"ends in {seconds(each.left_s)}" if each.left_s > 0 else
           f"ended {seconds(-each.left_s)} ago")
        for each in soon[:_SHOWN]
    )  # fmt: skip
    more = len(soon) - _SHOWN
    text = shown + (f" and {more} more" if more > 0 else "")
    mend = _CERTIFICATE_MENDS[soon[0].place]
    if facts.clock.state == "unsynced":
        mend = "see clock first: by a wrong clock a good certificate seems to end"
    return Check("certificates", worst(map(_certificate_state, soon)), text, mend)


def _certificate_state(certificate: CertificateFacts) -> State:
    if certificate.place == "crl":  # renewed every few days
        return "ok" if certificate.left_s > 0 else "fault"
    return _graded(
        -certificate.left_s, -CERTIFICATE_WARNING_D * 86_400.0, -CERTIFICATE_FAULT_D * 86_400.0
    )


def _event_loop(facts: Facts) -> Check:
    lag = facts.loop_lag
    once: State = "warning" if lag.max_s >= LOOP_FAULT_S else "ok"
    state = worst([_graded(lag.p99_s, LOOP_WARNING_S, LOOP_FAULT_S), once])
    text = f"late by at most {seconds(lag.max_s)}, p99 {seconds(lag.p99_s)} in the last minute"
    mend = "the machine is too busy or was suspended: find what else runs (top)"
    return Check("event_loop", state, text, None if state == "ok" else mend)


_CHECKS: tuple[Callable[[Facts], Check], ...] = (
    _links, _instruments, _gaps, _polling,
    _journal, _budget, _commits,
    _broker, _consumers, _delivery,
    _clock, _certificates, _event_loop,
)  # fmt: skip

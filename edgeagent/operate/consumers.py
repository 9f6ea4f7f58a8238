"""Enrolling, suspending and retiring consumers: by command, with a reason, on record."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from edgeagent.journal import Journal, Recorder
from edgeagent.journal.store import Consumer
from edgeagent.model.profile import Name, Strict
from edgeagent.model.record import Lane
from edgeagent.model.settings import Role
from edgeagent.operate.acts import Act, ActKind, ActRefused


class ConsumerArguments(Strict):
    """Which consumer is meant."""

    consumer: Name


@dataclass(frozen=True, slots=True)
class _Rule:
    """States in which an act is allowed, the state afterwards, its event, and who may do it."""

    allowed: tuple[str | None, ...]
    after: str
    event: str
    role: Role


_RULES = {
    "enrol": _Rule((None, "retired"), "enrolled", "consumer.enrolled", Role.ENGINEER),
    "suspend": _Rule(("enrolled",), "suspended", "consumer.suspended", Role.ENGINEER),
    "resume": _Rule(("suspended",), "enrolled", "consumer.resumed", Role.ENGINEER),
    # Ends a claim on records, which may then be forgotten unreceipted.
    "retire": _Rule(("enrolled", "suspended"), "retired", "consumer.retired", Role.QUALITY),
}


def consumer_acts(recorder: Recorder) -> list[ActKind]:
    """Return the acts ``consumer.enrol``, ``.suspend``, ``.resume`` and ``.retire``."""
    return [
        ActKind(f"consumer.{verb}", rule.role, ConsumerArguments, partial(_change, recorder, verb))
        for verb, rule in _RULES.items()
    ]


async def _change(recorder: Recorder, verb: str, act: Act) -> dict[str, Any]:
    rule, name = _RULES[verb], act.arguments.consumer
    known = recorder.journal.consumers.get(name)
    before = known.state if known else None
    if before not in rule.allowed:
        raise ActRefused(f"{name} is {before or 'not enrolled'}: cannot {verb}")
    incarnation = known.incarnation if known and verb != "enrol" else None
    recorder.change_consumer(Consumer(name, rule.after, incarnation))
    recorder.event(
        rule.event,
        "info",
        f"{name} {rule.after} by {act.person.account}: {act.reason}",
        consumer=name,
        before=before,
        after=rule.after,
        **act.facts(),
    )
    await recorder.flush()
    return {"consumer": name, "state": rule.after}


def consumer_rows(journal: Journal) -> list[dict[str, Any]]:
    """Return every consumer with its cursors and lag in the current epoch."""
    return [_row(journal, consumer) for consumer in journal.consumers.values()]


def _row(journal: Journal, consumer: Consumer) -> dict[str, Any]:
    lanes = {}
    for lane in Lane:
        cursor = journal.cursor(consumer.name, journal.epoch, lane)
        upto = cursor.upto if cursor else 0
        lanes[lane.value] = {"upto": upto, "lag": journal.heads[lane][0] - upto}
    return {
        "consumer": consumer.name,
        "state": consumer.state,
        "incarnation": consumer.incarnation,
        "lanes": lanes,
    }

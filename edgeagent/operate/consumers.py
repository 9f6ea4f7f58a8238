"""Enrolling, suspending and retiring consumers: by command, with a reason, on record."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from edgeagent.journal import Journal, Recorder
from edgeagent.journal.store import Consumer
from edgeagent.model.profile import NAME_PATTERN
from edgeagent.model.record import Lane

Verb = Literal["enrol", "suspend", "resume", "retire"]

_RULES: dict[str, tuple[tuple[str | None, ...], str, str]] = {
    # verb: states in which it is allowed, state afterwards, event
    "enrol": ((None, "retired"), "enrolled", "consumer.enrolled"),
    "suspend": (("enrolled",), "suspended", "consumer.suspended"),
    "resume": (("suspended",), "enrolled", "consumer.resumed"),
    "retire": (("enrolled", "suspended"), "retired", "consumer.retired"),
}


@dataclass(frozen=True, slots=True)
class Act:
    """What a person asked for.

    :ivar who: account name of the person, from the operating system
    """

    verb: str
    consumer: str
    who: str
    reason: str


async def change_consumer(recorder: Recorder, act: Act) -> None:
    """Change a consumer's state and record the act.

    :raises ValueError: if the act is not possible, in words
    """
    if act.verb not in _RULES:
        raise ValueError(f"unknown act {act.verb!r}")
    if not re.fullmatch(NAME_PATTERN, act.consumer):
        raise ValueError(
            f"{act.consumer!r} is no consumer name: lower-case letters, digits, '-' and '_'"
        )
    if not act.reason.strip():
        raise ValueError("a reason is required: --reason '...'")
    allowed, after, event_type = _RULES[act.verb]
    known = recorder.journal.consumers.get(act.consumer)
    state = known.state if known else None
    if state not in allowed:
        raise ValueError(f"{act.consumer} is {state or 'not enrolled'}: cannot {act.verb}")
    incarnation = known.incarnation if known and act.verb != "enrol" else None
    await recorder.journal.save_consumer(Consumer(act.consumer, after, incarnation))
    recorder.event(
        event_type,
        "info",
        f"{act.consumer} {after} by {act.who}: {act.reason}",
        consumer=act.consumer,
        who=act.who,
        reason=act.reason,
        before=state,
        after=after,
    )
    await recorder.flush()


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

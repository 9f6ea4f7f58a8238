"""What must hold on every day, however bad: one function for each invariant.

They judge what instruments, broker and consumers saw; of the product they use nothing but the
format of a record (docs/mqtt.md section 3), which they read with a JSON parser of their own.
"""

from collections.abc import Callable
from itertools import pairwise

from tests.simulation.run import STEADY, Evidence
from tests.simulation.story import CAUSES, Story, tag_lines

TASKS_MAX = 60
UNSENT_MAX = 40
PENDING_SLACK_BYTES = 4_000
FAIL_STOP = ("JournalFailed",)


def no_silent_loss(evidence: Evidence, story: Story) -> list[str]:
    """I1: values and gaps cover the time of each tag; what was answered is there, or in a gap."""
    found = [fault for line in tag_lines(evidence, story) for fault in line.missing]
    delivered = {body[11][0] for body in story.frames()}
    for reading in evidence.ledger.readings.values():
        pushed = reading.source_ns is not None and reading.at_s < evidence.end_s - 15
        if pushed and not reading.forgotten and reading.number not in delivered:
            found.append(f"{reading.group}: pushed reading {reading.number} never came")
    return found


def honest_gaps(evidence: Evidence, story: Story) -> list[str]:
    """I5: no value that the instrument did not give; every gap for a cause that there was."""
    found = [fault for line in tag_lines(evidence, story) for fault in line.dishonest]
    for group, line in story.lines.items():
        times: dict[int, int] = {}
        for body in line:
            if body[0] == "G":
                if body[7] not in CAUSES:
                    found.append(f"{group}: a gap for the cause {body[7]!r}")
                continue
            number = body[11][0]
            reading = evidence.ledger.readings.get(number)
            if reading is None or reading.group != group:
                found.append(f"{group}: reading {number} was never given")
            elif reading.late:
                found.append(f"{group}: reading {number} came after its time-out")
            if body[6] == 0:
                times[number] = times.get(number, 0) + 1
        found += [f"{group}: reading {n} stands {k} times" for n, k in times.items() if k > 1]
    return found


# -- delivery ----------------------------------------------------------------------------------


def at_least_once(evidence: Evidence, story: Story) -> list[str]:
    """I2: no hole up to the end, one body under each number, and nothing receipted unheld."""
    found = []
    if len(evidence.epochs) > 1:
        found.append(f"there are {len(evidence.epochs)} epochs, and no journal was rolled back")
    bodies: dict[tuple[str, str, int], bytes] = {}
    chains: dict[tuple[str, str, int], bytes] = {}
    for at_s, _, _, batch in evidence.sent:
        lane = batch.epoch, batch.lane.value
        if not batch.missing:
            for seq, body in enumerate(batch.bodies, batch.first):
                if bodies.setdefault((*lane, seq), body) != body:
                    found.append(f"{lane}: at {at_s:.3f} s record {seq} has another body")
        for seq, chain in ((batch.first - 1, batch.prev), (batch.last, batch.chain)):
            if chains.setdefault((*lane, seq), chain) != chain:
                found.append(f"{lane}: at {at_s:.3f} s the chain at {seq} is another")
    for name, rows in evidence.held.items():
        held = {(row.epoch, row.lane, row.seq): row.body for row in rows}
        if len(held) < len(rows):
            found.append(f"{name} holds records under one number")
        for (epoch, lane), end in evidence.journal.items():
            wanted = {(epoch, lane, seq) for seq in range(1, end + 1)} - story.rotten
            found += [
                f"{name} lacks {lane} record {seq}" for _, _, seq in sorted(wanted - set(held))
            ]
        for key, body in held.items():
            if bodies.get(key, body) != body:
                found.append(f"{name} holds another body under {key} than was sent")
    return found + _receipted_unheld(evidence)


def _receipted_unheld(evidence: Evidence) -> list[str]:
    found = [
        f"{each.consumer}: at {each.at_s:.3f} s lane {each.lane} begins at {each.lowest} on the "
        f"disk, and its cursor there is at {each.upto}"
        for each in evidence.agent.kept
        if each.lowest > each.upto + 1
    ]
    highest: dict[tuple[str, str, str], int] = {}
    receipts = iter([*evidence.receipts, None])
    following = next(receipts)
    for sample in evidence.samples:
        while following is not None and following.at_s <= sample.at_s:
            said = following.receipt
            key = (said.consumer, said.epoch, said.lane.value)
            highest[key] = max(highest.get(key, 0), said.upto)
            following = next(receipts)
        for key, upto in sample.cursors.items():
            if upto > highest.get(key, 0):
                text = f"{key}: at {sample.at_s:.3f} s the cursor is at {upto}, the receipts at "
                found.append(text + str(highest.get(key, 0)))
    for at_s, receipt, held in evidence.receipts:
        if receipt.upto > held:
            text = f"{receipt.consumer}: at {at_s:.3f} s a receipt for {receipt.upto} of lane "
            found.append(f"{text}{receipt.lane}, and {held} are held")
    return found


def in_order(evidence: Evidence, story: Story) -> list[str]:
    """I3: numbers follow the instrument's order, and the live stream the numbers."""
    found = []
    for group, line in story.lines.items():
        numbers = [body[11][0] for body in line if body[0] == "F" and body[6] == 0]
        found += [
            f"{group}: reading {after} stands behind {before}"
            for before, after in pairwise(numbers)
            if after <= before
        ]
    ends: dict[tuple[int, str], int] = {}
    for at_s, session, topic, batch in evidence.sent:
        if "/to/" in topic:
            continue
        end = ends.get((session, topic))
        if end is not None and batch.first != end + 1:
            found.append(f"{topic}: at {at_s:.3f} s record {batch.first} follows {end}")
        ends[session, topic] = batch.last
    return found


def unaltered(evidence: Evidence, story: Story) -> list[str]:
    """I4: each value, its status and its evidence as the instrument gave them."""
    found = []
    for body in story.frames():
        reading = evidence.ledger.readings.get(body[11][0])
        if reading is None:
            continue
        present = reading.present or tuple(range(len(evidence.ledger.tags[reading.group])))
        codes = {i: body[7] for i in present} if isinstance(body[7], int) else dict(body[7])
        facts = (
            ("values", body[11], reading.values),
            ("status", {i: codes.get(i, 0) for i in present}, reading.codes),
            ("tags", body[8], reading.present and list(reading.present)),
            ("the instrument's time", body[9], reading.source_ns),
            ("evidence", body[13], f"x:{reading.raw.hex()}"),
        )
        found += [
            f"reading {reading.number}: {what} {got}, given was {given}"
            for what, got, given in facts
            if got != given
        ]
    for record in story.records:
        if record.body[0] == "S":
            group, about = story.group_of[record.body[2]], record.body[5]
            tags = [(tag["name"], tag["unit"]) for tag in about["tags"]]
            if tags != [(tag.name, tag.unit) for tag in evidence.ledger.tags[group]]:
                found.append(f"{group}: its schema says {tags}")
    return found


def honest_time(evidence: Evidence, story: Story) -> list[str]:
    """I12: each stamp is the moment on both clocks; a step moves nothing, and is on record."""
    found = []
    for body in story.frames():
        reading = evidence.ledger.readings.get(body[11][0])
        if reading is None:
            continue
        stamp = body[6], body[4], body[5], story.boot_of.get(("data", body[3]))
        given = [(h.origin, h.utc_ns, h.boot_ns, h.boot_id) for h in reading.handovers]
        if stamp not in given:
            found.append(f"reading {reading.number} is stamped {stamp}, not as given: {given}")
    before: dict[tuple[str, str], tuple[str, int]] = {}
    contexts = {"F": 3, "G": 3, "C": 2, "E": 2}
    for record in story.records:
        kind = record.body[0]
        if kind not in contexts:
            continue
        boot = story.boot_of.get((record.lane, record.body[contexts[kind]]), "")
        boot_ns = record.body[5 if kind in "FG" else 4]
        line = record.lane, story.group_of[record.body[2]] if kind in "FG" else kind
        known = before.get(line)
        if known is not None and known[0] == boot and boot_ns < known[1]:
            found.append(f"{record.lane} record {record.seq} is older than the {line[1]} before it")
        before[line] = boot, boot_ns
    stated = [fact["after_ns"] - fact["before_ns"] for fact in story.events("clock.step")]
    for at_s, step_s in evidence.agent.machine.steps:
        if _seen(evidence, at_s) and not any(abs(s - step_s * 1e9) < 1e6 for s in stated):
            found.append(f"nothing says that UTC was moved by {step_s} s at {at_s:.3f} s")
    return found


def _seen(evidence: Evidence, at_s: float) -> bool:
    """Return whether a step stands alone in a life that had the time to record it."""
    agent = evidence.agent
    alone = sum(abs(other - at_s) < 3 for other, _ in agent.machine.steps) == 1
    hindered = any(begin - 10 <= at_s <= end + 10 for begin, end in agent.machine.hindered_s)
    lived = any(
        life.ready_s is not None and life.ready_s + 1 < at_s < life.end_s - 10
        for life in agent.lives
    )
    return alone and lived and not hindered


# -- how it runs -------------------------------------------------------------------------------


def isolated(evidence: Evidence, story: Story) -> list[str]:
    """I8: the instrument to which nothing happens is asked within every one of its periods."""
    period_s, asked = evidence.ledger.periods_s[STEADY], evidence.ledger.asked[STEADY]
    ticks = {int(at_s / period_s) for at_s in asked}
    found = []
    for life in evidence.agent.lives:
        if life.ready_s is None:
            continue
        tick = int((life.ready_s + 0.1) / period_s) + 1
        while (tick + 1) * period_s < min(life.stop_s, life.end_s, evidence.end_s):
            if tick not in ticks:
                found.append(f"{STEADY} was not asked between {tick * period_s} s and one period")
            tick += 1
    return found


def bounded(evidence: Evidence, story: Story) -> list[str]:
    """I9: what waits in memory stays under its limits, whatever is slow, full or away."""
    limits = (
        ("pending_bytes", evidence.day.held_bytes + PENDING_SLACK_BYTES),
        ("tasks", TASKS_MAX),
        ("unsent", UNSENT_MAX),
    )
    return [
        f"at {sample.at_s:.1f} s: {name} is {getattr(sample, name)}, the limit {limit}"
        for sample in evidence.samples
        for name, limit in limits
        if getattr(sample, name) > limit
    ]


def recovers(evidence: Evidence, story: Story) -> list[str]:
    """I10: when the faults end, everything is well again by itself, in time; or it says why not."""
    found = [f"nobody caught: {each}" for each in evidence.unexpected]
    if evidence.owed:
        took_s = evidence.end_s - evidence.heal_began_s
        found.append(f"{took_s:.0f} s after the last fault {evidence.owed}")
    for life in evidence.agent.lives:
        named = life.end.removeprefix("error: ")
        if life.end.startswith("error: ") and named not in FAIL_STOP:
            found.append(f"the agent ended at {life.end_s:.3f} s by itself: {named}")
        elif life.end.startswith("error: ") and life.end_s > evidence.heal_began_s + 1:
            found.append(f"the agent ended at {life.end_s:.3f} s, when all was well: {named}")
    return found


INVARIANTS: dict[str, Callable[[Evidence, Story], list[str]]] = {
    "I1": no_silent_loss,
    "I2": at_least_once,
    "I3": in_order,
    "I4": unaltered,
    "I5": honest_gaps,
    "I8": isolated,
    "I9": bounded,
    "I10": recovers,
    "I12": honest_time,
}


def judge(evidence: Evidence) -> dict[str, list[str]]:
    """Return what is wrong, by invariant; nothing when all is well."""
    story = Story(evidence)
    found = {name: check(evidence, story) for name, check in INVARIANTS.items()}
    return {name: faults for name, faults in found.items() if faults}

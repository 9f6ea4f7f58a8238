"""Another instrument at the same address: its values are kept, Uncertain, and a person is told.

Method: identities from scripted drivers; statuses read back from bodies by the document's reader.
"""

import asyncio
from itertools import pairwise

import pytest

from edgeagent.driver import BadReply, Identity, LinkLost
from edgeagent.model.record import Lane
from tests.fakes import LoopClock, ScriptedPolled, Step, bench_of, group_of, instrument_of
from tests.unit.acquire.reader import read_frame

pytestmark = pytest.mark.looptime

PROBE = group_of("probe")
UNCERTAIN, BAD = 0x40000000, 0x80050000
RIGHT = Identity("probe", (("make", "Acme"), ("serial_number", "1")))
WRONG = Identity(
    "probe", (("make", "Acme"), ("serial_number", "2")), ("serial_number is '2', commissioned '1'",)
)


def who_answers(*changes, facts=None):
    """A plan: from each time on, another identity; the link is cut at each change."""

    def plan(call, at_s):
        now = [identity for since_s, identity in changes if since_s <= at_s][-1]
        if call == "connect":
            return Step(answer=(now,))
        if any(since_s <= at_s < since_s + 0.02 for since_s, _ in changes if since_s):
            return Step(error=LinkLost("cable pulled"))
        return Step(answer=facts) if call.startswith("poll") else None

    return plan


def polled(plan):
    return ScriptedPolled([instrument_of(PROBE)], LoopClock(), plan)


def statuses(bench):
    return [
        [tag.status for tag in read_frame(body, 2).tags.values()]
        for body in bench.journal.bodies()
        if body[2:3] == b"F"
    ]


async def test_values_are_kept_but_uncertain_until_the_right_one_answers_again():
    link = polled(who_answers((0, RIGHT), (3, WRONG), (6, RIGHT)))
    async with bench_of(link=link) as bench:
        await asyncio.sleep(9.5)
        found = statuses(bench)
        assert [0, 0] in found
        assert [UNCERTAIN] * 2 in found
        turned = [found[0]] + [after for before, after in pairwise(found) if before != after]
        assert turned == [[0, 0], [UNCERTAIN] * 2, [0, 0]]
        assert bench.events() == ["identity.mismatch", "identity.restored"]
        (mismatch, restored) = bench.records("E", Lane.EVENT)
        assert mismatch[6] == {
            "severity": "alarm",
            "text": "probe: serial_number is '2', commissioned '1'; "
            "values are Uncertain until it is commissioned",
            "instrument": "probe",
            "facts": {"make": "Acme", "serial_number": "2"},
        }
        assert restored[6]["severity"] == "info"


async def test_the_context_says_who_it_is_from_the_first_value_on():
    link = polled(who_answers((0, RIGHT), (3, WRONG)))
    async with bench_of(link=link) as bench:
        await asyncio.sleep(6)
        contexts = {record[2]: record[5] for record in bench.records("C")}
        said = []
        for frame in bench.frames(PROBE):
            stated = contexts[frame[3]]["instruments"]["probe"]
            assert stated["commissioned"] == (frame[7] == 0)
            said.append(stated["facts"]["serial_number"])
        assert said == sorted(said)
        assert set(said) == {"1", "2"}


async def test_one_alarm_for_one_mismatch_however_often_the_link_is_lost():
    link = polled(who_answers((0, WRONG), *((since_s, WRONG) for since_s in range(2, 20, 2))))
    async with bench_of(link=link) as bench:
        await asyncio.sleep(22)
        assert bench.acquisition.link("link").connects > 5
        assert bench.events() == ["identity.mismatch"]


async def test_a_second_wrong_instrument_is_a_second_alarm():
    third = Identity(
        "probe", (("serial_number", "3"),), ("serial_number is '3', commissioned '1'",)
    )
    link = polled(who_answers((0, WRONG), (3, third)))
    async with bench_of(link=link) as bench:
        await asyncio.sleep(6)
        assert bench.events() == ["identity.mismatch", "identity.mismatch"]


async def test_uncertain_is_the_best_that_a_value_can_be_and_bad_stays_bad():
    facts = {"values": (1.0, None), "status": (0x00300000, BAD)}
    link = polled(who_answers((0, WRONG), facts=facts))
    async with bench_of(link=link) as bench:
        await asyncio.sleep(2)
        assert statuses(bench)[0] == [UNCERTAIN, BAD]


async def test_who_answers_late_is_identified_before_the_first_value():
    def plan(call, at_s):
        if call == "connect":
            return Step(answer=())
        if call.startswith("identify"):
            silent = BadReply("timeout", "no answer")
            return Step(error=silent) if at_s < 3 else Step(answer=WRONG)
        return None

    link = polled(plan)
    async with bench_of(link=link) as bench:
        await asyncio.sleep(60)
        assert bench.events() == ["identity.mismatch"]
        assert statuses(bench)
        assert set(map(tuple, statuses(bench))) == {(UNCERTAIN, UNCERTAIN)}


async def test_an_instrument_that_states_nothing_is_not_in_the_context():
    link = polled(who_answers((0, Identity("probe"))))
    async with bench_of(link=link) as bench:
        await asyncio.sleep(2)
        assert bench.records("C")[-1][5]["instruments"] == {}
        assert statuses(bench)[0] == [0, 0]

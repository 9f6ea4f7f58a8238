"""RTU on a line that does everything wrong: a value is right, or it is not there.

RTU has no transaction id, so a late, doubled or relabelled reply looks exactly like a right one.
Method: two libmodbus units on an RS-485 line of pseudo-terminals, whose registers change with every
reply and whose ledgers say what they have answered and when; our driver asks; the line strikes one
frame in five. Each fault meets units whose identity can be asked, and units that have none.
"""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.driver import BadReply, Frame, GroupSchema, LinkLost, PolledDriver
from tests.system.ledger import IDENTITY_ADDRESS, built
from tests.system.serial_bus import BusFault
from tests.system.serial_master import (
    BLOCKS,
    UNITS,
    Outcome,
    asked_first,
    master,
    poll_often,
    two_units,
    wrong_values,
)

SHARE = 0.2
GROUPS = len(UNITS) * len(BLOCKS)

REPLIES = tuple(fault for fault in BusFault if fault is not BusFault.ECHO)
REQUESTS = (BusFault.CORRUPT, BusFault.TRUNCATE, BusFault.DROP, BusFault.LATE, BusFault.ECHO)

KINDS: dict[str, dict[str, Any]] = {
    **{f"reply {fault}": {"replies": {fault: SHARE}} for fault in REPLIES},
    **{f"request {fault}": {"requests": {fault: SHARE}} for fault in REQUESTS},
    "everything": {
        "replies": dict.fromkeys(REPLIES, SHARE / len(REPLIES)),
        "requests": dict.fromkeys(REQUESTS, SHARE / len(REQUESTS)),
    },
    "port vanishes": {"unplugged": True},
}


@pytest.fixture(scope="module", autouse=True)
def program() -> Path:
    """Build the slave once, before many lines want it at the same time."""
    return built()


async def all_kinds(directory: Path, polls: int, seed: int) -> dict[str, list[Outcome]]:
    """Poll so often over each kind of line, all lines side by side; half with identity."""
    variants = list(itertools.product(KINDS, (True, False)))
    outcomes = await asyncio.gather(
        *(
            poll_often(
                directory / f"line-{number}",
                polls // 2,
                identity=identity,
                seed=seed + number,
                **KINDS[kind],
            )
            for number, (kind, identity) in enumerate(variants)
        )
    )
    found: dict[str, list[Outcome]] = {}
    for (kind, _), outcome in zip(variants, outcomes, strict=True):
        found.setdefault(kind, []).append(outcome)
    return found


def check(kind: str, outcome: Outcome) -> None:
    wrong = wrong_values(outcome.polls, outcome.answers)
    assert not wrong, f"{kind}: {len(wrong)} wrong values: {wrong[:10]}"
    struck = sum(outcome.struck.values())
    faults = KINDS[kind]
    if "replies" in faults or "requests" in faults:
        assert struck > outcome.tries * SHARE / 2, f"{kind}: struck {struck} times only"
    assert len(outcome.polls) > outcome.tries / 10, f"{kind}: {dict(outcome.misses)}"
    if faults.get("unplugged"):
        assert outcome.misses["link_lost"]


def figures(outcome: Outcome) -> str:
    good, struck = len(outcome.polls), outcome.struck.total()
    return f"{outcome.tries} polls, {good} good, {dict(outcome.misses)}, {struck} frames struck"


def check_identity_comes_first(with_identity: Outcome) -> None:
    first = asked_first(with_identity)
    assert len(first) > 1
    assert set(first) == {IDENTITY_ADDRESS}


@pytest.mark.timeout(60)
async def test_no_fault_of_the_line_makes_a_wrong_value(tmp_path: Path) -> None:
    found = await all_kinds(tmp_path, polls=120, seed=4711)
    for kind, outcomes in found.items():
        for outcome in outcomes:
            check(kind, outcome)
    check_identity_comes_first(found["port vanishes"][0])


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_no_fault_of_the_line_makes_a_wrong_value_in_10000_polls(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    found = await all_kinds(tmp_path, polls=10_000, seed=1)
    for kind, outcomes in found.items():
        assert sum(outcome.tries for outcome in outcomes) >= 10_000
        for outcome in outcomes:
            check(kind, outcome)
        record_property(kind, "; ".join(map(figures, outcomes)))
    check_identity_comes_first(found["port vanishes"][0])


async def late_replies(directory: Path, polls: int, lines: int) -> int:
    """Poll with every other reply late; return how many replies were."""
    outcomes = await asyncio.gather(
        *(
            poll_often(
                directory / f"line-{number}",
                polls,
                replies={BusFault.LATE: 0.5},
                identity=number % 2 == 0,
                seed=number,
            )
            for number in range(lines)
        )
    )
    for outcome in outcomes:
        wrong = wrong_values(outcome.polls, outcome.answers)
        assert not wrong, f"{len(wrong)} late values: {wrong[:10]}"
        assert outcome.misses["timeout"] > polls / 4
        assert len(outcome.polls) > polls / 10
    return sum(outcome.struck[BusFault.LATE] for outcome in outcomes)


async def test_a_late_reply_becomes_no_value(tmp_path: Path) -> None:
    assert await late_replies(tmp_path, polls=40, lines=10) > 150


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_a_late_reply_becomes_no_value_in_10000_tries(tmp_path: Path) -> None:
    assert await late_replies(tmp_path, polls=1700, lines=12) >= 10_000


async def test_the_check_finds_what_it_is_there_for(tmp_path: Path) -> None:
    """A checker that never failed is no evidence: alter, swap, give to another unit, come late."""
    outcome = await poll_often(tmp_path, 4 * GROUPS, timeout_s=0.3)
    assert not outcome.misses
    polls, answers = outcome.polls, outcome.answers
    assert wrong_values(polls, answers) == []
    one, other = polls[0], polls[GROUPS]
    assert (one.unit, one.function, one.values.keys()) == (
        other.unit,
        other.function,
        other.values.keys(),
    )
    (register, value), (_, next_value) = list(one.values.items())[-2:]
    assert value != next_value
    broken = {
        "altered": one._replace(values={**one.values, register: value ^ 1}),
        "swapped": one._replace(values={**one.values, register: next_value}),
        "of another unit": one._replace(unit=UNITS[1]),
        "of another function": one._replace(function=4),
        "of a later time": one._replace(values=other.values),
        "of an earlier time": other._replace(values=one.values),
        "shifted": one._replace(values={at + 1: held for at, held in one.values.items()}),
    }
    for what, poll in broken.items():
        assert wrong_values([poll], answers), what
    assert wrong_values([one], [answer for answer in answers if answer.k != 1]), "never answered"


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6])
async def test_an_exception_is_a_refusal_that_names_its_code(tmp_path: Path, code: int) -> None:
    async with two_units(tmp_path) as (bus, _):
        driver, instruments = master(bus)
        await driver.connect()
        bus._reply_faults, bus._exception_codes = {BusFault.EXCEPTION: 1.0}, (code,)
        for instrument in instruments:
            answer = await answered_poll(driver, instrument.groups[0])
            assert isinstance(answer, BadReply)
            assert answer.cause == "refused"
            assert f"exception 0x0{code}" in answer.detail
        bus.heal()
        await driver.connect()
        for instrument in instruments:
            answer = await answered_poll(driver, instrument.groups[0])
            assert isinstance(answer, Frame)
            assert None not in answer.values
        await driver.close()


async def answered_poll(driver: PolledDriver, group: GroupSchema) -> Frame | BadReply:
    """Poll until the unit answers in time: on a busy machine it may not."""
    while True:
        try:
            return await driver.poll(group)
        except BadReply as error:
            if error.cause != "timeout":
                return error


async def test_a_port_that_vanishes_is_a_lost_link_until_it_returns(tmp_path: Path) -> None:
    async with two_units(tmp_path) as (bus, slaves):
        driver, instruments = master(bus)
        await driver.connect()
        bus.unplug()
        with pytest.raises(LinkLost):
            await driver.poll(instruments[0].groups[0])
        with pytest.raises(LinkLost, match="no such port"):
            await driver.connect()
        bus.replug()
        before = len(slaves[0].answers())
        await driver.connect()
        assert isinstance(await answered_poll(driver, instruments[0].groups[0]), Frame)
        assert slaves[0].answers()[before].address == IDENTITY_ADDRESS
        await driver.close()

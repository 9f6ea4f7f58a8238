"""Every profile reads its simulator, over a pseudo-terminal and over TCP, and asks nothing else.

A pseudo-terminal has neither bit rate nor parity: it shows the port as 8N1 only. Parity and word
length of the real devices are settings of the link, checked in the unit tests.
"""

import pytest

from drivers.serial_line.codec import compile_command
from edgeagent.driver import BadReply, LinkLost
from edgeagent.model.quality import BAD_CONFIGURATION_ERROR, UNCERTAIN
from simulators.faults import Faults
from simulators.settings import Range
from tests.conformance.serial_line.instruments import (
    LISTENED,
    PATIENT,
    POLLED,
    PROFILES,
    QUICK,
    Case,
    device,
    instrument,
    unhurried,
)

EVERY_FAULT = Faults(
    seed=3,
    no_answer=0.06,
    duplicate_reply=0.06,
    garbage_before=0.06,
    garbage_after=0.06,
    corrupt_reply=0.06,
    truncated_reply=0.06,
    echo=0.06,
    byte_by_byte=0.06,
)


def allowed(it) -> set[bytes]:
    """The bytes of every request that the profile declares."""
    profile = it.profile
    return {compile_command(profile, name, it.settings.address).sent for name in profile.commands}


async def polled(driver, it) -> dict:
    found = {}
    for group in it.groups:
        frame = await driver.poll(group)
        found |= {tag.name: v for tag, v in zip(group.tags, frame.values, strict=True)}
    return found


def test_every_profile_of_lines_of_text_has_a_simulator():
    shipped = {
        file.stem for file in PROFILES.glob("*.yaml") if "driver: serial_line" in file.read_text()
    }
    assert shipped == {case.profile for case in (*POLLED, *LISTENED)}


@pytest.mark.parametrize("pty", [False, True], ids=["tcp", "pty"])
@pytest.mark.parametrize("case", POLLED, ids=str)
async def test_a_profile_reads_its_instrument(bench, case, pty):
    made, _ = device(case)
    await bench.serve({"a": made}, pty=pty)
    it = instrument(case, times=PATIENT)
    driver = unhurried(bench.driver(it))

    (identity,) = await driver.connect()
    assert not identity.mismatches
    assert case.facts.items() <= dict(identity.facts).items()

    found = await polled(driver, it)
    for name, expected in case.values.items():
        assert expected(found[name]) if callable(expected) else found[name] == expected, name
    assert set(bench.server.requests) <= allowed(it)


@pytest.mark.parametrize("case", {c.profile: c for c in POLLED}.values(), ids=str)
async def test_nothing_but_the_declared_requests_is_sent_whatever_the_wire_does(bench, case):
    made, _ = device(case)
    await bench.serve({"a": made}, faults=EVERY_FAULT)
    it = instrument(case)
    driver = bench.driver(it)
    for _ in range(2):
        try:
            await driver.connect()
            for group in it.groups:
                await driver.poll(group)
        except (BadReply, LinkLost):
            continue
    assert bench.server.requests
    assert set(bench.server.requests) <= allowed(it)


async def test_a_balance_that_is_not_at_rest_is_uncertain_and_one_at_rest_is_good(bench):
    case = next(case for case in POLLED if case.profile == "mettler-mt-sics")
    made, process = device(case)
    await bench.serve({"a": made})
    it = instrument(case)
    driver = bench.driver(it)
    await driver.connect()
    moving = await driver.poll(it.groups[0])
    for _ in range(600):
        process.step(1.0)
    resting = await driver.poll(it.groups[0])
    assert moving.status == (UNCERTAIN, 0)
    assert resting.status == 0
    assert abs(resting.values[0] - 750.0) < 0.1


async def in_another_unit(bench, profile, disturbance):
    """A driver whose instrument somebody has just switched to another unit."""
    case = next(case for case in POLLED if case.profile == profile)
    made, _ = device(case)
    await bench.serve({"a": made})
    it = instrument(case)
    driver = bench.driver(it)
    await driver.connect()
    made.disturbances.begin(disturbance)
    return driver, it.groups[0]


async def test_a_weight_in_pounds_is_refused_what_has_no_unit_is_kept(bench):
    driver, group = await in_another_unit(bench, "mettler-mt-sics", "switched_to_pounds")
    frame = await driver.poll(group)
    assert (frame.values, frame.present) == ((None, False), (1,))
    assert frame.status == (BAD_CONFIGURATION_ERROR, 0)


@pytest.mark.parametrize(
    ("profile", "disturbance", "shown"),
    [
        ("ami-186", "switched_to_inches", "level: the device states the unit 'I'"),
        ("alicat-mc", "switched_to_slpm", None),
    ],
)
async def test_the_unit_is_asked_where_the_value_does_not_bear_it(
    bench, profile, disturbance, shown
):
    driver, group = await in_another_unit(bench, profile, disturbance)
    if shown:
        with pytest.raises(BadReply, match=shown):
            await driver.poll(group)
        return
    frame = await driver.poll(group)
    found = dict(zip((tag.name for tag in group.tags), frame.values, strict=True))
    assert (found["mass_flow"], found["set_point"], found["gas"]) == (None, None, "N2")


async def test_a_register_that_a_device_does_not_have_costs_one_silence(bench):
    case = next(case for case in POLLED if case.profile == "huber-pb")
    made, _ = device(case)
    known = made._variable
    made._variable = lambda address: None if address == 0x3A else known(address)
    await bench.serve({"a": made})
    it = instrument(case)
    driver = bench.driver(it)
    await driver.connect()
    for _ in range(3):
        frame = await driver.poll(it.groups[0])
        assert frame.present == (0, 2, 3)
    assert bench.server.requests.count(b"{M3A****\r\n") == 1


STALE = Faults(
    seed=11,
    no_answer=0.05,
    late_answer=0.1,
    late_answer_s=Range(0.31, 0.4),
    duplicate_reply=0.1,
    truncated_reply=0.05,
    byte_by_byte=0.1,
    byte_gap_s=0.0005,
)


@pytest.mark.parametrize("profile", ["mettler-mt-sics", "lakeshore-218", "alicat-mc", "ami-186"])
async def test_every_value_was_said_in_answer_to_its_own_request(bench, profile):
    """Late, double and half replies abound; none is ever taken for the reply to a later request."""
    case = next(case for case in POLLED if case.profile == profile)
    made, process = device(case)
    said: list[bytes] = []
    answer = made.answer

    def noted(request: bytes) -> bytes:
        process.step(1.0)  # so that no two values are alike
        said.append(answer(request))
        return said[-1]

    made.answer = noted
    await bench.serve({"a": made}, faults=STALE)
    it = instrument(case, times=QUICK | {"slowest_reply": "600 ms"})
    driver = bench.driver(it)
    good = 0
    await driver.connect()
    for _ in range(15):
        said.clear()
        try:
            frame = await driver.poll(it.groups[0])
        except BadReply:
            continue
        except LinkLost:
            await driver.connect()
            continue
        assert frame.raw in b"".join(said)
        good += 1
    assert good > 2


async def test_several_instruments_share_a_line(bench):
    cases = {
        name: Case("watson-marlow-620", "watson_marlow", {"address": n}, address=str(n))
        for n, name in enumerate(("a", "b", "c"), 1)
    }
    await bench.serve({name: device(case)[0] for name, case in cases.items()})
    several = [instrument(case, name, PATIENT) for name, case in cases.items()]
    driver = unhurried(bench.driver(*several))
    assert [identity.instrument for identity in await driver.connect()] == list(cases)
    for it in several:
        assert (await polled(driver, it))["speed"] == 40.0
    assert set(bench.server.requests) == {b"1RS\r", b"2RS\r", b"3RS\r"}


async def test_a_port_that_vanishes_is_a_lost_link_and_is_used_again_when_it_returns(bench):
    case = POLLED[0]
    made, _ = device(case)
    await bench.serve({"a": made}, pty=True)
    it = instrument(case)
    driver = bench.driver(it)
    await driver.connect()
    await driver.poll(it.groups[0])
    await bench.server.stop()
    with pytest.raises(LinkLost):
        await driver.poll(it.groups[0])
    with pytest.raises(LinkLost, match="no such port; plug the adapter in"):
        await driver.connect()
    await bench.server.start()
    (identity,) = await driver.connect()
    assert not identity.mismatches
    assert (await polled(driver, it))["stable"] is False


async def test_a_port_belongs_to_one_driver(bench):
    case = POLLED[0]
    await bench.serve({"a": device(case)[0]}, pty=True)
    first, second = (bench.driver(instrument(case)) for _ in range(2))
    await first.connect()
    with pytest.raises(LinkLost, match="in use by"):
        await second.connect()

"""Who answers is asked at every connect, and told with all that differs from what is expected."""

import pytest

from drivers.modbus import DRIVER
from edgeagent.driver import BadReply, LinkLost
from edgeagent.model.clock import SystemClock
from tests.conformance.modbus.conftest import instrument, profile, register

IDENTITY = {
    "model": {"type": "STRING", "address": 100, "length": 2, "expect": "B2.*"},
    "serial_number": {"type": "UINT32", "address": 102},
    "rack": {"type": "BOOL", "address": 105, "bit": 0},
}
MODEL_B200 = {100: 0x4232, 101: 0x3030, 102: 0x0001, 103: 0xE240, 105: 0xFFFF}


def b200(*, answers=None, refuses=()):
    """A script: a device with these registers that refuses some of them."""
    memory = MODEL_B200 | (answers or {})

    def script(request, connection):
        addresses = range(request.address, request.address + request.count)
        if set(addresses) & set(refuses):
            connection.send(request.refusal(2))
        else:
            connection.send(
                request.reply(request.registers(*(memory.get(a, 0) for a in addresses)))
            )

    return script


@pytest.fixture
def drivers(peer):
    def make(*instruments):
        link = DRIVER.link_settings(host="127.0.0.1", port=peer.port, timeout="20 s")
        return DRIVER.open(link, instruments, SystemClock())

    return make


OF = profile({"x": register(10)}, identity=IDENTITY)


async def identities(driver):
    try:
        return await driver.connect()
    finally:
        await driver.close()


async def test_every_fact_is_told(peer, drivers):
    peer.script = b200()
    (identity,) = await identities(drivers(instrument(of=OF)))
    assert identity.instrument == "a"
    assert dict(identity.facts) == {"model": "B200", "serial_number": "123456", "rack": "true"}
    assert identity.mismatches == ()


async def test_another_model_is_told(peer, drivers):
    peer.script = b200(answers={100: 0x4333})
    (identity,) = await identities(drivers(instrument(of=OF)))
    assert identity.mismatches == ("model is 'C300'; the profile expects B2.*",)


async def test_the_whole_text_must_match(peer, drivers):
    exact = profile({"x": register(10)}, identity={"model": IDENTITY["model"] | {"expect": "B20"}})
    peer.script = b200()
    (identity,) = await identities(drivers(instrument(of=exact)))
    assert len(identity.mismatches) == 1


async def test_a_device_with_another_serial_number_than_the_site_commissioned(peer, drivers):
    peer.script = b200()
    expected = (("serial_number", "123457"), ("firmware", "1.0"))
    (identity,) = await identities(drivers(instrument(of=OF, expected=expected)))
    # The profile has no item 'firmware', so nobody can say that it differs.
    assert identity.mismatches == ("serial_number is '123456'; the site expects '123457'",)


async def test_a_fact_that_is_refused_is_absent_and_an_expectation_of_it_is_not_met(peer, drivers):
    peer.script = b200(refuses={101})
    (identity,) = await identities(drivers(instrument(of=OF)))
    assert dict(identity.facts) == {"serial_number": "123456", "rack": "true"}
    assert identity.mismatches == ("model cannot be read; the profile expects B2.*",)


async def test_a_device_that_refuses_every_fact_is_there_and_is_not_the_right_one(peer, drivers):
    peer.script = b200(refuses=range(65536))
    expected = (("serial_number", "123456"),)
    (identity,) = await identities(drivers(instrument(of=OF, expected=expected)))
    assert identity.facts == ()
    assert identity.mismatches == (
        "model cannot be read; the profile expects B2.*",
        "serial_number is not readable; the site expects '123456'",
    )


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (lambda r, c: c.send(r.refusal(6)), "refused"),
        (lambda r, c: c.send(r.refusal(0x0B)), "timeout"),
        (lambda r, c: c.send(r.reply(b"\x03\x02\x00\x00")), "bad_reply"),
    ],
)
async def test_a_fact_that_only_failed_to_come_makes_no_other_device_of_it(
    peer, drivers, answer, cause
):
    far = IDENTITY | {"model": IDENTITY["model"] | {"address": 300}}
    driver = drivers(instrument(of=profile({"x": register(10)}, identity=far)))
    peer.script = lambda r, c: answer(r, c) if r.address == 300 else b200()(r, c)
    assert await driver.connect() == ()
    with pytest.raises(BadReply) as caught:
        await driver.identify("a")
    assert caught.value.cause == cause
    await driver.close()


async def test_an_instrument_that_does_not_answer_is_left_out_and_asked_later(peer, drivers):
    devices = [instrument(name, unit, of=OF) for name, unit in (("a", 1), ("b", 2), ("c", 3))]
    there = {1, 3}

    def gateway(request, connection):
        if request.unit in there:
            b200()(request, connection)
        else:
            connection.send(request.refusal(0x0B))

    peer.script = gateway
    driver = drivers(*devices)
    assert [identity.instrument for identity in await driver.connect()] == ["a", "c"]

    with pytest.raises(BadReply) as caught:
        await driver.identify("b")
    assert caught.value.cause == "timeout"
    there.add(2)
    assert (await driver.identify("b")).instrument == "b"
    assert {request.unit for request in peer.requests} == {1, 2, 3}
    assert peer.connections == 1
    await driver.close()


async def test_a_link_that_is_lost_while_asking(peer, drivers):
    peer.script = lambda request, connection: connection.hang_up()
    driver = drivers(instrument(of=OF))
    with pytest.raises(LinkLost):
        await driver.connect()
    await driver.close()


async def test_an_instrument_without_identity_is_not_asked(peer, drivers):
    (identity,) = await identities(drivers(instrument()))
    assert (identity.facts, identity.mismatches) == ((), ())
    assert peer.requests == []


async def test_what_was_refused_is_asked_again_only_of_another_device(peer, drivers):
    device = instrument(of=profile({f"r{n}": register(n) for n in range(4)}, identity=IDENTITY))
    driver = drivers(device)
    peer.script = b200(refuses={2})
    await driver.connect()
    assert (await driver.poll(device.groups[0])).values[2] is None

    peer.script = b200()
    await driver.identify("a")
    assert (await driver.poll(device.groups[0])).values[2] is None

    peer.script = b200(answers={103: 0xE241})
    assert dict((await driver.identify("a")).facts)["serial_number"] == "123457"
    assert (await driver.poll(device.groups[0])).values == (0, 0, 0, 0)
    await driver.close()

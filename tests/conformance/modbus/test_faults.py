"""Whatever comes over the wire: a value is right, or it is not there.

Each test lets the peer do one thing wrong to one request and then looks at two things: that the
poll ends at once with the right error, and that the next poll is not touched by what came before.
"""

import asyncio
import socket

import pytest

from drivers.modbus import DRIVER
from edgeagent.driver import BadReply, LinkLost
from edgeagent.model import quality
from edgeagent.model.clock import SystemClock
from tests.conformance.modbus.conftest import impatient, instrument, patient, profile, register
from tests.conformance.modbus.peer import serve

GOOD = (10, 11)


async def at_once(awaitable):
    """Fail where a poll waits for its timeout although it could know better."""
    async with asyncio.timeout(5):
        return await awaitable


@pytest.fixture
async def one(driver_of):
    """A driver with one instrument, and its only group."""
    device = instrument()
    return await driver_of(device), device.groups[0]


async def test_a_good_reply(peer, one):
    driver, group = one
    frame = await driver.poll(group)
    assert frame.group is group
    assert frame.values == GOOD
    assert (frame.status, frame.present) == (quality.GOOD, None)
    assert frame.raw.hex(" ") == "03 04 00 0a 00 0b"
    assert [(r.unit, r.pdu.hex(" ")) for r in peer.requests] == [(1, "03 00 0a 00 02")]


async def test_a_reply_that_comes_byte_by_byte(peer, one):
    driver, group = one
    peer.script = lambda r, c: c.send_bytewise(r.reply(r.registers(10, 11)))
    assert (await driver.poll(group)).values == GOOD


# ---- replies that are wrong


@pytest.mark.parametrize(
    ("answer", "cause", "words"),
    [
        (lambda r: r.reply(r.registers(10, 11), unit=2), "bad_reply", "unit 2 answered for unit 1"),
        (lambda r: r.reply(b"\x04" + r.registers(10, 11)[1:]), "bad_reply", "function 4 instead"),
        (lambda r: r.reply(r.registers(10)), "bad_reply", "reply of 4 bytes instead of 6"),
        (lambda r: r.reply(r.registers(10, 11, 12)), "bad_reply", "of 8 bytes instead of 6"),
        (lambda r: r.reply(b"\x03\x02\x00\x0a\x00\x0b"), "bad_reply", "states 2 bytes"),
        (lambda r: r.reply(b"\x2b\x0e\x01"), "bad_reply", "function 43 instead"),
        (lambda r: r.reply(b"\x03\x04"), "bad_reply", "reply of 2 bytes"),
        (lambda r: r.refusal(2), "refused", "exception 0x02"),
        (lambda r: r.refusal(6), "refused", "exception 0x06"),
        (lambda r: r.refusal(0x0A), "timeout", "exception 0x0A"),
        (lambda r: r.refusal(0x0B), "timeout", "exception 0x0B"),
    ],
)
async def test_a_wrong_reply_ends_the_poll_and_leaves_the_next_alone(
    peer, one, answer, cause, words
):
    driver, group = one
    peer.script = lambda request, connection: connection.send(answer(request))
    with pytest.raises(BadReply) as caught:
        await at_once(driver.poll(group))
    assert caught.value.cause == cause
    assert words in caught.value.detail

    peer.script = serve
    driver._readers[group].forget()  # or a refused address would be left alone for minutes
    assert (await driver.poll(group)).values == GOOD
    assert peer.connections == 1


@pytest.mark.parametrize("transaction", [0, 7, 0xFFFF])
async def test_a_reply_with_another_transaction_id_is_not_taken(peer, one, transaction):
    driver, group = one
    wrong = lambda r: r.reply(r.registers(1, 2), transaction=transaction)  # noqa: E731
    peer.script = lambda r, c: c.send(wrong(r) + r.reply(r.registers(10, 11)))
    assert (await driver.poll(group)).values == GOOD

    peer.script = lambda r, c: c.send(wrong(r))
    wire, taken = driver._wire, asyncio.Event()
    take = wire._take
    wire._take = lambda *reply: (take(*reply), taken.set())
    poll = asyncio.create_task(driver.poll(group))
    await taken.wait()
    wire._expire(wire._reply)
    with pytest.raises(BadReply) as caught:
        await poll
    assert caught.value.cause == "timeout"
    assert f"transaction id {transaction} was dropped" in caught.value.detail


@pytest.mark.parametrize(
    "answer",
    [
        lambda r: r.reply(r.registers(10, 11), protocol=1),
        lambda r: r.reply(r.registers(10, 11), length=2),
        lambda r: r.reply(r.registers(10, 11), length=255),
        lambda r: b"SSH-2.0-OpenSSH_9.2\r\n",
        lambda r: bytes(300),
        lambda r: r.reply(r.registers(10, 11))[1:] + r.reply(r.registers(10, 11)),
    ],
)
async def test_a_stream_that_is_out_of_step_is_given_up(peer, one, answer):
    driver, group = one
    peer.script = lambda request, connection: connection.send(answer(request))
    with pytest.raises(LinkLost, match="out of step"):
        await at_once(driver.poll(group))

    with pytest.raises(LinkLost, match="out of step"):
        await driver.poll(group)
    peer.script = serve
    await driver.connect()
    assert (await driver.poll(group)).values == GOOD


# ---- replies that do not come, or too late


async def test_silence_is_a_timeout_of_the_unit(peer, one):
    driver, group = one
    impatient(driver)
    peer.script = lambda request, connection: None
    with pytest.raises(BadReply) as caught:
        await driver.poll(group)
    assert caught.value.cause == "timeout"
    assert "unit 1 did not answer" in caught.value.detail


async def test_a_late_reply_is_not_taken_for_the_next(peer, one):
    driver, group = one
    late = []
    peer.script = lambda request, connection: late.append(request.reply(request.registers(1, 2)))
    impatient(driver)
    with pytest.raises(BadReply):
        await driver.poll(group)

    patient(driver)
    peer.script = lambda r, c: c.send(late.pop() + r.reply(r.registers(10, 11)))
    assert (await driver.poll(group)).values == GOOD


async def test_a_late_reply_of_which_half_came_in_time(peer, one):
    # The second half must not be read as the beginning of the next reply.
    driver, group = one
    late = []

    def half(request, connection):
        reply = request.reply(request.registers(1, 2))
        connection.send(reply[:9])
        late.append(reply[9:])

    peer.script = half
    impatient(driver)
    with pytest.raises(BadReply):
        await driver.poll(group)

    patient(driver)
    peer.script = lambda r, c: c.send(late.pop() + r.reply(r.registers(10, 11)))
    assert (await driver.poll(group)).values == GOOD
    assert peer.connections == 1


async def test_a_reply_that_comes_twice(peer, one):
    driver, group = one
    peer.script = lambda r, c: c.send(2 * r.reply(r.registers(r.transaction, 11)))
    first, second = [(await driver.poll(group)).values[0] for _ in range(2)]
    assert second == first + 1


async def test_a_reply_to_a_poll_that_was_cancelled(peer, one):
    driver, group = one
    asked, late = asyncio.Event(), []

    def withhold(request, connection):
        late.append(request.reply(request.registers(1, 2)))
        asked.set()

    peer.script = withhold
    poll = asyncio.create_task(driver.poll(group))
    await asked.wait()
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll

    peer.script = lambda r, c: c.send(late.pop() + r.reply(r.registers(10, 11)))
    assert (await driver.poll(group)).values == GOOD


async def test_a_unit_that_is_dead_costs_its_neighbours_nothing(peer, driver_of):
    alive, dead = instrument("alive", 1), instrument("dead", 2)
    driver = await driver_of(alive, dead)
    peer.script = lambda r, c: serve(r, c) if r.unit == 1 else None
    for _ in range(3):
        impatient(driver)
        with pytest.raises(BadReply) as caught:
            await driver.poll(dead.groups[0])
        assert caught.value.cause == "timeout"
        patient(driver)
        assert (await driver.poll(alive.groups[0])).values == GOOD
    assert peer.connections == 1


# ---- connections that end


@pytest.mark.parametrize("end", ["hang_up", "reset"])
async def test_a_connection_that_ends_during_a_request_ends_the_poll_at_once(peer, one, end):
    driver, group = one
    peer.script = lambda request, connection: getattr(connection, end)()
    with pytest.raises(LinkLost):
        await at_once(driver.poll(group))
    with pytest.raises(LinkLost):
        await at_once(driver.poll(group))

    peer.script = serve
    await driver.connect()
    assert (await driver.poll(group)).values == GOOD


async def test_a_connection_that_ends_within_a_reply(peer, one):
    driver, group = one

    def cut(request, connection):
        connection.send(request.reply(request.registers(10, 11))[:10])
        connection.hang_up()

    peer.script = cut
    with pytest.raises(LinkLost):
        await at_once(driver.poll(group))


async def test_closing_ends_a_poll_that_waits(peer, one):
    driver, group = one
    asked = asyncio.Event()
    peer.script = lambda request, connection: asked.set()
    poll = asyncio.create_task(driver.poll(group))
    await asked.wait()
    await driver.close()
    await driver.close()
    with pytest.raises(LinkLost, match="closed"):
        await at_once(poll)
    with pytest.raises(LinkLost):
        await driver.poll(group)


async def test_nobody_listens(peer):
    await peer.stop()
    link = DRIVER.link_settings(host="127.0.0.1", port=peer.port)
    driver = DRIVER.open(link, [instrument()], SystemClock())
    with pytest.raises(LinkLost, match=str(peer.port)):
        await at_once(driver.connect())
    await driver.close()
    await peer.start()


async def test_a_host_name_that_cannot_be_one():
    driver = DRIVER.open(DRIVER.link_settings(host="a" * 300), [instrument()], SystemClock())
    with pytest.raises(LinkLost):
        await driver.connect()


async def test_a_connection_that_is_not_accepted_in_time(peer):
    # A listener whose queue is full lets further connections wait.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        link = DRIVER.link_settings(
            host="127.0.0.1", port=listener.getsockname()[1], timeout="50 ms"
        )
        driver = DRIVER.open(link, [instrument()], SystemClock())
        with pytest.raises(LinkLost, match=r"no connection within 0\.05 s"):
            await at_once(driver.connect())
        for each in waiting:
            each.close()


async def test_nothing_is_touched_before_connect(peer):
    link = DRIVER.link_settings(host="127.0.0.1", port=peer.port)
    device = instrument()
    driver = DRIVER.open(link, [device], SystemClock())
    with pytest.raises(LinkLost):
        await driver.poll(device.groups[0])
    with pytest.raises(LinkLost):
        await driver.identify("a")
    await driver.close()
    assert peer.connections == 0


async def test_requests_leave_at_once(peer, one):
    driver, _ = one
    connection = driver._wire.transport.get_extra_info("socket")
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# ---- refusals, over the wire


async def test_a_refused_register_is_absent_and_its_neighbours_are_there(peer, driver_of):
    device = instrument(of=profile({f"r{n}": register(n) for n in range(8)}))
    driver = await driver_of(device)

    def without_five(request, connection):
        if request.address <= 5 < request.address + request.count:
            connection.send(request.refusal(2))
        else:
            serve(request, connection)

    peer.script = without_five
    frame = await driver.poll(device.groups[0])
    assert frame.values == (0, 1, 2, 3, 4, None, 6, 7)
    assert frame.present == (0, 1, 2, 3, 4, 6, 7)
    assert frame.status[5] == quality.BAD_NODE_ID_UNKNOWN

    peer.script = serve
    await driver.connect()
    assert (await driver.poll(device.groups[0])).values == tuple(range(8))


async def test_a_slow_device_keeps_its_pause(peer, driver_of):
    moments = []

    def note(request, connection):
        moments.append(asyncio.get_running_loop().time())
        serve(request, connection)

    peer.script = note
    quirks = {"quirks": {"pause_between_requests": "20 ms"}}
    device = instrument(of=profile({"x": register(0), "y": register(50)}, modbus=quirks))
    driver = await driver_of(device)
    await driver.poll(device.groups[0])
    assert moments[1] - moments[0] >= 0.019

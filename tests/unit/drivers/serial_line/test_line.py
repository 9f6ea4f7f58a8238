"""A line on which no reply says which request it answers: what is late, double or half is no value.

Method: a peer on loopback that answers by hand. Times are short; nothing depends on how short.
"""

import asyncio
from contextlib import closing, suppress

import pytest

from drivers.serial_line import DRIVER
from edgeagent.driver import BadReply, Instrument, LinkLost
from edgeagent.model.clock import SystemClock

QUICK = {"timeout": "200 ms", "deadline": "400 ms", "slowest_reply": "500 ms"}


def profile(**layout):
    return DRIVER.profile.model_validate(
        {
            "profile": "test",
            "version": "1.0.0",
            "make": "test",
            "model": "test",
            "device_class": "test",
            "driver": "serial_line",
            "source": [{"manual": "none", "confidence": "simulated-only"}],
            "serial_line": QUICK | layout,
            "commands": {
                "who": {
                    "request": "ID",
                    "read": True,
                    "source": "1",
                    "reply": {"pattern": r"ID=(?P<value>\w+)"},
                },
                "a": {
                    "request": "A",
                    "read": True,
                    "source": "2",
                    "reply": {"pattern": r"(?P<value>\d+)"},
                },
                "b": {
                    "request": "B",
                    "read": True,
                    "source": "3",
                    "reply": {"pattern": r"(?P<value>\d+)"},
                },
            },
            "identity": {"serial_number": {"command": "who"}},
            "groups": {
                "a": {"period": "1 s", "tags": {"a": {"type": "INT32", "command": "a"}}},
                "b": {"period": "1 s", "tags": {"b": {"type": "INT32", "command": "b"}}},
            },
        }
    )


class Peer:
    """A device server; ``answers`` holds what each request is answered with."""

    def __init__(self) -> None:
        self.answers = {"ID": "ID=7", "A": "1", "B": "2"}
        self.requests: list[str] = []
        self.writer: asyncio.StreamWriter | None = None
        self.echo = False
        self.connected = asyncio.Event()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._tasks = []

    async def _serve(self, reader, writer) -> None:
        self._tasks.append(asyncio.current_task())
        self.writer = writer
        self.connected.set()
        with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = (await reader.readuntil(b"\r\n")).decode()[:-2]
                self.requests.append(request)
                if self.echo:
                    self.say(request)
                answer = self.answers.get(request)
                if callable(answer):
                    await answer()
                elif answer is not None:
                    self.say(answer)

    def say(self, text: str, end: str = "\r\n") -> None:
        self.writer.write((text + end).encode("latin-1"))

    async def stop(self) -> None:
        self._server.close()
        if self.writer is not None:
            self.writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def peer():
    made = Peer()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def driver_of(peer):
    opened = []

    async def connect(of=None, **link):
        checked = of or profile()
        it = Instrument("x", checked, DRIVER.instrument_settings(), checked.schemas("x", {}))
        settings = DRIVER.link_settings(host="127.0.0.1", port=peer.port, **link)
        driver = DRIVER.open(settings, [it], SystemClock())
        opened.append(driver)
        identities = await driver.connect()
        return driver, *it.groups, identities

    yield connect
    for driver in opened:
        await driver.close()


async def value(driver, group):
    return (await driver.poll(group)).values[0]


async def test_values_come_and_identity_comes_first(peer, driver_of):
    driver, a, b, identities = await driver_of()
    assert identities[0].facts == (("serial_number", "7"),)
    assert await value(driver, a) == 1
    assert await value(driver, b) == 2
    assert peer.requests == ["ID", "A", "B"]


async def test_a_late_reply_is_never_the_value_of_another_request(peer, driver_of):
    driver, a, b, _ = await driver_of()

    async def late() -> None:
        asyncio.get_running_loop().call_later(0.3, peer.say, "999")

    peer.answers["A"] = late
    with pytest.raises(BadReply, match="did not answer a") as caught:
        await value(driver, a)
    assert caught.value.cause == "timeout"
    assert await value(driver, b) == 2
    # It proved to be in step before it was asked again.
    assert peer.requests == ["ID", "A", "ID", "B"]


async def test_a_second_copy_is_noticed_and_the_line_brought_in_step(peer, driver_of):
    driver, a, b, _ = await driver_of()

    async def twice() -> None:
        peer.say("1")
        asyncio.get_running_loop().call_later(0.02, peer.say, "1")

    peer.answers["A"] = twice
    assert await value(driver, a) == 1
    await asyncio.sleep(0.05)
    assert await value(driver, b) == 2
    assert peer.requests == ["ID", "A", "ID", "B"]


async def test_two_replies_at_once_are_none(peer, driver_of):
    driver, a, _, _ = await driver_of()
    peer.answers["A"] = "1\r\n1"
    with pytest.raises(BadReply, match="behind the reply") as caught:
        await value(driver, a)
    assert caught.value.cause == "bad_reply"


async def test_dripping_does_not_prolong_the_deadline(peer, driver_of):
    driver, _, _, _ = await driver_of()

    async def drip() -> None:
        for _ in range(30):
            peer.say("1", end="")
            await asyncio.sleep(0.02)

    peer.answers["A"] = drip
    with pytest.raises(BadReply, match=r"within 0.4 s; \d+ characters came"):
        await driver._line._exchange(driver._devices["x"].station, _command(driver, "a"))


def _command(driver, name):
    reader = next(r for g, r in driver._devices["x"].readers.items() if g.group == name)
    return reader._commands[0]


async def test_babble_loses_the_link_and_takes_no_memory(peer, driver_of):
    driver, a, _, _ = await driver_of()
    # A busy machine may pause the peer for some milliseconds: that is no rest on the line.
    driver._line._silence_s = 0.3
    stop = False

    async def babble() -> None:
        while not stop:
            peer.say("x" * 500, end="")
            await asyncio.sleep(0.002)

    peer.answers["A"] = babble
    try:
        with pytest.raises(LinkLost, match="never silent"):
            await value(driver, a)
        assert len(driver._line._heard) == 0
    finally:
        stop = True


async def test_a_cancelled_request_leaves_nothing_for_the_next(peer, driver_of):
    driver, a, b, _ = await driver_of()
    arrived = asyncio.Event()

    async def wait() -> None:
        arrived.set()
        await asyncio.sleep(0.02)
        peer.say("999")

    peer.answers["A"] = wait
    poll = asyncio.ensure_future(driver.poll(a))
    await arrived.wait()
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)
    assert await value(driver, b) == 2
    assert peer.requests == ["ID", "A", "ID", "B"]


async def test_an_instrument_that_was_swapped_behind_the_agent_is_identified_anew(peer, driver_of):
    driver, a, b, _ = await driver_of()
    peer.answers |= {"A": None, "ID": "ID=8"}
    with pytest.raises(BadReply):
        await value(driver, a)
    with pytest.raises(LinkLost, match="otherwise than when it was identified"):
        await value(driver, b)
    (identity,) = await driver.connect()
    assert identity.facts == (("serial_number", "8"),)


async def test_a_proof_that_fails_again_and_again_loses_the_link(peer, driver_of):
    driver, a, b, _ = await driver_of()
    peer.answers |= {"A": None, "ID": "999"}
    with pytest.raises(BadReply):
        await value(driver, a)
    for _ in range(2):
        with pytest.raises(BadReply, match="is no reply to who"):
            await value(driver, b)
    with pytest.raises(LinkLost, match="brought in step"):
        await value(driver, b)


async def test_an_echo_is_taken_off_and_compared(peer, driver_of):
    peer.echo = True
    driver, a, _, _ = await driver_of(profile(echo=True))
    assert await value(driver, a) == 1
    peer.echo = False
    with pytest.raises(BadReply, match="no echo"):
        await value(driver, a)


async def test_an_echo_that_nobody_stated_is_told(peer, driver_of):
    driver, a, _, _ = await driver_of()
    peer.echo = True
    with pytest.raises(BadReply, match="write echo: true"):
        await value(driver, a)


async def test_the_echo_of_an_adapter_is_a_setting_of_the_link(peer, driver_of):
    peer.echo = True
    driver, a, _, _ = await driver_of(echo=True)
    assert await value(driver, a) == 1


@pytest.mark.parametrize("cut", range(1, 6))
async def test_a_reply_may_come_in_pieces_cut_anywhere(peer, driver_of, cut):
    driver, a, _, _ = await driver_of()

    async def pieces() -> None:
        whole = "1234\r\n"
        peer.say(whole[:cut], end="")
        await asyncio.sleep(0.01)
        peer.say(whole[cut:], end="")

    peer.answers["A"] = pieces
    assert await value(driver, a) == 1234


async def test_what_came_before_the_line_was_opened_is_dropped(peer, driver_of):
    async def connected() -> None:
        await peer.connected.wait()
        peer.say("999")

    greeting = asyncio.ensure_future(connected())
    driver, a, _, _ = await driver_of()
    await greeting
    assert await value(driver, a) == 1

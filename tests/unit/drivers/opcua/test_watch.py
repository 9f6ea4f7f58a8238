"""Silence is noticed, whoever is silent, and nobody is blamed for a silence of our own.

Method: a channel and a pump that do what the test says, on virtual time.
"""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from drivers.opcua.pump import Pump
from drivers.opcua.subscription import Subscription, republish
from drivers.opcua.watch import watch
from edgeagent.driver import LinkLost
from tests.unit.drivers.opcua.test_notification import message, with_picoseconds

pytestmark = pytest.mark.looptime


class Server:
    """A channel to a server whose clock and whose subscription a test can stop."""

    def __init__(self) -> None:
        self.lost: str | None = None
        self.was_cut = False
        self.clock_runs = True
        self.answers = True
        self.asked = 0
        self.on_ask = lambda: None

    async def ask(self, request, response, timeout_s=0):
        self.asked += 1
        await asyncio.sleep(0.01)
        if not self.answers:
            raise LinkLost("no answer to ReadRequest within 2 s")
        self.on_ask()
        now = asyncio.get_running_loop().time() if self.clock_runs else 5.0
        value = SimpleNamespace(Value=SimpleNamespace(Value=now))
        return SimpleNamespace(Results=[value])

    def send(self, request):
        return asyncio.get_running_loop().create_future()

    def abort(self, reason: str) -> None:
        self.lost = self.lost or reason


@asynccontextmanager
async def watched():
    server = Server()
    pump = Pump(server, asyncio.Event())
    pump.start(1, [])
    subscription = Subscription(7, [], 3.0, asyncio.get_running_loop().time())
    task = asyncio.create_task(watch(server, pump, [subscription]))
    try:
        yield SimpleNamespace(server=server, pump=pump, subscription=subscription)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def hear_for(world, seconds: float) -> None:
    for _ in range(round(seconds)):
        world.pump.heard[7] = asyncio.get_running_loop().time()
        await asyncio.sleep(1)


async def test_a_server_that_speaks_is_asked_its_time_now_and_then():
    async with watched() as world:
        await hear_for(world, 60)
        assert world.pump.failure is None
        assert 10 <= world.server.asked <= 13


async def test_a_subscription_that_is_silent_is_dead_and_the_link_lost():
    async with watched() as world:
        await hear_for(world, 10)
        await asyncio.sleep(4)
        assert world.pump.failure == "the subscription was silent for more than 3.0 s"
        assert world.subscription.dead == world.pump.failure
        assert world.server.lost is None


async def test_a_server_that_does_not_answer_is_lost():
    async with watched() as world:
        world.server.answers = False
        await asyncio.sleep(4)
        assert world.server.lost is not None
        assert world.pump.failure.startswith("the server does not tell its time: no answer to")


async def test_a_clock_that_stands_still_is_a_server_that_does():
    async with watched() as world:
        world.server.clock_runs = False
        await hear_for(world, 12)
        assert world.pump.failure == "the server's clock stands still"


async def test_what_arrives_while_the_server_is_asked_counts():
    """Our own process was stopped: the messages were there all the time."""
    async with watched() as world:
        loop = asyncio.get_running_loop()
        world.server.on_ask = lambda: world.pump.heard.update({7: loop.time()})
        await asyncio.sleep(20)
        assert world.pump.failure is None


async def test_a_server_that_nobody_asks_for_messages_may_be_silent():
    async with watched() as world:
        world.pump._outstanding = 0
        await asyncio.sleep(20)
        assert world.pump.failure is None


async def test_a_republished_message_about_nothing_is_none():
    """Some servers answer any Republish; taken for a message it would be asked for without end."""
    subscription = Subscription(7, [], 3.0, 0.0, 17)

    async def answer(body):
        async def ask_bytes(request):
            return body

        return await republish(SimpleNamespace(ask_bytes=ask_bytes), subscription)

    found = await answer(message(with_picoseconds(1, 2.0), type_id=835))
    assert found is not None
    assert found.samples.values == [2.0]
    subscription.expected = 18
    assert await answer(message(with_picoseconds(1, 2.0), type_id=835)) is None

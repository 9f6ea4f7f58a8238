"""Silence is noticed: of a subscription, of the server, of its clock; and withdrawn trust."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from drivers.opcua.nodes import SERVER_TIME, read_values
from drivers.opcua.pump import Pump
from drivers.opcua.stack import Channel, Refused, ua
from drivers.opcua.subscription import Subscription
from edgeagent.driver import LinkLost

CHECK_EVERY_S = 0.5
PROBE_EVERY_S = 5.0
"""The server's clock is read so often; one that stands still is a server that does."""
JUDGE_EVERY_S = 10.0
"""A person who rejects a certificate, or whose authority revokes it, does not wait for long."""


async def _never() -> str | None:
    return None


async def watch(
    channel: Channel,
    pump: Pump,
    subscriptions: Collection[Subscription],
    withdrawn: Callable[[], Awaitable[str | None]] = _never,
) -> None:
    """End the pump, with the reason, when something was silent for too long, or trust is withdrawn.

    A silence may be ours: a process that was stopped finds its messages only after the clock has
    run on. So the server is asked for its time before anybody is blamed; what it sent before its
    answer has arrived by then.

    :param withdrawn: returns why the server is trusted no more, ``None`` while it is
    """
    loop = asyncio.get_running_loop()
    probed_s, last = loop.time(), None
    judged_s = probed_s
    while True:
        await asyncio.sleep(CHECK_EVERY_S)
        if loop.time() - judged_s >= JUDGE_EVERY_S:
            reason = await withdrawn()
            if reason is not None:
                _end(channel, pump, reason)
                return
            judged_s = loop.time()
        is_late = bool(_late(pump, subscriptions, loop.time()))
        if not is_late and loop.time() - probed_s < PROBE_EVERY_S:
            continue
        try:
            (time,) = await read_values(channel, [ua.NodeId(SERVER_TIME)], 1)
        except (LinkLost, Refused) as error:
            _end(channel, pump, f"the server does not tell its time: {error}")
            return
        now = None if time.Value is None else time.Value.Value
        if now is not None and now == last and loop.time() - probed_s >= PROBE_EVERY_S:
            _end(channel, pump, "the server's clock stands still")
            return
        probed_s, last = loop.time(), now
        for each in _late(pump, subscriptions, loop.time()):
            each.dead = f"the subscription was silent for more than {each.window_s:.1f} s"
            pump.fail(each.dead)
        if pump.failure is not None:
            return


def _end(channel: Channel, pump: Pump, reason: str) -> None:
    channel.abort(reason)
    pump.fail(reason)


def _late(pump: Pump, subscriptions: Collection[Subscription], now_s: float) -> list[Subscription]:
    """Return the subscriptions that have been silent for longer than the server agreed to."""
    late = []
    for each in subscriptions:
        heard_s = pump.heard.get(each.number, each.heard_s)
        if not pump.is_asking:  # it may not speak: we take nothing
            pump.heard[each.number] = now_s
        elif now_s - heard_s > each.window_s:
            late.append(each)
    return late

"""Silence is noticed: of a subscription, of the server, of the server's clock."""

import asyncio
from collections.abc import Collection

from drivers.opcua.nodes import SERVER_TIME, read_values
from drivers.opcua.pump import Pump
from drivers.opcua.stack import Channel, Refused, ua
from drivers.opcua.subscription import Subscription
from edgeagent.driver import LinkLost

CHECK_EVERY_S = 0.5
PROBE_EVERY_S = 5.0
"""The server's clock is read so often; one that stands still is a server that does."""


async def watch(channel: Channel, pump: Pump, subscriptions: Collection[Subscription]) -> None:
    """End the pump, with the reason, when something has been silent for too long.

    A silence may be ours: a process that was stopped finds its messages only after the clock has
    run on. So the server is asked for its time before anybody is blamed; what it sent before its
    answer has arrived by then.
    """
    loop = asyncio.get_running_loop()
    probed_s, last = loop.time(), None
    while True:
        await asyncio.sleep(CHECK_EVERY_S)
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

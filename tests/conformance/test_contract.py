"""The contract can be kept, and its rules see who does not keep it.

Method: a polled and a subscribed driver over a line in memory keep every rule; each liar, who is
honest but for one thing, is caught by a rule.
"""

import asyncio
from dataclasses import replace

import pytest

from edgeagent.driver import BadReply, Frame, Identity, LinkLost
from edgeagent.model.clock import SystemClock
from tests.conformance import contract
from tests.fakes import group_of, instrument_of


class Line:
    """The stand: a wire in memory, with instruments at its end."""

    def __init__(self, driver_class) -> None:
        self.clock = SystemClock()
        self.instruments = (
            instrument_of(group_of("probe", "fast"), group_of("probe", "slow")),
            instrument_of(group_of("scale", tags=3)),
        )
        self.is_whole = True
        self.silent: set[str] = set()
        self.kept: list[int] = []
        self.changed = asyncio.Event()
        self._driver_class = driver_class

    def driver(self):
        return self._driver_class(self)

    async def cut(self) -> None:
        self.is_whole = False
        self.changed.set()

    async def mend(self) -> None:
        self.is_whole = True

    async def silence(self, instrument: str) -> None:
        self.silent.add(instrument)

    async def wake(self, instrument: str) -> None:
        self.silent.discard(instrument)

    async def push(self, number: int) -> None:
        self.kept.append(number)
        self.changed.set()

    def number_of(self, frame: Frame) -> int:
        return int(frame.values[0])


class Honest:
    """What both kinds have in common."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.is_open = False

    async def connect(self):
        await asyncio.sleep(0)
        if not self.line.is_whole:
            raise LinkLost("refused")
        self.is_open = True
        await asyncio.sleep(0)
        return tuple(
            Identity(each.name, (("make", "Acme"),))
            for each in self.line.instruments
            if each.name not in self.line.silent
        )

    async def close(self) -> None:
        self.is_open = False

    def frame(self, group, number=0.0) -> Frame:
        values = (float(number), *([0.5] * (len(group.tags) - 1)))
        return Frame(group, values, self.line.clock.utc_ns(), self.line.clock.boot_ns(), b"raw")


class HonestPolled(Honest):
    async def _ask(self, instrument: str) -> None:
        await asyncio.sleep(0)
        if not self.is_open or not self.line.is_whole:
            raise LinkLost("not connected")
        if instrument in self.line.silent:
            raise BadReply("timeout", f"{instrument} did not answer")
        await asyncio.sleep(0)

    async def identify(self, instrument: str) -> Identity:
        await self._ask(instrument)
        return Identity(instrument, (("make", "Acme"),))

    async def poll(self, group) -> Frame:
        await self._ask(group.instrument)
        return self.frame(group)


class HonestSubscribed(Honest):
    """The device keeps what was not committed and pushes it again."""

    sent = 0

    def resume(self, durable) -> None:
        """It has no times by which to know what is stored."""

    async def connect(self):
        self.sent = 0
        return await super().connect()

    async def next(self):
        line = self.line
        while self.is_open and line.is_whole and self.sent == len(line.kept):
            line.changed.clear()
            await line.changed.wait()
        if not self.is_open or not line.is_whole:
            raise LinkLost("not connected")
        fresh = line.kept[self.sent :]
        self.sent = len(line.kept)
        return [self.frame(line.instruments[0].groups[0], number) for number in fresh]

    async def committed(self, upto: Frame) -> None:
        number = self.line.number_of(upto)
        before = len(self.line.kept)
        self.line.kept[:] = [kept for kept in self.line.kept if kept > number]
        self.sent -= before - len(self.line.kept)


@pytest.mark.parametrize("rule", contract.POLLED, ids=contract.name)
async def test_a_polled_driver_can_keep_the_contract(rule):
    await rule(Line(HonestPolled))


@pytest.mark.parametrize("rule", contract.SUBSCRIBED, ids=contract.name)
async def test_a_subscribed_driver_can_keep_the_contract(rule):
    await rule(Line(HonestSubscribed))


class NamesNobody(HonestPolled):
    async def connect(self):
        await super().connect()
        return ()


class NamesTheSilent(HonestPolled):
    async def connect(self):
        await super().connect()
        return tuple(Identity(each.name) for each in self.line.instruments)


class StatesNumbers(HonestPolled):
    async def identify(self, instrument):
        return Identity(instrument, (("serial_number", 7),))


class RaisesOSError(HonestPolled):
    async def connect(self):
        if not self.line.is_whole:
            raise ConnectionRefusedError
        return await super().connect()


class NeverSaysLost(HonestPolled):
    async def _ask(self, instrument):
        if not self.is_open or not self.line.is_whole:
            raise BadReply("timeout", "no answer")
        await super()._ask(instrument)


class ClosesOnce(HonestPolled):
    async def close(self):
        if not self.is_open:
            raise RuntimeError("not open")
        await super().close()


class InventsValues(HonestPolled):
    async def poll(self, group):
        try:
            return await super().poll(group)
        except BadReply:
            return self.frame(group)


class ForgetsAValue(HonestPolled):
    async def poll(self, group):
        frame = await super().poll(group)
        return replace(frame, values=frame.values[1:])


class GivesText(HonestPolled):
    async def poll(self, group):
        frame = await super().poll(group)
        return replace(frame, values=("7.0", *frame.values[1:]))


class GivesNothing(HonestPolled):
    async def poll(self, group):
        frame = await super().poll(group)
        return replace(frame, values=(None,) * len(frame.values), present=())


class IsNoneAndGood(HonestPolled):
    async def poll(self, group):
        frame = await super().poll(group)
        return replace(frame, values=(None, *frame.values[1:]))


class CopiesTheSchema(HonestPolled):
    async def poll(self, group):
        frame = await super().poll(group)
        return replace(frame, group=replace(group))


class TakesTheDevicesTime(HonestPolled):
    async def poll(self, group):
        return replace(await super().poll(group), received_utc_ns=0)


class GetsStuck(HonestPolled):
    """A cancelled poll leaves half a reply, which the next one takes for its own."""

    dirty = False

    async def poll(self, group):
        dirty, self.dirty = self.dirty, True
        frame = await super().poll(group)
        self.dirty = False
        return replace(frame, values=("stale",) * len(frame.values)) if dirty else frame


class LeavesTheDoorOpen(HonestPolled):
    async def poll(self, group):
        self.is_open = True
        return await super().poll(group)


POLLED_LIARS = [
    NamesNobody, NamesTheSilent, StatesNumbers, RaisesOSError, NeverSaysLost, ClosesOnce,
    InventsValues, ForgetsAValue, GivesText, GivesNothing, IsNoneAndGood, CopiesTheSchema,
    TakesTheDevicesTime, GetsStuck, LeavesTheDoorOpen,
]  # fmt: skip


class Shuffles(HonestSubscribed):
    async def next(self):
        return (await super().next())[::-1]


class LosesWhenCancelled(HonestSubscribed):
    async def next(self):
        pushed = await super().next()
        await asyncio.sleep(0)
        return pushed


class ForgetsAtOnce(HonestSubscribed):
    async def next(self):
        pushed = await super().next()
        await self.committed(pushed[-1])
        return pushed


class WaitsForEver(HonestSubscribed):
    async def next(self):
        try:
            return await super().next()
        except LinkLost:
            await asyncio.sleep(0.1)
            return []


class CommitsOnce(HonestSubscribed):
    async def committed(self, upto):
        if self.line.number_of(upto) not in self.line.kept:
            raise KeyError(upto)
        await super().committed(upto)


SUBSCRIBED_LIARS = [Shuffles, LosesWhenCancelled, ForgetsAtOnce, WaitsForEver, CommitsOnce]


async def broken_rules(rules, liar) -> list[str]:
    broken = []
    for rule in rules:
        try:
            await rule(Line(liar))
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - any way to fail will do
            broken.append(contract.name(rule))
    return broken


@pytest.mark.looptime
@pytest.mark.parametrize("liar", POLLED_LIARS, ids=lambda liar: liar.__name__)
async def test_who_breaks_the_polled_contract_is_caught(liar):
    assert await broken_rules(contract.POLLED, liar)


@pytest.mark.looptime
@pytest.mark.parametrize("liar", SUBSCRIBED_LIARS, ids=lambda liar: liar.__name__)
async def test_who_breaks_the_subscribed_contract_is_caught(liar):
    assert await broken_rules(contract.SUBSCRIBED, liar)

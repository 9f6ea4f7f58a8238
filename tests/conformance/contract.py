"""What every driver must do, whatever it speaks: the contract of ``edgeagent/driver.py`` as checks.

A driver's own tests make a stand, with its wire or with a stand-in for it, and run every rule::

    @pytest.mark.parametrize("rule", contract.POLLED, ids=contract.name)
    async def test_contract(rule, stand):
        await rule(stand)

Each rule begins with a driver that was never connected and leaves it closed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest

from edgeagent.driver import (
    BadReply,
    Frame,
    GroupSchema,
    Identity,
    Instrument,
    LinkLost,
    Loss,
    PolledDriver,
    SubscribedDriver,
)
from edgeagent.model import quality
from edgeagent.model.clock import Clock
from edgeagent.model.frame import DataType

WAIT_S = 10.0
"""How long a device that pushes may take."""

_KINDS: dict[DataType, type] = {
    DataType.BOOL: bool,
    DataType.FLOAT32: float,
    DataType.FLOAT64: float,
    DataType.STRING: str,
}


class PolledStand(Protocol):
    """One link with its instruments, and what can be done to it."""

    instruments: Sequence[Instrument]
    clock: Clock

    def driver(self) -> PolledDriver:
        """Return a new driver of this link."""

    async def cut(self) -> None:
        """Break the link, and refuse new connections."""

    async def mend(self) -> None:
        """Let connections be made again."""

    async def silence(self, instrument: str) -> None:
        """Let one instrument answer nothing more."""

    async def wake(self, instrument: str) -> None:
        """Let it answer again."""


class SubscribedStand(Protocol):
    """One link on which a device pushes, and what can be done to it."""

    instruments: Sequence[Instrument]
    clock: Clock

    def driver(self) -> SubscribedDriver:
        """Return a new driver of this link."""

    async def cut(self) -> None:
        """Break the link, and refuse new connections."""

    async def mend(self) -> None:
        """Let connections be made again."""

    async def push(self, number: int) -> None:
        """Let the device have a new value: one that :meth:`number_of` recognises."""

    def number_of(self, frame: Frame) -> int:
        """Return which of the pushed values a frame holds."""


def name(rule: Callable[..., object]) -> str:
    """Return how a test run calls a rule."""
    return rule.__name__


@asynccontextmanager
async def connected(stand: Any) -> AsyncIterator[Any]:
    """A driver that is up, closed at the end."""
    driver = stand.driver()
    await driver.connect()
    try:
        yield driver
    finally:
        await driver.close()


def _groups(stand: Any) -> list[GroupSchema]:
    return [group for instrument in stand.instruments for group in instrument.groups]


# -- what a frame and an identity are ----------------------------------------------------------


def check_frame(frame: Frame, clock: Clock, *groups: GroupSchema) -> None:
    """A frame is against a schema of this link, complete, and of this moment."""
    assert any(frame.group is group for group in groups), "the schema is the compiled one itself"
    tags = frame.group.tags
    assert len(frame.values) == len(tags)
    assert frame.raw is None or isinstance(frame.raw, bytes)
    assert 0 <= clock.boot_ns() - frame.received_boot_ns < 60 * 10**9
    assert abs(clock.utc_ns() - frame.received_utc_ns) < 60 * 10**9
    present = range(len(tags)) if frame.present is None else frame.present
    assert list(present) == sorted(set(present))
    assert set(present) <= set(range(len(tags)))
    assert len(present) > 0, "a frame without a value is a BadReply"
    for shape in (frame.status, frame.source_utc_ns, frame.server_utc_ns):
        assert not isinstance(shape, tuple) or len(shape) == len(tags)
    for index, (tag, value) in enumerate(zip(tags, frame.values, strict=True)):
        status = frame.status if isinstance(frame.status, int) else frame.status[index]
        if index not in present:
            assert value is None
        elif value is None:
            assert quality.is_bad(status), f"{tag.name} has no value and is not said to be bad"
        else:
            assert type(value) is _KINDS.get(tag.type, int), f"{tag.name} is {value!r}"
            str(value).encode("utf-8")  # a body holds it


def check_identity(identity: Identity, instruments: Sequence[Instrument]) -> None:
    """An identity names an instrument of this link and states facts in words."""
    assert identity.instrument in {instrument.name for instrument in instruments}
    for fact, text in identity.facts:
        assert isinstance(fact, str)
        assert isinstance(text, str)
        text.encode("utf-8")
    assert len(dict(identity.facts)) == len(identity.facts)
    assert all(isinstance(words, str) and words for words in identity.mismatches)


# -- a polled driver ---------------------------------------------------------------------------


async def touches_nothing_until_it_connects(stand: PolledStand) -> None:
    await stand.cut()
    driver = stand.driver()
    await driver.close()
    await stand.mend()


async def who_answers_is_named_on_connect(stand: PolledStand) -> None:
    driver = stand.driver()
    identities = await driver.connect()
    for identity in identities:
        check_identity(identity, stand.instruments)
    assert [i.instrument for i in identities] == [i.name for i in stand.instruments]
    await driver.close()


async def each_group_can_be_polled_many_times(stand: PolledStand) -> None:
    async with connected(stand) as driver:
        for _ in range(3):
            for group in _groups(stand):
                frame = await driver.poll(group)
                check_frame(frame, stand.clock, group)


async def each_instrument_can_be_asked_who_it_is(stand: PolledStand) -> None:
    async with connected(stand) as driver:
        for instrument in stand.instruments:
            identity = await driver.identify(instrument.name)
            check_identity(identity, [instrument])


async def who_is_silent_is_left_out_on_connect(stand: PolledStand) -> None:
    silent = stand.instruments[0].name
    await stand.silence(silent)
    async with _quiet(stand, silent):
        driver = stand.driver()
        answered = {identity.instrument for identity in await driver.connect()}
        assert answered == {each.name for each in stand.instruments} - {silent}
        await driver.close()


async def who_is_silent_is_a_timeout_and_disturbs_no_neighbour(stand: PolledStand) -> None:
    async with connected(stand) as driver:
        silent, *others = stand.instruments
        async with _quiet(stand, silent.name):
            for ask, whom in ((driver.poll, silent.groups[0]), (driver.identify, silent.name)):
                with pytest.raises(BadReply) as caught:
                    await ask(whom)
                assert caught.value.cause == "timeout"
                assert caught.value.detail
            for group in (group for other in others for group in other.groups):
                check_frame(await driver.poll(group), stand.clock, group)
        for group in silent.groups:
            check_frame(await driver.poll(group), stand.clock, group)


@asynccontextmanager
async def _quiet(stand: PolledStand, instrument: str) -> AsyncIterator[None]:
    await stand.silence(instrument)
    try:
        yield
    finally:
        await stand.wake(instrument)


async def a_link_that_cannot_be_opened_is_lost(stand: Any) -> None:
    await stand.cut()
    driver = stand.driver()
    for _ in range(2):
        with pytest.raises(LinkLost):
            await driver.connect()
        await driver.close()
    await stand.mend()
    await driver.connect()
    await driver.close()


async def a_link_that_is_cut_is_lost_and_can_be_opened_again(stand: PolledStand) -> None:
    async with connected(stand) as driver:
        group = _groups(stand)[0]
        await driver.poll(group)
        await stand.cut()
        with pytest.raises(LinkLost):
            await _polled_often(driver, group)
        with pytest.raises(LinkLost):
            await driver.identify(stand.instruments[0].name)
        await driver.close()
        await stand.mend()
        await driver.connect()
        check_frame(await driver.poll(group), stand.clock, group)


async def _polled_often(driver: PolledDriver, group: GroupSchema) -> None:
    for _ in range(3):  # what was on its way when the link was cut may still come
        await driver.poll(group)


async def what_is_not_open_is_lost(stand: PolledStand) -> None:
    driver = stand.driver()
    for _ in range(2):
        with pytest.raises(LinkLost):
            await driver.poll(_groups(stand)[0])
        with pytest.raises(LinkLost):
            await driver.identify(stand.instruments[0].name)
        await driver.connect()
        await driver.close()


async def closing_is_allowed_at_any_time(stand: Any) -> None:
    driver = stand.driver()
    await driver.close()
    await driver.connect()
    await driver.close()
    await driver.close()
    await driver.connect()
    await stand.cut()
    await driver.close()
    await stand.mend()


async def a_cancelled_poll_spoils_no_later_one(stand: PolledStand) -> None:
    """After a cancelled call the line may be dirty; the values may not."""
    async with connected(stand) as driver:
        for steps in range(6):
            for group in _groups(stand):
                await _cancelled(driver.poll(group), after_steps=steps)
                try:
                    frame = await driver.poll(group)
                except (BadReply, LinkLost):
                    await driver.close()
                    await driver.connect()
                    frame = await driver.poll(group)
                check_frame(frame, stand.clock, group)


async def a_cancelled_connect_leaves_nothing_behind(stand: Any) -> None:
    for steps in range(6):
        driver = stand.driver()
        await _cancelled(driver.connect(), after_steps=steps)
        await driver.close()
        await driver.connect()
        await driver.close()


async def _cancelled(work: Any, after_steps: int) -> None:
    """Begin a call and cancel it after some turns of the loop."""
    task = asyncio.ensure_future(work)
    for _ in range(after_steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# -- a subscribed driver -----------------------------------------------------------------------


async def who_is_there_is_named_on_connect(stand: SubscribedStand) -> None:
    async with connected(stand) as driver:
        await driver.close()
        for identity in await driver.connect():
            check_identity(identity, stand.instruments)


async def _taken(stand: SubscribedStand, driver: SubscribedDriver, count: int) -> list[Frame]:
    frames: list[Frame] = []
    async with asyncio.timeout(WAIT_S):
        while len(frames) < count:
            pushed = await driver.next()
            assert len(pushed) > 0
            for item in pushed:
                assert isinstance(item, Frame | Loss)
                if isinstance(item, Frame):
                    check_frame(item, stand.clock, *_groups(stand))
                    frames.append(item)
    return frames


async def what_is_pushed_comes_in_order(stand: SubscribedStand) -> None:
    async with connected(stand) as driver:
        for number in range(5):
            await stand.push(number)
        frames = await _taken(stand, driver, 5)
        assert [stand.number_of(frame) for frame in frames] == list(range(5))


async def waiting_is_safe_to_cancel(stand: SubscribedStand) -> None:
    async with connected(stand) as driver:
        numbers: list[int] = []
        for number in range(6):
            waiting = asyncio.ensure_future(driver.next())
            for _ in range(number):
                await asyncio.sleep(0)
            await stand.push(number)
            waiting.cancel()
            found = await asyncio.gather(waiting, return_exceptions=True)
            if not isinstance(found[0], BaseException):
                numbers += [stand.number_of(item) for item in found[0] if isinstance(item, Frame)]
        frames = await _taken(stand, driver, 6 - len(numbers)) if len(numbers) < 6 else []
        assert numbers + [stand.number_of(frame) for frame in frames] == list(range(6))


async def what_is_durable_may_be_said_while_waiting(stand: SubscribedStand) -> None:
    """Of every frame, of the last only, and again; also while ``next`` waits."""
    async with connected(stand) as driver:
        for number in range(4):
            await stand.push(number)
        frames = await _taken(stand, driver, 4)
        await driver.committed(frames[0])
        await driver.committed(frames[3])
        await driver.committed(frames[3])
        waiting = asyncio.ensure_future(driver.next())
        await asyncio.sleep(0)
        await driver.committed(frames[3])
        await stand.push(4)
        async with asyncio.timeout(WAIT_S):
            assert [stand.number_of(frame) for frame in await waiting] == [4]


async def what_was_not_said_to_be_durable_is_not_forgotten(stand: SubscribedStand) -> None:
    """It comes again after a reconnect, or the driver says that it is lost."""
    async with connected(stand) as driver:
        for number in range(3):
            await stand.push(number)
        frames = await _taken(stand, driver, 3)
        await driver.committed(frames[0])
        await stand.cut()
        await driver.close()
        await stand.mend()
        await driver.connect()
        await stand.push(3)
        seen: list[int | Loss] = []
        async with asyncio.timeout(WAIT_S):
            while 3 not in seen:
                for item in await driver.next():
                    seen.append(item if isinstance(item, Loss) else stand.number_of(item))
        assert any(isinstance(item, Loss) for item in seen) or seen == [1, 2, 3]


async def a_link_that_is_cut_while_waiting_is_lost(stand: SubscribedStand) -> None:
    async with connected(stand) as driver:
        waiting = asyncio.ensure_future(_no_frame(driver))
        await asyncio.sleep(0)
        await stand.cut()
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(LinkLost):
                await waiting
            with pytest.raises(LinkLost):
                await driver.next()
        await stand.mend()


async def _no_frame(driver: SubscribedDriver) -> None:
    """Wait; that nothing was missed, since the driver listens again, may be said."""
    while True:
        for item in await driver.next():
            assert isinstance(item, Loss)


async def what_is_closed_pushes_nothing(stand: SubscribedStand) -> None:
    driver = stand.driver()
    for _ in range(2):
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(LinkLost):
                await driver.next()
        await driver.connect()
        await driver.close()


Rule = Callable[[Any], Awaitable[None]]

POLLED: tuple[Rule, ...] = (
    touches_nothing_until_it_connects,
    who_answers_is_named_on_connect,
    each_group_can_be_polled_many_times,
    each_instrument_can_be_asked_who_it_is,
    who_is_silent_is_left_out_on_connect,
    who_is_silent_is_a_timeout_and_disturbs_no_neighbour,
    a_link_that_cannot_be_opened_is_lost,
    a_link_that_is_cut_is_lost_and_can_be_opened_again,
    what_is_not_open_is_lost,
    closing_is_allowed_at_any_time,
    a_cancelled_poll_spoils_no_later_one,
    a_cancelled_connect_leaves_nothing_behind,
)

SUBSCRIBED: tuple[Rule, ...] = (
    touches_nothing_until_it_connects,
    who_is_there_is_named_on_connect,
    what_is_pushed_comes_in_order,
    waiting_is_safe_to_cancel,
    what_is_durable_may_be_said_while_waiting,
    what_was_not_said_to_be_durable_is_not_forgotten,
    a_link_that_cannot_be_opened_is_lost,
    a_link_that_is_cut_while_waiting_is_lost,
    what_is_closed_pushes_nothing,
    closing_is_allowed_at_any_time,
    a_cancelled_connect_leaves_nothing_behind,
)

"""Our driver as the master of a serial line with two libmodbus units, and what must hold of it.

A value is right if the unit has answered a request for that register with it while the poll that
brought it was going on: the slave's own ledger says so. Everything else is a wrong value. A poll
that brings nothing is never wrong, so each test also says how many must bring something.
"""

import asyncio
import contextlib
import itertools
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from drivers.modbus import DRIVER
from edgeagent.driver import BadReply, Frame, Instrument, LinkLost, PolledDriver
from edgeagent.model.clock import SystemClock
from tests.system.ledger import (
    IDENTITY_ADDRESS,
    READ_HOLDING,
    READ_INPUT,
    Answer,
    LedgerSlave,
    answered,
)
from tests.system.serial_bus import BusFault, Probabilities, SerialBus

UNITS = (17, 18)
REGISTERS = 40
TIMEOUT_S = 0.03
RECONNECT_S = 0.01
HEALED_WITHIN_S = 60.0

CLOCK = SystemClock()


class Block(NamedTuple):
    """Registers that are polled together."""

    function: int
    address: int
    count: int


BLOCKS = {
    "low": Block(READ_HOLDING, 0, 10),
    "high": Block(READ_HOLDING, 20, 10),  # in every reply but its content alike to that of low
    "complement": Block(READ_INPUT, 0, 10),
    "short": Block(READ_HOLDING, 0, 3),
}


class Polled(NamedTuple):
    """What one poll brought: values by register, and when it began and ended (boot time)."""

    unit: int
    function: int
    values: dict[int, int]
    asked_ns: int
    received_ns: int


@dataclass(slots=True)
class Outcome:
    """What many polls brought.

    :ivar polls: those that succeeded
    :ivar misses: how often each cause
    :ivar answers: the ledgers of both units
    :ivar replugs: when the port came back after it had vanished (boot time)
    :ivar struck: frames that the line's faults struck
    """

    polls: list[Polled] = field(default_factory=list)
    misses: Counter[str] = field(default_factory=Counter)
    answers: list[Answer] = field(default_factory=list)
    replugs: list[int] = field(default_factory=list)
    struck: Counter[BusFault] = field(default_factory=Counter)

    @property
    def tries(self) -> int:
        return len(self.polls) + self.misses.total()


def profile(*, identity: bool, groups: Sequence[str] = tuple(BLOCKS)) -> Any:
    """The profile of a unit, whose identity can be asked or not."""
    named = {"identity": {"name": {"type": "STRING", "address": IDENTITY_ADDRESS, "length": 3}}}
    unnamed = {"identity_unavailable": "a test device whose identity is left out"}
    return DRIVER.profile.model_validate(
        {
            "profile": "ledger-unit",
            "version": "1.0.0",
            "make": "edgeagent",
            "model": "ledger slave",
            "device_class": "test",
            "driver": "modbus",
            "source": [{"manual": "ledger_slave.c", "confidence": "simulated-only"}],
            "modbus": {"address_base": "0-based"},
            "groups": {name: _group(BLOCKS[name]) for name in groups},
            **(named if identity else unnamed),
        }
    )


def _group(block: Block) -> dict[str, Any]:
    table = "holding" if block.function == READ_HOLDING else "input"
    addresses = range(block.address, block.address + block.count)
    return {
        "period": "1 s",
        "tags": {
            f"r{address}": {"type": "UINT16", "address": address, "table": table}
            for address in addresses
        },
    }


@asynccontextmanager
async def two_units(
    directory: Path,
    *,
    requests: Probabilities | None = None,
    replies: Probabilities | None = None,
    seed: int = 0,
    timeout_s: float = TIMEOUT_S,
) -> AsyncIterator[tuple[SerialBus, list[LedgerSlave]]]:
    """A line with two libmodbus units and no master yet."""
    ends = {unit: f"unit-{unit}" for unit in UNITS}
    faults: Any = {"requests": requests, "replies": replies}
    bus = SerialBus(directory, tuple(ends.values()), **faults, timeout_s=timeout_s, seed=seed)
    slaves = [
        LedgerSlave(
            directory / f"ledger-{unit}",
            serial=(bus.slaves[end], unit),
            registers=REGISTERS,
            every_read=True,
        )
        for unit, end in ends.items()
    ]
    async with bus:
        with ExitStack() as stack:
            for slave in slaves:  # in a thread: other lines go on meanwhile
                await asyncio.to_thread(stack.enter_context, slave)
            yield bus, slaves


def master(
    bus: SerialBus, *, identity: bool = True, timeout_s: float = TIMEOUT_S
) -> tuple[PolledDriver, list[Instrument]]:
    """Our driver on the master's end of a line, not connected."""
    of = profile(identity=identity)
    instruments = [
        Instrument(
            f"unit-{unit}",
            of,
            DRIVER.instrument_settings(unit_id=unit),
            of.schemas(f"unit-{unit}", {}),
            (),
        )
        for unit in UNITS
    ]
    link = DRIVER.link_settings(
        framing="rtu",
        device=str(bus.master),
        baud_rate=115_200,
        parity="none",  # a pseudo-terminal has none
        timeout=f"{timeout_s * 1e3:g} ms",
    )
    return DRIVER.open(link, instruments, CLOCK), instruments


async def poll_often(
    directory: Path,
    polls: int,
    *,
    requests: Probabilities | None = None,
    replies: Probabilities | None = None,
    identity: bool = True,
    unplugged: bool = False,
    timeout_s: float = TIMEOUT_S,
    seed: int = 0,
) -> Outcome:
    """Poll all groups of both units in turn, over a line with these faults.

    :raises TimeoutError: if a group brings nothing although all faults have ended
    """
    outcome = Outcome()
    line = two_units(directory, requests=requests, replies=replies, seed=seed, timeout_s=timeout_s)
    async with line as (bus, slaves):
        driver, instruments = master(bus, identity=identity, timeout_s=timeout_s)
        pull = asyncio.create_task(_pull_the_plug(bus, outcome)) if unplugged else None
        try:
            await _connect(driver)
            groups = [group for each in instruments for group in each.groups]
            for group in itertools.islice(itertools.cycle(groups), polls):
                await _poll(driver, group, outcome)
            if pull is not None:
                await ended(pull)
            bus.heal()
            async with asyncio.timeout(HEALED_WITHIN_S):
                for group in groups:
                    while not await _poll(driver, group, outcome):
                        pass
        finally:
            if pull is not None:
                await ended(pull)
            await driver.close()
        outcome.answers = [answer for slave in slaves for answer in slave.answers()]
        outcome.struck = bus.struck
    return outcome


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it is over."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _connect(driver: PolledDriver) -> None:
    while True:
        try:
            await driver.connect()
            return
        except LinkLost:
            await asyncio.sleep(RECONNECT_S)


async def _poll(driver: PolledDriver, group: Any, outcome: Outcome) -> bool:
    """Poll once; return whether that brought something."""
    asked_ns = CLOCK.boot_ns()
    try:
        frame = await driver.poll(group)
    except LinkLost:
        outcome.misses["link_lost"] += 1
        await _connect(driver)
    except BadReply as error:
        outcome.misses[error.cause] += 1
        if error.cause == "refused":  # for five minutes; a new connection asks at once
            await _connect(driver)
    else:
        outcome.polls.append(_polled(frame, asked_ns))
        return True
    return False


def _polled(frame: Frame, asked_ns: int) -> Polled:
    block = BLOCKS[frame.group.group]
    values = {
        block.address + index: value
        for index, value in enumerate(frame.values)
        if value is not None
    }
    unit = int(frame.group.instrument.removeprefix("unit-"))
    return Polled(unit, block.function, values, asked_ns, frame.received_boot_ns)


async def _pull_the_plug(bus: SerialBus, outcome: Outcome) -> None:
    for pause_s in itertools.cycle((0.15, 0.4, 0.3, 0.7)):
        await asyncio.sleep(pause_s)
        bus.unplug()
        try:
            await asyncio.sleep(pause_s / 5)
        finally:
            outcome.replugs.append(CLOCK.boot_ns())
            bus.replug()


_answered = lru_cache(maxsize=1 << 18)(answered)


def wrong_values(polls: Sequence[Polled], answers: Sequence[Answer]) -> list[str]:
    """Return every value that no unit has answered for its register during its poll."""
    said: dict[tuple[int, int], list[Answer]] = defaultdict(list)
    for answer in sorted(answers, key=lambda each: each.boottime_ns):
        if answer.counted:
            said[answer.port_index, answer.function].append(answer)
    times = {key: [each.boottime_ns for each in rows] for key, rows in said.items()}
    found = []
    for poll in polls:
        key = (poll.unit, poll.function)
        begin = bisect_left(times.get(key, []), poll.asked_ns)
        end = bisect_left(times.get(key, []), poll.received_ns)
        meanwhile = said[key][begin:end]
        for register, value in poll.values.items():
            if not any(_holds(answer, register, value) for answer in meanwhile):
                found.append(f"unit {poll.unit} function {poll.function}: {register} = {value}")
    return found


def _holds(answer: Answer, register: int, value: int) -> bool:
    index = register - answer.address
    return 0 <= index < answer.registers and _answered(answer, REGISTERS)[index] == value


def asked_first(outcome: Outcome) -> list[int]:
    """Return the address that each unit was asked first after each return of the port."""
    first = []
    for unit, since in itertools.product(UNITS, outcome.replugs):
        mine = (a for a in outcome.answers if a.port_index == unit and a.boottime_ns > since)
        with contextlib.suppress(StopIteration):
            first.append(next(mine).address)
    return first

"""Simulated instruments behind the driver contract, and the ledger of what they did.

The ledger is the truth of a day: it is written on the instrument's side, before the agent sees
anything. Each reading has a number of its own in its first tag.
"""

import asyncio
import math
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeagent.driver import BadReply, Frame, GroupSchema, Identity, Instrument, LinkLost, Loss
from edgeagent.model.clock import Clock
from edgeagent.model.frame import DataType, Origin, Scale, TagSchema
from tests.fakes import instrument_of
from tests.simulation.day import Day

TIMEOUT_S = 1.0
LOW, HIGH, TOO_HIGH, SENTINEL = -100, 300, 9_999, -32768
OUT_OF_RANGE, SENSOR_FAILURE, UNCERTAIN = 0x40940000, 0x808C0000, 0x40000000
NOT_FINITE = {"nan": 0x803C0400, "inf": 0x803C0600, "-inf": 0x803C0500}
FAILED = {0x800A0000: "timeout", 0x80060000: "refused", 0x80070000: "bad_reply"}
"""OPC UA status of a single tag that failed, and the cause of its gap (docs/mqtt.md 3.6)."""

TAGS = (
    TagSchema("number", DataType.UINT32),
    TagSchema("level", DataType.FLOAT64, "m"),
    TagSchema("temperature", DataType.INT16, "Cel", Scale(1, 0, 10), LOW, HIGH, (SENTINEL,)),
)


@dataclass(slots=True)
class Handover:
    """A reading as a driver gave it to the agent."""

    origin: int
    utc_ns: int
    boot_ns: int
    boot_id: str


@dataclass(slots=True)
class Reading:
    """What an instrument answered, or pushed; what must be found of it at the other end.

    :ivar values: engineering values of the tags that are present
    :ivar codes: status of each of them
    :ivar failed: cause by index of a tag that was asked for and failed
    :ivar late: nobody waited for it any more
    :ivar forgotten: the instrument lost it before anybody had stored it
    """

    number: int
    group: str
    at_s: float
    values: list[Any]
    codes: dict[int, int]
    present: tuple[int, ...] | None
    raw: bytes
    source_ns: int | None
    failed: dict[int, str]
    late: bool = False
    forgotten: bool = False
    handovers: list[Handover] = field(default_factory=list)


@dataclass(slots=True)
class Failure:
    """An attempt that gave no values, by the cause that a gap must state."""

    group: str
    at_s: float
    cause: str


@dataclass(slots=True)
class Ledger:
    """Everything that instruments did, in order.

    :ivar asked: when each group was asked
    """

    readings: dict[int, Reading] = field(default_factory=dict)
    lines: dict[str, list[Reading | Failure]] = field(default_factory=dict)
    asked: dict[str, list[float]] = field(default_factory=dict)
    periods_s: dict[str, float] = field(default_factory=dict)
    tags: dict[str, tuple[TagSchema, ...]] = field(default_factory=dict)


class Life:
    """One life of a process; what belongs to a dead one does nothing any more."""

    def __init__(self) -> None:
        self.alive = True
        self.sessions: list[Any] = []

    def end(self) -> None:
        """Die without a word."""
        self.alive = False
        for session in self.sessions:
            session.sever()


class Device:
    """One instrument with one group; it may be silent, slow, swapped."""

    def __init__(self, name: str, period_s: float, day: Day, ledger: Ledger) -> None:
        self.name = name
        self.group = GroupSchema(name, "all", TAGS, round(period_s * 1e9), "simulated", "1.0.0")
        self.instrument: Instrument = instrument_of(self.group)
        self.day = day
        self.ledger = ledger
        self.random = day.random(name)
        self.silent_until_s = 0.0
        self.serial = 1
        ledger.lines[str(self.group)] = []
        ledger.asked[str(self.group)] = []
        ledger.periods_s[str(self.group)] = period_s
        ledger.tags[str(self.group)] = TAGS

    def strikes(self, fault: str) -> bool:
        """Return whether a fault happens to this call."""
        return self.day.strikes(fault, self.name)

    def identity(self) -> Identity:
        """Return who it is; the site has commissioned serial number 1."""
        facts = (("serial_number", str(self.serial)),)
        swapped = (f"serial_number is {self.serial}, commissioned was 1",)
        return Identity(self.name, facts, swapped if self.serial != 1 else ())

    def fails(self, cause: str) -> None:
        """Note that an attempt gave nothing."""
        at_s = asyncio.get_running_loop().time()
        self.ledger.lines[str(self.group)].append(Failure(str(self.group), at_s, cause))

    def read(self, commissioned: bool, source_ns: int | None) -> tuple[Reading, dict[str, Any]]:
        """Answer once; return what the ledger says, and the frame's facts."""
        number = len(self.ledger.readings) + 1
        level, level_code, raw, raw_code = self._measure()
        sent: list[Any] = [number, level, raw]
        held = [
            number,
            level if math.isfinite(level) else None,
            None if raw == SENTINEL else raw / 10,
        ]
        codes = {0: 0, 1: level_code, 2: raw_code}
        reply = struct.pack(">Idh", number, level, raw)
        facts: dict[str, Any] = {"raw": reply, "source_utc_ns": source_ns}
        present, failed = None, {}
        if self.strikes("device.partial"):
            bad, missing = self.random.choice(list(FAILED)), self.random.choice([1, 2])
            present, failed = tuple({0, 1, 2} - {missing}), {missing: FAILED[bad]}
            facts["present"] = present
            facts["status"] = tuple(bad if index == missing else 0 for index in range(3))
            sent[missing] = None
            del held[missing], codes[missing]
        if not commissioned:
            codes = {index: code or UNCERTAIN for index, code in codes.items()}
        at_s = asyncio.get_running_loop().time()
        reading = Reading(
            number, str(self.group), at_s, held, codes, present, reply, source_ns, failed
        )
        self.ledger.readings[number] = reading
        self.ledger.lines[str(self.group)].append(reading)
        return reading, {"values": tuple(sent), **facts}

    def _measure(self) -> tuple[float, int, int, int]:
        """Return level and raw temperature, each with the status that it must be given."""
        level, raw = self.random.random() * 8, self.random.randint(LOW * 10, HIGH * 10)
        if not self.strikes("device.odd"):
            return level, 0, raw, 0
        odd = self.random.choice([*NOT_FINITE, "sentinel", "high"])
        if odd in NOT_FINITE:
            return float(odd), NOT_FINITE[odd], raw, 0
        if odd == "sentinel":
            return level, 0, SENTINEL, SENSOR_FAILURE
        return level, 0, TOO_HIGH, OUT_OF_RANGE


class SimulatedLink:
    """The instruments of one line, and the connections that an agent makes to it.

    :ivar steady: nothing ever goes wrong here, so that others' faults show if they reach it
    """

    def __init__(self, name: str, devices: Sequence[Device], day: Day, *, steady: bool) -> None:
        self.name = name
        self.devices = {device.name: device for device in devices}
        self.day = day
        self.steady = steady
        self.random = day.random(name)

    @property
    def instruments(self) -> list[Instrument]:
        """The instruments, as a driver is told of them."""
        return [device.instrument for device in self.devices.values()]

    def strikes(self, fault: str) -> bool:
        """Return whether a fault happens to this call."""
        return not self.steady and self.day.strikes(fault, self.name)


_Pushed = tuple[Reading, dict[str, Any]]


class _Driver:
    """What both kinds have in common."""

    def __init__(self, link: SimulatedLink, clock: Clock, life: Life) -> None:
        self.link = link
        self.clock = clock
        self.life = life
        self.open = False
        self.known: dict[str, Identity] = {}

    async def connect(self) -> tuple[Identity, ...]:
        await asyncio.sleep(self.link.random.uniform(0.001, 0.05))
        if self.link.strikes("link.away"):
            for device in self.link.devices.values():
                device.fails("link_lost")
            raise LinkLost("connection refused")
        self.open = self.life.alive
        found = []
        for device in self.link.devices.values():
            swapped = not isinstance(self.link, PushedLink) and self.link.strikes("device.swapped")
            device.serial = 2 if swapped else 1
            if asyncio.get_running_loop().time() >= device.silent_until_s:
                found.append(self._stated(device))
        return tuple(found)

    def _stated(self, device: Device) -> Identity:
        identity = self.known[device.name] = device.identity()
        return identity

    def commissioned(self, device: Device) -> bool:
        known = self.known.get(device.name)
        return known is None or not known.mismatches

    def hand_over(
        self, device: Device, reading: Reading, facts: dict[str, Any], origin: Origin
    ) -> Frame:
        """Give a reading to the agent, stamped with this moment."""
        utc_ns, boot_ns = self.clock.utc_ns(), self.clock.boot_ns()
        reading.handovers.append(Handover(int(origin), utc_ns, boot_ns, self.clock.boot_id))
        return Frame(
            device.group,
            received_utc_ns=utc_ns,
            received_boot_ns=boot_ns,
            origin=origin,
            **facts,
        )

    def require_open(self) -> None:
        if not self.life.alive:
            raise LinkLost("dead")
        if not self.open:
            raise LinkLost("not connected")

    async def close(self) -> None:
        self.open = False


class PolledSimulation(_Driver):
    """A :class:`edgeagent.driver.PolledDriver`."""

    async def identify(self, instrument: str) -> Identity:
        self.require_open()
        device = self.link.devices[instrument]
        await self._wait_for(device)
        return self._stated(device)

    async def _wait_for(self, device: Device) -> None:
        """Wait for the beginning of an answer."""
        loop = asyncio.get_running_loop()
        if loop.time() < device.silent_until_s:
            await asyncio.sleep(TIMEOUT_S)
            self.require_open()
            device.fails("timeout")
            raise BadReply("timeout", "no answer")
        await asyncio.sleep(self.link.random.uniform(0.001, 0.02))
        self.require_open()
        if self.link.strikes("link.cut"):
            self.open = False
            for each in self.link.devices.values():
                each.fails("link_lost")
            raise LinkLost("reset by peer")

    async def poll(self, group: GroupSchema) -> Frame:
        self.require_open()
        device, loop = self.link.devices[group.instrument], asyncio.get_running_loop()
        device.ledger.asked[str(group)].append(loop.time())
        if self.link.strikes("device.reboots"):
            device.silent_until_s = loop.time() + device.random.uniform(1, 5)
        if self.link.strikes("device.silent"):
            device.silent_until_s = loop.time() + device.random.expovariate(1 / 8)
        await self._wait_for(device)
        if self.link.strikes("driver.defect"):
            for each in self.link.devices.values():
                each.fails("internal_error")
            raise KeyError("a mistake in the driver")
        for fault, cause in (("device.wrong", "bad_reply"), ("device.refuses", "refused")):
            if self.link.strikes(fault):
                device.fails(cause)
                raise BadReply(cause, fault)
        if self.link.strikes("device.late"):
            await asyncio.sleep(TIMEOUT_S)
            self.require_open()
            device.read(self.commissioned(device), None)[0].late = True
            device.fails("timeout")
            raise BadReply("timeout", "too late")
        if self.link.strikes("device.slow"):
            await asyncio.sleep(device.random.uniform(0.5, 3) * group.period_ns / 1e9)
            self.require_open()
        reading, facts = device.read(self.commissioned(device), None)
        return self.hand_over(device, reading, facts, Origin.LIVE)


class PushedLink(SimulatedLink):
    """A line with one device that pushes, and keeps what was not said to be durable."""

    def __init__(self, name: str, device: Device, day: Day) -> None:
        super().__init__(name, [device], day, steady=False)
        self.device = device
        self.kept: deque[_Pushed] = deque()
        self.live: deque[_Pushed] = deque()
        self.arrived = asyncio.Event()
        self.listener: SubscribedSimulation | None = None

    async def push(self) -> None:
        """Push a reading every period, whoever listens; an orderly device's clock is right."""
        loop, period_s = asyncio.get_running_loop(), self.device.group.period_ns / 1e9
        while True:
            await asyncio.sleep(period_s)
            if self.strikes("device.reboots"):
                self._reboot()
            self.kept.append(self.device.read(True, round(loop.time() * 1e9)))
            if self.listener is not None:
                self.live.append(self.kept[-1])
                self.arrived.set()

    def _reboot(self) -> None:
        for reading, _ in self.kept:
            reading.forgotten = True
        self.kept.clear()
        self.live.clear()
        self.device.fails("link_lost")
        if self.listener is not None:
            self.listener.open = False
            self.listener = None
            self.arrived.set()

    def forget(self, number: Any) -> None:
        """Let go what is durable at the other end."""
        while self.kept and self.kept[0][0].number <= number:
            self.kept.popleft()


class SubscribedSimulation(_Driver):
    """A :class:`edgeagent.driver.SubscribedDriver`: after a reconnect the rest comes late."""

    link: PushedLink

    def __init__(self, link: PushedLink, clock: Clock, life: Life) -> None:
        super().__init__(link, clock, life)
        self._backlog: deque[_Pushed] = deque()

    def resume(self, durable: Mapping[GroupSchema, Sequence[int | None]]) -> None:
        """Let go what an agent before this one has stored: the first tag is in every reading."""
        upto_ns = durable[self.link.device.group][0]
        while self.link.kept and upto_ns is not None and self.link.kept[0][0].source_ns <= upto_ns:
            self.link.kept.popleft()

    async def connect(self) -> tuple[Identity, ...]:
        identities = await super().connect()
        if self.life.alive:
            self._backlog = deque(self.link.kept)
            self.link.live.clear()
            self.link.listener = self
        return identities

    async def next(self) -> Sequence[Frame | Loss]:
        while True:
            self.require_open()
            if self.link.strikes("link.cut"):
                self.open = False
                self.link.device.fails("link_lost")
                raise LinkLost("reset by peer")
            for queue, origin in ((self._backlog, Origin.BACKFILL), (self.link.live, Origin.LIVE)):
                if queue:
                    reading, facts = queue.popleft()
                    return [self.hand_over(self.link.device, reading, facts, origin)]
            self.link.arrived.clear()
            await self.link.arrived.wait()

    async def committed(self, upto: Frame) -> None:
        if self.life.alive:
            self.link.forget(upto.values[0])

    async def close(self) -> None:
        await super().close()
        if self.link.listener is self:
            self.link.listener = None

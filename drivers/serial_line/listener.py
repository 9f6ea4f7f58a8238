"""The driver of a device that sends lines by itself: a barcode scanner, a scale that prints.

Nothing is ever sent. A line counts when it is whole: the first one after opening only where silence
came before it, for its beginning may have been missed. What does not become a value is a loss, with
the reason, never a guess.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from drivers.connection import Connection, End
from drivers.identity import identity_of
from drivers.serial_line.codec import BadLine, Command, Fields, Refused, compile_command
from drivers.serial_line.profile import SerialLineProfile
from drivers.serial_line.pseudonym import read_key
from drivers.serial_line.reader import Assembly
from drivers.serial_line.settings import SerialLineInstrumentSettings, SerialLineLinkSettings
from edgeagent.driver import Frame, GroupSchema, Identity, Instrument, LinkLost, Loss
from edgeagent.model.clock import Clock

WAITING_MAX = 1000
"""Lines that wait to be taken; more are a loss."""


class SerialLineListener:
    """One line on which one device sends; see :class:`~edgeagent.driver.SubscribedDriver`."""

    def __init__(
        self, settings: SerialLineLinkSettings, instrument: Instrument, clock: Clock
    ) -> None:
        profile, own = instrument.profile, instrument.settings
        assert isinstance(profile, SerialLineProfile)
        assert isinstance(own, SerialLineInstrumentSettings)
        self._settings = settings
        self._instrument = instrument
        self._profile = profile
        self._key_file = own.pseudonym_key_file
        self._clock = clock
        self._messages = tuple(
            compile_command(profile, name, own.address) for name in profile.commands
        )
        self._key: bytes | None = None
        self._ear: _Ear | None = None
        self._waiting: deque[Frame | Loss] = deque()
        self._last_utc_ns: int | None = None
        self._missed_from_ns: int | None = None

    def resume(self, durable: Mapping[GroupSchema, Sequence[int | None]]) -> None:
        """Nothing comes again: the device keeps nothing."""

    async def connect(self) -> tuple[Identity, ...]:
        """Open the line and begin to listen; who sends is what the profile says."""
        await self.close()
        if self._profile.needs_key and self._key_file is not None:
            try:
                self._key = read_key(self._key_file)
            except ValueError as error:
                raise LinkLost(f"{self._instrument.name}: {error}") from None
        deadline_s = self._profile.serial_line.deadline / 10**9
        ear = _Ear(self._settings, self._messages[0], deadline_s, self._take, self._miss)
        await ear.open()
        self._ear = ear
        self._last_utc_ns = now_ns = self._clock.utc_ns()
        for group in self._instrument.groups:  # listened to again: nothing is missing from here on
            self._waiting.append(Loss(group, "link_lost", now_ns, now_ns))
        return (identity_of(self._instrument, {}),)

    async def next(self) -> Sequence[Frame | Loss]:
        """Wait for what comes next."""
        while not self._waiting:
            if self._ear is None:
                raise LinkLost("not connected")
            await self._ear.news()
        found = tuple(self._waiting)
        self._waiting.clear()
        self._missed_from_ns = None
        return found

    async def committed(self, upto: Frame) -> None:
        """Nothing follows: the device keeps nothing."""

    async def close(self) -> None:
        """Close the line."""
        self._waiting.clear()
        if self._ear is not None:
            self._ear.close()
            self._ear = None

    def _take(self, heard: bytes) -> None:
        """Take one whole line, terminator included."""
        trouble = ""
        for message in self._messages:
            try:
                reading = message.decode(heard)
            except BadLine as error:
                trouble = trouble or str(error)
                continue
            if isinstance(reading.found, Refused):
                self._miss(reading.found.text)
                return
            stamp = self._clock.utc_ns(), self._clock.boot_ns()
            for group in self._instrument.groups:
                self._bring(group, message, reading.raw, reading.found, stamp)
            return
        self._miss(trouble)

    def _bring(
        self,
        group: GroupSchema,
        message: Command,
        raw: bytes,
        fields: Fields,
        stamp: tuple[int, int],
    ) -> None:
        tags = tuple(self._profile.groups[group.group].acquired().values())
        if all(tag.command != message.name for tag in tags):
            return
        assembly = Assembly(group, tags, self._key)
        assembly.raw.append(raw)
        assembly.take(message.name, fields)
        frame = assembly.frame(stamp)
        if frame is None:
            self._miss(assembly.first.detail if assembly.first else "no value")
            return
        if self._has_room():
            self._waiting.append(frame)
            self._last_utc_ns = stamp[0]
            self._tell()

    def _miss(self, why: str) -> None:
        """Note that something was sent of which there is no value."""
        now_ns = self._clock.utc_ns()
        since_ns = self._last_utc_ns
        if since_ns is None or since_ns >= now_ns or not self._has_room():
            return
        for group in self._instrument.groups:
            self._waiting.append(Loss(group, "bad_reply", since_ns, now_ns, detail=why))
        self._last_utc_ns = now_ns
        self._tell()

    def _has_room(self) -> bool:
        """Return whether what came may wait; where not, say so once, from here to the next line."""
        if len(self._waiting) < WAITING_MAX:
            return True
        if self._missed_from_ns is None:
            self._missed_from_ns = self._clock.utc_ns()
            for group in self._instrument.groups:
                detail = f"{WAITING_MAX} lines wait to be taken"
                self._waiting.append(Loss(group, "overrun", self._last_utc_ns, None, detail=detail))
        return False

    def _tell(self) -> None:
        if self._ear is not None:
            self._ear.tell()


class _Ear(Connection):
    """The line, cut where its terminators stand."""

    def __init__(
        self,
        settings: End,
        message: Command,
        deadline_s: float,
        take: Callable[[bytes], None],
        miss: Callable[[str], None],
    ) -> None:
        super().__init__(settings)
        self._end = message.framing.receive_end
        self._length_max = message.framing.length_max
        self._deadline_s = deadline_s
        self._take = take
        self._miss = miss
        self._news = asyncio.Event()
        self._heard = bytearray()
        self._is_whole = False
        """Whether the beginning of the present line was heard."""
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Open the line.

        :raises LinkLost: if that fails
        """
        await super().open()
        self._wait()

    def tell(self) -> None:
        """Wake who waits for news."""
        self._news.set()

    async def news(self) -> None:
        """Wait until something came.

        :raises LinkLost: if the line is gone
        """
        if not self.is_active() or self._lost.is_set():
            raise LinkLost(self._gone)
        self._news.clear()
        await self._news.wait()

    def callback_data(self, data: bytes, addr: tuple[str, int] | None = None) -> int:
        """Take what came; return how much is used up: all of it."""
        self._heard += data
        while (at := self._heard.find(self._end)) >= 0:
            line = bytes(self._heard[: at + len(self._end)])
            del self._heard[: len(line)]
            self._take_line(line)
        if len(self._heard) > self._length_max:
            if self._is_whole:
                self._miss(f"more than {self._length_max} characters without an end")
            self._is_whole = False
            del self._heard[: -len(self._end)]
        self._wait()
        return len(data)

    def _take_line(self, line: bytes) -> None:
        if not self._is_whole:
            self._miss("a line whose beginning was not heard")
        elif len(line) > self._length_max + len(self._end):
            self._miss(f"more than {self._length_max} characters")
        elif len(line) > len(self._end):
            self._take(line)
        self._is_whole = True

    def _wait(self) -> None:
        """Wait for silence: behind it a line begins."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self._deadline_s, self._rested)

    def _rested(self) -> None:
        self._timer = None
        if self._heard and self._is_whole:
            self._miss("a line without an end")
        self._heard.clear()
        self._is_whole = True

    def _lose(self, why: str) -> None:
        super()._lose(why)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._news.set()

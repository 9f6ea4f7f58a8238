"""A line of text on which no reply says which request it answers.

So a reply is taken only where it cannot be another one's:

- One request at a time. The first character must come within the timeout and the last within the
  deadline, counted from the request, so that neither dripping nor babble prolongs it. One character
  too many spoils the reply; it counts when the line has been silent for a moment behind it.
- After a lost reply (timeout, wrong form, cancelled request, characters that nobody asked for) and
  on opening, the line is *dirty*. Nothing is asked until the slowest reply must have come; what
  comes is dropped. Then the instrument that is to be asked first proves that it is in step, by a
  reply that is known: one that does not change by itself, as of identity. Another known reply than
  before is another instrument, and the link is lost, so that all are identified anew.
- Where a profile has no such request the silence alone must do.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from drivers.connection import Answer, End
from drivers.line import PROOFS_MAX, Line
from drivers.serial_line.codec import BadLine, Command, Reading, Refused
from edgeagent.model.errors import BadReply, LinkLost

REST_S = 0.005
"""Silence behind a reply: long enough for what an adapter holds back, 4 characters at 9600 baud."""


@dataclass(frozen=True, slots=True, eq=False)
class Station:
    """One instrument on the line, as far as the line must know it.

    :ivar known_answers: requests whose replies do not change by themselves
    :ivar pause_s: silence that it needs between a reply and the next request
    :ivar slowest_s: longest time after a request at which its reply may still come
    :ivar echoes: whether it sends back each character of a request
    """

    name: str
    known_answers: tuple[Command, ...] = ()
    pause_s: float = 0.0
    slowest_s: float = 4.0
    echoes: bool = False


class _Waiting(NamedTuple):
    """The request that waits for its reply, with as many echoes before it."""

    station: Station
    command: Command
    echo: bytes
    answer: Answer


class TextLine(Line):
    """One line and the stations on it."""

    def __init__(self, settings: End, stations: Sequence[Station], *, echo: bool = False) -> None:
        slowest_s = max((station.slowest_s for station in stations), default=0.0)
        super().__init__(settings, slowest_s=slowest_s, silence_s=REST_S)
        self._echo = echo
        self._known: dict[tuple[str, str], dict[str, str]] = {}
        self._unproven = {station.name for station in stations}
        self._waiting: _Waiting | None = None
        self._heard = bytearray()
        self._whole: asyncio.TimerHandle | None = None

    def forget(self, station: Station) -> None:
        """Forget what is known of a station: it is about to be asked anew who it is."""
        self._known = {key: raw for key, raw in self._known.items() if key[0] != station.name}

    async def ask(self, station: Station, command: Command) -> Reading:
        """Send a request and return what its reply says.

        Safe to cancel: what comes late is not taken for the reply to a later request. After a
        failure it lasts until the line is silent again.

        :raises BadReply: if no usable reply comes
        :raises LinkLost: if the line is gone
        """
        try:
            await self._get_ready(station.name)
            if command not in station.known_answers:
                await self.prove(station)
            reading = await self._exchange(station, command)
            if command in station.known_answers:
                self._check_known(station, command, reading)
        except BadReply:
            await self._get_ready(station.name)
            raise
        self._proofs_failed = 0
        self._unproven.discard(station.name)
        self._dirty = ""
        return reading

    async def prove(self, station: Station) -> None:
        """Find out whether a station is in step, where that is in doubt.

        :raises BadReply: if it is not, or says nothing
        :raises LinkLost: if it cannot be brought in step, or has become another one
        """
        for _ in range(PROOFS_MAX):
            await self._get_ready(station.name)
            if not self._dirty and station.name not in self._unproven:
                return
            if station.known_answers:
                await self._prove_by(station)
            self._unproven.discard(station.name)
            self._dirty = ""
        await self._get_ready(station.name)
        if self._dirty:
            raise BadReply("bad_reply", f"{self.peer}: no rest on the line: {self._dirty}")

    # -- in step, or not -----------------------------------------------------------------------

    async def _prove_by(self, station: Station) -> None:
        """Let a station answer what is known of it, if possible what it answered before."""
        command = max(
            station.known_answers, key=lambda each: (station.name, each.name) in self._known
        )
        try:
            reading = await self._exchange(station, command)
        except BadReply as error:
            if error.cause == "bad_reply":
                self._count_failure(error)
            raise
        self._check_known(station, command, reading)

    def _check_known(self, station: Station, command: Command, reading: Reading) -> None:
        if isinstance(reading.found, Refused):
            return
        said = {part: reading.found[part].text for part in command.constant}
        known = self._known.setdefault((station.name, command.name), said)
        if known != said:
            self._lose(
                f"{self.peer}: {station.name} answers {command.name} otherwise than when it was "
                f"identified, {said} instead of {known}; all are asked anew"
            )
            raise LinkLost(self._gone)

    # -- one request and its reply -------------------------------------------------------------

    async def _exchange(self, station: Station, command: Command) -> Reading:
        """Send a request, now, and return what the reply that fits says."""
        assert self._waiting is None, "requests on a line never overlap"
        echo = command.sent * (self._echo + station.echoes)
        waiting = _Waiting(station, command, echo, self.loop.create_future())
        self._waiting = waiting
        self._heard.clear()
        self._sent_at_s = self.loop.time()
        self.send(command.sent)
        timers = (
            self.loop.call_later(command.timeout_s, self._expire, waiting, command.timeout_s, True),
            self.loop.call_later(
                command.deadline_s, self._expire, waiting, command.deadline_s, False
            ),
        )
        heard: object = None
        reading: Reading | None = None
        try:
            heard = await waiting.answer
            if isinstance(heard, bytes):
                reading = command.decode(heard)
        except BadLine as error:
            heard = BadReply("bad_reply", f"{self.peer}: {station.name}: {error}")
        finally:
            for timer in timers:
                timer.cancel()
            self._end_wait()
            self._rested_at_s[station.name] = self.loop.time() + station.pause_s
            if reading is None:
                self._unproven.add(station.name)
                self._soil("a request was cancelled" if heard is None else str(heard))
        if reading is not None:
            return reading
        assert isinstance(heard, Exception)
        raise heard

    def _end_wait(self) -> None:
        self._stop_whole()
        self._waiting = None
        self._heard.clear()

    def _stop_whole(self) -> None:
        if self._whole is not None:
            self._whole.cancel()
            self._whole = None

    def callback_data(self, data: bytes, addr: tuple[str, int] | None = None) -> int:
        """Take what came; return how much is used up: all of it."""
        self._heard_at_s = self.loop.time()
        waiting = self._waiting
        if waiting is None or waiting.answer.done():
            self._soil("characters came that nobody had asked for")
            return len(data)
        self._stop_whole()
        self._heard += data
        try:
            if self._is_whole(waiting):
                reply = bytes(self._heard[len(waiting.echo) :])
                self._whole = self.loop.call_later(REST_S, self._finish, waiting.answer, reply)
        except BadLine as error:
            detail = f"{self.peer}: {waiting.station.name}: {error}"
            waiting.answer.set_result(BadReply("bad_reply", detail))
        return len(data)

    def _is_whole(self, waiting: _Waiting) -> bool:
        heard, echo = self._heard, waiting.echo
        if not echo:
            if heard.startswith(waiting.command.sent):
                raise BadLine("the request came back; write echo: true if the adapter does that")
        elif not heard.startswith(echo[: len(heard)]):
            raise BadLine("no echo came before the reply; is echo switched on?")
        return len(heard) > len(echo) and waiting.command.is_whole(bytes(heard[len(echo) :]))

    def _finish(self, answer: Answer, reply: bytes) -> None:
        if not answer.done():
            answer.set_result(reply)

    def _expire(self, waiting: _Waiting, after_s: float, unless_begun: bool) -> None:
        """End the wait for a reply, unless it is only its end that is waited for."""
        count = len(self._heard) - len(waiting.echo)
        if waiting.answer.done() or self._whole is not None or (unless_begun and count > 0):
            return
        detail = (
            f"{self.peer}: {waiting.station.name} did not answer {waiting.command.name} within "
            f"{after_s:g} s"
        ) + (f"; {count} characters came" if count > 0 else "")
        waiting.answer.set_result(BadReply("timeout", detail))

    def _lose(self, why: str) -> None:
        """End the connection for good, and the wait for a reply with it."""
        super()._lose(why)
        if self._waiting is not None and not self._waiting.answer.done():
            self._waiting.answer.set_result(LinkLost(why))

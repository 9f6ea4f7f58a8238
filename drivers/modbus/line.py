"""A serial line, RTU or ASCII, on which no reply says which request it answers.

So a reply is taken only where it cannot be another one's:

- One request at a time; the first byte that does not fit, or one too many, spoils the reply. It
  counts when the line has been silent for 3.5 characters behind it.
- After a lost reply (timeout, wrong frame, cancelled request, bytes that nobody asked for) and on
  opening, the line is *dirty*. Nothing is asked until the slowest reply must have come; what comes
  is dropped. Then the unit that is to be asked first proves that it is in step: it is asked
  something whose reply is known, or has another length than all replies that it still owes. It
  answers in order, so with this reply none of those can follow any more.
- A reply that is the same, byte for byte, as the one to another request shortly before may be that
  one's second copy. It is dropped, and asked for again behind a proof.

An outage of one unit costs its neighbours the silence alone; their own replies bear their unit id.

Timing: MODBUS over Serial Line V1.02, section 2.5.1.1. The timeout is for the whole reply, however
it drips.
"""

import asyncio
from collections import deque
from typing import NamedTuple

from drivers.connection import Answer
from drivers.line import PROOFS_MAX, Line
from drivers.modbus.framing import ASCII, RTU, BadFrame, reply_bytes
from drivers.modbus.settings import ModbusLinkSettings
from drivers.modbus.wire import READ_FUNCTIONS, Station, Stations
from edgeagent.model.errors import BadReply, LinkLost

_UNITS = range(1, 248)  # 0 is the broadcast
_GATEWAY = (0x0A, 0x0B)
_STRANGER = Station()

Shape = tuple[int, int]
"""Function and length: what tells one unit's replies apart."""


def _shape(request: bytes) -> Shape:
    return request[0], reply_bytes(request)


class _Waiting(NamedTuple):
    """The request that waits for its reply."""

    unit: int
    request: bytes
    sent: bytes
    answer: Answer


class _Said(NamedTuple):
    """A reply of a moment ago.

    :ivar proof: whether it was asked for as a proof
    """

    at_s: float
    unit: int
    request: bytes
    reply: bytes
    proof: bool


class LineWire(Line):
    """See :class:`~drivers.modbus.wire.Wire`."""

    def __init__(self, settings: ModbusLinkSettings, stations: Stations) -> None:
        super().__init__(
            settings, slowest_s=settings.slowest_reply / 10**9, silence_s=settings.silence_s
        )
        self._framing = ASCII if settings.framing == "ascii" else RTU
        self._echo = settings.echo
        self._stations = stations
        self._known: dict[tuple[int, bytes], bytes] = {}
        self._owed: dict[int, dict[Shape, float]] = {}
        self._said: deque[_Said] = deque()
        self._waiting: _Waiting | None = None
        self._whole: asyncio.TimerHandle | None = None

    def forget(self, unit: int) -> None:
        """See :class:`~drivers.modbus.wire.Wire`."""
        self._known = {key: reply for key, reply in self._known.items() if key[0] != unit}

    async def ask(self, unit: int, request: bytes) -> bytes:
        """See :class:`~drivers.modbus.wire.Wire`.

        After a failure it lasts until the line is silent again.
        """
        if unit not in _UNITS or request[0] not in READ_FUNCTIONS:
            raise BadReply("refused", f"{self.peer}: unit {unit}, function {request[0]}: not sent")
        try:
            await self._get_ready(unit)
            for _ in range(PROOFS_MAX):
                if not self._dirty and unit not in self._owed:
                    break
                await self._prove(unit, request)
                await self._get_ready(unit)
            if self._dirty:
                raise BadReply("bad_reply", f"{self.peer}: no rest on the line: {self._dirty}")
            reply = await self._exchange(unit, request)
            if self._is_said_again(unit, request, reply):
                await self._prove_last(unit, request)
                reply = await self._exchange(unit, request)
        except BadReply:
            await self._get_ready(unit)
            raise
        self._proofs_failed = 0
        self._said.append(_Said(self.loop.time(), unit, request, reply, proof=False))
        if request in self._station(unit).constant and not reply[0] & 0x80:
            self._known[unit, request] = reply
        return reply

    # -- in step, or not -----------------------------------------------------------------------

    def _station(self, unit: int) -> Station:
        return self._stations.get(unit, _STRANGER)

    async def _prove(self, unit: int, request: bytes) -> None:
        """Let a unit show that its next reply answers the next request.

        If possible by a reply of another shape than that one's: it too may come twice.

        :raises BadReply: if it does not
        :raises LinkLost: if it cannot be brought in step, or has become another one
        """
        station, owed = self._station(unit), self._owed.get(unit, {})
        marker = min(
            (*station.constant, *station.others),
            key=lambda each: (owed.get(_shape(each), -1.0), _shape(each) == _shape(request)),
            default=None,
        )
        if marker is not None:
            try:
                reply = await self._exchange(unit, marker)
                self._check(unit, marker, reply)
                self._said.append(_Said(self.loop.time(), unit, marker, reply, proof=True))
            except BadReply as error:
                if error.cause == "bad_reply":
                    self._count_failure(error)
                raise
        self._owed.pop(unit, None)
        self._dirty = ""

    def _check(self, unit: int, marker: bytes, reply: bytes) -> None:
        """Hold the reply of a proof against what is known."""
        if reply[0] & 0x80:
            if unit not in self._owed:
                return
            # Any request that is owed may have been refused so.
            self._owe(unit, marker)
            self._soil(f"unit {unit} refused a proof")
            cause = "timeout" if reply[1] in _GATEWAY else "refused"
            text = f"unit {unit} answers exception 0x{reply[1]:02X} to the known-answer read"
            raise BadReply(cause, f"{self.peer}: {text}")
        known = self._known.get((unit, marker), reply)
        if reply != known:
            self._lose(
                f"{self.peer}: unit {unit} states another identity than when it was asked, "
                f"{reply[2:].hex(' ')} instead of {known[2:].hex(' ')}; all are asked anew"
            )
            raise LinkLost(self._gone)

    def _is_said_again(self, unit: int, request: bytes, reply: bytes) -> bool:
        """Return whether a reply may be the second copy of one to another request."""
        # Not since now: whoever was held up meanwhile must still recognise it.
        since_s = self._sent_at_s - self._slowest_s
        while self._said and self._said[0].at_s < since_s:
            self._said.popleft()
        return any(
            said.unit == unit and said.reply == reply and (said.proof or said.request != request)
            for said in self._said
        )

    async def _prove_last(self, unit: int, request: bytes) -> None:
        """Let a unit show that it has nothing more to say to the last request.

        :raises BadReply: if it has
        """
        self._owe(unit, request)
        for prove in (True, False):
            await self._get_ready(unit)
            if self._dirty:
                raise BadReply("bad_reply", f"{self.peer}: unit {unit} answered twice")
            if prove:
                await self._prove(unit, request)

    def _owe(self, unit: int, request: bytes) -> None:
        self._owed.setdefault(unit, {})[_shape(request)] = self.loop.time()

    # -- one request and its reply -------------------------------------------------------------

    async def _exchange(self, unit: int, request: bytes) -> bytes:
        """Send a request, now, and return the reply that fits."""
        assert self._waiting is None, "requests on a link never overlap"
        sent = self._framing.encode(unit, request)
        waiting = _Waiting(unit, request, sent, self.loop.create_future())
        self._waiting = waiting
        self._sent_at_s = self.loop.time()
        self.send(sent)
        timer = self.loop.call_later(self._timeout_s, self._expire, waiting)
        answer: object = None
        try:
            answer = await waiting.answer
        finally:
            timer.cancel()
            self._end_wait()
            self._rested_at_s[unit] = self.loop.time() + self._station(unit).pause_s
            if not isinstance(answer, bytes):
                self._owe(unit, request)
                self._soil("a request was cancelled" if answer is None else str(answer))
        if isinstance(answer, bytes):
            return answer
        assert isinstance(answer, Exception)
        raise answer

    def _end_wait(self) -> None:
        if self._whole is not None:
            self._whole.cancel()
            self._whole = None
        self._waiting = None
        self.recv_buffer = b""

    def callback_data(self, data: bytes, addr: tuple[str, int] | None = None) -> int:
        """Take what came, from the first byte of the reply on; return how much is used up."""
        self._heard_at_s = self.loop.time()
        waiting = self._waiting
        if waiting is None or waiting.answer.done():
            self._soil("bytes came that nobody had asked for")
            return len(data)
        if self._whole is not None:
            self._whole.cancel()
            self._whole = None
        try:
            reply = self._decode(data, waiting)
        except BadFrame as error:
            waiting.answer.set_result(BadReply("bad_reply", f"{self.peer}: {error}"))
            return len(data)
        if reply is not None:
            self._whole = self.loop.call_later(self._silence_s, self._finish, waiting.answer, reply)
        return 0

    def _decode(self, data: bytes, waiting: _Waiting) -> bytes | None:
        sent = waiting.sent
        if self._echo:
            if not data.startswith(sent[: len(data)]):
                raise BadFrame("no echo came before the reply; remove echo from the link")
            if len(data) <= len(sent):
                return None
            return self._framing.decode(data[len(sent) :], waiting.unit, waiting.request)
        # It may even be a reply by its form: of 24 bits at the address 0x0300.
        if data.startswith(sent):
            raise BadFrame("the request came back; write echo: true if the adapter does that")
        return self._framing.decode(data, waiting.unit, waiting.request)

    def _finish(self, answer: Answer, reply: bytes) -> None:
        if not answer.done():
            answer.set_result(reply)

    def _expire(self, waiting: _Waiting) -> None:
        """End the wait for a reply, unless it is only its end that is waited for."""
        if waiting.answer.done() or self._whole is not None:
            return
        detail = f"{self.peer}: unit {waiting.unit} did not answer within {self._timeout_s:g} s" + (
            f"; {len(self.recv_buffer)} bytes came" if self.recv_buffer else ""
        )
        waiting.answer.set_result(BadReply("timeout", detail))

    def _lose(self, why: str) -> None:
        """End the connection for good, and the wait for a reply with it."""
        super()._lose(why)
        if self._waiting is not None and not self._waiting.answer.done():
            self._waiting.answer.set_result(LinkLost(why))

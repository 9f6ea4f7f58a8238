"""Instruments that speak in lines of text, on a serial line or behind a device server.

Every instrument on the line hears every request and answers those that are meant for it. The time
that the characters need on the line comes before the reply, which then arrives at once.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from simulators.devices.text_contract import TextDevice
from simulators.faults import NO_FAULTS, Dice, Fault
from simulators.ledger import Exchange, Ledger
from simulators.wire.line import pause
from simulators.wire.serial_port import SerialPort

BAUD_RATE = 9_600
_BITS_PER_CHARACTER = 10
_UNPROMPTED_EVERY_S = 0.05
_REQUEST_BYTES_MAX = 1024


class SerialTextServer:
    """One serial wire. `before_read` brings simulated time up to date before an answer."""

    def __init__(
        self,
        name: str,
        devices: Mapping[str, TextDevice],
        *,
        port: SerialPort,
        baud_rate: int = BAUD_RATE,
        dice: Dice | None = None,
        ledger: Ledger | None = None,
        before_read: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._devices = devices
        self._port = port
        self._baud_rate = baud_rate
        self._dice = dice or Dice(NO_FAULTS, name)
        self._ledger = ledger
        self._before_read = before_read
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._late: set[asyncio.TimerHandle] = set()
        self.requests: list[bytes] = []
        """Everything that was ever heard, request by request, for a tap."""

    @property
    def endpoint(self) -> dict[str, Any]:
        """Where the wire is to be found."""
        return {**self._port.endpoint, "baud_rate": self._baud_rate}

    async def start(self) -> None:
        """:raises OSError: if the port cannot be had"""
        await self._port.open(self._heard.put_nowait)
        self._tasks = (
            asyncio.create_task(self._serve(), name=f"text {self._name}"),
            asyncio.create_task(self._send_unprompted(), name=f"text {self._name} unprompted"),
        )

    async def stop(self) -> None:
        """Take the port away. Any number of times."""
        for timer in self._late:
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._port.close()

    async def vanish(self, duration_s: float) -> None:
        """Take the port away for a while; what is still under way to it is lost."""
        await self._port.close()
        await asyncio.sleep(duration_s)
        await self._port.open(self._heard.put_nowait)

    async def _serve(self) -> None:
        ends = {device.REQUEST_END for device in self._devices.values()}
        heard = bytearray()
        while True:
            heard += await self._heard.get()
            while (request := _taken(heard, ends)) is not None:
                await self._answer(*request)
            if len(heard) > _REQUEST_BYTES_MAX:
                heard.clear()

    async def _answer(self, request: bytes, end: bytes) -> None:
        raw = request + end
        self.requests.append(raw)
        await pause(self._line_time_s(raw) + self._dice.reply_delay_s())
        self._before_read()
        hearing = {
            key: device
            for key, device in self._devices.items()
            if not device.silent and end == device.REQUEST_END
        }
        if any(device.ECHOES for device in hearing.values()):  # in a chain the echo comes once
            self._port.write(raw)
        for key, device in hearing.items():
            reply = device.answer(request)
            if not reply:
                continue
            await pause(device.REPLY_DELAY_S + self._line_time_s(reply))
            fault = self._dice.throw()
            self._record(key, reply, fault)
            await self._say(raw, reply, fault)

    def _record(self, key: str, reply: bytes, fault: Fault | None) -> None:
        if self._ledger is not None:
            self._ledger.write(
                Exchange(
                    wire=self._name,
                    device=key,
                    unit=0,
                    function=0,
                    address=None,
                    count=None,
                    reply=reply,
                    fault=fault,
                )
            )

    async def _say(self, request: bytes, raw: bytes, fault: Fault | None) -> None:
        write, dice = self._port.write, self._dice
        match fault:
            case Fault.NO_ANSWER:
                pass
            case Fault.LATE_ANSWER:
                self._say_late(dice.late_answer_s(), raw)
            case Fault.CORRUPT_REPLY:
                write(dice.corrupted(raw))
            case Fault.TRUNCATED_REPLY:
                write(raw[: len(raw) // 2])
            case Fault.ECHO:
                write(request + raw)
            case Fault.GARBAGE_BEFORE:
                write(dice.garbage() + raw)
            case Fault.GARBAGE_AFTER:
                write(raw + dice.garbage())
            case Fault.DUPLICATE_REPLY:
                write(raw * 2)
            case Fault.CLOSE_MID_REPLY:
                write(raw[: len(raw) // 2])
                await self.vanish(dice.vanished_s())
            case Fault.BYTE_BY_BYTE:
                for byte in raw:
                    write(bytes([byte]))
                    await asyncio.sleep(dice.faults.byte_gap_s)
            case _:
                write(raw)

    def _say_late(self, delay_s: float, raw: bytes) -> None:
        """The line is free meanwhile: another request may be answered first."""

        def due() -> None:
            self._late.discard(timer)
            self._port.write(raw)

        timer = asyncio.get_running_loop().call_later(delay_s, due)
        self._late.add(timer)

    async def _send_unprompted(self) -> None:
        while True:
            await asyncio.sleep(_UNPROMPTED_EVERY_S)
            for device in self._devices.values():
                said = device.unprompted()
                if said and not device.silent:
                    self._port.write(said)

    def _line_time_s(self, raw: bytes) -> float:
        return len(raw) * _BITS_PER_CHARACTER / self._baud_rate


def _taken(heard: bytearray, ends: set[bytes]) -> tuple[bytes, bytes] | None:
    """Take the first request off what was heard, with what ended it."""
    found = [(at, end) for end in ends if (at := heard.find(end)) >= 0]
    if not found:
        return None
    at, end = min(found, key=lambda each: (each[0], -len(each[1])))
    request = bytes(heard[:at])
    del heard[: at + len(end)]
    return request, end

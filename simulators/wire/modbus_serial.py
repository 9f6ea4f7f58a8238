"""Modbus over a serial line, RTU or ASCII: several instruments, one request at a time.

An instrument that is not there, or is switched off, is silent. So is every instrument after a
broadcast (unit identifier 0), because none here takes one. The time that the characters need on the
line comes before the reply, which then arrives at once.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from simulators.faults import Dice, Fault
from simulators.ledger import Ledger
from simulators.wire.framing import Framing, Request
from simulators.wire.line import Line, Said, Unit, pause
from simulators.wire.serial_port import SerialPort

BAUD_RATE = 19_200
"""What the standard asks every device to know (MODBUS over Serial Line V1.02, section 3.2)."""


class ModbusSerialServer:
    """One serial wire; the parameters that are not here are those of :class:`Line`."""

    def __init__(
        self,
        name: str,
        units: Mapping[int, Unit],
        *,
        framing: Framing,
        port: SerialPort,
        baud_rate: int = BAUD_RATE,
        dice: Dice | None = None,
        ledger: Ledger | None = None,
        before_read: Callable[[], None] = lambda: None,
    ) -> None:
        self._line = Line(
            name, units, gateway=False, dice=dice, ledger=ledger, before_read=before_read
        )
        self._framing = framing
        self._port = port
        self._baud_rate = baud_rate
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._late: set[asyncio.TimerHandle] = set()

    @property
    def endpoint(self) -> dict[str, Any]:
        """Where the wire is to be found."""
        return {**self._port.endpoint, "baud_rate": self._baud_rate}

    async def start(self) -> None:
        """:raises OSError: if the port cannot be had"""
        await self._port.open(self._heard.put_nowait)
        self._task = asyncio.create_task(self._serve(), name=f"modbus {self._line.name}")

    async def stop(self) -> None:
        """Take the port away. Any number of times."""
        for timer in self._late:
            timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._port.close()

    async def vanish(self, duration_s: float) -> None:
        """Take the port away for a while; what is still under way to it is lost."""
        await self._port.close()
        await asyncio.sleep(duration_s)
        await self._port.open(self._heard.put_nowait)

    async def _serve(self) -> None:
        heard = bytearray()
        while True:
            silent = False
            try:
                async with asyncio.timeout(self._framing.silence_s if heard else None):
                    heard += await self._heard.get()
            except TimeoutError:
                silent = True
            while (request := self._framing.taken(heard, silent)) is not None:
                await self._answer(request)

    async def _answer(self, request: Request) -> None:
        await pause(self._line_time_s(request.raw))
        said = await self._line.ask(request.unit_id, request.pdu)
        if said.pdu:
            raw = self._framing.encoded(said.unit_id, said.pdu)
            await pause(self._line_time_s(raw))
            await self._say(request, said, raw)

    async def _say(self, request: Request, said: Said, raw: bytes) -> None:
        write, dice = self._port.write, self._line.dice
        match said.fault:
            case Fault.NO_ANSWER:
                pass
            case Fault.LATE_ANSWER:
                self._say_late(dice.late_answer_s(), raw)
            case Fault.CORRUPT_REPLY:
                write(dice.corrupted(raw))
            case Fault.TRUNCATED_REPLY:
                write(raw[: len(raw) // 2])
            case Fault.ECHO:
                write(request.raw + raw)
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

    def _line_time_s(self, raw: bytes) -> float:
        return len(raw) * self._framing.bits_per_character / self._baud_rate

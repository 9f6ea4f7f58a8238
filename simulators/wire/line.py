"""What hangs on a wire, whatever the framing: who answers a request, with what, and its record.

The instruments of a wire share one line, so that one request is answered at a time.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from simulators.devices.contract import ModbusDevice, ModbusException
from simulators.faults import NO_FAULTS, Dice, Fault
from simulators.ledger import Exchange, Ledger
from simulators.wire.modbus_pdu import asked, exception_reply, reply_to


@dataclass(frozen=True, slots=True)
class Unit:
    """An instrument at its place on a wire."""

    device_id: str
    device: ModbusDevice


@dataclass(frozen=True, slots=True)
class Said:
    """What the line makes of one request."""

    unit_id: int
    """Who answers."""
    pdu: bytes
    """The reply, with what the fault makes of its content; empty where there is none."""
    fault: Fault | None
    """What is still to happen to the frame."""


class Line:
    """The instruments of one wire.

    `before_read` is called before an instrument is read, to bring simulated time up to date.
    """

    def __init__(
        self,
        name: str,
        units: Mapping[int, Unit],
        *,
        gateway: bool,
        dice: Dice | None = None,
        ledger: Ledger | None = None,
        before_read: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare.

        :param gateway: whether an instrument that is not there or switched off is answered for,
            with exception 0x0B
        """
        self.name = name
        self.units = units
        self.dice = dice or Dice(NO_FAULTS, name)
        self._gateway = gateway
        self._ledger = ledger
        self._before_read = before_read
        self._busy = asyncio.Lock()

    async def ask(self, unit_id: int, request: bytes) -> Said:
        """Let the instrument answer a request of at least one byte, and write that down."""
        async with self._busy:
            await pause(self.dice.reply_delay_s())
            fault = self.dice.throw()
            reply = self._reply(unit_id, request)
            self._record(unit_id, request, reply, fault)
        return _struck(Said(unit_id, reply, fault), self.dice)

    def _reply(self, unit_id: int, request: bytes) -> bytes:
        self._before_read()
        unit = self.units.get(unit_id)
        if unit is not None and not unit.device.silent:
            return reply_to(request, unit.device)
        if self._gateway:
            return exception_reply(request[0], ModbusException.GATEWAY_TARGET_SILENT)
        return b""

    def _record(self, unit_id: int, request: bytes, reply: bytes, fault: Fault | None) -> None:
        if self._ledger is None:
            return
        what = asked(request)
        unit = self.units.get(unit_id)
        self._ledger.write(
            Exchange(
                wire=self.name,
                device=unit.device_id if unit else None,
                unit=unit_id,
                function=what.function,
                address=what.address,
                count=what.count,
                reply=reply,
                fault=fault,
            )
        )


async def pause(duration_s: float) -> None:
    """Sleep, if there is anything to sleep."""
    if duration_s > 0.0:
        await asyncio.sleep(duration_s)


def _struck(said: Said, dice: Dice) -> Said:
    """The reply with what the fault makes of its content."""
    unit_id, pdu, fault = said.unit_id, said.pdu, said.fault
    carries_data = len(pdu) > 2
    match fault:
        case _ if not pdu:
            pass
        case Fault.WRONG_UNIT_ID:
            unit_id = (unit_id + 1) & 0xFF
        case Fault.WRONG_FUNCTION:
            pdu = bytes([pdu[0] ^ 0x07]) + pdu[1:]
        case Fault.EXCEPTION:
            pdu = exception_reply(pdu[0], dice.exception_code())
        case Fault.SHORT_REPLY if carries_data:
            cut = 2 if pdu[0] in (3, 4) else 1
            pdu = bytes([pdu[0], pdu[1] - cut]) + pdu[2:-cut]
        case Fault.WRONG_BYTE_COUNT if carries_data:
            pdu = bytes([pdu[0], (pdu[1] + 2) & 0xFF]) + pdu[2:]
    return Said(unit_id, pdu, fault)

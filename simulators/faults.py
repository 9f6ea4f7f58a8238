"""Faults of a wire, each with a name and a probability, all drawn from one seed.

At most one fault strikes a reply, so the probabilities together must not exceed one. The dice of
a wire are thrown once per reply: the same seed and the same sequence of requests on that wire
give the same faults, whatever other wires do.
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from random import Random

from simulators.settings import Range, require


class Fault(StrEnum):
    """What can go wrong with one reply."""

    NO_ANSWER = "no_answer"
    """Nothing is sent."""
    LATE_ANSWER = "late_answer"
    """The right reply comes after `late_answer_s`."""
    WRONG_TRANSACTION_ID = "wrong_transaction_id"
    WRONG_UNIT_ID = "wrong_unit_id"
    WRONG_FUNCTION = "wrong_function"
    SHORT_REPLY = "short_reply"
    """One register, or one byte of bits, fewer than asked for, in a well-formed reply."""
    WRONG_BYTE_COUNT = "wrong_byte_count"
    """The reply announces more bytes than it has."""
    EXCEPTION = "exception"
    """One of `exception_codes` instead of the data."""
    DUPLICATE_REPLY = "duplicate_reply"
    """The reply is sent twice."""
    GARBAGE_BEFORE = "garbage_before"
    """Up to sixteen random bytes, then the reply."""
    BYTE_BY_BYTE = "byte_by_byte"
    """The right reply, one byte at a time with `byte_gap_s` between."""
    CLOSE_MID_REPLY = "close_mid_reply"
    """Half the reply, then the connection is closed; a serial port is gone for `vanished_s`."""
    CORRUPT_REPLY = "corrupt_reply"
    """One bit of the reply flips."""
    TRUNCATED_REPLY = "truncated_reply"
    """Half the reply, and the line goes on."""
    ECHO = "echo"
    """The request is heard again, then the reply."""
    GARBAGE_AFTER = "garbage_after"
    """The reply, then up to sixteen random bytes."""


TCP_ONLY = frozenset({Fault.WRONG_TRANSACTION_ID})
SERIAL_ONLY = frozenset(
    {Fault.CORRUPT_REPLY, Fault.TRUNCATED_REPLY, Fault.ECHO, Fault.GARBAGE_AFTER}
)


_AT_ONCE = Range(0.0, 0.0)
_AFTER_USUAL_TIMEOUT = Range(1.0, 3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Probability of each fault per reply, and their particulars."""

    seed: int = 0

    no_answer: float = 0.0
    late_answer: float = 0.0
    wrong_transaction_id: float = 0.0
    wrong_unit_id: float = 0.0
    wrong_function: float = 0.0
    short_reply: float = 0.0
    wrong_byte_count: float = 0.0
    exception: float = 0.0
    duplicate_reply: float = 0.0
    garbage_before: float = 0.0
    byte_by_byte: float = 0.0
    close_mid_reply: float = 0.0
    corrupt_reply: float = 0.0
    truncated_reply: float = 0.0
    echo: float = 0.0
    garbage_after: float = 0.0

    reply_delay_s: Range = _AT_ONCE
    """Taken for every reply before the instrument is read: the time of a slow line."""
    late_answer_s: Range = _AFTER_USUAL_TIMEOUT
    vanished_s: Range = _AFTER_USUAL_TIMEOUT
    byte_gap_s: float = 0.002
    exception_codes: tuple[int, ...] = (6,)
    """6 is "server device busy" (Modbus Application Protocol V1.1b3, 7)."""

    def __post_init__(self) -> None:
        for fault in Fault:
            require(0.0 <= self.probability(fault) <= 1.0, fault.value, "must be 0 to 1")
        total = sum(self.probability(fault) for fault in Fault)
        require(total <= 1.0 + 1e-9, "faults", f"probabilities add up to {total:g}, more than 1")
        require(self.byte_gap_s >= 0.0, "byte_gap_s", "must not be negative")
        possible = all(1 <= code <= 255 for code in self.exception_codes)
        require(bool(self.exception_codes) and possible, "exception_codes", "must be 1 to 255")

    def probability(self, fault: Fault) -> float:
        value: float = getattr(self, fault.value)
        return value


NO_FAULTS = Faults()


class Dice:
    """Draws the faults of one wire."""

    def __init__(self, faults: Faults, wire: str) -> None:
        self.faults = faults
        self._rng = Random(f"{faults.seed}/{wire}")

    def throw(self) -> Fault | None:
        """The fault that strikes the next reply, if any."""
        at = self._rng.random()
        for fault in Fault:
            at -= self.faults.probability(fault)
            if at < 0.0:
                return fault
        return None

    def reply_delay_s(self) -> float:
        return self._within(self.faults.reply_delay_s)

    def late_answer_s(self) -> float:
        return self._within(self.faults.late_answer_s)

    def vanished_s(self) -> float:
        return self._within(self.faults.vanished_s)

    def exception_code(self) -> int:
        return self._rng.choice(self.faults.exception_codes)

    def corrupted(self, raw: bytes) -> bytes:
        """`raw` with one bit flipped."""
        bit = self._rng.randrange(8 * len(raw))
        return raw[: bit // 8] + bytes([raw[bit // 8] ^ 1 << bit % 8]) + raw[bit // 8 + 1 :]

    def garbage(self) -> bytes:
        return self._rng.randbytes(self._rng.randint(1, 16))

    def _within(self, span: Range) -> float:
        return span.low if span.low == span.high else self._rng.uniform(span.low, span.high)


assert {fault.value for fault in Fault} <= {field.name for field in fields(Faults)}

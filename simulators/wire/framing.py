"""What the framings of a serial line have in common."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it was heard."""

    unit_id: int
    pdu: bytes
    raw: bytes
    """The whole frame."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How a protocol data unit becomes a frame of characters, and back."""

    encoded: Callable[[int, bytes], bytes]
    """The frame of a unit identifier and a protocol data unit."""
    taken: Callable[[bytearray, bool], Request | None]
    """Takes the first whole request off what was heard, None if there is none; the second argument
    says whether `silence_s` has passed since. What cannot become a request any more is dropped."""
    bits_per_character: int
    """With start, parity and stop bits."""
    silence_s: float
    """Ends what has begun to be a frame."""

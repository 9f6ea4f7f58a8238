"""A link as the layers above see it: a request PDU goes out, its reply PDU comes back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

READ_FUNCTIONS = frozenset((1, 2, 3, 4))
"""The only functions that a wire sends: read coils, discrete inputs, holding, input registers."""


class Wire(Protocol):
    """A link on which one request at a time is asked."""

    async def open(self) -> None:
        """Open the link.

        :raises LinkLost: if that fails
        """

    async def ask(self, unit: int, request: bytes) -> bytes:
        """Send a read request PDU to a unit and return the PDU of its reply, at least two bytes.

        Safe to cancel: what comes late is not taken for the reply to a later request.

        :raises BadReply: if the unit does not answer, or another one does
        :raises LinkLost: if the link is gone
        """

    def forget(self, unit: int) -> None:
        """Forget what is known of a unit: it is about to be asked anew who it is."""

    def close(self) -> None:
        """Close at any time, any number of times."""


@dataclass(frozen=True, slots=True)
class Station:
    """What a line may ask a unit to find out whether it is in step with it.

    :ivar constant: read requests whose replies do not change by themselves, as of identity
    :ivar others: further read requests that the unit answers
    :ivar pause_s: silence that the unit needs between a reply and the next request
    """

    constant: tuple[bytes, ...] = ()
    others: tuple[bytes, ...] = ()
    pause_s: float = 0.0


Stations = Mapping[int, Station]
"""By unit id."""

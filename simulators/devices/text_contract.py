"""What a device that speaks in lines of text offers to the wire."""

from abc import ABC, abstractmethod
from typing import ClassVar

from simulators.devices.contract import POWERED_OFF
from simulators.disturbance import Disturbances


class TextDevice(ABC):
    """One instrument on a serial line. What it says comes with its terminator."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF,)
    """What may happen to the instrument itself."""

    REQUEST_END: ClassVar[bytes] = b"\r\n"
    """What ends a request."""

    ECHOES: ClassVar[bool] = False
    """Whether it sends back each character that it hears."""

    REPLY_DELAY_S: ClassVar[float] = 0.0
    """How long it takes to answer, besides the time of the characters on the line."""

    def __init__(self) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)

    @property
    def silent(self) -> bool:
        """True while the instrument neither answers nor sends."""
        return self.disturbances.active(POWERED_OFF)

    def step(self, dt_s: float) -> None:  # noqa: B027
        """Move forward by `dt_s`. Devices without a memory of their own have nothing to do."""

    @abstractmethod
    def answer(self, request: bytes) -> bytes:
        """The reply to a request that came without its terminator; empty for silence."""

    def unprompted(self) -> bytes:
        """What it has sent by itself since the last call."""
        return b""

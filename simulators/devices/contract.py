"""What a Modbus device offers to the wire, whatever the framing."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum
from typing import ClassVar

from simulators.disturbance import Disturbances

POWERED_OFF = "powered_off"


class Table(Enum):
    """The four tables of the Modbus data model; the value is the function code that reads it."""

    COILS = 1
    DISCRETE_INPUTS = 2
    HOLDING_REGISTERS = 3
    INPUT_REGISTERS = 4


class ModbusException(Exception):
    """A refusal, with the code that goes onto the wire (Modbus Application Protocol V1.1b3, 7)."""

    ILLEGAL_FUNCTION = 0x01
    ILLEGAL_DATA_ADDRESS = 0x02
    ILLEGAL_DATA_VALUE = 0x03
    GATEWAY_TARGET_SILENT = 0x0B

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code:#04x}")
        self.code = code


class ModbusDevice(ABC):
    """One instrument. Addresses are those of the protocol data unit, counted from 0."""

    offers_writes = False
    """Whether :meth:`write` may succeed; if not, write requests are unknown functions."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = (POWERED_OFF,)
    """What may happen to the instrument itself."""

    def __init__(self) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)

    @property
    def silent(self) -> bool:
        """True while the instrument does not answer at all."""
        return self.disturbances.active(POWERED_OFF)

    def step(self, dt_s: float) -> None:  # noqa: B027
        """Move forward by `dt_s`. Devices without a memory of their own have nothing to do."""

    @abstractmethod
    def read(self, table: Table, address: int, count: int) -> list[int]:
        """The `count` registers (0 to 65535) or bits (0, 1) from `address` on.

        :raises ModbusException: what the instrument answers instead
        """

    def write(self, address: int, values: Sequence[int]) -> None:
        """Set holding registers from `address` on.

        :raises ModbusException: what the instrument answers instead
        """
        raise ModbusException(ModbusException.ILLEGAL_FUNCTION)

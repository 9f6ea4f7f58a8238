"""What an OPC UA device offers to the wire: an address space as plain data.

A device builds its tree once. A variable says how it is read; the wire reads it whenever time has
moved. The same object at two places of the tree is one node with two references. Names and types
bear a short prefix for their namespace (:data:`NAMESPACES`); a name without one is of OPC UA
itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from simulators.devices.contract import POWERED_OFF
from simulators.disturbance import Disturbances

FROZEN = "frozen"
"""The server keeps its connections and says nothing."""
CONNECTION_CUT = "connection_cut"
SESSION_CLOSED = "session_closed"
SUBSCRIPTIONS_LOST = "subscriptions_lost"
"""The server drops all subscriptions without a word."""
CLOCK_WRONG = "clock_wrong"
"""All its time stamps are off by the wire's `clock_offset_s`."""

WIRE_DISTURBANCES = (
    POWERED_OFF, FROZEN, CONNECTION_CUT, SESSION_CLOSED, SUBSCRIPTIONS_LOST, CLOCK_WRONG,
)  # fmt: skip
"""What may happen to every OPC UA device; the wire carries it out."""

NAMESPACES: Mapping[str, str] = {
    "di": "http://opcfoundation.org/UA/DI/",
    "machinery": "http://opcfoundation.org/UA/Machinery/",
    "lads": "http://opcfoundation.org/UA/LADS/",
    "packml": "http://opcfoundation.org/UA/PackML/",
    "sim": "urn:simulators:devices",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """Engineering units: a UNECE code (Recommendation 20), empty where there is none."""

    code: str
    display: str


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """A value. Where `read` gives None it has none, and the status is Bad."""

    name: str
    read: Callable[[], Any]
    data_type: str = "Double"
    """Boolean, Int32, UInt32, Float, Double, Duration (in ms), String, LocalizedText, or DateTime
    (given in seconds since 1970 UTC)."""
    unit: Unit | None = None
    range: tuple[float, float] | None = None
    states: tuple[str, ...] | None = None
    """Names of an enumeration's numbers from 0, or of false and true."""
    is_property: bool = False
    is_enumeration: bool = False
    """Whether its data type is an enumeration of its own, with the names in `states`."""


@dataclass(frozen=True, slots=True, eq=False)
class StateMachine:
    """A state machine; `current` names one of its type's states, None while there is none."""

    name: str
    type: str
    current: Callable[[], str | None]
    parts: "Sequence[StateMachine]" = ()


@dataclass(frozen=True, slots=True, eq=False)
class Alarm:
    """A condition with its ActiveState. It is acknowledged by nobody."""

    name: str
    type: str
    active: Callable[[], bool]
    severity: int = 700


@dataclass(frozen=True, slots=True, eq=False)
class Object:
    """An object with parts; `grows` gives what has been added since it was built."""

    name: str
    type: str = "BaseObjectType"
    parts: "Sequence[Part]" = ()
    grows: "Callable[[], Sequence[Object]] | None" = None
    organizes: "Sequence[Part]" = field(default=())
    """Parts of others that it shows again."""


Part = Object | Variable | StateMachine | Alarm


class OpcUaDevice(ABC):
    """One instrument that is an OPC UA server's device."""

    DISTURBANCES: ClassVar[tuple[str, ...]] = WIRE_DISTURBANCES
    """What may happen to the instrument itself."""

    TYPES: ClassVar[Mapping[str, str]] = {}
    """The vendor's own types of objects, each with its supertype."""

    FOLDER: ClassVar[str] = "di:DeviceSet"
    """Where it stands below Objects; empty for Objects itself."""

    def __init__(self) -> None:
        self.disturbances = Disturbances(self.DISTURBANCES)

    def step(self, dt_s: float) -> None:  # noqa: B027
        """Move forward by `dt_s`. Devices without a memory of their own have nothing to do."""

    @abstractmethod
    def tree(self, name: str) -> Object:
        """Its address space; called once.

        :param name: of the device, by its key in the scenario
        """

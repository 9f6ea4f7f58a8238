"""The contract that a driver author reads.

A driver is protocol code. It connects, reads and closes; it does not retry, log, scale, store
or publish: acquisition does. It knows nothing of makes, units or MQTT: what to read is data, in
the profile. A driver package offers one :class:`DriverKind` under the entry point group
``edgeagent.drivers``; the agent names no driver.

A driver raises :class:`LinkLost` when the connection is gone and :class:`BadReply` when one
instrument gave no usable answer. Anything else it raises is a defect: acquisition treats it as
a lost link and records it with its traceback.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel

from edgeagent.model.clock import Clock
from edgeagent.model.errors import BadReply, LinkLost
from edgeagent.model.frame import Frame, GroupSchema, Identity, Loss
from edgeagent.model.profile import Profile

__all__ = [
    "BadReply",
    "DriverKind",
    "Frame",
    "GroupSchema",
    "Identity",
    "Instrument",
    "LinkLost",
    "Loss",
    "PolledDriver",
    "SubscribedDriver",
]

ENTRY_POINT_GROUP = "edgeagent.drivers"


@dataclass(frozen=True, slots=True)
class Instrument:
    """One device at one site, as its driver needs to know it.

    ``settings`` is what the site file says about it, validated by the driver's
    ``instrument_settings``; ``profile`` is an instance of the driver's ``profile`` model.
    ``groups`` are the compiled schemas; a group's tags stand in the order of
    ``profile.groups[group.group].acquired()``. ``expected`` are the identity facts that the site
    commissioned (``serial_number`` …).
    """

    name: str
    profile: Profile[Any, Any]
    settings: Any
    groups: tuple[GroupSchema, ...]
    expected: tuple[tuple[str, str], ...] = ()


class PolledDriver(Protocol):
    """One link that is asked. Calls never overlap; acquisition owns the schedule."""

    async def connect(self) -> tuple[Identity, ...]:
        """Open the link and ask each instrument who it is.

        An instrument that does not answer is left out of the result: it is asked again by
        :meth:`identify` before its first value.

        :raises LinkLost: if the link cannot be opened
        """

    async def identify(self, instrument: str) -> Identity:
        """Ask one instrument who it is.

        :raises BadReply: if it does not answer
        :raises LinkLost: if the link is gone
        """

    async def poll(self, group: GroupSchema) -> Frame:
        """Read one group once.

        Cancelling leaves the line dirty until the driver has re-synchronised it.

        :raises BadReply: if nothing of the group could be read
        :raises LinkLost: if the link is gone
        """

    async def close(self) -> None:
        """Close at any time, any number of times. Never raises."""


class SubscribedDriver(Protocol):
    """One link on which the device pushes."""

    def resume(self, durable: Mapping[GroupSchema, Sequence[int | None]]) -> None:
        """Take note, before the first connect, of what an agent before this one has stored.

        :param durable: the device's time of each tag's last value, in nanoseconds UTC; ``None``
            where there is none. What the device gives again up to there is not new
        """

    async def connect(self) -> tuple[Identity, ...]:
        """Open the link, ask who is there, subscribe.

        :raises LinkLost: if the link cannot be opened
        """

    async def next(self) -> Sequence[Frame | Loss]:
        """Wait for what the device pushes next, in order. Safe to cancel.

        :raises LinkLost: if the link is gone
        """

    async def committed(self, upto: Frame) -> None:
        """Take note that everything up to this frame is durable: the device may forget it."""

    async def close(self) -> None:
        """Close at any time, any number of times. Never raises."""


def _fits(instrument: Instrument, others: Sequence[Instrument]) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class DriverKind:
    """What a driver package offers to the agent.

    :ivar name: the word that profiles and links use, e.g. ``modbus``
    :ivar link_settings: model of ``links.<name>`` without its ``driver`` key
    :ivar instrument_settings: model of the driver's own keys of ``instruments.<name>``
    :ivar profile: model of a whole profile file of this driver
    :ivar endpoint: names the physical end of a link (host and port, serial device), so that two
        links to one end are refused
    :ivar clash: says in words why two instruments cannot share a link (same address), or ``None``
    :ivar open: makes the driver of one link; touches nothing until ``connect``
    :ivar misfit: says in words why an instrument's settings do not fit its profile, or it the
        others of its link, and behind a semicolon the mend, or ``None``
    """

    name: str
    link_settings: type[BaseModel]
    instrument_settings: type[BaseModel]
    profile: type[Profile[Any, Any]]
    endpoint: Callable[[Any], str]
    clash: Callable[[Any, Any], str | None]
    open: Callable[[Any, Sequence[Instrument], Clock], PolledDriver | SubscribedDriver]
    misfit: Callable[[Instrument, Sequence[Instrument]], str | None] = _fits

"""The contract that a driver author reads.

A driver is protocol code. It connects, reads and closes; it does not retry, log, scale, store
or publish: acquisition does. It knows nothing of makes, units or MQTT: what to read is data, in
the profile. A driver package offers one :class:`DriverKind` under the entry point group
``edgeagent.drivers``; the agent names no driver.

A driver raises :class:`LinkLost` when the connection is gone and :class:`BadReply` when one
instrument gave no usable answer. Anything else it raises is a defect: acquisition treats it as
a lost link and records it with its traceback.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from edgeagent.model.clock import Clock
from edgeagent.model.errors import BadReply, LinkLost
from edgeagent.model.frame import Frame, GroupSchema, Identity, Loss
from edgeagent.model.profile import Profile

__all__ = [
    "BadReply",
    "Draft",
    "DriverKind",
    "Frame",
    "GroupSchema",
    "Historian",
    "HistoryPiece",
    "Identity",
    "Instrument",
    "LinkLost",
    "Loss",
    "MarkingDriver",
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

    async def next(self) -> Sequence[Frame | Loss | Identity]:
        """Wait for what the device pushes next, in order. Safe to cancel.

        An identity says who is there from here on.

        :raises LinkLost: if the link is gone
        """

    async def committed(self, upto: Frame) -> None:
        """Take note that everything up to this frame is durable: the device may forget it."""

    async def close(self) -> None:
        """Close at any time, any number of times. Never raises."""


@runtime_checkable
class MarkingDriver(Protocol):
    """What a subscribed driver can do besides that says how far it has come (``Frame.marks``)."""

    def take_up(self, marks: Mapping[GroupSchema, Mapping[str, str]]) -> None:
        """Take note, before the first connect, of the marks of all frames that are stored."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A profile that a driver proposes after a look at a device; a person approves it.

    :ivar profile: a name for it
    :ivar summary: what was found, in one line
    :ivar text: the YAML of the profile under the name that it is given. It bears the key ``draft``,
        with which ``edgeagent check`` refuses it
    """

    profile: str
    summary: str
    text: Callable[[str], str]


def _as_stated(settings: Any, pki: Path) -> Any:
    return settings


def _fits(instrument: Instrument, others: Sequence[Instrument]) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class HistoryPiece:
    """What a device remembers of a stretch of time, as far as one request gave it.

    :ivar frames: the oldest first, with the device's own time and the origin *back-fill*
    :ivar upto_utc_ns: up to here, in the device's time, everything was given; the end of the
        stretch when there is no more
    """

    frames: tuple[Frame, ...]
    upto_utc_ns: int


@runtime_checkable
class Historian(Protocol):
    """What a driver can do besides whose devices remember."""

    def remembers(self, group: GroupSchema) -> bool:
        """Return whether history of this group may be asked for; known once connected."""

    async def history(
        self, group: GroupSchema, after_utc_ns: int, before_utc_ns: int
    ) -> HistoryPiece:
        """Ask for the oldest piece of an open interval, in the device's time.

        Of a subscribed driver it may overlap with ``next`` and ``committed``; of a polled one it
        never overlaps with another call.

        :raises BadReply: if the device does not give it now: it is asked again later
        :raises LinkLost: if the link is gone
        """


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
    :ivar at_site: returns a link's settings at a site with this PKI folder
        (:mod:`edgeagent.pki`); drivers that use certificates keep it, for :attr:`open`
    :ivar discover: looks at what is there, where a link's settings and an instrument's lead, and
        returns a draft for each device; acquires nothing. Raises :class:`LinkLost`. ``None`` where
        devices of this protocol do not describe themselves
    """

    name: str
    link_settings: type[BaseModel]
    instrument_settings: type[BaseModel]
    profile: type[Profile[Any, Any]]
    endpoint: Callable[[Any], str]
    clash: Callable[[Any, Any], str | None]
    open: Callable[[Any, Sequence[Instrument], Clock], PolledDriver | SubscribedDriver]
    misfit: Callable[[Instrument, Sequence[Instrument]], str | None] = _fits
    at_site: Callable[[Any, Path], Any] = _as_stated
    discover: Callable[[Any, Any, Clock], Coroutine[Any, Any, Sequence[Draft]]] | None = None

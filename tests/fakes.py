"""Drivers that do what a script says, and a recorder that keeps records in a list.

They stand where a link and a journal stand, so that acquisition runs on virtual time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from edgeagent.driver import DriverKind, Instrument, LinkLost
from edgeagent.journal import Recorder
from edgeagent.model.frame import DataType, Frame, GroupSchema, Identity, Loss, TagSchema
from edgeagent.model.profile import Group, IdentityItem, Profile, Strict, Tag
from edgeagent.model.record import Lane, Record
from tests.clocks import START_UTC_NS

Act = Callable[[], Awaitable[Any]]


# -- a driver package, without a wire ----------------------------------------------------------


class FakeLinkSettings(Strict):
    """Where a fake link leads."""

    host: str
    port: int = Field(502, ge=1, le=65_535)


class FakeInstrumentSettings(Strict):
    """Which fake instrument it is."""

    address: int = Field(ge=1, le=247)


class FakeTag(Tag):
    """A tag that needs a register."""

    register_: int = Field(alias="register", ge=0)


class FakeProfile(Profile[Group[FakeTag], IdentityItem]):
    """A whole profile of the fake driver."""


def fake_kind(name: str = "fake") -> DriverKind:
    """Return a driver kind whose links cannot be opened."""

    def clash(one: FakeInstrumentSettings, other: FakeInstrumentSettings) -> str | None:
        return f"has address {one.address}" if one.address == other.address else None

    def refuse(*_: object) -> Any:
        raise AssertionError("a driver was opened")

    return DriverKind(
        name=name,
        link_settings=FakeLinkSettings,
        instrument_settings=FakeInstrumentSettings,
        profile=FakeProfile,
        endpoint=lambda link: f"{link.host}:{link.port}",
        clash=clash,
        open=refuse,
    )


# -- instruments -------------------------------------------------------------------------------


def group_of(
    instrument: str, group: str = "all", *, tags: int = 2, period_ns: int = 10**9
) -> GroupSchema:
    """Return a group of FLOAT64 tags ``t0``, ``t1`` …"""
    schemas = tuple(TagSchema(f"t{index}", DataType.FLOAT64) for index in range(tags))
    return GroupSchema(instrument, group, schemas, period_ns, "acme", "1.0.0")


def instrument_of(*groups: GroupSchema) -> Instrument:
    """Return the instrument that has these groups; it needs no profile to be polled."""
    profile: Any = None
    return Instrument(groups[0].instrument, profile, None, groups)


# -- clocks and recorders ----------------------------------------------------------------------


class LoopClock:
    """Time as the event loop has it: virtual where the loop's is."""

    boot_id = "00000000-0000-4000-8000-000000000001"

    def utc_ns(self) -> int:
        return START_UTC_NS + self.boot_ns()

    def boot_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)


@dataclass
class ListJournal:
    """What :class:`Acquisition` and :class:`Recorder` ask of a journal, held in lists."""

    clock: LoopClock
    commit_takes_s: float = 0.0
    bodies: dict[Lane, list[bytes]] = field(default_factory=lambda: {lane: [] for lane in Lane})
    full: bool = False
    mended: int = 0
    epochs: tuple[Any, ...] = ()

    async def append(
        self, records: Sequence[Record], *, checkpoint: bytes | None = None
    ) -> list[Any]:
        from edgeagent.model.errors import JournalFull

        await asyncio.sleep(self.commit_takes_s)
        if self.full:
            raise JournalFull("no space")
        for record in records:
            lane = self.bodies[record.lane]
            lane.append(record.body(len(lane) + 1))
        return []

    async def descriptions(self, lane: Lane, kind: str) -> list[Any]:
        return []

    async def checkpoint(self) -> None:
        return None

    async def move_log(self) -> None:
        return None

"""Profiles: one make and model of instrument, as data.

This module holds what every driver's profiles share. A driver extends :class:`Tag`,
:class:`Group` and :class:`Profile` with its own addressing.
"""

import math
from collections.abc import Collection
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from edgeagent.model.frame import DataType, GroupSchema, Scale, TagSchema
from edgeagent.model.quantity import DurationNs, Rational

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
"""Lower-case letters, digits, ``_`` and ``-``: safe in a topic, a file name and a command line."""

TagT = TypeVar("TagT", bound="Tag")
GroupT = TypeVar("GroupT", bound="Group[Any]")
IdentityT = TypeVar("IdentityT", bound="IdentityItem")


class Strict(BaseModel):
    """Base of all configuration: unknown keys are errors, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Strict):
    """Where the facts of a profile come from."""

    manual: str
    sections: tuple[str, ...] = ()
    confidence: Literal["documented", "third-party", "assumed", "simulated-only"]
    note: str | None = None


class Range(Strict):
    """Valid engineering values, both ends included."""

    low: FiniteFloat
    high: FiniteFloat

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}; exchange them")
        return self


class Tag(Strict):
    """One named quantity of the instrument."""

    OFFERS_PSEUDONYM: ClassVar[bool] = False
    """Whether the driver can replace a STRING by a pseudonym."""

    type: DataType
    unit: str = Field("1", description="UCUM code; '1' for a number without dimension")
    scale: Rational = Field(Fraction(1), description="engineering value = raw * scale + offset")
    offset: Rational = Field(Fraction(0), description="in engineering units")
    range: Range | None = None
    sentinels: tuple[int | float | str, ...] = Field(
        (), description="raw values by which the device says that it has no value"
    )
    privacy: Literal["none", "pseudonym", "drop"] = Field(
        "drop", description="of a STRING: 'drop' is never acquired, 'none' is kept as it is"
    )
    critical: bool = Field(
        False, description="stored from the reserve when the journal is full; a site may override"
    )
    description: str | None = None
    source: str | None = Field(
        None, description="manual and section, where it differs from the profile's"
    )
    assumed: str | None = Field(None, description="what of this tag no document states")

    @model_validator(mode="after")
    def _consistent(self) -> "Tag":
        if not self.is_number and (self.scale != 1 or self.offset != 0 or self.range is not None):
            raise ValueError(f"a {self.type.value} has no scale, offset or range; remove it")
        if self.scale == 0:
            raise ValueError("scale 0 would make every value the same; correct it")
        if self.privacy == "pseudonym" and not self.OFFERS_PSEUDONYM:
            raise ValueError(
                "privacy 'pseudonym' needs a driver that offers it; use 'none' or 'drop'"
            )
        return self

    @property
    def is_number(self) -> bool:
        """Whether scale, offset and range mean anything."""
        return self.type not in (DataType.BOOL, DataType.STRING)

    @property
    def acquired(self) -> bool:
        """Whether the tag is read at all: a STRING of class ``drop`` never enters the agent."""
        return self.type is not DataType.STRING or self.privacy != "drop"

    def compile(self, name: str, critical: bool | None = None) -> TagSchema:
        """Return the compiled form of this tag.

        :param critical: whether the site marks it as critical, if it says so
        """
        scale: Fraction = self.scale
        denominator = math.lcm(scale.denominator, self.offset.denominator)
        return TagSchema(
            name=name,
            type=self.type,
            unit=self.unit,
            scale=Scale(int(scale * denominator), int(self.offset * denominator), denominator),
            low=self.range.low if self.range else None,
            high=self.range.high if self.range else None,
            sentinels=self.sentinels,
            critical=self.critical if critical is None else critical,
        )


class Group(Strict, Generic[TagT]):
    """Tags that are read together at one period."""

    period: DurationNs
    tags: dict[Name, TagT] = Field(min_length=1)

    def compile(self, critical: Collection[str] | None) -> tuple[TagSchema, ...]:
        """Return the compiled form of the tags that are read.

        :param critical: the critical tags, in place of those that are marked so
        """
        return tuple(
            tag.compile(name, None if critical is None else name in critical)
            for name, tag in self.acquired().items()
        )

    def acquired(self) -> dict[str, TagT]:
        """Return the tags that are read, in the order of the compiled schema."""
        return {name: tag for name, tag in self.tags.items() if tag.acquired}


class IdentityItem(Strict):
    """One fact that the instrument states of itself."""

    expect: str | None = Field(
        None, description="regular expression that the whole text must match"
    )


class DeviceClock(Strict):
    """The instrument's own clock, when it has one."""

    zone: str = Field(
        description="IANA zone in which the device keeps time, e.g. Europe/Berlin or UTC"
    )


class Profile(Strict, Generic[GroupT, IdentityT]):
    """One make and model: how it is read, what its values mean, where that is written."""

    profile: Name = Field(description="name of the profile; equal to the file name without .yaml")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    make: str
    model: str
    device_class: str
    driver: str
    source: tuple[Source, ...] = Field(min_length=1)
    draft: bool = Field(False, description="nobody has approved it yet: with true it is refused")
    identity: dict[Name, IdentityT] = {}
    identity_unavailable: str | None = Field(
        None,
        description="why this instrument cannot say who it is; required where identity is empty",
    )
    clock: DeviceClock | None = None
    groups: dict[Name, GroupT] = Field(min_length=1)

    @field_validator("draft")
    @classmethod
    def _approved(cls, draft: bool) -> bool:
        if draft:
            raise ValueError(
                "this profile is a draft; hold it against the manual, then remove this line"
            )
        return draft

    @model_validator(mode="after")
    def _identifiable(self) -> "Profile[GroupT, IdentityT]":
        if not self.identity and not self.identity_unavailable:
            raise ValueError(
                "says not how it is identified; state identity items, or say in "
                "identity_unavailable why there are none"
            )
        return self

    def acquired(self) -> set[str]:
        """Return the names of all tags that are read."""
        return {name for group in self.groups.values() for name in group.acquired()}

    def schemas(
        self,
        instrument: str,
        periods_ns: dict[str, int],
        critical: Collection[str] | None = None,
    ) -> tuple[GroupSchema, ...]:
        """Compile the groups for one instrument.

        :param periods_ns: the site's own periods by group name, where it overrides the profile's
        :param critical: the tags that the site marks as critical, in place of the profile's
        """
        return tuple(
            GroupSchema(
                instrument=instrument,
                group=name,
                tags=group.compile(critical),
                period_ns=periods_ns.get(name, group.period),
                profile=self.profile,
                profile_version=self.version,
            )
            for name, group in self.groups.items()
        )

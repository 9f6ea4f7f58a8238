"""What an OPC UA profile may state. Everything is checked here, before a socket opens."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from drivers.opcua.address import Address, parse, resolve
from edgeagent.model.checked import fault_line
from edgeagent.model.frame import DataType
from edgeagent.model.profile import Group, IdentityItem, Name, Profile, Range, Strict, Tag
from edgeagent.model.quantity import DurationNs

OBJECTS = "i=85"


class Located(Strict):
    """Where a value is on the server, and which part of it is meant."""

    node: str = Field(
        description="nsu=<namespace>;s=<identifier> (or i=, g=, b=), i=<number> of namespace 0, or "
        "a browse path from the start node: /acme:Chamber/acme:Temperature"
    )
    element: int | tuple[int, ...] | None = Field(
        None, description="of an array: index from 0; of a matrix: one index for each dimension"
    )
    field: str | None = Field(
        None,
        min_length=1,
        description="of a structure: name of the field, Outer.Inner where nested",
    )

    @field_validator("node")
    @classmethod
    def _address(cls, node: str) -> str:
        parse(node)
        return node

    @field_validator("element")
    @classmethod
    def _from_zero(cls, element: int | tuple[int, ...] | None) -> int | tuple[int, ...] | None:
        indices = (element,) if isinstance(element, int) else element or (0,)
        if min(indices) < 0:
            raise ValueError("counts from 0; write the index of the element")
        return element

    @property
    def indices(self) -> tuple[int, ...] | None:
        """The element as one index per dimension."""
        return (self.element,) if isinstance(self.element, int) else self.element


class Deadband(Strict):
    """Changes that the server need not report; what it swallows is never seen again."""

    absolute: float | None = Field(None, gt=0, description="in the units of the server")
    percent: float | None = Field(None, gt=0, le=100, description="of the node's EURange")

    @model_validator(mode="after")
    def _one(self) -> "Deadband":
        if (self.absolute is None) == (self.percent is None):
            raise ValueError("is one of two; give absolute or percent")
        return self


class Stated(Strict):
    """What the server stated of a tag when a person approved it; compared at every connect."""

    unit_id: int | None = Field(None, description="UnitId of the node's EngineeringUnits")
    unit: str | None = Field(None, description="their DisplayName")
    range: Range | None = Field(None, description="the node's EURange")


class OpcUaTag(Tag, Located):
    """One value that is monitored."""

    array: bool = Field(
        False, description="of a STRING: the whole array as a JSON array, written as text"
    )
    deadband: Deadband | None = None
    stated: Stated | None = Field(
        None, description="what the server stated when it was approved; a change is reported"
    )

    @model_validator(mode="after")
    def _of_its_type(self) -> "OpcUaTag":
        if self.array and self.type is not DataType.STRING:
            raise ValueError("array makes a text; write type: STRING, or name an element")
        if self.array and self.element is not None:
            raise ValueError("array is the whole, element a part; remove one of them")
        if self.deadband is not None and not self.is_number:
            raise ValueError(f"a {self.type.value} has no deadband; remove it")
        return self


class OpcUaGroup(Group[OpcUaTag]):
    """Tags that are sampled alike; ``period`` is the sampling interval."""

    publishing_interval: DurationNs | None = Field(
        None, description="how often the server sends what it sampled; default: the period"
    )
    every_change: bool = Field(
        False,
        description="the server reports each change, however soon after the one before, "
        "instead of looking once in a period",
    )
    queue_size: int | None = Field(
        None,
        ge=2,
        le=100_000,
        description="samples of a tag that the server keeps while nothing can be sent; default: of "
        "10 s, at least 10",
    )

    @model_validator(mode="after")
    def _room(self) -> "OpcUaGroup":
        interval = self.publishing_interval or self.period
        if self.queue_size is not None and self.queue_size <= interval // self.period:
            raise ValueError(
                f"queue_size {self.queue_size} cannot hold what is sampled in one publishing "
                f"interval; give more than {interval // self.period}"
            )
        return self


class OpcUaIdentityItem(IdentityItem, Located):
    """One fact that a node states of the instrument; a number as decimal digits."""


class OpcUaLayout(Strict):
    """What holds for all nodes of the profile."""

    namespaces: dict[Name, str] = Field(
        {}, description="short names for namespace URIs, for use in node"
    )
    start: str = Field(OBJECTS, description="node from which browse paths begin; default: Objects")

    @field_validator("start")
    @classmethod
    def _address(cls, start: str) -> str:
        parse(start)
        return start


class OpcUaProfile(Profile[OpcUaGroup, OpcUaIdentityItem]):
    """One make and model that speaks OPC UA."""

    driver: Literal["opcua"]
    opcua: OpcUaLayout = OpcUaLayout()

    @model_validator(mode="after")
    def _known_namespaces(self) -> "OpcUaProfile":
        lines = [fault_line(place, str(error), node) for place, node, error in self._unresolved()]
        if lines:
            raise ValidationError.from_exception_data(type(self).__name__, lines)
        return self

    def _unresolved(self) -> Iterator[tuple[tuple[str, ...], str, ValueError]]:
        nodes: list[tuple[tuple[str, ...], str]] = [(("opcua", "start"), self.opcua.start)]
        nodes += [(("identity", name, "node"), item.node) for name, item in self.identity.items()]
        for group, content in self.groups.items():
            for name, tag in content.tags.items():
                nodes.append((("groups", group, "tags", name, "node"), tag.node))
        for place, node in nodes:
            try:
                self.address(node)
            except ValueError as error:
                yield place, node, error

    def address(self, node: str) -> Address:
        """Return what a ``node`` or ``start`` means.

        :raises ValueError: if it names a namespace that is not known
        """
        return resolve(parse(node), self.opcua.namespaces)

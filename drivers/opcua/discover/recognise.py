"""Which devices a server has, and which tags each of them; pure.

A device is recognised by its type or a supertype of it, so that a vendor's own subtypes count.
Each variable becomes one tag, however many ways lead to it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from drivers.opcua.address import NodeId
from drivers.opcua.discover.model import (
    DI,
    IDENTITY,
    LADS,
    MACHINERY,
    PACKML,
    AddressSpace,
    Name,
    Node,
    ua,
)
from drivers.opcua.discover.tags import CONDITION, Found, Tagger, Way, machines, snake

LADS_DEVICE, FUNCTIONAL_UNIT = NodeId(LADS, "i", 1002), NodeId(LADS, "i", 1003)
RESULT_SET, TEMPLATE_SET = NodeId(LADS, "i", 1020), NodeId(LADS, "i", 1019)
PACKML_BASE = NodeId(PACKML, "i", 6)
DI_DEVICE, FUNCTIONAL_GROUP = NodeId(DI, "i", 1002), NodeId(DI, "i", 1005)
OBJECTS = ua(85)
DI_LOCK, FILE, SHELVING = NodeId(DI, "i", 6388), ua(11575), ua(2929)

_CLOSED = {DI_LOCK, RESULT_SET, TEMPLATE_SET, FILE, SHELVING}
"""Types of objects whose inside is nothing that a device measures."""


class Kind(Enum):
    """By what a device was recognised."""

    LADS = "LADS"
    PACKML = "PackML"
    DI = "DI"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Fact:
    """A variable that identifies a device.

    :ivar text: what it says now
    """

    name: str
    way: Way
    text: str | None


@dataclass(frozen=True, slots=True)
class Device:
    """One device, or what looks like one.

    :ivar path: browse names from the root of the walk to it
    :ivar is_unique: the path begins at Objects, and no other node has it
    :ivar units: names of the functional units
    :ivar notes: what was found and is no tag, line by line
    """

    kind: Kind
    name: str
    node: NodeId
    path: tuple[Name, ...]
    is_unique: bool
    units: tuple[str, ...]
    identity: tuple[Fact, ...]
    found: tuple[Found, ...]
    notes: tuple[str, ...]


def devices(space: AddressSpace) -> list[Device]:
    """Return what a server has: recognised devices first, then what else has variables."""
    walker = _Walker(space)
    roots = list(_roots(space))
    walker.recognised = {root.id for _, root, _, _ in roots}
    found = [walker.device(*root) for root in roots]
    for node, path, is_unique in _tops(space):
        if node.id not in walker.recognised:
            rest = walker.device(Kind.OTHER, node, path, is_unique)
            found += [rest] if rest.found else []
    return found


def _roots(space: AddressSpace) -> Iterator[tuple[Kind, Node, tuple[Name, ...], bool]]:
    """Return what is recognised by its type; what lies within a device belongs to it."""
    root = space.nodes[space.root]
    seen = {root.id}
    level: list[tuple[Node, tuple[Name, ...], bool]] = [(root, (), root.id == OBJECTS)]
    while level:
        below = []
        for node, path, is_unique in level:
            kind = _kind(space, node)
            if kind is not None:
                yield kind, node, path, is_unique
                continue
            children = [child for child in space.children(node) if child.facts is None]
            repeated = _repeated(children)
            for child in children:
                if child.id not in seen:
                    seen.add(child.id)
                    is_only = is_unique and child.name not in repeated
                    below.append((child, (*path, child.name), is_only))
        level = below


def _kind(space: AddressSpace, node: Node) -> Kind | None:
    lineage = set(space.lineage(node.type))
    for kind, base in ((Kind.LADS, LADS_DEVICE), (Kind.PACKML, PACKML_BASE), (Kind.DI, DI_DEVICE)):
        if base in lineage:
            return kind
    return None


def _tops(space: AddressSpace) -> list[tuple[Node, tuple[Name, ...], bool]]:
    """Return the objects directly below the root, or the root where it has variables itself."""
    root = space.nodes[space.root]
    children = list(space.children(root))
    if any(child.facts is not None for child in children):
        return [(root, (), False)]
    repeated = _repeated(children) if root.id == OBJECTS else {child.name for child in children}
    return [(child, (child.name,), child.name not in repeated) for child in children]


def _repeated(siblings: list[Node]) -> set[Name]:
    """Return names by which no single node can be found: those of several, and empty ones."""
    numbers = Counter(node.name for node in siblings)
    return {name for name, number in numbers.items() if number > 1 or not all(name)}


class _Walker:
    """Walks devices; a variable that one of them has is not another's too."""

    def __init__(self, space: AddressSpace) -> None:
        self._space = space
        self._machines = machines(space)
        self._taken: set[NodeId] = set()
        self.recognised: set[NodeId] = set()

    def device(self, kind: Kind, root: Node, path: tuple[Name, ...], is_unique: bool) -> Device:
        """Return a device with its tags: what is nearer first, what is merely grouped last."""
        ways = list(self._ways(root))
        units = [snake(way.node.name[1]) for way in ways if self._is_unit(way.node)]
        tagger = Tagger(self._space, self._machines, len(units))
        identity: dict[str, Fact] = {}
        found: list[Found] = []
        notes: list[str] = []
        for way in ways:
            notes += self._note(way)
            if _identifies(way):
                facts, name = way.node.facts, IDENTITY[way.node.name[1]]
                assert facts is not None
                identity.setdefault(name, Fact(name, way, facts.text))
                continue
            if way.node.id in self._taken:
                continue
            tag = tagger.tag(way)
            if tag is not None:
                self._taken.add(way.node.id)
                found.append(tag)
        return Device(
            kind, root.name[1] or "server", root.id, path, is_unique, tuple(units),
            tuple(identity.values()), tuple(found), tuple(notes),
        )  # fmt: skip

    def _ways(self, root: Node) -> Iterator[Way]:
        """Return each node below once, by its shortest way that is not one of a group's.

        A functional group as Operational shows again what functions have.
        """
        space = self._space
        seen = {root.id}
        level, later = [Way(root, root, ())], list[Way]()
        while level or later:
            if not level:
                level, later = later, []
            below: list[Way] = []
            for way in level:
                children = list(space.children(way.node))
                repeated = _repeated(children)
                for child in children:
                    if child.id in seen or child.id in self.recognised:
                        continue
                    is_group = space.is_a(child, FUNCTIONAL_GROUP)
                    here = Way(
                        child,
                        way.node,
                        (*way.steps, child.name),
                        snake(child.name[1]) if self._is_unit(child) else way.unit,
                        way.in_program or child.name == (LADS, "ActiveProgram"),
                        way.is_unique and child.name not in repeated,
                    )
                    seen.add(child.id)
                    yield here
                    if not (child.is_property or self._is_closed(child)):
                        (later if is_group else below).append(here)
            level = below

    def _is_unit(self, node: Node) -> bool:
        return self._space.is_a(node, FUNCTIONAL_UNIT)

    def _is_closed(self, node: Node) -> bool:
        return not _CLOSED.isdisjoint(self._space.lineage(node.type))

    def _note(self, way: Way) -> list[str]:
        """Return a line about what is of interest and no tag."""
        node, where = way.node, shown(way.steps)
        if self._space.is_a(node, CONDITION):
            return [f"alarm: {where}"]
        for kind, word in ((RESULT_SET, "results"), (TEMPLATE_SET, "programme templates")):
            if self._space.is_a(node, kind):
                parts = [c.name[1] for c in self._space.children(node) if c.facts is None]
                return [f"{word}: {where}" + (f" ({', '.join(parts)})" if parts else "")]
        return []


def _identifies(way: Way) -> bool:
    """Return whether a variable says who the device is; of its components it says nothing."""
    (*above, (namespace, name)) = way.steps
    is_the_devices = not above or (len(above) == 1 and above[0] in _IDENTIFICATION)
    is_fact = namespace in (DI, MACHINERY, PACKML) and name in IDENTITY
    return is_the_devices and is_fact and way.node.facts is not None


_IDENTIFICATION = ((DI, "Identification"), (MACHINERY, "Identification"))


def shown(steps: tuple[Name, ...]) -> str:
    """Return a path for people."""
    return "/".join(name for _, name in steps)

"""A server's address space as it was browsed: plain data, so that mapping needs no server."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from drivers.opcua.address import NAMESPACE_0, NodeId

UA = NAMESPACE_0
DI = "http://opcfoundation.org/UA/DI/"
MACHINERY = "http://opcfoundation.org/UA/Machinery/"
LADS = "http://opcfoundation.org/UA/LADS/"
PACKML = "http://opcfoundation.org/UA/PackML/"

IDENTITY = {
    "Manufacturer": "make", "Model": "model", "SerialNumber": "serial_number",
    "SoftwareRevision": "firmware", "HardwareRevision": "hardware", "TagID": "tag_id",
}  # fmt: skip
"""Facts that identify a device, by the browse name of DI, Machinery or PackML."""

Name = tuple[str, str]
"""A browse name: namespace URI and name."""


@dataclass(frozen=True, slots=True)
class Units:
    """What a node's EngineeringUnits state (OPC 10000-8 section 5.6.4.3).

    :ivar unit_id: a UNECE code in an Int32 where ``namespace`` says so; 0 or -1: not stated
    """

    namespace: str
    unit_id: int
    display: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a variable besides its place.

    :ivar data_type: the node of its data type
    :ivar kind: number of the built-in type; 0 where it could not be found out
    :ivar rank: -1 scalar, 1 array, more: matrix
    :ivar is_readable: whether the session's user may read it
    :ivar states: names by number, of enumerations and discrete items
    :ivar text: the value, read only of what identifies a device
    """

    data_type: NodeId
    kind: int
    rank: int = -1
    is_readable: bool = True
    units: Units | None = None
    range: tuple[float, float] | None = None
    states: Mapping[int, str] | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """An object or a variable.

    :ivar type: its type definition
    :ivar children: forward hierarchical references, in the server's order
    :ivar facts: of a variable
    """

    id: NodeId
    name: Name
    type: NodeId
    children: tuple[NodeId, ...] = ()
    is_property: bool = False
    facts: Facts | None = None


@dataclass(frozen=True, slots=True)
class State:
    """One state of a type of state machines."""

    id: NodeId
    name: str


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """What of a server was browsed.

    :ivar root: where the walk began
    :ivar supertypes: of each object, variable and data type its supertype
    :ivar states: of each type of state machines the states that it declares itself
    """

    root: NodeId
    nodes: Mapping[NodeId, Node]
    supertypes: Mapping[NodeId, NodeId]
    states: Mapping[NodeId, Sequence[State]]

    def lineage(self, kind: NodeId) -> Iterator[NodeId]:
        """Return a type and its supertypes, nearest first."""
        seen = set()
        step: NodeId | None = kind
        while step is not None and step not in seen:
            seen.add(step)
            yield step
            step = self.supertypes.get(step)

    def is_a(self, node: Node, kind: NodeId) -> bool:
        """Return whether a node is of a type or of a subtype of it, a vendor's too."""
        return kind in self.lineage(node.type)

    def states_of(self, machine: Node) -> list[State]:
        """Return the states of a state machine, inherited ones too."""
        return [state for kind in self.lineage(machine.type) for state in self.states.get(kind, ())]

    def children(self, node: Node) -> Iterator[Node]:
        """Return the children of a node that were browsed, each once."""
        for child in dict.fromkeys(node.children):
            if child in self.nodes:
                yield self.nodes[child]

    def child(self, node: Node, namespace: str, name: str) -> Node | None:
        """Return the child with a browse name."""
        return next((c for c in self.children(node) if c.name == (namespace, name)), None)


def ua(number: int) -> NodeId:
    """Return a node of namespace 0."""
    return NodeId(UA, "i", number)


def written(node: NodeId, aliases: Mapping[str, str] | None = None) -> str:
    """Return a node as a profile names it.

    :param aliases: short names by namespace; without one the whole URI is written
    """
    stated = node.identifier
    text = base64.b64encode(stated).decode("ascii") if isinstance(stated, bytes) else str(stated)
    if node.namespace == UA:
        return f"{node.form}={text}"
    return f"nsu={(aliases or {}).get(node.namespace, node.namespace)};{node.form}={text}"

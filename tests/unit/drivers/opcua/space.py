"""An address space made by hand, for what is drawn from it."""

from itertools import count
from typing import Any

from drivers.opcua.address import NodeId
from drivers.opcua.discover.model import (
    DI,
    LADS,
    PACKML,
    UA,
    AddressSpace,
    Facts,
    Node,
    State,
    Units,
    ua,
)

ACME = "urn:acme"
UNECE = "http://www.opcfoundation.org/UA/units/un/cefact"

FOLDER, OBJECT, DATA_VARIABLE, PROPERTY, ANALOG = ua(61), ua(58), ua(63), ua(68), ua(17570)
DOUBLE, BOOLEAN, STRING, NODE_ID = ua(11), ua(1), ua(12), ua(17)


def lads(number: int) -> NodeId:
    return NodeId(LADS, "i", number)


def acme(number: int) -> NodeId:
    return NodeId(ACME, "i", number)


CELSIUS = Units(UNECE, 4408652, "°C")

SUPERTYPES = {
    NodeId(DI, "i", 1002): OBJECT,
    NodeId(DI, "i", 1005): FOLDER,
    lads(1002): NodeId(DI, "i", 1002),
    lads(1003): OBJECT,
    lads(1004): OBJECT,
    lads(1016): lads(1004),
    lads(1038): ua(2771),
    lads(1043): lads(1038),
    ua(9482): ua(2782),
    ua(2760): ua(2755),
    ua(8995): ua(2755),
    ANALOG: ua(2368),
    NodeId(PACKML, "i", 6): OBJECT,
    acme(1): lads(1002),
    acme(2): lads(1003),
    acme(3): lads(1016),
}
"""Of what the tests use; the types of *acme* are a vendor's own."""

STATES = {lads(1038): [State(lads(5085), "Stopped"), State(lads(5099), "Running")]}


class Builder:
    """Adds nodes one by one; each has a way to the root."""

    def __init__(self) -> None:
        self._numbers = count(100)
        self._nodes: dict[NodeId, dict[str, Any]] = {}
        self.root = ua(85)
        self._nodes[self.root] = {"name": (UA, "Objects"), "type": FOLDER, "children": []}

    def add(self, parent: NodeId, name: tuple[str, str], kind: NodeId, **more: Any) -> NodeId:
        node = acme(next(self._numbers))
        self._nodes[node] = {"name": name, "type": kind, "children": [], **more}
        self.refer(parent, node)
        return node

    def refer(self, parent: NodeId, node: NodeId) -> None:
        self._nodes[parent]["children"].append(node)

    def value(
        self,
        parent: NodeId,
        name: tuple[str, str],
        units: Units | None = None,
        kind: int = 11,
        data_type: NodeId = DOUBLE,
        type: NodeId = ANALOG,
        **facts: Any,
    ) -> NodeId:
        stated = Facts(data_type, kind, units=units, **facts)
        is_property = type == PROPERTY
        return self.add(parent, name, type, facts=stated, is_property=is_property)

    def sensor(self, parent: NodeId, name: str, units: Units | None, **facts: Any) -> NodeId:
        """Add a sensor of the vendor's own type; return its value."""
        function = self.add(parent, (ACME, name), acme(3))
        return self.value(function, (LADS, "SensorValue"), units, **facts)

    def device(self, name: str = "Freezer", units: int = 1) -> tuple[NodeId, list[NodeId]]:
        """Add a LADS device of the vendor's own types; return it and the sets of its functions."""
        folder = self.add(self.root, (DI, "DeviceSet"), FOLDER)
        device = self.add(folder, (ACME, name), acme(1))
        self.value(device, (DI, "Model"), kind=21, data_type=ua(21), type=PROPERTY, text="U80 (2)")
        place = self.add(device, (LADS, "FunctionalUnitSet"), lads(1023))
        sets = []
        for number in range(units):
            unit = self.add(place, (ACME, f"Unit{number}"), acme(2))
            sets.append(self.add(unit, (LADS, "FunctionSet"), lads(1026)))
        return device, sets

    def machine(self, parent: NodeId, name: str, kind: NodeId) -> NodeId:
        """Add a state machine; return its CurrentState/Id."""
        machine = self.add(parent, (LADS, name), kind)
        state = self.value(machine, (UA, "CurrentState"), kind=21, data_type=ua(21), type=ua(2760))
        return self.value(state, (UA, "Id"), kind=17, data_type=NODE_ID, type=PROPERTY)

    def space(self) -> AddressSpace:
        nodes = {
            node: Node(
                node, stated["name"], stated["type"], tuple(stated["children"]),
                stated.get("is_property", False), stated.get("facts"),
            )
            for node, stated in self._nodes.items()
        }  # fmt: skip
        return AddressSpace(self.root, nodes, SUPERTYPES, STATES)

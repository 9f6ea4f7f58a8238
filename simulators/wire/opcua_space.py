"""A device's tree as nodes of an asyncua server, and what changes in them from tick to tick."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

import asyncua.ua
from asyncua.server.server import Server

from simulators.devices.opcua_contract import (
    NAMESPACES,
    Alarm,
    Object,
    OpcUaDevice,
    Part,
    StateMachine,
    Unit,
    Variable,
)
from simulators.wire.opcua_types import FOLDERS, OBJECT_TYPES, STATES, states_of

ua: Any = asyncua.ua

_UNECE = "http://www.opcfoundation.org/UA/units/un/cefact"
_HAS_COMPONENT, _HAS_PROPERTY, _ORGANIZES, _HAS_SUBTYPE = 47, 46, 35, 45
_STATE_TYPE, _FINITE_STATE, _TWO_STATE, _STATE_NUMBER = 2307, 2760, 8995, "StateNumber"
_DATA_TYPES = {
    "Boolean": (1, 1), "Int32": (6, 6), "UInt32": (7, 7), "Float": (10, 10), "Double": (11, 11),
    "Duration": (290, 11), "String": (12, 12), "DateTime": (13, 13), "NodeId": (17, 17),
    "LocalizedText": (21, 21), "Range": (884, 22), "EUInformation": (887, 22),
}  # fmt: skip
"""Node of the data type, and number of the built-in type."""

_ENUMERATION = 29
_BAD_NO_DATA = 0x809B_0000


@dataclass(slots=True)
class Entry:
    """A value that is looked at in each tick."""

    device: str
    path: str
    node: Any
    kind: int
    read: Callable[[], Any]
    last: Any = None
    is_new: bool = True


@dataclass(slots=True)
class Watched:
    """An alarm whose changes are events.

    `source` is the function that it watches, `kind` the type of its condition.
    """

    node: Any
    source: Any
    source_name: str
    name: str
    kind: Any
    part: Alarm
    was_active: bool = False


def unit_id(code: str) -> int:
    """The UnitId of a UNECE code, its characters packed into an Int32 (OPC 10000-8 5.6.4.3)."""
    return int.from_bytes(code.encode("ascii"), "big")


class Space:
    """Builds nodes in a server; see :meth:`add`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._indices: dict[str, int] = {"": 0}
        self._types: dict[str, Any] = {}
        self._numbers = count(10_000)
        self._placed: dict[Part, Any] = {}
        self._growing: list[tuple[str, str, Any, Callable[[], Sequence[Object]], set[str]]] = []
        self.entries: list[Entry] = []
        self.alarms: list[Watched] = []

    async def prepare(self) -> None:
        """Register the namespaces; make the types and the folders of devices."""
        for prefix, uri in NAMESPACES.items():
            self._indices[prefix] = await self._server.register_namespace(uri)
        for name, (number, parent) in OBJECT_TYPES.items():
            await self._type(name, parent, number)
        for name, number in FOLDERS.items():
            node = self._id(name, number)
            await self._node(node, ua.NodeId(85), _ORGANIZES, name, ua.NodeId(61))

    async def _type(self, name: str, parent: str, number: int) -> None:
        node = self._types[name] = self._id(name, number)
        attributes = ua.ObjectTypeAttributes()
        await self._add(
            node, self._type_id(parent), _HAS_SUBTYPE, name, ua.NodeClass.ObjectType, attributes
        )
        prefix = name.partition(":")[0]
        for state, (state_number, value) in STATES.get(name, {}).items():
            state_node = self._id(name, state_number)
            at = f"{prefix}:{state}"
            await self._node(state_node, node, _HAS_COMPONENT, at, ua.NodeId(_STATE_TYPE))
            await self._variable(
                self._free(), state_node, _HAS_PROPERTY, _STATE_NUMBER, "UInt32", _constant(value)
            )

    async def add(self, key: str, device: OpcUaDevice) -> None:
        """Add a device below its folder."""
        for name, parent in device.TYPES.items():
            if name not in self._types:
                await self._type(name, parent, next(self._numbers))
        folder = device.FOLDER
        parent = self._id(folder, FOLDERS[folder]) if folder else ua.NodeId(85)
        await self._part(key, "", parent, device.tree(key), _ORGANIZES, self._named(key))

    async def grow(self) -> None:
        """Add the objects that have come since."""
        for device, path, parent, grows, known in self._growing:
            for part in grows():
                if part.name not in known:
                    known.add(part.name)
                    await self._part(device, path, parent, part, _HAS_COMPONENT)

    # -- parts -------------------------------------------------------------------------------

    async def _part(
        self, device: str, path: str, parent: Any, part: Part, by: int, own: Any = None
    ) -> None:
        known = self._placed.get(part)
        if known is not None:
            await self._refer(parent, known, _ORGANIZES)
            return
        node = self._placed[part] = own or self._free()
        here = f"{path}/{part.name}"
        if isinstance(part, Variable):
            await self._value(device, here, node, parent, part)
        elif isinstance(part, StateMachine):
            await self._machine(device, here, node, parent, part)
        elif isinstance(part, Alarm):
            await self._alarm(device, here, node, parent, part)
        else:
            await self._node(node, parent, by, part.name, self._type_id(part.type))
            for each in part.parts:
                await self._part(device, here, node, each, _HAS_COMPONENT)
            for each in part.organizes:
                await self._part(device, here, node, each, _ORGANIZES)
            if part.grows is not None:
                self._growing.append((device, here, node, part.grows, set()))

    async def _value(self, device: str, path: str, node: Any, parent: Any, part: Variable) -> None:
        by = _HAS_PROPERTY if part.is_property else _HAS_COMPONENT
        kind = 68 if part.is_property else 63
        data_type = None
        if part.is_enumeration:
            data_type = await self._enumeration(part)
        elif part.states is not None:
            kind = 2373 if part.data_type == "Boolean" else 2376
        elif part.unit is not None or part.range is not None:
            kind = 17570
        await self._variable(
            node, parent, by, part.name, part.data_type, part.read, kind, (device, path), data_type
        )
        for name, stated, value in _said(part):
            await self._variable(
                self._free(), node, _HAS_PROPERTY, name, stated, _constant(value), 68
            )

    async def _enumeration(self, part: Variable) -> Any:
        """Make the data type of an enumeration, with its names."""
        name = f"{part.name}Enumeration"
        node = self._types.get(name)
        if node is None:
            node = self._types[name] = self._id(name, next(self._numbers))
            await self._add(
                node, ua.NodeId(_ENUMERATION), _HAS_SUBTYPE, name, ua.NodeClass.DataType,
                ua.DataTypeAttributes(),
            )  # fmt: skip
            texts = [ua.LocalizedText(text) for text in part.states or ()]
            await self._variable(
                self._free(), node, _HAS_PROPERTY, "EnumStrings", "LocalizedText", lambda: texts
            )
        return node

    async def _machine(
        self, device: str, path: str, node: Any, parent: Any, part: StateMachine
    ) -> None:
        await self._node(node, parent, _HAS_COMPONENT, part.name, self._type_id(part.type))
        states = states_of(part.type)

        def text() -> str | None:
            return part.current()

        def state_id() -> Any:
            name = part.current()
            if name is None:
                return None
            prefix, number, _ = states[name]
            return ua.NodeId(number, self._indices[prefix])

        variable = self._free()
        here = (device, f"{path}/CurrentState")
        await self._variable(
            variable, node, _HAS_COMPONENT, "CurrentState", "LocalizedText", text, _FINITE_STATE,
            here,
        )  # fmt: skip
        of_id = (device, f"{path}/CurrentState/Id")
        await self._variable(
            self._free(), variable, _HAS_PROPERTY, "Id", "NodeId", state_id, 68, of_id
        )
        for inner in part.parts:
            await self._part(device, path, node, inner, _HAS_COMPONENT)

    async def _alarm(self, device: str, path: str, node: Any, parent: Any, part: Alarm) -> None:
        await self._node(node, parent, _HAS_COMPONENT, part.name, self._type_id(part.type))
        source_name, name = (step.rpartition(":")[2] for step in path.split("/")[-2:])
        kind = self._type_id(part.type)
        self.alarms.append(Watched(node, parent, source_name, name, kind, part))
        severity = part.severity
        await self._variable(
            self._free(), node, _HAS_PROPERTY, "Severity", "UInt32", lambda: severity, 68
        )
        states: tuple[tuple[str, Callable[[], bool], tuple[str, str]], ...] = (
            ("ActiveState", part.active, ("Inactive", "Active")),
            ("AckedState", lambda: not part.active(), ("Unacknowledged", "Acknowledged")),
        )
        for name, read, words in states:
            variable = self._free()

            def text(read: Any = read, words: Any = words) -> str:
                return str(words[bool(read())])

            await self._variable(
                variable, node, _HAS_COMPONENT, name, "LocalizedText", text, _TWO_STATE,
                (device, f"{path}/{name}"),
            )  # fmt: skip
            await self._variable(
                self._free(), variable, _HAS_PROPERTY, "Id", "Boolean", read, 68,
                (device, f"{path}/{name}/Id"),
            )  # fmt: skip

    # -- nodes -------------------------------------------------------------------------------

    def _named(self, key: str) -> Any:
        """The node of a device, which a client may name without looking."""
        return ua.NodeId(key, self._indices["sim"])

    def _free(self) -> Any:
        return ua.NodeId(next(self._numbers), self._indices["sim"])

    def _id(self, name: str, number: int) -> Any:
        return ua.NodeId(number, self._indices[name.partition(":")[0]])

    def _type_id(self, name: str) -> Any:
        known = self._types.get(name)
        return known if known is not None else ua.NodeId(getattr(ua.ObjectIds, name))

    def _name(self, name: str) -> Any:
        prefix, _, plain = name.rpartition(":")
        return ua.QualifiedName(plain, self._indices[prefix])

    async def _node(self, node: Any, parent: Any, by: int, name: str, kind: Any) -> None:
        attributes = ua.ObjectAttributes()
        await self._add(node, parent, by, name, ua.NodeClass.Object, attributes, kind)

    async def _variable(
        self,
        node: Any,
        parent: Any,
        by: int,
        name: str,
        data_type: str,
        read: Callable[[], Any],
        kind: int = 68,
        place: tuple[str, str] | None = None,
        data_type_node: Any = None,
    ) -> None:
        """Add a variable; with a place it is looked at in each tick."""
        number, built_in = _DATA_TYPES[data_type]
        attributes = ua.VariableAttributes()
        attributes.DataType = data_type_node or ua.NodeId(number)
        value = read()
        attributes.Value = variant(value, built_in)
        attributes.ValueRank = 1 if isinstance(value, list) else -1
        attributes.AccessLevel = attributes.UserAccessLevel = ua.AccessLevel.CurrentRead.mask
        await self._add(node, parent, by, name, ua.NodeClass.Variable, attributes, ua.NodeId(kind))
        if place is not None:
            self.entries.append(Entry(*place, node, built_in, read))

    async def _add(
        self,
        node: Any,
        parent: Any,
        by: int,
        name: str,
        node_class: Any,
        attributes: Any,
        kind: Any = None,
    ) -> None:
        item = ua.AddNodesItem()
        item.RequestedNewNodeId, item.ParentNodeId = node, parent
        item.BrowseName, item.ReferenceTypeId = self._name(name), ua.NodeId(by)
        item.NodeClass, item.NodeAttributes = node_class, attributes
        item.TypeDefinition = kind if kind is not None else ua.NodeId()
        attributes.DisplayName = ua.LocalizedText(name.rpartition(":")[2])
        [result] = await self._server.iserver.isession.add_nodes([item])
        result.StatusCode.check()

    async def _refer(self, parent: Any, node: Any, by: int) -> None:
        item = ua.AddReferencesItem()
        item.SourceNodeId, item.TargetNodeId = parent, node
        item.ReferenceTypeId, item.IsForward = ua.NodeId(by), True
        item.TargetNodeClass = ua.NodeClass.Variable
        [status] = await self._server.iserver.isession.add_references([item])
        status.check()


def _said(part: Variable) -> Iterable[tuple[str, str, Any]]:
    """The properties that say what a variable's numbers mean."""
    if part.unit is not None:
        yield "EngineeringUnits", "EUInformation", _units(part.unit)
    if part.range is not None:
        yield "EURange", "Range", ua.Range(*part.range)
    if part.states is not None and not part.is_enumeration:
        texts = [ua.LocalizedText(text) for text in part.states]
        if part.data_type == "Boolean":
            yield "FalseState", "LocalizedText", texts[0]
            yield "TrueState", "LocalizedText", texts[1]
        else:
            yield "EnumStrings", "LocalizedText", texts


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _units(unit: Unit) -> Any:
    stated = ua.EUInformation()
    stated.NamespaceUri = _UNECE
    stated.UnitId = unit_id(unit.code)
    stated.DisplayName = stated.Description = ua.LocalizedText(unit.display)
    return stated


def variant(value: Any, kind: int) -> Any:
    """A value as a Variant of a built-in type."""
    if value is None:
        return ua.Variant(None, ua.VariantType.Null)
    if kind == 13:
        value = datetime.fromtimestamp(value, UTC)
    elif kind == 21 and isinstance(value, str):
        value = ua.LocalizedText(value)
    return ua.Variant(value, ua.VariantType(kind))


def data_value(entry: Entry, value: Any, at: datetime) -> Any:
    """A value of this moment; where there is none, Bad_NoData."""
    return ua.DataValue(
        variant(value, entry.kind),
        StatusCode=ua.StatusCode(0 if value is not None else _BAD_NO_DATA),
        SourceTimestamp=at,
        ServerTimestamp=at,
    )

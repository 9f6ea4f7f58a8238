"""Reading a server's address space, breadth first, within what the server handles at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drivers.opcua.address import NodeId
from drivers.opcua.discover.model import (
    DI,
    IDENTITY,
    MACHINERY,
    PACKML,
    UA,
    AddressSpace,
    Facts,
    Node,
    State,
    Units,
    ua,
)
from drivers.opcua.nodes import HIERARCHICAL, Server, in_parts, read_attributes, read_values
from drivers.opcua.stack import Channel, status_name
from drivers.opcua.stack import ua as types
from edgeagent.driver import LinkLost

NODES_MAX = 50_000
"""Nodes looked at; a server with more is looked at in parts, each from a start of its own."""

REFERENCES_MAX = 8 * NODES_MAX
"""References followed; more is a server that describes itself without end."""

DEPTH_MAX = 40

REFERENCES_AT_ONCE = 1_000
"""Of one node in one answer; what is more is fetched piece by piece."""

BROWSE_AT_ONCE, BROWSE_LIMIT = 100, 11710
OBJECTS = 85

_VALUE, _DATA_TYPE, _RANK, _ACCESS, _DEFINITION = 13, 14, 15, 18, 23
_HAS_SUBTYPE, _HAS_PROPERTY, _HAS_COMPONENT = 45, 46, 47
_NO_WAY_DOWN = {ua(_HAS_SUBTYPE), ua(36), ua(48)}
"""HasSubtype, HasEventSource, HasNotifier: hierarchical, but not what a device consists of."""

_STATE_MACHINE, _STATE = 2299, (2307, 2309)
_ENUMERATION, _STRUCTURE = 29, 22
_CURRENT_READ = 1
_NO_CONTINUATION_POINTS = 0x804B_0000

_SIDE = ("EngineeringUnits", "EURange", "EnumStrings", "EnumValues", "TrueState", "FalseState")
"""Properties of namespace 0 that tell what a variable's numbers mean."""

_FORMS = {
    types.NodeIdType.TwoByte: "i", types.NodeIdType.FourByte: "i", types.NodeIdType.Numeric: "i",
    types.NodeIdType.String: "s", types.NodeIdType.Guid: "g", types.NodeIdType.ByteString: "b",
}  # fmt: skip


class _Ids:
    """From the server's node ids, which bear an index, to ours, which bear the URI, and back."""

    def __init__(self, server: Server) -> None:
        self._uris = {index: uri for uri, index in server.namespaces.items()}
        self._uris[0] = UA
        self._indices = {uri: index for index, uri in self._uris.items()}
        self._kinds = {
            "i": types.NodeIdType.Numeric, "s": types.NodeIdType.String,
            "g": types.NodeIdType.Guid, "b": types.NodeIdType.ByteString,
        }  # fmt: skip
        self._known: dict[Any, NodeId] = {}

    def uri(self, index: int) -> str:
        return self._uris.get(index, "")

    def ours(self, node: Any) -> NodeId:
        key = (node.NamespaceIndex, node.Identifier)
        found = self._known.get(key)
        if found is None:
            form = _FORMS[node.NodeIdType]
            found = self._known[key] = NodeId(self.uri(node.NamespaceIndex), form, node.Identifier)
        return found

    def theirs(self, node: NodeId) -> Any:
        return types.NodeId(node.identifier, self._indices[node.namespace], self._kinds[node.form])


async def browse(channel: Channel, server: Server, start: Any) -> AddressSpace:
    """Read everything below a node, with types and what variables state of themselves.

    :param start: the server's id of the node; what is below its child Server is left out
    :raises LinkLost: if the server has too much, or does not answer
    """
    return await _Browser(channel, server).space(start)


class _Browser:
    def __init__(self, channel: Channel, server: Server) -> None:
        self._channel = channel
        self._server = server
        self._ids = _Ids(server)
        self._at_once = BROWSE_AT_ONCE
        self._references = 0

    async def space(self, start: Any) -> AddressSpace:
        [limit] = await read_values(self._channel, [types.NodeId(BROWSE_LIMIT)], 1)
        stated = limit.Value.Value if limit.Value is not None else None
        self._at_once = min(stated or BROWSE_AT_ONCE, BROWSE_AT_ONCE)
        found, children, variables = await self._walk(start)
        data_types = await self._attribute(variables, _DATA_TYPE)
        of_type = {
            node: self._ids.ours(value)
            for node, value in data_types.items()
            if isinstance(value, types.NodeId)
        }
        kinds = {reference.type for reference in found.values()} | set(of_type.values())
        supertypes = await self._supertypes(kinds)
        space = AddressSpace(self._ids.ours(start), {}, supertypes, await self._states(supertypes))
        facts = await self._facts(found, children, of_type, space)
        nodes = {
            node: Node(
                node, one.name, one.type, tuple(children.get(node, ())), one.is_property,
                facts.get(node),
            )
            for node, one in found.items()
        }  # fmt: skip
        return AddressSpace(space.root, nodes, supertypes, space.states)

    async def _walk(
        self, start: Any
    ) -> tuple[dict[NodeId, "_Reference"], dict[NodeId, list[NodeId]], list[NodeId]]:
        root = self._ids.ours(start)
        found = {root: _Reference(root, ("", ""), ua(61), ua(_HAS_COMPONENT), is_variable=False)}
        children: dict[NodeId, list[NodeId]] = {}
        level = [root]
        for _ in range(DEPTH_MAX):
            if not level:
                break
            below: list[NodeId] = []
            for parent, references in zip(level, await self._down(level), strict=True):
                for one in references:
                    if one.by in _NO_WAY_DOWN or (parent == ua(OBJECTS) and one.id.namespace == UA):
                        continue
                    children.setdefault(parent, []).append(one.id)
                    if one.id not in found:
                        found[one.id] = one
                        below += [] if one.is_property else [one.id]
            if len(found) > NODES_MAX:
                raise LinkLost(
                    f"the server has more than {NODES_MAX} nodes below the start; "
                    "give a start that is nearer to the device"
                )
            level = below
        return found, children, [one.id for one in found.values() if one.is_variable]

    async def _down(self, nodes: Sequence[NodeId]) -> list[list["_Reference"]]:
        return await self._browse(nodes, HIERARCHICAL, types.BrowseDirection.Forward)

    async def _browse(
        self, nodes: Sequence[NodeId], reference: int, direction: Any
    ) -> list[list["_Reference"]]:
        """Follow references from nodes to objects, variables and types, as far as each goes."""

        async def ask(part: Sequence[NodeId]) -> Sequence[list[_Reference]]:
            request = types.BrowseRequest()
            request.Parameters.RequestedMaxReferencesPerNode = REFERENCES_AT_ONCE
            request.Parameters.NodesToBrowse = [
                types.BrowseDescription(
                    NodeId=self._ids.theirs(node),
                    BrowseDirection=direction,
                    ReferenceTypeId=types.NodeId(reference),
                    IncludeSubtypes=True,
                    NodeClassMask=_CLASSES,
                    ResultMask=_RESULTS,
                )
                for node in part
            ]
            answer = (await self._channel.ask(request, types.BrowseResponse)).Results or []
            found = [await self._all_of(result) for result in answer]
            for number, result in enumerate(answer):  # what had to wait for the others
                if result.StatusCode.value == _NO_CONTINUATION_POINTS:
                    if len(part) == 1:
                        raise LinkLost("the server has no continuation points; end other sessions")
                    [found[number]] = await ask(part[number : number + 1])
            return found

        return await in_parts(nodes, self._at_once, ask)

    async def _all_of(self, result: Any) -> list["_Reference"]:
        references = list(result.References or ())
        rest = result.ContinuationPoint
        while rest:
            request = types.BrowseNextRequest()
            request.Parameters.ContinuationPoints = [rest]
            request.Parameters.ReleaseContinuationPoints = False
            response = await self._channel.ask(request, types.BrowseNextResponse)
            answer = response.Parameters.Results or []
            if not answer or answer[0].StatusCode.value >> 31:
                why = status_name(answer[0].StatusCode.value) if answer else "no result"
                raise LinkLost(f"the server broke off while it was browsed ({why}); try again")
            references += answer[0].References or ()
            rest = answer[0].ContinuationPoint
            self._bounded(len(answer[0].References or ()))
        self._bounded(len(result.References or ()))
        return [
            self._reference(one) for one in references if not getattr(one.NodeId, "ServerIndex", 0)
        ]

    def _bounded(self, references: int) -> None:
        self._references += references
        if self._references > REFERENCES_MAX:
            raise LinkLost(
                f"the server has more than {REFERENCES_MAX} references; "
                "give a start that is nearer to the device"
            )

    def _reference(self, one: Any) -> "_Reference":
        name = one.BrowseName
        return _Reference(
            self._ids.ours(one.NodeId),
            (self._ids.uri(name.NamespaceIndex), name.Name or ""),
            self._ids.ours(one.TypeDefinition),
            self._ids.ours(one.ReferenceTypeId),
            is_variable=one.NodeClass == types.NodeClass.Variable,
        )

    async def _attribute(self, nodes: Sequence[NodeId], attribute: int) -> dict[NodeId, Any]:
        """Return an attribute of nodes where the server gives one."""
        asked = [self._ids.theirs(node) for node in nodes]
        limit = self._server.limits["read"]
        values = await read_attributes(self._channel, asked, attribute, limit)
        return {
            node: value.Value.Value
            for node, value in zip(nodes, values, strict=True)
            if value.Value is not None and not _is_bad(value)
        }

    async def _supertypes(self, kinds: Iterable[NodeId]) -> dict[NodeId, NodeId]:
        found: dict[NodeId, NodeId] = {}
        level = [kind for kind in kinds if kind.identifier]
        for _ in range(DEPTH_MAX):
            if not level:
                break
            up = await self._browse(level, _HAS_SUBTYPE, types.BrowseDirection.Inverse)
            for kind, parents in zip(level, up, strict=True):
                if parents:
                    found[kind] = parents[0].id
            level = [kind for kind in dict.fromkeys(found.values()) if kind not in found]
            level = [kind for kind in level if kind not in _TOPMOST]
        return found

    async def _states(self, supertypes: Mapping[NodeId, NodeId]) -> dict[NodeId, list[State]]:
        machine = AddressSpace(ua(0), {}, supertypes, {})
        kinds = [kind for kind in supertypes if ua(_STATE_MACHINE) in machine.lineage(kind)]
        below = await self._browse(kinds, _HAS_COMPONENT, types.BrowseDirection.Forward)
        states = {ua(number) for number in _STATE}
        return {
            kind: [State(one.id, one.name[1]) for one in parts if one.type in states]
            for kind, parts in zip(kinds, below, strict=True)
        }

    async def _facts(
        self,
        found: Mapping[NodeId, "_Reference"],
        children: Mapping[NodeId, Sequence[NodeId]],
        of_type: Mapping[NodeId, NodeId],
        space: AddressSpace,
    ) -> dict[NodeId, Facts]:
        variables = list(of_type)
        ranks = await self._attribute(variables, _RANK)
        access = await self._attribute(variables, _ACCESS)
        kinds = {kind: _built_in(space, kind) for kind in set(of_type.values())}
        vague = [node for node in variables if kinds[of_type[node]] == 0]
        actual = await self._kinds_of_values(vague)
        side = [
            one.id
            for one in found.values()
            if (one.is_variable and (one.name[0] == UA and one.name[1] in _SIDE))
            or (one.name[0] in (DI, MACHINERY, PACKML) and one.name[1] in IDENTITY)
        ]
        values = await self._attribute(side, _VALUE)
        enumerations = await self._enumerations(
            {kind for kind in of_type.values() if ua(_ENUMERATION) in space.lineage(kind)}
        )
        facts = {}
        for node in variables:
            about = {
                found[child].name[1]: values[child]
                for child in children.get(node, ())
                if child in values
            }
            kind = of_type[node]
            facts[node] = Facts(
                kind,
                kinds[kind] or actual.get(node, 0),
                ranks.get(node, -1),
                bool(access.get(node, _CURRENT_READ) & _CURRENT_READ),
                _units(about.get("EngineeringUnits")),
                _range(about.get("EURange")),
                _state_names(about) or enumerations.get(kind),
                _text(values.get(node)) if found[node].name[1] in IDENTITY else None,
            )
        return facts

    async def _kinds_of_values(self, nodes: Sequence[NodeId]) -> dict[NodeId, int]:
        """Return the built-in types of values whose data type says too little."""
        asked = [self._ids.theirs(node) for node in nodes]
        values = await read_values(self._channel, asked, self._server.limits["read"])
        return {
            node: int(value.Value.VariantType.value)
            for node, value in zip(nodes, values, strict=True)
            if value.Value is not None and value.Value.Value is not None and not _is_bad(value)
        }

    async def _enumerations(self, kinds: Iterable[NodeId]) -> dict[NodeId, dict[int, str]]:
        """Return the names of enumerations, from their definition or the properties of old."""
        wanted = list(kinds)
        found: dict[NodeId, dict[int, str]] = {}
        for kind, stated in (await self._attribute(wanted, _DEFINITION)).items():
            if isinstance(stated, types.EnumDefinition):
                found[kind] = {int(f.Value): str(f.Name) for f in stated.Fields or ()}
        rest = [kind for kind in wanted if kind not in found]
        below = await self._browse(rest, _HAS_PROPERTY, types.BrowseDirection.Forward)
        owners = {one.id: kind for kind, parts in zip(rest, below, strict=True) for one in parts}
        names = {one.id: one.name[1] for parts in below for one in parts}
        for node, value in (await self._attribute(list(owners), _VALUE)).items():
            states = _state_names({names[node]: value})
            if states:
                found[owners[node]] = states
        return found


@dataclass(frozen=True, slots=True)
class _Reference:
    """A node and the reference by which it was reached."""

    id: NodeId
    name: tuple[str, str]
    type: NodeId
    by: NodeId
    is_variable: bool

    @property
    def is_property(self) -> bool:
        return self.by == _PROPERTY_OF


_PROPERTY_OF = ua(_HAS_PROPERTY)

_CLASSES = 1 | 2 | 8 | 16 | 64
"""Objects, variables, and types of objects, variables and data."""

_RESULTS = 1 | 4 | 8 | 32
"""Of a reference its type, and of its target class, browse name and type."""

_TOPMOST = {ua(58), ua(62), ua(24)}
"""BaseObjectType, BaseVariableType, BaseDataType."""


def _is_bad(value: Any) -> bool:
    return value.StatusCode is not None and bool(value.StatusCode.value >> 31)


def _built_in(space: AddressSpace, data_type: NodeId) -> int:
    """Return the built-in type of a data type; an enumeration is an Int32 (OPC 10000-6 5.2.4)."""
    for kind in space.lineage(data_type):
        if kind.namespace == UA and isinstance(kind.identifier, int):
            if kind.identifier == _ENUMERATION:
                return 6
            if 0 < kind.identifier <= _STRUCTURE:
                return kind.identifier
    return 0


def _units(value: Any) -> Units | None:
    if not isinstance(value, types.EUInformation):
        return None
    return Units(value.NamespaceUri or "", int(value.UnitId), _text(value.DisplayName) or "")


def _range(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, types.Range):
        return None
    low, high = float(value.Low), float(value.High)
    return (low, high) if low < high and low - low == high - high == 0 else None


def _state_names(about: Mapping[str, Any]) -> dict[int, str] | None:
    if about.get("EnumStrings"):
        return {number: _text(name) or "" for number, name in enumerate(about["EnumStrings"])}
    if about.get("EnumValues"):
        return {int(one.Value): _text(one.DisplayName) or "" for one in about["EnumValues"]}
    pair = {0: _text(about.get("FalseState")), 1: _text(about.get("TrueState"))}
    return {number: name for number, name in pair.items() if name} or None


def _text(value: Any) -> str | None:
    text = getattr(value, "Text", value)
    return text if isinstance(text, str) else None

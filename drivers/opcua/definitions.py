"""The structured types of a server's nodes, read from the server (OPC 10000-3 section 5.8.3)."""

from collections.abc import Sequence
from typing import Any

from drivers.opcua.nodes import Server, read_attributes
from drivers.opcua.stack import Channel, Refused, encode_node_id, ua
from drivers.opcua.structures import Definition, Field
from edgeagent.driver import LinkLost

DATA_TYPE, DATA_TYPE_DEFINITION = 14, 23
HAS_SUBTYPE = 45
ENUMERATION, INT32_KIND = 29, 6
TYPES_MAX = 1000
"""Types read for one link; more is a server that describes itself without end."""


class Definitions:
    """Reads each type once."""

    def __init__(self, channel: Channel, server: Server) -> None:
        self._channel = channel
        self._server = server
        self._types: dict[Any, int | Definition | None] = {}
        self.by_encoding: dict[bytes, Definition] = {}

    async def load(self, nodes: Sequence[Any]) -> None:
        """Read the types of these variables, and of what they consist of."""
        limit = self._server.limits["read"]
        for value in await read_attributes(self._channel, nodes, DATA_TYPE, limit):
            if value.Value is not None and isinstance(value.Value.Value, ua.NodeId):
                await self._type(value.Value.Value)

    async def _type(self, node: Any) -> "int | Definition | None":
        """Return a built-in type's number, a definition, or ``None`` where it is not known."""
        if node in self._types:
            return self._types[node]
        if node.NamespaceIndex == 0 and isinstance(node.Identifier, int):
            if node.Identifier <= 25 and node.Identifier:
                return int(node.Identifier)
            if node.Identifier == ENUMERATION:
                return INT32_KIND
        if len(self._types) >= TYPES_MAX:
            raise LinkLost(f"the server describes more than {TYPES_MAX} types")
        self._types[node] = None  # a type within itself is not followed
        stated = await read_attributes(self._channel, [node], DATA_TYPE_DEFINITION, 1)
        content = None if stated[0].Value is None else stated[0].Value.Value
        found: int | Definition | None
        if isinstance(content, ua.StructureDefinition):
            found = await self._structure(content)
        elif isinstance(content, ua.EnumDefinition):
            found = INT32_KIND
        else:
            parent = await self._parent(node)
            found = None if parent is None else await self._type(parent)
        self._types[node] = found
        return found

    async def _structure(self, stated: Any) -> Definition | None:
        fields = []
        for field in stated.Fields or ():
            kind = await self._type(field.DataType)
            if kind is None or field.ValueRank > 1:
                return None
            is_array = field.ValueRank == 1
            fields.append(Field(field.Name, kind, is_array, bool(field.IsOptional)))
        names = {0: "structure", 1: "optional", 2: "union"}
        name = names.get(int(stated.StructureType))
        if name is None:
            return None
        if name != "optional":
            fields = [Field(f.name, f.type, f.is_array) for f in fields]
        definition = Definition(name, tuple(fields))
        encoding = stated.DefaultEncodingId
        self.by_encoding[encode_node_id(encoding)] = definition
        return definition

    async def _parent(self, node: Any) -> Any:
        request = ua.BrowseRequest()
        request.Parameters.NodesToBrowse = [
            ua.BrowseDescription(
                NodeId=node,
                BrowseDirection=ua.BrowseDirection.Inverse,
                ReferenceTypeId=ua.NodeId(HAS_SUBTYPE),
                IncludeSubtypes=False,
                ResultMask=0,
            )
        ]
        try:
            results = (await self._channel.ask(request, ua.BrowseResponse)).Results
        except Refused:
            return None
        references = results[0].References if results else None
        if not references:
            return None
        target = references[0].NodeId
        return ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType)

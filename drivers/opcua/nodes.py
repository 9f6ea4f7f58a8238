"""From the profile's addresses to the server's nodes, within what the server handles at once."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from drivers.opcua.address import Address, BrowsePath, NodeId
from drivers.opcua.stack import Channel, Refused, status_name, ua

READ_AT_ONCE = 500
"""Operations in one request where the server states no limit."""

NAMESPACE_ARRAY, SERVER_TIME = 2255, 2258
LIMITS = {"read": 11705, "translate": 11712, "monitor": 11714, "history": 12165}
VALUE = 13
HIERARCHICAL = 33

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself.

    :ivar namespaces: index by URI
    :ivar limits: operations at once by service; no more are sent in one request
    """

    namespaces: Mapping[str, int]
    limits: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Found:
    """Where an address leads: a node of the server, or why it leads nowhere."""

    node: Any = None
    fault: str = ""


def lasting(value: Any, uris: Mapping[int, str]) -> Any:
    """Return a NodeId as a text that means the same after the server's restart; others as they are.

    :param uris: of the server's namespaces by index
    """
    if isinstance(value, list):
        return [lasting(each, uris) for each in value]
    if isinstance(value, ua.NodeId) and value.NamespaceIndex and value.NamespaceIndex in uris:
        _, prefix, identifier = value.to_string().partition(f"ns={value.NamespaceIndex};")
        return f"nsu={uris[value.NamespaceIndex]};{identifier}" if prefix else value
    return value


async def read_values(channel: Channel, nodes: Sequence[Any], at_once: int) -> list[Any]:
    """Return the DataValues of nodes, in parts that the server handles."""
    return await read_attributes(channel, nodes, VALUE, at_once)


async def read_attributes(
    channel: Channel, nodes: Sequence[Any], attribute: int, at_once: int
) -> list[Any]:
    """Return one attribute of nodes, in parts that the server handles."""

    async def read(part: Sequence[Any]) -> Sequence[Any]:
        request = ua.ReadRequest()
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.NodesToRead = [
            ua.ReadValueId(NodeId=node, AttributeId=attribute) for node in part
        ]
        return (await channel.ask(request, ua.ReadResponse)).Results or []

    return await in_parts(nodes, at_once, read)


async def in_parts(
    items: Sequence[T], at_once: int, ask: Callable[[Sequence[T]], Awaitable[Sequence[R]]]
) -> list[R]:
    """Ask for many things, some at a time; a server that still finds it too much gets halves."""
    done: list[R] = []
    size = max(1, at_once)
    begin = 0
    while begin < len(items):
        part = items[begin : begin + size]
        try:
            done += await ask(part)
        except Refused as error:
            too_much = error.status in (ua.StatusCodes.BadTooManyOperations, _REQUEST_TOO_LARGE)
            if not too_much or len(part) == 1:
                raise
            size = (len(part) + 1) // 2
            continue
        begin += len(part)
    return done


_REQUEST_TOO_LARGE = 0x80B8_0000


async def describe(channel: Channel) -> Server:
    """Read the server's namespaces and limits."""
    ids = [ua.NodeId(NAMESPACE_ARRAY), *(ua.NodeId(each) for each in LIMITS.values())]
    namespaces, *limits = await read_values(channel, ids, len(ids))
    uris = namespaces.Value.Value if namespaces.Value is not None else None
    stated = {
        name: value.Value.Value if value.Value is not None else None
        for name, value in zip(LIMITS, limits, strict=True)
    }
    return Server(
        {uri: index for index, uri in enumerate(uris or [])},
        {name: value or READ_AT_ONCE for name, value in stated.items()},
    )


async def find(
    channel: Channel, server: Server, wanted: Sequence[tuple[Address, Address]]
) -> list[Found]:
    """Resolve ``(start, address)`` pairs; a start matters to browse paths only."""
    found: list[Found] = [Found()] * len(wanted)
    paths: list[tuple[int, Any]] = []
    starts: dict[Address, Found] = {}
    for start in {start for start, address in wanted if isinstance(address, BrowsePath)}:
        starts[start] = await _start(channel, server, start)
    for number, (start, address) in enumerate(wanted):
        if isinstance(address, NodeId):
            found[number] = _node(server, address)
            continue
        begin = starts[start]
        missing = _missing(server, (uri for uri, _ in address.steps))
        if begin.fault or missing:
            found[number] = Found(fault=begin.fault or missing)
            continue
        paths.append((number, _path(server, begin.node, address)))

    async def translate(part: Sequence[tuple[int, Any]]) -> Sequence[Any]:
        request = ua.TranslateBrowsePathsToNodeIdsRequest()
        request.Parameters.BrowsePaths = [path for _, path in part]
        answer = await channel.ask(request, ua.TranslateBrowsePathsToNodeIdsResponse)
        return answer.Results or []

    results = await in_parts(paths, server.limits["translate"], translate)
    for (number, _), result in zip(paths, results, strict=True):
        found[number] = _target(result)
    return found


async def _start(channel: Channel, server: Server, start: Address) -> Found:
    if isinstance(start, NodeId):
        return _node(server, start)
    return (await find(channel, server, [(_OBJECTS, start)]))[0]


_OBJECTS = NodeId("http://opcfoundation.org/UA/", "i", 85)


def _node(server: Server, address: NodeId) -> Found:
    missing = _missing(server, [address.namespace])
    if missing:
        return Found(fault=missing)
    kinds = ua.NodeIdType
    kind = {"i": kinds.Numeric, "s": kinds.String, "g": kinds.Guid, "b": kinds.ByteString}
    index = server.namespaces[address.namespace]
    return Found(ua.NodeId(address.identifier, index, kind[address.form]))


def _missing(server: Server, namespaces: Iterable[str]) -> str:
    for uri in namespaces:
        if uri not in server.namespaces:
            known = ", ".join(each for each in server.namespaces if each)
            return (
                f"the server has no namespace {uri!r}; it has: {known}; correct the profile's "
                "namespaces, or the link's url"
            )
    return ""


def _path(server: Server, start: Any, address: BrowsePath) -> Any:
    elements = [
        ua.RelativePathElement(
            ReferenceTypeId=ua.NodeId(HIERARCHICAL),
            IsInverse=False,
            IncludeSubtypes=True,
            TargetName=ua.QualifiedName(name, server.namespaces[uri]),
        )
        for uri, name in address.steps
    ]
    return ua.BrowsePath(StartingNode=start, RelativePath=ua.RelativePath(Elements=elements))


def _target(result: Any) -> Found:
    status = result.StatusCode.value
    targets = [t for t in result.Targets or [] if t.RemainingPathIndex == 0xFFFF_FFFF]
    if status >> 31 or not targets:
        return Found(fault=f"no such browse path ({status_name(status)}); correct node")
    if len({target.TargetId for target in targets}) > 1:
        return Found(fault="its browse path leads to several nodes; name the node by its id")
    target = targets[0].TargetId
    return Found(ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType))

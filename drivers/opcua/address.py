"""Where a node is: its id, or the way to it by browse names; never by a namespace's index.

A server may give another index to a namespace at each start; only the URI stays.
"""

import base64
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NAMESPACE_0 = "http://opcfoundation.org/UA/"

_NODE_ID = re.compile(r"(?:nsu=(?P<namespace>.+?);)?(?P<form>[isgb])=(?P<identifier>.+)", re.DOTALL)
_STEP = re.compile(r"(?:[^/&]|&.)+")
_NAMED = re.compile(r"(?:(?P<alias>[a-z0-9][a-z0-9_-]*):)?(?P<name>.+)", re.DOTALL)

MEND = (
    "write nsu=<namespace>;i=<number> (or s=, g=, b=), i=<number> of namespace 0, or a browse path "
    "such as /di:DeviceSet/acme:Freezer"
)


@dataclass(frozen=True, slots=True)
class NodeId:
    """A node by its id (OPC 10000-6 section 5.3.1.10).

    :ivar namespace: URI, or an alias of the profile
    :ivar form: ``i``, ``s``, ``g`` or ``b``
    """

    namespace: str
    form: str
    identifier: int | str | uuid.UUID | bytes


@dataclass(frozen=True, slots=True)
class BrowsePath:
    """A node by the way to it: ``(namespace, browse name)`` step by step, forward."""

    steps: tuple[tuple[str, str], ...]


Address = NodeId | BrowsePath


def parse(text: str) -> Address:
    """Return the address that a text states; aliases are not resolved.

    In a browse path ``&`` makes the next character an ordinary one.

    :raises ValueError: if it states none
    """
    if text.startswith("/"):
        steps = _STEP.findall(text)
        if not steps or "/" + "/".join(steps) != text:
            raise ValueError(f"{text!r} is no browse path; {MEND}")
        return BrowsePath(tuple(_step(step) for step in steps))
    if text.startswith("ns="):
        raise ValueError(f"{text!r} names a namespace by its index, which may change; {MEND}")
    match = _NODE_ID.fullmatch(text)
    identifier = _identifier(match["form"], match["identifier"]) if match else None
    if match is None or identifier is None:
        raise ValueError(f"{text!r} is no node; {MEND}")
    return NodeId(match["namespace"] or NAMESPACE_0, match["form"], identifier)


def resolve(address: Address, aliases: Mapping[str, str]) -> Address:
    """Return the address with namespace URIs in place of the profile's aliases.

    :raises ValueError: if an alias is not known
    """
    if isinstance(address, NodeId):
        return NodeId(_uri(address.namespace, aliases), address.form, address.identifier)
    return BrowsePath(tuple((_uri(alias, aliases), name) for alias, name in address.steps))


def _uri(namespace: str, aliases: Mapping[str, str]) -> str:
    if namespace in aliases:
        return aliases[namespace]
    if ":" not in namespace:
        known = ", ".join(aliases) or "none"
        raise ValueError(
            f"no namespace {namespace!r}; add it to opcua.namespaces, where there is: {known}"
        )
    return namespace


def _step(step: str) -> tuple[str, str]:
    match = _NAMED.fullmatch(step)
    assert match is not None
    return match["alias"] or NAMESPACE_0, re.sub(r"&(.)", r"\1", match["name"])


def _identifier(form: str, text: str) -> Any:
    try:
        if form == "i":
            return int(text) if text.isdecimal() and int(text) < 2**32 else None
        if form == "g":
            return uuid.UUID(text)
        if form == "b":
            return base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return text

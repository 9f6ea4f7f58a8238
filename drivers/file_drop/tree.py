"""Reports in XML and JSON. One that is not well-formed to its end is not used at all.

XML: no document type, so neither entities nor anything from elsewhere; names without namespaces.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any
from xml.parsers import expat

from drivers.file_drop.profile import FileDropLayout
from drivers.file_drop.report import PLACE_BYTES, Report, Row, Wanted
from drivers.file_drop.values import Unreadable

DEPTH_MAX = 64
ROW_CHARACTERS_MAX = 65_536
JSON_BYTES_MAX = 64 * 10**6
"""A value of a tree takes some ten times its length in memory."""


def read_tree(layout: FileDropLayout, wanted: Wanted, data: bytes) -> Report:
    """Return the report that a file holds.

    :raises Unreadable: if it is not well-formed, or has no rows where they should be
    """
    assert layout.rows is not None
    if len(data) > JSON_BYTES_MAX:
        raise Unreadable(f"has more than {JSON_BYTES_MAX} bytes")
    read = _read_xml if layout.format == "xml" else _read_json
    outside, elements = read(layout.rows.strip("/"), data)
    found = {name: outside.get(path.strip("/")) for name, path in wanted.facts.items()}
    facts = {name: text for name, text in found.items() if text is not None}
    inside = [str(field) for field in wanted.fields]

    def rows() -> Iterator[Row]:
        place = _digest(b"", outside)
        for number, element in enumerate(elements, 1):
            place = _digest(place, element)
            yield Row(number, place[:PLACE_BYTES].hex(), _fields(element, outside, inside))

    return Report(facts, rows)


def _digest(before: bytes, texts: Mapping[str, str]) -> bytes:
    """Return the digest behind an element: all of it, whatever the profile reads."""
    return hashlib.sha256(before + json.dumps([*texts.items()]).encode()).digest()


def _fields(
    element: Mapping[str, str], outside: Mapping[str, str], wanted: list[str]
) -> dict[str | int, str] | str:
    if sum(map(len, element.values())) > ROW_CHARACTERS_MAX:
        return f"has more than {ROW_CHARACTERS_MAX} characters"
    found = {
        field: outside.get(field.strip("/")) if field.startswith("/") else element.get(field)
        for field in wanted
    }
    return {field: text for field, text in found.items() if text is not None}


# -- XML ---------------------------------------------------------------------------------------


class _Collector:
    """Texts by path: of each element at the path of the rows, and of everything else."""

    def __init__(self, rows: str) -> None:
        self.outside: dict[str, str] = {}
        self.elements: list[dict[str, str]] = []
        self._rows = rows.split("/")
        self._path: list[str] = []
        self._texts: list[list[str]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(_local(name))
        self._texts.append([])
        if len(self._path) > DEPTH_MAX:
            raise Unreadable(f"is nested more than {DEPTH_MAX} deep")
        if self._path == self._rows:
            self.elements.append({})
        for attribute, text in attributes.items():
            if not attribute.startswith("xmlns"):
                self._keep(f"@{_local(attribute)}", text)

    def text(self, text: str) -> None:
        self._texts[-1].append(text)

    def end(self, name: str) -> None:
        text = "".join(self._texts.pop()).strip()
        if text:
            self._keep(None, text)
        self._path.pop()

    def _keep(self, attribute: str | None, text: str) -> None:
        depth = len(self._rows)
        is_inside = self._path[:depth] == self._rows
        steps = self._path[depth:] if is_inside else self._path
        path = "/".join([*steps, *([attribute] if attribute else [])]) or "."
        known = self.elements[-1] if is_inside else self.outside
        known[path if path not in known else f"{path}[{len(known) + 1}]"] = text.strip()


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _refuse_document_type(*_: Any) -> None:
    raise Unreadable("has a document type, which no report needs")


def _read_xml(rows: str, data: bytes) -> tuple[dict[str, str], list[dict[str, str]]]:
    collector = _Collector(rows)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_document_type
    parser.StartElementHandler = collector.start
    parser.EndElementHandler = collector.end
    parser.CharacterDataHandler = collector.text
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        line = f" (line {error.lineno})" if isinstance(error, expat.ExpatError) else ""
        raise Unreadable(f"is not well-formed XML{line}") from None
    return collector.outside, collector.elements


# -- JSON --------------------------------------------------------------------------------------


def _read_json(rows: str, data: bytes) -> tuple[dict[str, str], list[dict[str, str]]]:
    try:
        text = data.decode(json.detect_encoding(data)).removeprefix("\ufeff")
        whole = json.loads(
            text, parse_int=str, parse_float=str, parse_constant=_refuse, object_pairs_hook=_once
        )
    except (ValueError, RecursionError):
        raise Unreadable("is not well-formed JSON") from None
    steps = rows.split("/")
    found: Any = whole
    for step in steps[:-1]:
        found = found.get(step) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get(steps[-1]), list):
        raise Unreadable("has no list of rows where the profile says")
    elements = found.pop(steps[-1])
    return dict(_leaves("", whole)), [dict(_leaves("", element)) for element in elements]


def _refuse(name: str) -> None:
    raise ValueError(name)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def _leaves(path: str, node: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    if depth > DEPTH_MAX:
        raise Unreadable(f"is nested more than {DEPTH_MAX} deep")
    if isinstance(node, dict | list):
        steps = node.items() if isinstance(node, dict) else enumerate(node, 1)
        for step, child in steps:
            yield from _leaves(f"{path}/{step}" if path else str(step), child, depth + 1)
    elif isinstance(node, str):
        yield path, node.strip()
    elif isinstance(node, bool):
        yield path, "true" if node else "false"

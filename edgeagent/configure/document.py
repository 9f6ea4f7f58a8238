"""A YAML file as plain data, with the line of every key."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from edgeagent.model.errors import ConfigurationError, Fault

Path_ = tuple[str | int, ...]
"""Where a value stands: keys and indices from the top of the file."""


@dataclass(frozen=True, slots=True)
class Document:
    """One file.

    :ivar file: its name as the user wrote it
    :ivar raw: its bytes, for the configuration hash
    :ivar data: plain dictionaries, lists and scalars
    :ivar lines: line number, from 1, of each key and list item
    """

    file: str
    raw: bytes
    data: Any
    lines: dict[Path_, int] = field(default_factory=dict)

    def line_of(self, path: Path_) -> int | None:
        """Return the line of a place, or of the nearest place above it that has one."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return 1 if self.lines else None

    def fault(self, path: Path_, problem: str, mend: str) -> Fault:
        """Return a fault at a place in this file."""
        return Fault(self.file, self.line_of(path), dotted(path), problem, mend)


def dotted(path: Path_) -> str:
    """Return a place as people write it: ``links.gateway.host``, ``atomic[0].count``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


_READ_MENDS: dict[type[OSError], str] = {
    FileNotFoundError: "create it, or name another file",
    IsADirectoryError: "name a file in it",
}


def read_document(path: Path) -> Document:
    """Read one YAML file.

    :raises ConfigurationError: if it is missing, unreadable, no YAML, or repeats a key
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        mend = _READ_MENDS.get(type(error), "make it readable for the service's user")
        problem = f"cannot be read ({error.strerror})"
        raise ConfigurationError([Fault(str(path), None, "", problem, mend)]) from None
    return parse_document(str(path), raw)


def parse_document(file: str, raw: bytes) -> Document:
    """Parse the bytes of one YAML file; see :func:`read_document`."""
    try:
        loaded = YAML(typ="rt").load(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            [Fault(file, None, "", f"is not UTF-8 ({error.reason})", "save it as UTF-8")]
        ) from None
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        key = str(error.problem).split('"')[1] if '"' in str(error.problem) else ""
        fault = Fault(
            file, line, key, "this key stands here twice", "rename or remove one of the two"
        )
        raise ConfigurationError([fault]) from None
    except MarkedYAMLError as error:
        raise ConfigurationError([_syntax_fault(file, error)]) from None
    except YAMLError as error:
        problem = f"is no valid YAML: {str(error).splitlines()[0]}"
        raise ConfigurationError([Fault(file, None, "", problem, "mend the syntax")]) from None
    except RecursionError:
        fault = Fault(file, None, "", "is nested too deeply", "write fewer levels")
        raise ConfigurationError([fault]) from None
    lines = dict(_lines(loaded, ()))
    data = _plain(loaded)
    if not isinstance(data, dict):
        fault = Fault(file, 1, "", "holds no keys", "write 'key: value' lines")
        raise ConfigurationError([fault])
    return Document(file, raw, data, lines)


def _syntax_fault(file: str, error: MarkedYAMLError) -> Fault:
    line = error.problem_mark.line + 1 if error.problem_mark else None
    problem = f"is no valid YAML: {error.problem}"
    mend = "mend the syntax on this line or the one above"
    if error.context_mark and error.context_mark.line + 1 != line:
        problem += f" ({error.context}, line {error.context_mark.line + 1})"
    if "'\\t'" in problem:
        mend = "indent with spaces, not with tabs"
    return Fault(file, line, "", problem, mend)


def _lines(node: Any, path: Path_) -> Iterator[tuple[Path_, int]]:
    if not isinstance(node, CommentedMap | CommentedSeq):
        return
    marks = node.lc.data or {}  # not of what a merge key brings in, nor below an unknown tag
    for key, value in node.items() if isinstance(node, CommentedMap) else enumerate(node):
        below = (*path, key if isinstance(node, CommentedSeq) else str(key))
        if key in marks:
            yield below, marks[key][0] + 1
        yield from _lines(value, below)


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    if isinstance(node, bool):
        return bool(node)
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node if node is None else str(node)

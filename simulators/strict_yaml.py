"""YAML that must be exactly as expected: every fault names file, line and key.

A mapping becomes a frozen dataclass whose field names are its keys. Keys that no field has are
refused, with the nearest one that exists.
"""

import difflib
import math
from dataclasses import MISSING, fields
from enum import Enum
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError

from simulators.settings import Range, Refused

T = TypeVar("T")


class ScenarioError(Exception):
    """Something in a file cannot be used; the text is one line: `file:line: key: reason`."""


class Section:
    """One mapping of a file, and where it stands."""

    def __init__(self, data: CommentedMap, file: str, path: str = "") -> None:
        self._data = data
        self._file = file
        self._path = path

    @property
    def keys(self) -> list[str]:
        return [str(key) for key in self._data]

    def error(self, key: str | None, reason: str) -> ScenarioError:
        """The error at `key`, or at the section itself."""
        path = ".".join(part for part in (self._path, key) if part)
        place = f"{self._file}:{self._line(key)}"
        return ScenarioError(f"{place}: {path}: {reason}" if path else f"{place}: {reason}")

    def section(self, key: str) -> "Section":
        """The mapping at `key`; an empty one where the key is missing."""
        data = self._data.get(key)
        if data is None and key not in self._data:
            data = CommentedMap()
        if not isinstance(data, CommentedMap):
            raise self.error(key, "must be a mapping")
        return Section(data, self._file, f"{self._path}.{key}" if self._path else key)

    def sections(self, key: str) -> list["Section"]:
        """The mappings in the list at `key`; none where the key is missing."""
        items = self._data.get(key, [])
        path = f"{self._path}.{key}" if self._path else key
        if not isinstance(items, list):
            raise self.error(key, "must be a list")
        for item in items:
            if not isinstance(item, CommentedMap):
                raise self.error(key, "must be a list of mappings")
        return [Section(item, self._file, f"{path}[{n}]") for n, item in enumerate(items)]

    def text(self, key: str) -> str:
        """The text at `key`, which must be there."""
        self.require(key)
        value: str = self._converted(key, str)
        return value

    def require(self, *keys: str) -> None:
        for key in keys:
            if key not in self._data:
                raise self.error(None, f"{key} is missing")

    def allow(self, *allowed: str) -> None:
        """Refuse every other key."""
        for key in self.keys:
            if key not in allowed:
                near = [name for name in allowed if name.startswith(f"{key}_")]
                near = near or difflib.get_close_matches(key, allowed, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise self.error(key, f"unknown key{hint}")

    def build(self, cls: type[T], besides: tuple[str, ...] = ()) -> T:
        """The dataclass that this mapping describes; keys `besides` its fields are left alone."""
        hints = get_type_hints(cls)
        known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
        self.allow(*besides, *known)
        self.require(
            *(
                name
                for name, field in known.items()
                if field.default is MISSING and field.default_factory is MISSING
            )
        )
        present = {name: self._converted(name, hints[name]) for name in known if name in self._data}
        try:
            return cls(**present)
        except Refused as refusal:
            key = refusal.key if refusal.key in present else None
            raise self.error(key, refusal.reason if key else str(refusal)) from None

    def _line(self, key: str | None) -> int:
        """Counted from 1, as editors do."""
        if key is not None and key in self._data:
            return int(self._data.lc.key(key)[0]) + 1
        return int(self._data.lc.line or 0) + 1

    def _converted(self, key: str, kind: Any) -> Any:
        try:
            return _as_kind(self._data[key], kind)
        except ValueError as problem:
            raise self.error(key, str(problem)) from None


def load(text: str, file: str) -> Section:
    """:raises ScenarioError: if the text is no YAML mapping"""
    try:
        data = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ScenarioError(f"{file}:{line}: {error.problem}") from None
    if not isinstance(data, CommentedMap):
        raise ScenarioError(f"{file}:1: must be a mapping")
    return Section(data, file)


def _as_kind(value: Any, kind: Any) -> Any:
    """:raises ValueError: with the reason, if `value` cannot stand for a `kind`"""
    if get_origin(kind) in (Union, UnionType):
        options = get_args(kind)
        if value is None and type(None) in options:
            return None
        (kind,) = (option for option in options if option is not type(None))
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError("must be a list")
        return tuple(_as_kind(item, get_args(kind)[0]) for item in value)
    if kind is Range:
        return _as_range(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _as_enum(value, kind)
    if kind is float:
        return _as_number(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        names = {str: "text (quote it if it looks like a number)", int: "a whole number"}
        raise ValueError(f"must be {names.get(kind, 'true or false')}")
    return str(value) if kind is str else kind(value)


def _as_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("must be a number")
    return float(value)


def _as_range(value: Any) -> Range:
    if isinstance(value, list):
        if len(value) != 2:
            raise ValueError("must be a number or [low, high]")
        return Range(_as_number(value[0]), _as_number(value[1]))
    number = _as_number(value)
    return Range(number, number)


def _as_enum(value: Any, kind: type[Enum]) -> Enum:
    try:
        return kind(value)
    except ValueError:
        options = ", ".join(str(member.value) for member in kind)
        raise ValueError(f"must be one of {options}") from None

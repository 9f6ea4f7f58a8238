"""Pydantic's findings as faults that name the file, the line, the key and the mend."""

import difflib
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from edgeagent.configure.document import Document, Path_
from edgeagent.model.errors import Fault

M = TypeVar("M", bound=BaseModel)


def validate(
    model: type[M], data: Any, document: Document, at: Path_, faults: list[Fault]
) -> M | None:
    """Return an instance of ``model``, or ``None`` and its faults appended.

    :param at: where ``data`` stands in the document
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            faults.append(_fault(model, details, document, at))
        return None


def _fault(model: type[BaseModel], details: ErrorDetails, document: Document, at: Path_) -> Fault:
    loc = tuple(step for step in details["loc"] if step != "[key]")
    place = _known_place(document, (*at, *loc))
    problem, mend = _words(model, details, loc)
    return document.fault(place, problem, mend)


def _known_place(document: Document, path: Path_) -> Path_:
    """Return the part of a pydantic location that stands in the file, and a missing last key.

    Pydantic adds the names of union members and of validators, which no user has written.
    """
    for end in range(len(path), 0, -1):
        if path[:end] in document.lines:
            rest = path[end : end + 1]
            return path[: end + 1] if rest and end + 1 == len(path) else path[:end]
    return path[:1]


def _words(model: type[BaseModel], details: ErrorDetails, loc: Path_) -> tuple[str, str]:
    """Return (problem, mend) for one finding."""
    kind, message = details["type"], details["msg"]
    if kind == "extra_forbidden":
        return "unknown key", _mend_unknown(_fields_at(model, loc[:-1]), str(loc[-1]))
    if kind == "missing":
        return "is missing", f"add {loc[-1]}"
    if kind == "value_error":
        problem, _, mend = message.removeprefix("Value error, ").partition("; ")
        return problem, mend or "see the reference of this key: edgeagent schema"
    if kind == "string_pattern_mismatch":
        pattern = details.get("ctx", {}).get("pattern")
        return f"{details['input']!r} has a form that is not allowed", f"it must match {pattern}"
    found = details["input"]
    shown = "" if isinstance(found, dict | list) else f", not {found!r}"
    wanted = message.removeprefix("Input should be ")
    return f"wrong value{shown}", f"give {wanted}"


def _mend_unknown(known: Mapping[str, Any], key: str) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"remove it; known here: {', '.join(known)}" if known else "remove it"


def _fields_at(model: Any, loc: Path_) -> Mapping[str, Any]:
    """Return the fields of the model that stands at a place below ``model``."""
    for step in loc:
        model = _step(_strip(model), step)
    model = _strip(model)
    return model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}


def _strip(annotation: Any) -> Any:
    """Return what an annotation means without Annotated and Optional."""
    while True:
        origin = get_origin(annotation)
        if origin in (Union, UnionType):
            members = [a for a in get_args(annotation) if a is not NoneType]
            annotation = members[0]
        elif origin is not None and hasattr(annotation, "__metadata__"):
            annotation = get_args(annotation)[0]
        else:
            return annotation


def _step(annotation: Any, step: str | int) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(step))
        return field.annotation if field else None
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal or not args:
        return None
    return args[1] if origin is dict else args[0]

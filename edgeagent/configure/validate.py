"""Pydantic's findings as faults that name the file, the line, the key and the mend."""

import difflib
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from edgeagent.configure.document import Document, Path_
from edgeagent.model.errors import Fault
from edgeagent.model.profile import NAME_PATTERN

M = TypeVar("M", bound=BaseModel)

_MENDS = {
    "int_type": "give a whole number",
    "int_parsing": "give a whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "float_parsing": "give a number",
    "finite_number": "give a finite number",
    "less_than_equal": "give at most {}",
    "greater_than_equal": "give at least {}",
    "string_type": "put it in quotes",
    "string_too_short": "give some text",
    "path_type": "give a path",
    "tuple_type": "give a list, e.g. [a, b]",
    "list_type": "give a list, e.g. [a, b]",
    "dict_type": "write 'key: value' lines below it",
    "model_type": "write 'key: value' lines below it",
    "too_short": "give at least one",
}
"""What to do, by pydantic's type of error; ``{}`` stands for the last word of its message."""


def validate(
    model: type[M],
    data: Any,
    document: Document,
    at: Path_,
    faults: list[Fault],
    beside: Iterable[str] = (),
) -> M | None:
    """Return an instance of ``model``, or ``None`` and its faults appended.

    :param at: where ``data`` stands in the document
    :param beside: keys of the same place that belong to another model, for the mend
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found: dict[Path_, Fault] = {}
        for details in error.errors(include_url=False):
            loc = tuple(step for step in details["loc"] if step != "[key]")
            place = _place(document, (*at, *loc), is_missing=details["type"] == "missing")
            known = _fields_at(model, loc[:-1]) if details["type"] == "extra_forbidden" else ()
            if len(loc) == 1:
                known = (*known, *beside)
            # Of a value that could be of several types, the first finding says enough.
            found.setdefault(place, document.fault(place, *_words(details, loc, tuple(known))))
        faults += (fault for place, fault in found.items() if not _follows(place, fault, found))
        return None


def _place(document: Document, path: Path_, *, is_missing: bool) -> Path_:
    """Return the part of a pydantic location that stands in the file, and a missing last key.

    Pydantic adds the names of union members and of validators, which no user has written.
    """
    end = len(path)
    while end > 1 and path[:end] not in document.lines:
        end -= 1
    return path[: end + 1] if is_missing else path[:end]


def _follows(place: Path_, fault: Fault, found: Mapping[Path_, Fault]) -> bool:
    """Return whether a list only became empty because its items were wrong."""
    return fault.mend == _MENDS["too_short"] and any(
        other[: len(place)] == place and other != place for other in found
    )


def _words(details: ErrorDetails, loc: Path_, known: tuple[str, ...]) -> tuple[str, str]:
    """Return (problem, mend) for one finding."""
    kind, message, found = details["type"], details["msg"], details["input"]
    if kind == "extra_forbidden":
        return "unknown key", _mend_unknown(known, str(loc[-1]))
    if kind == "missing":
        return "is missing", f"add {loc[-1]}"
    if kind == "string_pattern_mismatch":
        pattern = message.split("'", 1)[1].rstrip("'")
        if pattern == NAME_PATTERN:
            return f"{found!r} is no name", "use lower-case letters, digits, - and _"
        return f"{found!r} has a form that is not allowed", f"it must match {pattern}"
    if kind not in _MENDS and "; " in message:
        problem, mend = message.removeprefix("Value error, ").split("; ", 1)
        return problem, mend
    wanted = message.removeprefix("Input should be ").removeprefix("String should have ")
    mend = _MENDS.get(kind, f"give {wanted}")
    return _shown(found), mend.format(message.split()[-1])


def _shown(found: Any) -> str:
    if found is None:
        return "has no value"
    if isinstance(found, dict | list | tuple):
        return "has a wrong form" if found else "is empty"
    return f"wrong value {found!r}"


def _mend_unknown(known: tuple[str, ...], key: str) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"remove it; known here: {', '.join(known)}" if known else "remove it"


def _fields_at(model: Any, loc: Path_) -> tuple[str, ...]:
    """Return the keys of the model that stands at a place below ``model``."""
    for step in loc:
        model = _step(_strip(model), step)
    model = _strip(model)
    is_model = isinstance(model, type) and issubclass(model, BaseModel)
    return tuple(model.model_fields) if is_model else ()


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

"""Faults that no single value shows: how models add them to those that pydantic finds.

A model looks for them also where single values are wrong, so that one run shows everything.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

M = TypeVar("M", bound=BaseModel)


def fault_line(place: tuple[str | int, ...], text: str, value: object = None) -> InitErrorDetails:
    """Return a fault at a place, as pydantic takes it."""
    return InitErrorDetails(
        type=PydanticCustomError("value_error", text),
        loc=place,
        input=value,
    )


def found_lines(error: ValidationError) -> list[InitErrorDetails]:
    """Return the faults that pydantic has found, without those that only follow from others."""
    return [
        InitErrorDetails(
            type=line["type"], loc=line["loc"], input=line["input"], ctx=line.get("ctx", {})
        )
        for line in error.errors(include_url=False)
        if line["type"] != "default_factory_not_called"
    ]


def sound(model: type[M], data: Any) -> M | None:
    """Return the data as a model, ``None`` when it is faulty."""
    try:
        return model.model_validate(data)
    except ValidationError:
        return None


def sound_ones(model: type[M], data: Any) -> dict[str, M]:
    """Return those entries of a mapping that are sound."""
    candidates = {name: sound(model, value) for name, value in mapping(data).items()}
    return {name: value for name, value in candidates.items() if value is not None}


def mapping(data: Any) -> Mapping[str, Any]:
    """Return a mapping as it is, anything else as an empty one."""
    return data if isinstance(data, Mapping) else {}

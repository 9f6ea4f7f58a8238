"""Durations, sizes and rational numbers as people write them in a profile or a site file."""

import re
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)\s*$")
_UNIT_NS = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9}
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(B|[kMGT]B|[KMGT]iB)\s*$")
_UNIT_BYTES = {"B": 1} | {
    f"{prefix}{unit}": base**power
    for base, unit, prefixes in ((1000, "B", "kMGT"), (1024, "iB", "KMGT"))
    for power, prefix in enumerate(prefixes, 1)
}


def parse_duration_ns(text: object) -> int:
    """Return nanoseconds of e.g. ``500 ms``, ``1 s``, ``5 min``, ``4 h``, ``90 d``.

    :raises ValueError: if the unit is missing or unknown, or the duration is not positive
    """
    match = _DURATION.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            f"{text!r} is no duration; write a number and a unit, e.g. '500 ms', '1 s', '5 min'"
        )
    duration = Fraction(match[1]) * _UNIT_NS[match[2]]
    if duration <= 0 or duration.denominator != 1:
        raise ValueError(f"{text!r} is no positive whole number of nanoseconds; write more")
    return int(duration)


def parse_size_bytes(text: object) -> int:
    """Return bytes of e.g. ``64 MB``, ``20 GB``, ``512 MiB`` (prefixes of IEC 80000-13).

    :raises ValueError: if the unit is missing or unknown, or it is no positive number of bytes
    """
    match = _SIZE.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            f"{text!r} is no size; write a number and a unit, e.g. '64 MB', '20 GB', '512 MiB'"
        )
    size = Fraction(match[1]) * _UNIT_BYTES[match[2]]
    if size <= 0 or size.denominator != 1:
        raise ValueError(f"{text!r} is no positive whole number of bytes; write another number")
    return int(size)


def parse_rational(value: object) -> Fraction:
    """Return the exact number of e.g. ``0.1``, ``2``, ``400/65536``.

    :raises ValueError: if it is not a finite number or fraction
    """
    if isinstance(value, Fraction):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is no number; write e.g. 0.1 or 400/65536")
    try:
        return Fraction(str(value).replace(" ", ""))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{value!r} is no number; write e.g. 0.1 or 400/65536") from None


DurationNs = Annotated[
    int,
    BeforeValidator(parse_duration_ns),
    WithJsonSchema(
        {"type": "string", "pattern": _DURATION.pattern, "examples": ["500 ms", "1 s", "5 min"]}
    ),
]
"""A duration with its unit in the file; nanoseconds in the program."""

SizeBytes = Annotated[
    int,
    BeforeValidator(parse_size_bytes),
    WithJsonSchema(
        {"type": "string", "pattern": _SIZE.pattern, "examples": ["64 MB", "20 GB", "512 MiB"]}
    ),
]
"""A size with its unit in the file; bytes in the program."""

Rational = Annotated[
    Any,
    BeforeValidator(parse_rational),
    WithJsonSchema({"type": ["number", "string"], "examples": [0.1, "400/65536"]}),
]
"""An exact number: a :class:`fractions.Fraction` in the program."""

"""Canonical text of values: shortest decimals of the tag's own width (``docs/mqtt.md`` section 3).

A FLOAT32 is written as the shortest decimal that reads back as the same binary32, never as the
binary64 it happens to be held in: 37.012, not 37.012001037597656.
"""

import struct
from collections.abc import Callable, Sequence
from itertools import groupby

from edgeagent.model.frame import DataType, TagSchema, Value
from edgeagent.model.record import encode_json

_ONE = struct.Struct("<f")


def float32_text(value: float) -> str:
    """Return the text of one finite binary32.

    Seven, eight or nine significant digits, the first that reads back (nine always do:
    IEEE 754-2008, 5.12.2).
    """
    longest = "%.9g"
    for digits in ("%.7g", "%.8g"):
        text = digits % value
        if _ONE.unpack(_ONE.pack(float(text)))[0] == value:
            break
    else:
        text = longest % value
    if "e" in text:  # 49060848, not 4.906085e+07
        text = min(text, longest % value, key=len)
    return "-0.0" if text == "-0" else text


def _float32_run(count: int) -> Callable[[Sequence[float]], str]:
    """Return a writer of ``count`` finite binary32 values, comma-separated."""
    form = ",".join(["%.7g"] * count)
    width = struct.Struct(f"<{count}f")

    def write(values: Sequence[float]) -> str:
        text = form % tuple(values)
        parts = text.split(",")
        back = width.unpack(width.pack(*map(float, parts)))
        if back == tuple(values) and "-0" not in text and "e" not in text:
            return text
        for index, (seen, value) in enumerate(zip(back, values, strict=True)):
            if seen != value or parts[index] == "-0" or "e" in parts[index]:
                parts[index] = float32_text(value)
        return ",".join(parts)

    return write


def writer_of(tags: Sequence[TagSchema]) -> Callable[[Sequence[Value]], bytes]:
    """Compile the writer of one schema: values, none of them NaN or infinite, to a JSON array."""
    runs: list[tuple[slice, Callable[[Sequence[float]], str] | None]] = []
    start = 0
    for is_float32, members in groupby(tags, lambda tag: tag.type is DataType.FLOAT32):
        end = start + len(list(members))
        runs.append((slice(start, end), _float32_run(end - start) if is_float32 else None))
        start = end

    def write(values: Sequence[Value]) -> bytes:
        parts = []
        for span, write_float32 in runs:
            part = values[span]
            if write_float32 is None:
                parts.append(encode_json(part)[1:-1])
            elif None in part:
                texts = ("null" if v is None else float32_text(float(v)) for v in part)
                parts.append(",".join(texts).encode())
            else:
                parts.append(write_float32(part).encode())  # type: ignore[arg-type]
        return b"[%b]" % b",".join(parts)

    return write

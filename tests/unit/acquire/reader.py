"""A reader of bodies, written from docs/mqtt.md section 3 alone. It imports nothing of ours."""

import json
from typing import Any, NamedTuple

GOOD = 0


class Read(NamedTuple):
    """One tag of one frame; ``value`` is ``None`` where the status is Bad."""

    value: Any
    status: int
    source: int | None
    server: int | None


class FrameRead(NamedTuple):
    schema: int
    context: int
    utc: int
    boot: int
    origin: int
    tags: dict[int, Read]
    evidence: str | None


def read_frame(body: bytes, tag_count: int) -> FrameRead:
    """Read an ``F`` body; ``tag_count`` comes from its schema record."""
    kind, _, schema, context, utc, boot, origin, status, present, source, server, values = (
        json.loads(body)[:12]
    )
    assert kind == "F"
    indices = range(tag_count) if present is None else present
    assert len(values) == len(indices)
    codes = {} if isinstance(status, int) else dict(status)
    default = status if isinstance(status, int) else GOOD

    def each(times, position):
        return times[position] if isinstance(times, list) else times

    tags = {
        index: Read(
            values[position],
            codes.pop(index, default),
            each(source, position),
            each(server, position),
        )
        for position, index in enumerate(indices)
    }
    assert not codes, "a status for a tag that has no value here"
    return FrameRead(schema, context, utc, boot, origin, tags, json.loads(body)[13])

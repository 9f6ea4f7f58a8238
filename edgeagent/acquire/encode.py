"""From a conditioned frame to the tail of its body (``docs/mqtt.md`` section 3.3)."""

from collections.abc import Callable
from typing import Any

from edgeagent.acquire.condition import Conditioned
from edgeagent.model import quality
from edgeagent.model.frame import Frame, GroupSchema
from edgeagent.model.record import (
    EVIDENCE_INLINE_BYTES_MAX,
    Lane,
    Record,
    encode_json,
    evidence_text,
)
from edgeagent.model.text import writer_of


def schema_description(group: GroupSchema) -> dict[str, Any]:
    """Return what a schema record says about a group."""
    tags = []
    for tag in group.tags:
        stated: dict[str, Any] = {"name": tag.name, "type": tag.type.value, "unit": tag.unit}
        if tag.scale != (1, 0, 1):
            stated["scale"] = list(tag.scale)
        if tag.low is not None:
            stated["range"] = [tag.low, tag.high]
        tags.append(stated)
    return {
        "instrument": group.instrument,
        "group": group.group,
        "profile": group.profile,
        "profile_version": group.profile_version,
        "period_ns": group.period_ns,
        "tags": tags,
    }


def compile_encoder(
    group: GroupSchema, schema: int
) -> Callable[[Frame, Conditioned, int, bool], Record]:
    """Compile the writer of one group's frames.

    The returned function takes the frame, its conditioned values, the context number and
    whether the instrument is commissioned; without that, no value is better than Uncertain.
    """
    write_values = writer_of(group.tags)
    everything = tuple(range(len(group.tags)))

    def encode(frame: Frame, conditioned: Conditioned, context: int, commissioned: bool) -> Record:
        present, values, text = b"null", conditioned.values, b""
        if frame.present is None:
            text = write_values(values)
        else:
            present = encode_json(frame.present)
            text = _write_present(group, frame.present, conditioned)
        tail = b"%d,%d,%d,%d,%d,%b,%b,%b,%b,%b,null,%b%b]" % (
            schema,
            context,
            frame.received_utc_ns,
            frame.received_boot_ns,
            frame.origin,
            _status_text(
                conditioned, commissioned, everything if frame.present is None else frame.present
            ),
            present,
            _time_text(frame.source_utc_ns, frame.present),
            _time_text(frame.server_utc_ns, frame.present),
            text,
            evidence_text(frame.raw),
            b",%b" % encode_json(dict(frame.marks)) if frame.marks else b"",
        )
        long = frame.raw is not None and len(frame.raw) > EVIDENCE_INLINE_BYTES_MAX
        return Record(Lane.DATA, "F", tail, frame.raw if long else None)

    return encode


def _write_present(group: GroupSchema, present: tuple[int, ...], conditioned: Conditioned) -> bytes:
    write = writer_of([group.tags[index] for index in present])
    return write([conditioned.values[index] for index in present])


def _status_text(conditioned: Conditioned, commissioned: bool, present: tuple[int, ...]) -> bytes:
    statuses = conditioned.statuses
    if commissioned:
        return encode_json(statuses) if statuses else b"0"
    if not statuses:
        return b"%d" % quality.UNCERTAIN
    known = dict(statuses)
    codes = ((index, known.get(index, quality.GOOD)) for index in present)
    return encode_json([(i, quality.UNCERTAIN if quality.is_good(c) else c) for i, c in codes])


def _time_text(
    time_ns: int | tuple[int | None, ...] | None, present: tuple[int, ...] | None
) -> bytes:
    if time_ns is None:
        return b"null"
    if isinstance(time_ns, int):
        return b"%d" % time_ns
    if present is None:
        return encode_json(time_ns)
    return encode_json([time_ns[index] for index in present])

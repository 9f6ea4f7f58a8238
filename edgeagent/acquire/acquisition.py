"""What every link hands its frames to: conditioning, continuity, and the door to the journal."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeagent.acquire.condition import Conditioned, compile_conditioner
from edgeagent.acquire.continuity import Continuity
from edgeagent.acquire.encode import compile_encoder, schema_description
from edgeagent.driver import Instrument
from edgeagent.journal import Recorder
from edgeagent.model.frame import Frame, GroupSchema, Identity, Loss
from edgeagent.model.record import Entry, Lane, Record, decode_json

READ_BACK_BYTES = 1 << 20


@dataclass(slots=True)
class Compiled:
    """One group, ready for its frames."""

    schema: int
    condition: Callable[[Frame], Conditioned]
    encode: Callable[[Frame, Conditioned, int, bool], Record]


@dataclass(slots=True)
class LinkStatus:
    """How one link does; read by status and health, changed by its owner task.

    ``state`` is ``connecting``, ``up`` or ``down``; ``late_s`` is how late the last poll began.
    """

    name: str
    state: str = "connecting"
    since_utc_ns: int = 0
    cause: str | None = None
    silent: dict[str, str] = field(default_factory=dict)
    frames: int = 0
    failures: int = 0
    skipped: int = 0
    connects: int = 0
    late_s: float = 0.0


class Acquisition:
    """All instruments of the site, between their links and the recorder."""

    def __init__(self, recorder: Recorder, instruments: Iterable[Instrument]) -> None:
        self.recorder = recorder
        self.continuity = Continuity()
        self.instruments = {instrument.name: instrument for instrument in instruments}
        self.latest: dict[str, tuple[Frame, Conditioned]] = {}
        self.links: dict[str, LinkStatus] = {}
        self.frames = 0
        self._compiled: dict[GroupSchema, Compiled] = {}
        self._identities: dict[str, Identity] = {}

    @property
    def groups(self) -> tuple[GroupSchema, ...]:
        """Every group of the site."""
        return tuple(group for item in self.instruments.values() for group in item.groups)

    async def begin(self) -> None:
        """Take up where the journal ended: schemas, open gaps, and what a kill left unsaid."""
        await self._restore()
        at = self.recorder.now()
        for group in self.groups:
            schema = self.recorder.schema_number(schema_description(group))
            self._compiled[group] = Compiled(
                schema, compile_conditioner(group.tags), compile_encoder(group, schema)
            )
        for key in self.continuity.retired(map(str, self.groups)):
            self.recorder.event("schema.retired", "info", f"{key} is no longer read", group=key)
        context = self.recorder.context_number(Lane.DATA)
        for group in self.groups:
            schema = self._compiled[group].schema
            for record in self.continuity.begin(
                group, schema, context, at, same_boot=self._same_boot
            ):
                self.recorder.put(record)
        self.recorder.snapshot = self.continuity.snapshot

    async def _restore(self) -> None:
        journal = self.recorder.journal
        contexts = await journal.descriptions(Lane.DATA, "C")
        before = decode_json(contexts[-2].content)["boot_id"] if len(contexts) > 1 else None
        current = self.recorder.context.get("boot_id")
        self._same_boot = before is None or before == current
        names = {}
        for known in await journal.descriptions(Lane.DATA, "S"):
            stated = decode_json(known.content)
            names[known.number] = f"{stated['instrument']}/{stated['group']}"
        checkpoint = await journal.checkpoint()
        number, after, state = checkpoint or (journal.epochs[0].number, 0, None)
        self.continuity.restore(state, (), names)
        for epoch in journal.epochs[number:]:
            while entries := await journal.read(epoch, Lane.DATA, after, bytes_max=READ_BACK_BYTES):
                self.continuity.restore(None, _of_kind(entries), names)
                after = entries[-1].seq
            after = 0

    def commissioned(self, instrument: str) -> bool:
        """Return whether the instrument that answers is the one that was commissioned."""
        identity = self._identities.get(instrument)
        return identity is None or not identity.mismatches

    def identified(self, identity: Identity) -> None:
        """Take note of who answers; a change of mind is an event and a new context."""
        before = self._identities.get(identity.instrument)
        self._identities[identity.instrument] = identity
        if identity.mismatches and (before is None or before.mismatches != identity.mismatches):
            self.recorder.event(
                "identity.mismatch",
                "alarm",
                f"{identity.instrument}: {'; '.join(identity.mismatches)}; values are Uncertain "
                "until it is commissioned",
                instrument=identity.instrument,
                facts=dict(identity.facts),
            )
        elif before is not None and before.mismatches and not identity.mismatches:
            self.recorder.event(
                "identity.restored",
                "info",
                f"{identity.instrument}: the commissioned instrument answers again",
                instrument=identity.instrument,
            )
        self.recorder.set_context({"instruments": self._stated()})

    def _stated(self) -> dict[str, Any]:
        return {
            name: {"commissioned": not identity.mismatches, "facts": dict(identity.facts)}
            for name, identity in sorted(self._identities.items())
            if identity.facts or identity.mismatches
        }

    def take(self, frame: Frame, skipped: int = 0) -> None:
        """Condition a frame and hand it to the recorder, with the gaps that it ends or opens."""
        group, recorder = frame.group, self.recorder
        if not recorder.accepting:
            self.miss(group, "journal_full", None)
            return
        compiled = self._compiled[group]
        conditioned = compiled.condition(frame)
        context = recorder.context_number(Lane.DATA)
        for record in self.continuity.good(frame, compiled.schema, context, skipped):
            recorder.put(record)
        commissioned = self.commissioned(group.instrument)
        recorder.put(compiled.encode(frame, conditioned, context, commissioned))
        self.latest[str(group)] = (frame, conditioned)
        self.frames += 1

    def miss(self, group: GroupSchema, cause: str, detail: str | None) -> None:
        """Take note that a due frame will not come."""
        context = self.recorder.context_number(Lane.DATA)
        schema = self._compiled[group].schema
        at = self.recorder.now()
        for record in self.continuity.bad(group, schema, context, at, cause, detail):
            self.recorder.put(record)

    def lose(self, loss: Loss) -> None:
        """Take note of values that a device had and will not give."""
        if loss.to_utc_ns is None:
            self.miss(loss.group, loss.cause, loss.detail)
            return
        context = self.recorder.context_number(Lane.DATA)
        schema = self._compiled[loss.group].schema
        self.recorder.put(self.continuity.lost(loss, schema, context, self.recorder.now()))

    def stop(self) -> None:
        """Open a gap for every group: from here on nothing is read."""
        for group in self.groups:
            self.miss(group, "agent_stopped", None)

    def link(self, name: str) -> LinkStatus:
        """Return the status of a link, made at first use."""
        return self.links.setdefault(
            name, LinkStatus(name, since_utc_ns=self.recorder.clock.utc_ns())
        )

    def schema_numbers(self) -> Mapping[GroupSchema, int]:
        """Return the schema number of each group."""
        return {group: compiled.schema for group, compiled in self._compiled.items()}


def _of_kind(entries: Iterable[Entry]) -> Iterable[Entry]:
    return (entry for entry in entries if entry.body[2:3] in (b"F", b"G"))

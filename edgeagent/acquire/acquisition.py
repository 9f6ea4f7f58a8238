"""What every link hands its frames to: conditioning, continuity, and the door to the journal."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeagent.acquire.condition import Conditioned, compile_conditioner
from edgeagent.acquire.continuity import Continuity
from edgeagent.acquire.encode import compile_encoder, schema_description
from edgeagent.driver import Instrument
from edgeagent.journal import Epoch, Journal, Recorder
from edgeagent.journal.store import CorruptRecord
from edgeagent.model.frame import Frame, GroupSchema, Identity, Loss, Origin
from edgeagent.model.record import Entry, Lane, Record, decode_json

READ_BACK_BYTES = 1 << 20
_TIMELINE = (b"C", b"F", b"G")


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
        if self.continuity.was_killed():
            text = "the agent had ended without a word; what it did not read is in gaps"
            self.recorder.event("agent.killed", "warning", text)
        context = self.recorder.context_number(Lane.DATA)
        in_use = {str(group): compiled.schema for group, compiled in self._compiled.items()}
        for key in self.continuity.retired(in_use):
            self.recorder.event("schema.retired", "info", f"{key} is read no more", group=key)
            self._put(self.continuity.retire(key, context, at))
        for group, compiled in self._compiled.items():
            self._put(self.continuity.begin(group, compiled.schema, context, at))
        self.recorder.snapshot = self.continuity.snapshot

    async def _restore(self) -> None:
        journal = self.recorder.journal
        groups = {}
        for known in await journal.descriptions(Lane.DATA, "S"):
            stated = decode_json(known.content)
            groups[known.number] = f"{stated['instrument']}/{stated['group']}", len(stated["tags"])
        checkpoint = await journal.checkpoint()
        number, after, state = checkpoint or (journal.epochs[0].number, 0, None)
        self.continuity.restore(state, (), groups)
        for epoch in journal.epochs[number:]:
            async for entries in _read_back(journal, epoch, after):
                self.continuity.restore(None, entries, groups)
            after = 0
        self.continuity.enter_boot(self.recorder.clock.boot_id)

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
        """Condition a frame and hand it to the recorder, with the gaps that it ends or opens.

        Only live frames make up the time line: one that is filled in later annotates a gap.

        :param skipped: ticks that were missed because this frame took longer than its period
        """
        group, recorder = frame.group, self.recorder
        if not recorder.accepting:
            self.miss(group, "journal_full", None)
            return
        compiled = self._compiled[group]
        conditioned = compiled.condition(frame)
        context = recorder.context_number(Lane.DATA)
        commissioned = self.commissioned(group.instrument)
        record = compiled.encode(frame, conditioned, context, commissioned)
        self.frames += 1
        if frame.origin is Origin.LIVE:
            self._put(self.continuity.good(frame, context, skipped))
            self.latest[str(group)] = (frame, conditioned)
        recorder.put(record)

    def miss(
        self,
        group: GroupSchema,
        cause: str,
        detail: str | None,
        tags: Sequence[int] | None = None,
    ) -> None:
        """Take note that due values will not come: of all tags, or of those with these indices."""
        context = self.recorder.context_number(Lane.DATA)
        self._put(self.continuity.bad(group, context, self.recorder.now(), cause, detail, tags))

    def lose(self, loss: Loss) -> None:
        """Take note of values that a device had and will not give."""
        if loss.to_utc_ns is None:
            self.miss(loss.group, loss.cause, loss.detail, loss.tags)
            return
        context = self.recorder.context_number(Lane.DATA)
        self._put(self.continuity.lost(loss, context, self.recorder.now()))

    def _put(self, records: Iterable[Record]) -> None:
        for record in records:
            self.recorder.put(record)

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


async def _read_back(journal: Journal, epoch: Epoch, after: int) -> AsyncIterator[list[Entry]]:
    """Yield what continuity needs of the records behind ``after``; damaged ones are passed over."""
    while True:
        try:
            entries = await journal.read(epoch, Lane.DATA, after, bytes_max=READ_BACK_BYTES)
        except CorruptRecord as error:
            after = error.seq
            continue
        if not entries:
            return
        yield [entry for entry in entries if entry.body[2:3] in _TIMELINE]
        after = entries[-1].seq

"""What every link hands its frames to: conditioning, continuity, and the door to the journal."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgeagent.acquire.condition import Conditioned, compile_conditioner
from edgeagent.acquire.continuity import Continuity
from edgeagent.acquire.encode import compile_encoder, schema_description
from edgeagent.driver import Instrument
from edgeagent.journal import Epoch, Journal, Recorder, Storing
from edgeagent.journal.store import CorruptRecord
from edgeagent.model.frame import Frame, GroupSchema, Identity, Loss, Origin
from edgeagent.model.recent import Recent
from edgeagent.model.record import Entry, Lane, Record, decode_json

READ_BACK_BYTES = 1 << 20
_TIMELINE = (b"C", b"F", b"G")


@dataclass(slots=True)
class Compiled:
    """One group, ready for its frames; the indices of its critical tags and of the others."""

    schema: int
    critical: tuple[int, ...]
    ordinary: tuple[int, ...]
    condition: Callable[[Frame], Conditioned]
    encode: Callable[[Frame, Conditioned, int, bool], Record]


@dataclass(slots=True)
class LinkStatus:
    """How one link does; read by status and health, changed by its owner task.

    ``state`` is ``connecting``, ``up`` or ``down``; ``late_s`` is how late the last poll began.

    :ivar late: how late the polls of the last minute began, in seconds
    :ivar late_share: the same as a share of the shortest period that was due
    :ivar missed: ticks that went by without a poll, each time it happened
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
    late: Recent = field(default_factory=Recent)
    late_share: Recent = field(default_factory=Recent)
    missed: Recent = field(default_factory=Recent)


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
        if self.continuity.was_killed():
            text = "the agent had ended without a word; what it did not read is in gaps"
            self.recorder.event("agent.killed", "warning", text)
        self._compile(self.groups)
        self._retire_lines()
        self._begin_lines(self._compiled)
        self.recorder.snapshot = self.continuity.snapshot

    def change(self, instruments: Iterable[Instrument], interrupted: Collection[str]) -> None:
        """Take up other instruments while running.

        :param interrupted: groups (``instrument/group``) that are not read any more, or not until
            their link is up again; the others go on with the schemas that they have
        """
        for group in self.groups:
            if str(group) in interrupted:
                self.miss(group, "reconfigured", None)
        self.instruments = {instrument.name: instrument for instrument in instruments}
        wanted = self.groups
        self._compiled = {g: c for g, c in self._compiled.items() if g in wanted}
        fresh = [group for group in wanted if group not in self._compiled]
        self._compile(fresh)
        self._retire_lines()
        self._begin_lines(g for g in fresh if str(g) not in self.continuity.lines)
        in_use = set(map(str, wanted))
        self.latest = {key: found for key, found in self.latest.items() if key in in_use}
        self._identities = {n: i for n, i in self._identities.items() if n in self.instruments}
        self.recorder.set_context({"instruments": self._stated()})

    def _compile(self, groups: Iterable[GroupSchema]) -> None:
        for group in groups:
            schema = self.recorder.schema_number(schema_description(group))
            marks = [tag.critical for tag in group.tags]
            self._compiled[group] = Compiled(
                schema,
                tuple(index for index, critical in enumerate(marks) if critical),
                tuple(index for index, critical in enumerate(marks) if not critical),
                compile_conditioner(group.tags),
                compile_encoder(group, schema),
            )

    def _retire_lines(self) -> None:
        """Close the time lines of groups that are no longer read, or under another schema."""
        context, at = self.recorder.context_number(Lane.DATA), self.recorder.now()
        in_use = {str(group): compiled.schema for group, compiled in self._compiled.items()}
        for key in self.continuity.retired(in_use):
            self.recorder.event("schema.retired", "info", f"{key} is read no more", group=key)
            self._put(self.continuity.retire(key, context, at))

    def _begin_lines(self, groups: Iterable[GroupSchema]) -> None:
        context, at = self.recorder.context_number(Lane.DATA), self.recorder.now()
        for group in groups:
            schema = self._compiled[group].schema
            self._put(self.continuity.begin(group, schema, context, at))

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
        compiled = self._compiled[group]
        conditioned = compiled.condition(frame)
        if frame.origin is Origin.LIVE:
            self.latest[str(group)] = (frame, conditioned)
        if not recorder.accepting:
            self.miss(group, "journal_full", None)
            return
        if recorder.storing is not Storing.ALL and compiled.ordinary:
            self.miss(group, "journal_full", None, compiled.ordinary)
            if not compiled.critical:
                return
            frame = _only(frame, compiled.critical)
            conditioned = compiled.condition(frame)
        context = recorder.context_number(Lane.DATA)
        commissioned = self.commissioned(group.instrument)
        record = compiled.encode(frame, conditioned, context, commissioned)
        self.frames += 1
        if frame.origin is Origin.LIVE:
            self._put(self.continuity.good(frame, context, skipped))
        if frame.marks:
            self.continuity.mark(str(group), dict(frame.marks))
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

    def forget_links(self, in_use: Collection[str]) -> None:
        """Let go the status of links that are no more."""
        self.links = {name: status for name, status in self.links.items() if name in in_use}

    def schema_numbers(self) -> Mapping[GroupSchema, int]:
        """Return the schema number of each group."""
        return {group: compiled.schema for group, compiled in self._compiled.items()}


def _only(frame: Frame, tags: Sequence[int]) -> Frame:
    """Return the frame with some of its tags: as if the device had sent no others."""
    sent = range(len(frame.values)) if frame.present is None else frame.present
    present = tuple(index for index in tags if index in sent)
    values = tuple(v if index in present else None for index, v in enumerate(frame.values))
    return replace(frame, values=values, present=present)


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

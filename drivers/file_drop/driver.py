"""The driver: looks into the folder, reads what has settled, tells how far it has come.

It never writes. What was read is known by the marks of the stored frames: how far each report was
read, as a digest of its beginning. So a file that is given again under any name, whole or grown, is
read from where it was left, and none twice.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from drivers.file_drop.folder import Aside, Seen, look, matches, read
from drivers.file_drop.profile import FileDropProfile
from drivers.file_drop.reading import Reader, Reading
from drivers.file_drop.settings import FileDropLinkSettings
from drivers.file_drop.values import Unreadable
from drivers.identity import identity_of
from edgeagent.driver import Frame, GroupSchema, Identity, Instrument, LinkLost, Loss
from edgeagent.model.clock import Clock

BATCH_ROWS = 256
WAITING_MAX = 4096
"""Frames that are not durable yet, at most: the rest waits in its file."""
FORGET_AFTER_S = 86_400.0
FORGET_AT_ONCE = 64

Place = tuple[str, str]
"""Instrument and name of a file."""


@dataclass(slots=True)
class _File:
    """What is known of a file.

    :ivar since_s: since when it has been as it is
    :ivar is_read: whether it was read as it is
    :ivar digest: of what was last read under this name
    :ivar read_ns: when that was
    :ivar keys: under which keys its groups are marked
    """

    seen: Seen
    since_s: float
    looks: int = 1
    is_read: bool = False
    digest: bytes | None = None
    read_ns: int = 0
    keys: dict[GroupSchema, str] = field(default_factory=dict)


class _Marks:
    """How far reports were read: the place in each by its key, and the other way round."""

    def __init__(
        self,
        groups: Sequence[GroupSchema],
        known: Mapping[GroupSchema, Mapping[str, str]] | None = None,
    ) -> None:
        self.by_key = {group: dict((known or {}).get(group, {})) for group in groups}
        self.by_place = {
            group: {place: key for key, place in marks.items()}
            for group, marks in self.by_key.items()
        }

    def apply(self, frame: Frame) -> None:
        """Take note of the marks of a frame."""
        by_key, by_place = self.by_key[frame.group], self.by_place[frame.group]
        for key, place in frame.marks:
            before = by_key.pop(key, None)
            if before is not None and by_place.get(before) == key:
                del by_place[before]
            if place is not None:
                by_key[key] = place
                by_place[place] = key


class FileDropDriver:
    """One folder; a :class:`~edgeagent.driver.SubscribedDriver` that marks how far it has come."""

    def __init__(
        self, settings: FileDropLinkSettings, instruments: Sequence[Instrument], clock: Clock
    ) -> None:
        self._settings = settings
        self._instruments = tuple(instruments)
        self._clock = clock
        self._readers = [Reader(each, clock) for each in instruments]
        self._groups = [group for each in instruments for group in each.groups]
        self._durable = _Marks(self._groups)
        self._marks = _Marks(self._groups)
        self._owners: dict[tuple[GroupSchema, str], Place] = {}
        self._gone_since: dict[tuple[GroupSchema, str], float] = {}
        self._files: dict[Place, _File] = {}
        self._identities: dict[str, Identity] = {}
        self._ready: deque[tuple[Frame | Loss | Identity, Place | None]] = deque()
        self._given: deque[tuple[Frame, Place | None]] = deque()
        self._aside: Aside | None = None
        self._pump: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    def resume(self, durable: Mapping[GroupSchema, Sequence[int | None]]) -> None:
        """See :class:`~edgeagent.driver.SubscribedDriver`; what counts here are the marks."""

    def take_up(self, marks: Mapping[GroupSchema, Mapping[str, str]]) -> None:
        """See :class:`~edgeagent.driver.MarkingDriver`."""
        self._durable = _Marks(self._groups, marks)

    async def connect(self) -> tuple[Identity, ...]:
        """Look into the folder; name who wrote the last reports, as far as any was read.

        :raises LinkLost: if it cannot be read
        """
        await self.close()
        if self._aside is None:
            what = f"folder {self._settings.folder}"
            self._aside = Aside(what, self._settings.timeout / 1e9)
        await self._look()
        self._marks = _Marks(self._groups, self._durable.by_key)
        now_ns = self._clock.utc_ns()
        for group in self._groups:
            self._offer(Loss(group, "link_lost", now_ns, now_ns, detail="the folder is read"), None)
        self._pump = asyncio.create_task(self._watch(), name=f"watch {self._settings.folder}")
        return tuple(self._identities.values())

    async def next(self) -> Sequence[Frame | Loss | Identity]:
        """See :class:`~edgeagent.driver.SubscribedDriver`.

        :raises LinkLost: if the folder is gone
        """
        while not self._ready:
            if self._pump is None:
                raise LinkLost(f"folder {self._settings.folder} is not watched")
            if self._pump.done():
                self._pump.result()
            self._news.clear()
            await self._news.wait()
        items = [item for item, _ in self._ready]
        self._given += [(item, at) for item, at in self._ready if isinstance(item, Frame)]
        self._ready.clear()
        return items

    async def committed(self, upto: Frame) -> None:
        """Take note of how far the reports are durable."""
        count = next((i for i, (frame, _) in enumerate(self._given, 1) if frame is upto), 0)
        for _ in range(count):
            self._durable.apply(self._given.popleft()[0])
        self._room.set()

    async def close(self) -> None:
        """See :class:`~edgeagent.driver.SubscribedDriver`; what is not durable is read again."""
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        for _, place in (*self._given, *self._ready):
            if place is not None:
                self._files.pop(place, None)
        self._given.clear()
        self._ready.clear()
        self._news.set()

    # -- looking -------------------------------------------------------------------------------

    async def _watch(self) -> None:
        try:
            while True:
                for reader, file in self._settled():
                    await self._read(reader, file)
                await asyncio.sleep(self._settings.look_every / 1e9)
                await self._look()
        finally:
            self._news.set()

    async def _look(self) -> None:
        """Note what is in the folder, and what has not changed since."""
        patterns = [reader.pattern for reader in self._readers]
        limits = self._settings.files_max
        assert self._aside is not None
        seen = await self._aside.do(look, self._settings.folder, patterns, limits)
        now_s = asyncio.get_running_loop().time()
        before, self._files = self._files, {}
        for reader in self._readers:
            for each in (s for s in seen if matches(s, reader.pattern)):
                place = reader.instrument.name, each.name
                known = before.get(place) or _File(each, now_s, looks=0)
                if known.seen != each:
                    known.seen, known.since_s, known.looks = each, now_s, 0
                    known.is_read = False
                known.looks += 1
                self._files[place] = known
        self._note_gone(now_s)

    def _note_gone(self, now_s: float) -> None:
        """Note marks of reports that are no more, once everything that is there was read."""
        if not all(file.is_read for file in self._files.values()):
            return
        there = {item for file in self._files.values() for item in file.keys.items()}
        marked = {(group, key) for group, known in self._marks.by_key.items() for key in known}
        gone = marked - there
        self._gone_since = {each: self._gone_since.get(each, now_s) for each in gone}

    def _settled(self) -> list[tuple[Reader, _File]]:
        """Return the files that can be read now, the oldest first."""
        now_s, settle_s = asyncio.get_running_loop().time(), self._settings.settle / 1e9
        readers = {reader.instrument.name: reader for reader in self._readers}
        found = [
            (file.seen, readers[instrument], file)
            for (instrument, _), file in self._files.items()
            if not file.is_read and file.looks > 1 and now_s - file.since_s >= settle_s
        ]
        found.sort(key=lambda each: each[0])
        return [(reader, file) for _, reader, file in found]

    # -- reading -------------------------------------------------------------------------------

    async def _read(self, reader: Reader, file: _File) -> None:
        assert self._aside is not None
        settings, place = self._settings, (reader.instrument.name, file.seen.name)
        limit = settings.file_bytes_max
        try:
            content = await self._aside.do(read, settings.folder, file.seen, limit)
            if content is None:  # it has changed just now: the next look sees how
                file.since_s = asyncio.get_running_loop().time()
                return
            reading = await self._aside.do(
                reader.read, content, self._marks.by_place, partial(self._is_taken, place)
            )
        except Unreadable as error:
            file.is_read = True
            self._lose(reader, file, str(error))
            return
        self._identify(reader.instrument, reading)
        had_rows = any(key in self._marks.by_key[group] for group, key in file.keys.items())
        if had_rows and not reading.resumed:
            self._tell_replaced(reader, file, reading)
        file.digest, file.read_ns = reading.digest, self._clock.utc_ns()
        while items := await self._aside.do(reading.batch, BATCH_ROWS):
            while len(self._given) + len(self._ready) >= WAITING_MAX:
                self._room.clear()
                await self._room.wait()
            for item in items:
                marked = self._forgetting(item) if isinstance(item, Frame) else item
                if isinstance(marked, Frame):
                    self._marks.apply(marked)
                self._offer(marked, place)
        file.is_read, file.keys = True, reading.keys
        self._owners.update(dict.fromkeys(file.keys.items(), place))

    def _is_taken(self, place: Place, group: GroupSchema, key: str) -> bool:
        """Return whether a key belongs to another file that is there."""
        owner = self._owners.get((group, key), place)
        return owner != place and owner in self._files

    def _identify(self, instrument: Instrument, reading: Reading) -> None:
        assert isinstance(instrument.profile, FileDropProfile)
        if not instrument.profile.identity:
            return
        identity = identity_of(instrument, reading.facts)
        if self._identities.get(instrument.name) != identity:
            self._identities[instrument.name] = identity
            self._offer(identity, None)

    def _lose(self, reader: Reader, file: _File, why: str) -> None:
        """Say that a file cannot be used; it is not tried again until it changes."""
        name = file.seen.name if reader.layout.opaque_names else f"report of {file.seen.size} bytes"
        for group in reader.instrument.groups:
            self._offer(
                Loss(group, "bad_reply", None, self._clock.utc_ns(), detail=f"{name} {why}"),
                (reader.instrument.name, file.seen.name),
            )

    def _tell_replaced(self, reader: Reader, file: _File, reading: Reading) -> None:
        assert file.digest is not None
        before, after = file.digest.hex()[:16], reading.digest.hex()[:16]
        now_ns = max(self._clock.utc_ns(), file.read_ns + 1)
        detail = f"report {before} was replaced by {after} under its name; both are kept"
        for group in reader.instrument.groups:
            self._offer(Loss(group, "bad_reply", file.read_ns, now_ns, detail=detail), None)

    def _forgetting(self, frame: Frame) -> Frame:
        """Return the frame with marks that can go: of reports that left the folder long ago."""
        now_s = asyncio.get_running_loop().time()
        gone = [
            key
            for (group, key), since_s in self._gone_since.items()
            if group is frame.group and now_s - since_s >= FORGET_AFTER_S
        ][:FORGET_AT_ONCE]
        if not gone:
            return frame
        for key in gone:
            del self._gone_since[frame.group, key]
        kept = {key for key, _ in frame.marks}
        forgotten = tuple((key, None) for key in gone if key not in kept)
        return replace(frame, marks=(*frame.marks, *forgotten))

    def _offer(self, item: Frame | Loss | Identity, place: Place | None) -> None:
        self._ready.append((item, place))
        self._news.set()

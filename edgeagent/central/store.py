"""The receiver's database: SQLite for one receiver, PostgreSQL for many.

Every call is one transaction and returns when it is durable. Receivers that share a database are
serialised per lane by a row lock; what is decided under it is read under it, so a receiver keeps
nothing in memory that another could have changed.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Executable,
    Select,
    Table,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy import inspect as inspect_database
from sqlalchemy.engine import URL, Row, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from edgeagent.central import schema
from edgeagent.central.bodies import inspect
from edgeagent.central.intake import Branch, Conflict, Histories, Intake
from edgeagent.model.clock import Clock
from edgeagent.model.errors import EdgeAgentError
from edgeagent.model.record import Batch, Lane, decode_batch, encode_json

QUARANTINED_IN_RECEIPT_MAX = 100
SQLITE_BUSY_TIMEOUT_S = 60.0
SQLITE_JOURNAL_BYTES_MAX = 16 << 20
_CREATION_LOCK = 0x656467656167656E  # any number that no one else takes for a lock: "edgeagen"


class DatabaseFailed(EdgeAgentError):
    """The database cannot be used: nothing more is taken, and nothing was lost."""


class LaneKey(NamedTuple):
    """One lane of one epoch of one site."""

    site: str
    epoch: str
    lane: Lane


class Standing(NamedTuple):
    """What is committed of a lane: what a receipt says, and what is wanted next.

    :ivar chain: h(upto) of the history in which the agent lives
    :ivar quarantined: the highest records up to ``upto`` that are kept but cannot be used
    :ivar wanted: the range without which batches that came in have no place
    """

    key: LaneKey
    upto: int
    chain: bytes
    quarantined: tuple[int, ...]
    wanted: tuple[int, int] | None


class OpenConflict(NamedTuple):
    """A conflict that the agent has not answered yet."""

    id: int
    key: LaneKey
    seq: int
    held: str
    offered: str


class Unavailable(NamedTuple):
    """The agent's word that it cannot send a range any more."""

    key: LaneKey
    first: int
    last: int


class Note(NamedTuple):
    """An event for the operator: a row of table ``event``, and a line in the log."""

    key: LaneKey | None
    site: str
    type: str
    severity: str
    text: str
    facts: dict[str, Any]


@dataclass(slots=True)
class Work:
    """What one transaction is to do.

    :ivar batches: each with the payload it came in
    :ivar asked: lanes whose standing is wanted
    :ivar sites: sites whose open conflicts are wanted; ``None`` for those of new conflicts only
    :ivar answered: open conflict by number: the agent's current epoch
    """

    batches: list[tuple[Batch, bytes]] = field(default_factory=list)
    asked: set[LaneKey] = field(default_factory=set)
    sites: set[str] = field(default_factory=set)
    unavailable: list[Unavailable] = field(default_factory=list)
    answered: dict[int, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What one transaction has done, now durable.

    :ivar counts: records, duplicates (batches), waiting, rejected, quarantined, conflicts
    """

    standings: list[Standing] = field(default_factory=list)
    conflicts: list[OpenConflict] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Store:
    """One connection to the database. To be used from one thread at a time.

    :param url: ``sqlite:///path`` or ``postgresql://…``
    :raises DatabaseFailed: if it cannot be opened, or holds something else
    :ivar incarnation: identity of the database; a new one means that it was replaced
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._clock = clock
        self._url = _driver_url(url)
        self._place = self._url.render_as_string(hide_password=True)
        self._errors: tuple[type[Exception], ...] = (SQLAlchemyError,)
        with self._failing():
            self._engine = _engine(self._url)
            self._errors += (self._engine.dialect.loaded_dbapi.Error,)
            self._connection = self._engine.connect()
        self._insert = _insert_of(self._engine)
        self._hot = _Hot(self._engine)
        try:
            with self._failing():
                self.incarnation = self._open()
        except DatabaseFailed:
            self.close()
            raise

    @property
    def _is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise DatabaseFailed(
                f"{self._place}: the database cannot be used ({cause}); "
                "check the address, the rights and the disk, then start the receiver again"
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._failing(), self._connection.begin():
            yield self._connection

    def _open(self) -> str:
        with self._connection.begin():
            connection = self._connection
            if not self._is_sqlite:  # SQLite's BEGIN IMMEDIATE keeps others out already
                connection.execute(select(func.pg_advisory_xact_lock(_CREATION_LOCK)))
            if not inspect_database(connection).has_table(schema.receiver.name):
                self._create()
            row = connection.execute(select(schema.receiver)).one()
        if row.schema_version != schema.SCHEMA_VERSION:
            raise DatabaseFailed(
                f"{self._place}: its tables have version {row.schema_version}, this program knows "
                f"{schema.SCHEMA_VERSION}; use the program that made it, or another database"
            )
        return str(row.incarnation)

    def _create(self) -> None:
        schema.create(self._connection)
        self._connection.execute(
            insert(schema.receiver).values(
                incarnation=str(uuid.uuid4()),
                schema_version=schema.SCHEMA_VERSION,
                created_utc_ns=self._clock.utc_ns(),
            )
        )

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._connection.close()
        self._engine.dispose()

    def newest_lanes(self, site: str | None) -> set[LaneKey]:
        """Return the lanes of each site's newest epoch; of one site, or of all for ``None``."""
        rows = select(schema.epoch).order_by(schema.epoch.c.seen_utc_ns)
        if site is not None:
            rows = rows.where(schema.epoch.c.site == site)
        with self._transaction() as connection:
            newest = {row.site: row.epoch for row in connection.execute(rows)}
        return {LaneKey(site, epoch, lane) for site, epoch in newest.items() for lane in Lane}

    def do(self, work: Work) -> Outcome:
        """Do everything in one transaction; return when it is durable.

        :raises DatabaseFailed: nothing of it is done
        """
        with self._transaction() as connection:
            task = _Task(connection, self._hot, self._insert, self._clock.utc_ns())
            task.do(work)
        return task.outcome


class _Hot:
    """The statements of every transaction, rendered once.

    SQLAlchemy's way from a statement to the driver costs more than SQLite's own work; what runs
    ten times a second at each lane goes to the driver directly.
    """

    def __init__(self, engine: Engine) -> None:
        style = "qmark" if engine.dialect.name == "sqlite" else "format"
        self._dialect: Any = type(engine.dialect)(paramstyle=style)  # type: ignore[call-arg]
        self.lock_lane = self._render(_LOCK_LANE, "at_site", "at_epoch", "at_lane")
        self.read_prefix = self._render(_READ_PREFIX, "at_site", "at_epoch", "at_lane")
        self.add_records = self._render(insert(schema.record), *schema.record.c.keys())
        self.change_prefix = self._render(
            _CHANGE_PREFIX, *_STATE, "at_site", "at_epoch", "at_lane", "of"
        )

    def _render(self, statement: Executable, *names: str) -> str:
        compiled = statement.compile(dialect=self._dialect)  # type: ignore[attr-defined]
        assert tuple(compiled.positiontup) == names, compiled.positiontup
        return str(compiled)


class _Task:
    """One transaction: the batches lane by lane, in one order for all receivers (no deadlock)."""

    def __init__(self, connection: Connection, hot: _Hot, insert_or: Any, utc_ns: int) -> None:
        self.outcome = Outcome()
        self._connection = connection
        self._hot = hot
        self._insert = insert_or
        self._utc_ns = utc_ns

    def do(self, work: Work) -> None:
        for conflict_id, epoch in work.answered.items():
            self._answer(conflict_id, epoch)
        batches: dict[LaneKey, list[tuple[Batch, bytes]]] = {}
        for item in work.batches:
            batch = item[0]
            batches.setdefault(LaneKey(batch.site, batch.epoch, batch.lane), []).append(item)
        stated: dict[LaneKey, list[Unavailable]] = {}
        for each in work.unavailable:
            stated.setdefault(each.key, []).append(each)
        for key in sorted({*batches, *stated}):
            self._take(key, batches.get(key, []), stated.get(key, []))
        for key in sorted(work.asked - {*batches, *stated}):
            self._ask(key)
        if work.sites:
            self._open_conflicts(schema.conflict.c.site.in_(work.sites))
        self.outcome.notes += work.notes
        self._write_notes()

    def _take(
        self, key: LaneKey, batches: list[tuple[Batch, bytes]], stated: list[Unavailable]
    ) -> None:
        lane = _LaneLedger(self._connection, self._hot, key, self._insert, self._utc_ns)
        lane.lock()
        intake = Intake(lane.histories, lane)
        counts = self.outcome.counts
        for each in stated:
            lane.state_unavailable(each.first, each.last)
        if stated:
            intake.state_unavailable()
        for batch, payload in sorted(batches, key=lambda item: item[0].first):
            lane.payload = payload
            counts[intake.take(batch).value] += 1
        lane.write()
        counts["records"] += lane.stored
        counts["quarantined"] += lane.poisoned
        self.outcome.notes += lane.notes
        self.outcome.standings.append(lane.standing(intake.wanted()))
        if lane.new_conflicts:
            counts["conflicts"] += len(lane.new_conflicts)
            self._open_conflicts(schema.conflict.c.id.in_(lane.new_conflicts))

    def _ask(self, key: LaneKey) -> None:
        lane = _LaneLedger(self._connection, self._hot, key, self._insert, self._utc_ns)
        lane.read()
        self.outcome.standings.append(lane.standing(Intake(lane.histories, lane).wanted()))

    def _open_conflicts(self, which: Any) -> None:
        table = schema.conflict
        rows = self._connection.execute(
            select(table).where(which, table.c.answered_utc_ns.is_(None)).order_by(table.c.id)
        )
        known = {each.id for each in self.outcome.conflicts}
        self.outcome.conflicts += [
            OpenConflict(row.id, _key_of(row), row.seq, row.held, row.offered)
            for row in rows
            if row.id not in known
        ]

    def _answer(self, conflict_id: int, epoch: str) -> None:
        table = schema.conflict
        answered = self._connection.execute(
            update(table)
            .where(table.c.id == conflict_id, table.c.answered_utc_ns.is_(None))
            .values(answered_utc_ns=self._utc_ns, new_epoch=epoch)
            .returning(*table.c)
        ).one_or_none()
        if answered is not None:
            key = _key_of(answered)
            text = (
                f"The agent answered the conflict at record {answered.seq}; its epoch is {epoch}."
            )
            facts = {"seq": answered.seq, "new_epoch": epoch}
            self.outcome.notes.append(Note(key, key.site, "conflict.answered", "info", text, facts))

    def _write_notes(self) -> None:
        rows = [
            {
                "utc_ns": self._utc_ns,
                "site": note.site,
                "epoch": note.key.epoch if note.key else "",
                "lane": note.key.lane.value if note.key else "",
                "type": note.type,
                "severity": note.severity,
                "text": note.text.replace("\0", ""),  # PostgreSQL has no such character
                "facts": encode_json(note.facts).decode(),
            }
            for note in self.outcome.notes
        ]
        if rows:
            self._connection.execute(insert(schema.event), rows)


class _LaneLedger:
    """The tables of one lane inside one transaction: what the intake reads and writes."""

    def __init__(
        self, connection: Connection, hot: _Hot, key: LaneKey, insert_or: Any, utc_ns: int
    ) -> None:
        self.histories = Histories.empty(key.epoch, key.lane)
        self.payload = b""
        self.stored = 0
        self.poisoned = 0
        self.notes: list[Note] = []
        self.new_conflicts: list[int] = []
        self._connection = connection
        self._cursor = connection.connection.cursor()
        self._hot = hot
        self._key = key
        self._place = (key.site, key.epoch, key.lane.value)
        self._id = {"site": key.site, "epoch": key.epoch, "lane": key.lane.value}
        self._at = {f"at_{name}": value for name, value in self._id.items()}
        self._insert = insert_or
        self._utc_ns = utc_ns
        self._rows: list[tuple[Any, ...]] = []
        self._poison: list[dict[str, Any]] = []
        self._quarantined: Counter[int] = Counter()
        self._known: dict[int, tuple[Any, ...]] = {}
        self._lane_known = (0, 0)

    def _execute(self, statement: Executable, **values: Any) -> Any:
        return self._connection.execute(statement, self._at | values)

    def _add(self, table: Table, values: dict[str, Any], column: Column[Any]) -> Any:
        """Add a row and return this column of it; ``None`` when a row with its key is there."""
        statement = self._insert(table).values(values).on_conflict_do_nothing().returning(column)
        return self._connection.execute(statement).scalar_one_or_none()

    # Before and after the intake

    def lock(self) -> None:
        """Keep other receivers out of this lane until the end, and read it."""
        if not self._lock():
            self._create()
            self._lock()
        self._read()

    def _lock(self) -> bool:
        self._cursor.execute(self._hot.lock_lane, self._place)
        row = self._cursor.fetchone()
        if row is not None:
            self._lane_known = self.histories.active, self.histories.waiting = tuple(row)
        return row is not None

    def read(self) -> None:
        """Read the lane; others may write it meanwhile. It need not exist."""
        row = self._execute(_READ_LANE).one_or_none()
        if row is not None:
            self._lane_known = self.histories.active, self.histories.waiting = tuple(row)
            self._read()

    def _create(self) -> None:
        site, epoch = self._key.site, self._key.epoch
        values = {"site": site, "epoch": epoch, "seen_utc_ns": self._utc_ns}
        if self._add(schema.epoch, values, schema.epoch.c.epoch) is not None:
            self._note_epoch()
        values = self._id | {"active": 0, "waiting": 0}
        self._add(schema.lane, values, schema.lane.c.active)

    def _note_epoch(self) -> None:
        others = select(func.count()).where(schema.epoch.c.site == self._key.site)
        earlier = self._connection.execute(others).scalar_one() - 1
        text = "The site opened a new epoch: its journal was replaced or was found rolled back."
        if not earlier:
            text = "First records of this site."
        severity = "warning" if earlier else "info"
        self.note("epoch.opened", severity, text, {"earlier_epochs": earlier})

    def _read(self) -> None:
        self._cursor.execute(self._hot.read_prefix, self._place)
        for *of_branch, quarantined in self._cursor.fetchall():
            branch = Branch(*of_branch)
            self.histories.branches[branch.number] = branch
            self._quarantined[branch.number] = quarantined
            self._known[branch.number] = self._state(branch)

    def _state(self, branch: Branch) -> tuple[Any, ...]:
        quarantined = self._quarantined[branch.number]
        return branch.upto, branch.chain, branch.marked, branch.holes, quarantined

    def write(self) -> None:
        """Write what the intake changed and this object still holds."""
        self._flush()
        for branch in self.histories.branches.values():
            state = self._state(branch)
            if self._known.get(branch.number) == state:
                continue
            if branch.number in self._known:
                of_branch = (*state, *self._place, branch.number)
                self._cursor.execute(self._hot.change_prefix, of_branch)
            else:
                values = dict(zip(_STATE, state, strict=True))
                values |= {"parent": branch.parent, "fork_seq": branch.fork_seq}
                values |= {"branch": branch.number}
                self._connection.execute(insert(schema.prefix), self._id | values)
        now = self.histories.active, self.histories.waiting
        if now != self._lane_known:
            self._execute(_CHANGE_LANE, now_active=now[0], now_waiting=now[1])

    def _flush(self) -> None:
        if self._rows:
            self._cursor.executemany(self._hot.add_records, self._rows)
            self._rows = []
        if self._poison:
            self._connection.execute(insert(schema.quarantine), self._poison)
            self._note_poison([row["seq"] for row in self._poison], self._poison[0]["reason"])
            self._poison = []

    def _note_poison(self, seqs: list[int], reason: str) -> None:
        text = f"Record {seqs[0]} is kept but cannot be used: {reason}."
        if len(seqs) > 1:
            text = f"{len(seqs)} records are kept but cannot be used. {text}"
        self.note("record.quarantined", "alarm", text, {"first": seqs[0], "records": len(seqs)})

    def standing(self, wanted: tuple[int, int] | None) -> Standing:
        """Return what the receipt says, of the history in which the agent lives."""
        active = self.histories.branches[self.histories.active]
        return Standing(self._key, active.upto, active.chain, self._poison_upto(active), wanted)

    def _poison_upto(self, active: Branch) -> tuple[int, ...]:
        found: list[int] = []
        branch, last = active, active.upto
        while True:
            if self._quarantined[branch.number]:
                found += self._execute(_POISON, of=branch.number, until=last).scalars()
            if not branch.number:
                return tuple(sorted(found)[-QUARANTINED_IN_RECEIPT_MAX:])
            last = branch.fork_seq - 1
            branch = self.histories.branches[branch.parent]

    def state_unavailable(self, first: int, last: int) -> None:
        """Store the agent's word that a range is gone."""
        values = self._id | {"first_seq": first, "last_seq": last, "utc_ns": self._utc_ns}
        self._add(schema.unavailable, values, schema.unavailable.c.first_seq)

    # What the intake calls; see Ledger

    def append(self, branch: int, first: int, bodies: Sequence[bytes | None]) -> None:
        lane, place, rows = self._key.lane, self._place, self._rows
        for seq, body in enumerate(bodies, first):
            if body is None:
                continue
            kind, utc_ns, number, fault = inspect(body, seq, lane)
            rows.append((*place, seq, branch, kind, utc_ns, number, body))
            self.stored += 1
            if fault is not None:
                self._put_aside(branch, seq, fault)

    def _put_aside(self, branch: int, seq: int, fault: str) -> None:
        self.poisoned += 1
        self._quarantined[branch] += 1
        self._poison.append(
            self._id | {"branch": branch, "seq": seq, "reason": fault, "utc_ns": self._utc_ns}
        )

    def bodies(self, branch: int, first: int, last: int) -> list[bytes | None]:
        self._flush()
        rows = self._execute(_BODIES, of=branch, start=first, until=last)
        held = {row.seq: row.body for row in rows}
        return [held.get(seq) for seq in range(first, last + 1)]

    def mark(self, branch: int, seq: int, chain: bytes) -> None:
        values = self._id | {"branch": branch, "seq": seq, "chain": chain}
        self._add(schema.mark, values, schema.mark.c.seq)

    def mark_before(self, branch: int, seq: int) -> tuple[int, bytes] | None:
        row = self._execute(_MARK_BEFORE, of=branch, until=seq).one_or_none()
        return None if row is None else (row.seq, row.chain)

    def keep(self, batch: Batch) -> bool:
        values: dict[str, Any] = self._id | {"first_seq": batch.first, "last_seq": batch.last}
        values |= {"prev": batch.prev, "chain": batch.chain}
        values |= {"payload": self.payload, "utc_ns": self._utc_ns}
        return self._add(schema.waiting, values, _WAITING.id) is not None

    def release(self, batch: Batch) -> None:
        self._execute(
            _RELEASE,
            start=batch.first,
            until=batch.last,
            from_chain=batch.prev,
            to_chain=batch.chain,
        )

    def kept(self, first: int, last: int) -> list[Batch]:
        rows = self._execute(_KEPT, start=first, until=last)
        return [decode_batch(row.payload) for row in rows]

    def kept_after(self, seq: int) -> Batch | None:
        row = self._execute(_KEPT_AFTER, start=seq).one_or_none()
        return None if row is None else decode_batch(row.payload)

    def kept_span(self) -> tuple[int, int]:
        first, last = self._execute(_KEPT_SPAN).one()
        return first, last

    def unavailable(self) -> list[tuple[int, int]]:
        return [(row.first_seq, row.last_seq) for row in self._execute(_UNAVAILABLE)]

    def hole(self, branch: int, first: int, last: int, cause: str, chain: bytes) -> None:
        values = self._id | {"first_seq": first, "last_seq": last, "cause": cause}
        values |= {"branch": branch, "chain": chain, "utc_ns": self._utc_ns}
        self._connection.execute(insert(schema.hole), values)

    def conflict(self, conflict: Conflict) -> None:
        values = self._id | conflict._asdict() | {"utc_ns": self._utc_ns}
        added = self._add(schema.conflict, values, schema.conflict.c.id)
        if added is None:
            return
        self.new_conflicts.append(added)
        self.note(
            "record.conflict",
            "alarm",
            f"Record {conflict.seq} came with another body than the one that is held: the journal "
            "was rolled back, or two agents use one identity. Both are kept.",
            conflict._asdict(),
        )

    def note(self, event: str, severity: str, text: str, facts: dict[str, Any]) -> None:
        self.notes.append(Note(self._key, self._key.site, event, severity, text, facts))


def _driver_url(url: str) -> URL:
    drivers = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}
    with suppress(ArgumentError, ValueError):
        parsed = make_url(url)
        if parsed.drivername in drivers:
            return parsed.set(drivername=drivers[parsed.drivername])
    raise DatabaseFailed(
        "the database address is none; write sqlite:///path or postgresql://user@host/name"
    )


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        engine = create_engine(url, poolclass=StaticPool, isolation_level="READ COMMITTED")
        event.listen(engine, "connect", _closing_if_it_fails(_make_commits_durable))
        return engine
    # The driver's own transactions begin too late: see SQLAlchemy on the pysqlite driver.
    access = {"isolation_level": None, "timeout": SQLITE_BUSY_TIMEOUT_S, "check_same_thread": False}
    engine = create_engine(url, connect_args=access, poolclass=StaticPool)
    event.listen(engine, "connect", _closing_if_it_fails(_set_up_sqlite))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _insert_of(engine: Engine) -> Any:
    """Return the dialect's INSERT, which knows ON CONFLICT; importing the other one costs time."""
    if engine.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as insert_or
    else:
        from sqlalchemy.dialects.postgresql import insert as insert_or  # type: ignore[assignment]
    return insert_or


def _closing_if_it_fails(set_up: Callable[[Any], None]) -> Callable[[Any, object], None]:
    """Return a listener for new connections; SQLAlchemy would leave one open that fails there."""

    def listener(connection: Any, _record: object) -> None:
        try:
            set_up(connection)
        except BaseException:
            connection.close()
            raise

    return listener


def _set_up_sqlite(connection: Any) -> None:
    # A deleted rollback journal can come back after a power cut and undo a commit for which a
    # receipt went out: its deletion is not synced. A persistent one is voided by a synced write.
    connection.execute("PRAGMA journal_mode = PERSIST")
    connection.execute(f"PRAGMA journal_size_limit = {SQLITE_JOURNAL_BYTES_MAX}")
    connection.execute("PRAGMA synchronous = FULL")


def _make_commits_durable(connection: Any) -> None:
    """Undo a server's or user's ``synchronous_commit = off``: a receipt needs a durable commit."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()


def _key_of(row: Row[Any]) -> LaneKey:
    return LaneKey(row.site, row.epoch, Lane(row.lane))


_STATE = ("upto", "chain", "marked", "holes", "quarantined")


def _of_lane(table: Any) -> list[Any]:
    return [table.c[name] == bindparam(f"at_{name}") for name in ("site", "epoch", "lane")]


def _of_branch(table: Any) -> list[Any]:
    return [*_of_lane(table), table.c.branch == bindparam("of")]


def _until(table: Any) -> list[Any]:
    return [*_of_branch(table), table.c.seq <= bindparam("until")]


# Made once: SQLAlchemy then finds their SQL in its cache.
_READ_LANE = select(schema.lane.c.active, schema.lane.c.waiting).where(*_of_lane(schema.lane))
_LOCK_LANE = _READ_LANE.with_for_update()
_CHANGE_LANE = (
    update(schema.lane)
    .where(*_of_lane(schema.lane))
    .values(active=bindparam("now_active"), waiting=bindparam("now_waiting"))
)
# The columns of Branch in its order, then how many records cannot be used.
_READ_PREFIX = (
    select(*(schema.prefix.c[name] for name in ("branch", "parent", "fork_seq", *_STATE)))
    .where(*_of_lane(schema.prefix))
    .order_by(schema.prefix.c.branch)
)
_CHANGE_PREFIX = (
    update(schema.prefix)
    .where(*_of_branch(schema.prefix))
    .values({name: bindparam(name) for name in _STATE})
)
_BODIES = select(schema.record.c.seq, schema.record.c.body).where(
    *_until(schema.record), schema.record.c.seq >= bindparam("start")
)
_MARK_BEFORE = (
    select(schema.mark.c.seq, schema.mark.c.chain)
    .where(*_until(schema.mark))
    .order_by(schema.mark.c.seq.desc())
    .limit(1)
)
_POISON = (
    select(schema.quarantine.c.seq)
    .where(*_until(schema.quarantine))
    .order_by(schema.quarantine.c.seq.desc())
    .limit(QUARANTINED_IN_RECEIPT_MAX)
)
_WAITING = schema.waiting.c
_KEPT: Select[Any] = (
    select(_WAITING.payload)
    .where(
        *_of_lane(schema.waiting),
        _WAITING.first_seq >= bindparam("start"),
        _WAITING.first_seq <= bindparam("until"),
    )
    .order_by(_WAITING.first_seq, _WAITING.id)
)
_KEPT_AFTER = (
    select(_WAITING.payload)
    .where(*_of_lane(schema.waiting), _WAITING.first_seq > bindparam("start"))
    .order_by(_WAITING.first_seq, _WAITING.id.desc())
    .limit(1)
)
_KEPT_SPAN = select(func.min(_WAITING.first_seq), func.max(_WAITING.last_seq)).where(
    *_of_lane(schema.waiting)
)
_RELEASE = delete(schema.waiting).where(
    *_of_lane(schema.waiting),
    _WAITING.first_seq == bindparam("start"),
    _WAITING.last_seq == bindparam("until"),
    _WAITING.prev == bindparam("from_chain"),
    _WAITING.chain == bindparam("to_chain"),
)
_UNAVAILABLE = select(schema.unavailable.c.first_seq, schema.unavailable.c.last_seq).where(
    *_of_lane(schema.unavailable)
)

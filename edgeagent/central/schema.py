"""The receiver's tables and its view of values; ``docs/receiver.md`` explains them."""

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

SCHEMA_VERSION = 1

metadata = MetaData()

# SQLite numbers rows by itself only in a column of type INTEGER.
_ROW_NUMBER = BigInteger().with_variant(Integer(), "sqlite")


def _lane_key(*more: tuple[str, TypeEngine[int]]) -> list[Column[int] | Column[str]]:
    """Columns of a primary key that begins with site, epoch and lane."""
    names = [Column(name, String(64), primary_key=True) for name in ("site", "epoch")]
    lane = Column("lane", String(8), primary_key=True)
    numbers = [Column(name, kind, primary_key=True, autoincrement=False) for name, kind in more]
    return [*names, lane, *numbers]


_BRANCH = ("branch", Integer())
_SEQ = ("seq", BigInteger())
_FIRST, _LAST = ("first_seq", BigInteger()), ("last_seq", BigInteger())

receiver = Table(
    "receiver",
    metadata,
    Column("incarnation", String(36), primary_key=True),
    Column("schema_version", Integer, nullable=False),
    Column("created_utc_ns", BigInteger, nullable=False),
)

epoch = Table(
    "epoch",
    metadata,
    Column("site", String(64), primary_key=True),
    Column("epoch", String(64), primary_key=True),
    Column("seen_utc_ns", BigInteger, nullable=False),
)

lane = Table(
    "lane",
    metadata,
    *_lane_key(),
    Column("active", Integer, nullable=False),
    Column("waiting", Integer, nullable=False),
)

prefix = Table(
    "prefix",
    metadata,
    *_lane_key(_BRANCH),
    Column("parent", Integer, nullable=False),
    Column("fork_seq", BigInteger, nullable=False),
    Column("upto", BigInteger, nullable=False),
    Column("chain", LargeBinary(32), nullable=False),
    Column("marked", BigInteger, nullable=False),
    Column("holes", Integer, nullable=False),
    Column("quarantined", Integer, nullable=False),
)

record = Table(
    "record",
    metadata,
    *_lane_key(_SEQ, _BRANCH),
    Column("kind", String(1), nullable=False),
    Column("utc_ns", BigInteger),
    Column("schema", Integer),
    Column("body", LargeBinary, nullable=False),
)
Index(
    "record_schema",
    record.c.site,
    record.c.epoch,
    record.c.schema,
    sqlite_where=record.c.kind == "S",
    postgresql_where=record.c.kind == "S",
)

quarantine = Table(
    "quarantine",
    metadata,
    *_lane_key(_BRANCH, _SEQ),
    Column("reason", Text, nullable=False),
    Column("utc_ns", BigInteger, nullable=False),
)

waiting = Table(
    "waiting",
    metadata,
    Column("id", _ROW_NUMBER, primary_key=True),
    *(Column(name, String(64), nullable=False) for name in ("site", "epoch")),
    Column("lane", String(8), nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("prev", LargeBinary(32), nullable=False),
    Column("chain", LargeBinary(32), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("utc_ns", BigInteger, nullable=False),
    UniqueConstraint("site", "epoch", "lane", "first_seq", "last_seq", "prev", "chain"),
)

mark = Table(
    "mark",
    metadata,
    *_lane_key(_BRANCH, _SEQ),
    Column("chain", LargeBinary(32), nullable=False),
)

unavailable = Table(
    "unavailable",
    metadata,
    *_lane_key(_FIRST, _LAST),
    Column("utc_ns", BigInteger, nullable=False),
)

hole = Table(
    "hole",
    metadata,
    *_lane_key(_BRANCH, _FIRST, _LAST),
    Column("cause", String(16), nullable=False),
    Column("chain", LargeBinary(32), nullable=False),
    Column("utc_ns", BigInteger, nullable=False),
)

conflict = Table(
    "conflict",
    metadata,
    Column("id", _ROW_NUMBER, primary_key=True),
    *(Column(name, String(64), nullable=False) for name in ("site", "epoch")),
    Column("lane", String(8), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("branch", Integer),
    Column("held", String(64), nullable=False),
    Column("offered", String(64), nullable=False),
    Column("utc_ns", BigInteger, nullable=False),
    Column("answered_utc_ns", BigInteger),
    Column("new_epoch", String(64)),
    UniqueConstraint("site", "epoch", "lane", "seq", "offered"),
)

event = Table(
    "event",
    metadata,
    Column("id", _ROW_NUMBER, primary_key=True),
    Column("utc_ns", BigInteger, nullable=False),
    Column("site", String(64), nullable=False),
    Column("epoch", String(64), nullable=False),
    Column("lane", String(8), nullable=False),
    Column("type", String(64), nullable=False),
    Column("severity", String(8), nullable=False),
    Column("text", Text, nullable=False),
    Column("facts", Text, nullable=False),
)

# Which branch keeps which part of a history: a branch has its parent's records up to its fork.
_HISTORY = """
CREATE VIEW history AS
WITH RECURSIVE way (site, epoch, lane, branch, kept_in, last_seq) AS (
    SELECT site, epoch, lane, branch, branch, upto FROM prefix
    UNION ALL
    SELECT way.site, way.epoch, way.lane, way.branch, p.parent, p.fork_seq - 1
    FROM way
    JOIN prefix p ON p.site = way.site AND p.epoch = way.epoch AND p.lane = way.lane
        AND p.branch = way.kept_in
    WHERE p.branch > 0
)
SELECT site, epoch, lane, branch, kept_in, last_seq FROM way
"""

_SCHEMA_OF_FRAME = """
    SELECT s.body FROM history h JOIN record s ON s.site = h.site AND s.epoch = h.epoch
        AND s.lane = h.lane AND s.branch = h.kept_in AND s.seq <= h.last_seq
    WHERE h.site = f.site AND h.epoch = f.epoch AND h.lane = f.lane AND h.branch = f.branch
        AND s.kind = 'S' AND s.schema = f.schema
    LIMIT 1
"""

# One row per value. Kind F says that the body was found to be a frame, so it can be looked into.
_VALUE_SQLITE = """
CREATE VIEW value AS
SELECT site, epoch, branch, seq, utc_ns,
    about ->> 'instrument' AS instrument,
    about ->> 'group' AS group_name,
    about ->> ('$.tags[' || tag || '].name') AS tag,
    about ->> ('$.tags[' || tag || '].unit') AS unit,
    text AS value,
    CASE WHEN type IN ('integer', 'real') THEN CAST(text AS REAL) END AS number,
    CASE WHEN json_type(body, '$[7]') = 'integer' THEN body ->> 7 ELSE coalesce((
        SELECT p.value ->> 1 FROM json_each(body, '$[7]') p WHERE p.value ->> 0 = tag
    ), 0) END AS status
FROM (
    SELECT f.*, v.type, f.body -> ('$[11][' || v.key || ']') AS text,
        CASE WHEN json_type(f.body, '$[8]') = 'null' THEN v.key
            ELSE f.body ->> ('$[8][' || v.key || ']') END AS tag
    FROM (
        SELECT f.site, f.epoch, f.branch, f.seq, f.utc_ns, CAST(f.body AS TEXT) AS body,
            CAST((SCHEMA_OF_FRAME) AS TEXT) -> 5 AS about
        FROM record f WHERE f.kind = 'F'
    ) f, json_each(f.body, '$[11]') v
)
"""

_VALUE_POSTGRESQL = """
CREATE VIEW value AS
SELECT f.site, f.epoch, f.branch, f.seq, f.utc_ns,
    s.about ->> 'instrument' AS instrument,
    s.about ->> 'group' AS group_name,
    s.about -> 'tags' -> i.tag ->> 'name' AS tag,
    s.about -> 'tags' -> i.tag ->> 'unit' AS unit,
    v.value::text AS value,
    CASE WHEN json_typeof(v.value) = 'number'
        THEN (v.value #>> '{}')::double precision END AS number,
    CASE WHEN json_typeof(b.body -> 7) = 'number' THEN (b.body ->> 7)::bigint ELSE coalesce((
        SELECT (p ->> 1)::bigint FROM json_array_elements(b.body -> 7) p
        WHERE (p ->> 0)::integer = i.tag
    ), 0) END AS status
FROM record f
CROSS JOIN LATERAL (SELECT convert_from(f.body, 'UTF8')::json AS body) b
LEFT JOIN LATERAL (
    SELECT convert_from(q.body, 'UTF8')::json -> 5 AS about FROM (SCHEMA_OF_FRAME) q
) s ON true
CROSS JOIN LATERAL json_array_elements(b.body -> 11) WITH ORDINALITY v (value, position)
CROSS JOIN LATERAL (
    SELECT CASE WHEN json_typeof(b.body -> 8) = 'null' THEN v.position::integer - 1
        ELSE (b.body -> 8 ->> (v.position::integer - 1))::integer END AS tag
) i
WHERE f.kind = 'F'
"""


def create(connection: Connection) -> None:
    """Create tables and views in an empty database."""
    metadata.create_all(connection)
    connection.exec_driver_sql(_HISTORY)
    sqlite = connection.dialect.name == "sqlite"
    value = _VALUE_SQLITE if sqlite else _VALUE_POSTGRESQL
    connection.exec_driver_sql(value.replace("SCHEMA_OF_FRAME", _SCHEMA_OF_FRAME))

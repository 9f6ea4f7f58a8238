"""Goal: a record with n values takes at most 150 + 13 n bytes in the journal's file.

Method: 20,000 frames as acquisition makes them of FLOAT32 values and Modbus TCP replies, in commits
of one, two or ten; the database is measured when the log has been moved into it, raw evidence
apart, which has its own retention.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from edgeagent.acquire.condition import compile_conditioner
from edgeagent.acquire.encode import compile_encoder
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import Store
from edgeagent.model.frame import DataType, Frame, GroupSchema, TagSchema
from edgeagent.model.record import Record
from tests.clocks import SECOND_NS, START_UTC_NS

RECORDS = 20_000


def records(values: int) -> Iterator[Record]:
    random = Random(4711)
    single = struct.Struct(f"<{values}f")
    tags = tuple(TagSchema(f"t{i}", DataType.FLOAT32, low=0.0, high=100.0) for i in range(values))
    group = GroupSchema("incubator-1", "fast", tags, SECOND_NS, "make-model", "1.0")
    condition, encode = compile_conditioner(tags), compile_encoder(group, 12)
    for number in range(RECORDS):
        passed_ns = number * SECOND_NS // 10 + random.randrange(SECOND_NS // 10)
        read = single.unpack(single.pack(*(random.uniform(0, 100) for _ in tags)))
        reply = random.randbytes(9 + 4 * values)
        utc_ns, boot_ns = START_UTC_NS + passed_ns, 86_400 * SECOND_NS + passed_ns
        frame = Frame(group, read, utc_ns, boot_ns, raw=reply)
        yield encode(frame, condition(frame), 3, True)


def bytes_per_record(directory: Path, values: int, commit: int) -> float:
    store = Store(directory / FILE_NAME, START_UTC_NS)
    store._db.execute("PRAGMA synchronous = OFF")  # its size is measured, not its patience
    made = list(records(values))
    for at in range(0, RECORDS, commit):
        store.commit(made[at : at + commit])
    store.move_log()
    assert store.head(made[0].lane)[0] == RECORDS
    evidence = store._db.execute("SELECT sum(pgsize) FROM dbstat WHERE name = 'evidence'").get
    size = store.file_bytes() - evidence
    assert store.file_bytes() == (directory / FILE_NAME).stat().st_size
    store.close()
    return size / RECORDS


@pytest.mark.parametrize("commit", [1, 2, 10])
@pytest.mark.parametrize("values", [1, 6, 20, 75])
def test_a_record_is_small(tmp_path, record_property, values, commit):
    size = bytes_per_record(tmp_path, values, commit)
    record_property("bytes_per_record", round(size, 1))
    assert size <= 150 + 13 * values

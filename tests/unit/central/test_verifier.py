"""The verifier: a sound recording passes, every way to spoil it is found.

Nothing of edgeagent is used to check; it is used here to write the recording.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.model.record import (
    Batch,
    Instant,
    Lane,
    Record,
    context_record,
    event_record,
    extend_chain,
    genesis,
    schema_record,
)
from tests.system import verifier
from tests.system.verifier import verify

AT = Instant(1_795_403_350_123_456_789, 86_400_123_456_789)
EPOCHS = ("0192a7c4-0000-7000-8000-000000000001", "0192a7c4-0000-7000-8000-000000000002")
NAN_STATUS = 0x803C_0400


def frame(values: bytes, status: bytes = b"0") -> Record:
    tail = b'1,1,%d,%d,0,%b,null,null,null,%b,null,"x:00ff"]' % (*AT, status, values)
    return Record(Lane.DATA, "F", tail)


def data_records() -> list[Record]:
    tags = [{"name": name, "type": "FLOAT64", "unit": "1"} for name in ("a", "b", "c")]
    description = {"instrument": "i", "group": "g", "period_ns": 1, "tags": tags}
    return [
        schema_record(1, AT, description),
        context_record(Lane.DATA, 1, AT, {"boot_id": "b", "text": "µ\u2028 and \\n"}),
        frame(b"[1,null,3]", b"[[1,%d]]" % NAN_STATUS),
        frame(b"[-0.0,0.1,5e-324]"),
        frame(b"[18446744073709551615,-9223372036854775808,9007199254740993]"),
        *(frame(b"[%d,0,0]" % n) for n in range(7)),
    ]


def event_records() -> list[Record]:
    return [event_record(1, AT, "agent.started", "info", "started ✓", {}) for _ in range(4)]


def batches(epoch: str, lane: Lane, records: list[Record], size: int) -> list[Batch]:
    found, chain = [], genesis(epoch, lane)
    for start in range(0, len(records), size):
        bodies = [record.body(start + 1 + i) for i, record in enumerate(records[start:][:size])]
        after = extend_chain(chain, bodies)
        found.append(Batch("berlin-1", epoch, lane, start + 1, bodies, chain, after))
        chain = after
    return found


def message(batch: Batch, aside: str = "") -> tuple[str, bytes]:
    return f"edge/v1/berlin-1/{aside}{batch.lane}", batch.encode()


def recording() -> list[tuple[str, bytes]]:
    found = [message(batch) for batch in batches(EPOCHS[0], Lane.DATA, data_records(), 3)]
    found += [message(batch) for batch in batches(EPOCHS[1], Lane.DATA, data_records()[:5], 2)]
    found += [message(batch) for batch in batches(EPOCHS[0], Lane.EVENT, event_records(), 2)]
    return found


def test_a_sound_recording_passes_with_all_that_stands_around_it():
    others = [
        ("edge/v1/berlin-1/head", b'{"v":1}'),
        ("edge/v1/berlin-1/context/data", b'{"v":1}'),
        ("edge/v1/berlin-1/receipt/central", b"{}"),
        ("edge/v1/berlin-1/state/x", b"\xff"),
    ]
    assert verify([*others, *recording()]) == []


def test_repetitions_other_cuts_and_any_order_pass():
    again = [message(b, "to/central/") for b in batches(EPOCHS[0], Lane.DATA, data_records(), 5)]
    assert verify([*recording(), *again, *reversed(recording())]) == []


@given(st.data())
def test_any_flipped_bit_is_found(data):
    found = recording()
    index = data.draw(st.integers(0, len(found) - 1))
    topic, payload = found[index]
    bit = data.draw(st.integers(0, len(payload) * 8 - 1))
    spoilt = bytearray(payload)
    spoilt[bit // 8] ^= 1 << bit % 8
    found[index] = topic, bytes(spoilt)
    assert verify(found)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_batch_that_is_left_out_is_found(index):
    found = recording()
    del found[index]
    assert verify(found)


def spoil(change) -> list[tuple[str, bytes]]:
    """The recording with its second batch changed."""
    whole = batches(EPOCHS[0], Lane.DATA, data_records(), 3)
    return [message(batch) for batch in [whole[0], change(whole[1]), *whole[2:]]]


def rechained(batch: Batch, bodies: list[bytes]) -> Batch:
    return batch._replace(bodies=bodies, chain=extend_chain(batch.prev, bodies))


@pytest.mark.parametrize("settle", [Batch._replace, rechained])
def test_swapped_bodies_are_found(settle):
    assert verify(spoil(lambda b: settle(b, bodies=[b.bodies[1], b.bodies[0], b.bodies[2]])))


@pytest.mark.parametrize("settle", [Batch._replace, rechained])
def test_a_changed_number_is_found(settle):
    def change(batch: Batch) -> Batch:
        bodies = [body.replace(b'["F",5,', b'["F",6,') for body in batch.bodies]
        assert bodies != batch.bodies
        return settle(batch, bodies=bodies)

    assert verify(spoil(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b._replace(epoch=EPOCHS[1]),
        lambda b: b._replace(site="berlin-2"),
        lambda b: b._replace(lane=Lane.EVENT),
        lambda b: b._replace(first=b.first + 1),
        lambda b: b._replace(prev=bytes(32)),
        lambda b: b._replace(bodies=b.bodies[:-1]),
        lambda b: b._replace(bodies=[*b.bodies, b.bodies[-1]]),
        lambda b: rechained(b, [body.replace(b"-0.0", b"0.0") for body in b.bodies]),
        lambda b: rechained(b, [body.replace(b"993]", b"992]") for body in b.bodies]),
        lambda b: rechained(b, [body.replace(b"-0.0", b"NaN") for body in b.bodies]),
        lambda b: rechained(b, [body.replace(b"]", b"") for body in b.bodies]),
        lambda b: b._replace(bodies=b.bodies[1:], missing=(b.first,)),
    ],
)
def test_a_changed_batch_is_found(change):
    assert verify(spoil(change))


def test_two_records_under_one_number_are_found():
    whole = batches(EPOCHS[0], Lane.DATA, data_records(), 3)
    other = rechained(whole[-1], [b.replace(b"[6,0", b"[7,0") for b in whole[-1].bodies])
    assert other != whole[-1]
    assert verify([message(batch) for batch in [*whole, other]])


def test_an_empty_recording_proves_nothing():
    assert verify([])


def test_it_runs_alone(tmp_path):
    """As the documents say: a file in, a verdict and an exit code out, and no code of ours."""
    path = tmp_path / "recorded.jsonl"
    program = Path(verifier.__file__)
    for messages, code in ((recording(), 0), (recording()[1:], 1)):
        lines = [json.dumps({"topic": t, "payload_hex": p.hex()}) for t, p in messages]
        path.write_text("\n".join(lines) + "\n")
        done = subprocess.run(
            [sys.executable, "-I", program, path], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert done.stdout
    assert len(program.read_text().splitlines()) <= 60
    assert "edgeagent" not in program.read_text().replace('f"edgeagent/1|', "")

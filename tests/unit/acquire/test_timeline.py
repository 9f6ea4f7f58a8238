"""The judge of time lines sees every kind of hole and overlap.

Method: small lanes with one flaw each.
"""

import json

import pytest

from tests.unit.acquire.timeline import Timeline

S = 10**9
SCHEMA = {"instrument": "i", "group": "g", "period_ns": S, "tags": [{"name": "a"}, {"name": "b"}]}


def lane(*records) -> list[bytes]:
    head = [["C", 1, 0, 0, {"boot_id": "x"}], ["S", 1, 0, 0, SCHEMA]]
    everything = [*head, *records]
    return [
        json.dumps([kind, seq, *rest]).encode() for seq, (kind, *rest) in enumerate(everything, 1)
    ]


def frame(at, present=None, origin=0, context=1):
    return ["F", 1, context, at, at, origin, 0, present, None, None, [0, 0], None, None]


def gap(number, since, until, tags=None, cause="timeout", context=1):
    bounds = [None if at is None else [at, at] for at in (since, until)]
    return ["G", 1, context, 0, 0, number, cause, *bounds, tags, None]


REBOOT = ["C", 2, 0, 0, {"boot_id": "y"}]
BEGUN = [gap(1, None, None, cause="first_value"), gap(1, None, S, cause="first_value"), frame(S)]


def test_a_sound_lane():
    judge = Timeline()
    judge.feed(
        lane(
            *BEGUN,
            frame(2 * S),
            gap(2, 2 * S, None),
            frame(3 * S, origin=1),
            gap(2, 2 * S, 9 * S, [0]),
            gap(3, 2 * S, None, [1], "refused"),
            frame(9 * S, [0]),
            gap(3, 2 * S, 10 * S, [1], "refused"),
            frame(10 * S),
            gap(4, 10 * S, 14 * S),
            frame(14 * S),
            gap(5, 14 * S, None, [1]),
        )
    )
    assert [(g.cause, g.tags) for g in judge.finish().values()] == [("timeout", [1])]
    assert judge.values == 9


@pytest.mark.parametrize(
    ("flaw", "records"),
    [
        ("no first_value gap", [frame(S)]),
        ("begins with timeout", [gap(1, None, None)]),
        ("a hole", [*BEGUN, frame(3 * S)]),
        ("value inside gap 2", [*BEGUN, gap(2, S, None), frame(2 * S)]),
        ("already", [*BEGUN, gap(2, S, None, [1]), gap(3, S, None)]),
        ("from is not its last value", [*BEGUN, frame(2 * S), gap(2, S, None)]),
        ("a value before, and there was none", [gap(1, S, None, cause="first_value")]),
        ("opens twice", [*BEGUN, gap(2, S, None), gap(2, S, None)]),
        (
            "closes twice",
            [*BEGUN, gap(2, S, None), gap(2, S, 2 * S), frame(2 * S), gap(2, S, 2 * S)],
        ),
        ("changes its cause", [*BEGUN, gap(2, S, None), gap(2, S, 2 * S, cause="refused")]),
        ("begins anew", [*BEGUN, gap(2, S, None), gap(2, 0, 2 * S)]),
        ("ended elsewhere", [*BEGUN, gap(2, S, None), gap(2, S, 2 * S), frame(3 * S)]),
        ("not there", [*BEGUN, gap(2, S, None), gap(2, S, 2 * S), frame(2 * S, [0])]),
        ("is missing", [*BEGUN, gap(2, S, None), gap(2, S, 2 * S), gap(3, S, None)]),
        ("in no gap", [*BEGUN, gap(2, S, None), gap(2, S, 2 * S, [0]), frame(2 * S)]),
        ("not in it", [*BEGUN, gap(2, S, None, [0]), gap(2, S, 2 * S)]),
        ("of no tag", [*BEGUN, gap(2, S, None, [])]),
        ("a reboot and no gap", [*BEGUN, REBOOT, frame(2 * S, context=2)]),
        ("time went back", [*BEGUN, frame(S)]),
    ],
)
def test_a_flaw_is_named(flaw, records):
    with pytest.raises(AssertionError, match=flaw):
        Timeline().feed(lane(*records))

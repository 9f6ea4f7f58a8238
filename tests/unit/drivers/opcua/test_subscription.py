"""What is acknowledged is durable, and a sequence number that is missing is seen."""

import asyncio

import pytest

from drivers.opcua.notification import Notification
from drivers.opcua.subscription import SEQUENCE_MAX, Ledger, Subscription
from edgeagent.driver import Frame, Loss
from tests.fakes import group_of

GROUP = group_of("a")


def frame(number: int) -> Frame:
    return Frame(GROUP, (float(number), 0.0), number, number)


def loss() -> Loss:
    return Loss(GROUP, "overrun", 1, 2, (0,))


def test_a_message_is_acknowledged_when_all_its_frames_are_durable():
    ledger = Ledger()
    frames = [frame(number) for number in range(4)]
    assert ledger.enter(frames[:3], (7, 1)) == []
    assert ledger.enter(frames[3:], (7, 2)) == []
    assert ledger.committed(frames[1]) == []
    assert ledger.frames() == frames[2:]
    assert ledger.committed(frames[3]) == [(7, 1), (7, 2)]
    assert ledger.committed(frames[3]) == []
    assert ledger.frames() == []


def test_equal_frames_are_not_taken_for_each_other():
    ledger = Ledger()
    one, other = frame(1), frame(1)
    ledger.enter([one], (7, 1))
    ledger.enter([other], (7, 2))
    assert ledger.committed(one) == [(7, 1)]


def test_a_message_without_a_frame_waits_for_those_before_it():
    ledger = Ledger()
    assert ledger.enter([loss()], (7, 1)) == [(7, 1)]
    first = frame(1)
    ledger.enter([first, loss()], (7, 2))
    assert ledger.enter([], (7, 3)) == []
    assert ledger.committed(first) == [(7, 2), (7, 3)]


@pytest.mark.parametrize(
    ("expected", "sequence", "missing"),
    [(5, 5, 0), (5, 8, 3), (5, 4, -1), (SEQUENCE_MAX, 1, 1), (1, SEQUENCE_MAX, -1), (1, 1, 0)],
)
async def test_what_is_missing_before_a_message(expected, sequence, missing):
    subscription = Subscription(1, [], 1.0, asyncio.get_running_loop().time(), expected)
    assert subscription.missing(Notification(sequence=sequence)) == missing


def test_sequence_numbers_begin_again_at_one():
    subscription = Subscription(1, [], 1.0, 0.0, SEQUENCE_MAX)
    subscription.advance()
    assert subscription.expected == 1

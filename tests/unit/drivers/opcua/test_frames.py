"""Samples become frames that keep every time, every status and each tag's order."""

from types import SimpleNamespace

import pytest

from drivers.opcua.frames import BAD_NO_VALUE, BAD_TYPE_MISMATCH, Assembler, Point
from drivers.opcua.notification import NO_VALUE, Samples
from drivers.opcua.values import KIND_OF, converter
from edgeagent.driver import Frame, Loss
from edgeagent.model.frame import DataType
from tests.conformance.opcua.server import profile
from tests.fakes import group_of

MS = 10**6
T0 = 1_795_403_350_000 * MS
TICKS_1970 = 116_444_736_000_000_000
DOUBLE, FLOAT = 11, 10


def ticks(at_ns: int | None) -> int | None:
    return None if at_ns is None else at_ns // 100 + TICKS_1970


@pytest.fixture
def world():
    """Two instruments, with three tags and one, sampled every 100 ms."""
    groups = [group_of("a", tags=3, period_ns=100 * MS), group_of("b", tags=1, period_ns=100 * MS)]
    tag = profile({"x": {"type": "FLOAT64", "s": "x"}}).groups["all"].tags["x"]
    points = [
        Point(handle, f"{group}/t{index}", group, index, KIND_OF[tag.type], converter(tag))
        for handle, (group, index) in enumerate(
            [(groups[0], 0), (groups[0], 1), (groups[0], 2), (groups[1], 0)]
        )
    ]
    return SimpleNamespace(points=points, assembler=Assembler(points))


def brought(world, *rows) -> list[Frame | Loss]:
    """Assemble rows of (handle, value, source time, status=0, server time, type)."""
    samples = Samples()
    for handle, value, source_ns, *more in rows:
        status, server_ns, kind = [*more, *(0, None, DOUBLE)[len(more) :]]
        samples.handles.append(handle)
        samples.values.append(value)
        samples.types.append(kind)
        samples.statuses.append(status)
        samples.sources.append(ticks(source_ns))
        samples.servers.append(ticks(server_ns))
    return world.assembler.assemble(samples, 1, 2)


def shapes(items):
    return [
        (str(item.group), item.values, item.present, item.source_utc_ns)
        if isinstance(item, Frame)
        else (item.cause, item.from_utc_ns, item.to_utc_ns, item.tags)
        for item in items
    ]


def test_one_instant_of_a_group_is_one_frame(world):
    items = brought(world, (0, 1.0, T0), (1, 2.0, T0), (3, 9.0, T0), (2, 3.0, T0))
    assert shapes(items) == [
        ("a/all", (1.0, 2.0, 3.0), None, T0),
        ("b/all", (9.0,), None, T0),
    ]
    assert (items[0].status, items[0].received_utc_ns, items[0].received_boot_ns) == (0, 1, 2)


def test_items_reported_one_after_the_other_still_meet_at_their_instants(world):
    rows = [(h, h + k / 10, T0 + k * 100 * MS) for h in (0, 1, 2) for k in (0, 1, 2)]
    assert shapes(brought(world, *rows)) == [
        ("a/all", (k / 10, 1 + k / 10, 2 + k / 10), None, T0 + k * 100 * MS) for k in (0, 1, 2)
    ]


def test_tags_stamped_a_little_apart_share_a_frame_with_their_own_times(world):
    items = brought(world, (0, 1.0, T0, 0, T0 + 1), (1, 2.0, T0 + 49 * MS, 0, T0 + 100))
    assert shapes(items) == [("a/all", (1.0, 2.0, None), (0, 1), (T0, T0 + 49 * MS, None))]
    assert items[0].server_utc_ns == (T0, T0 + 100, None)


def test_tags_half_a_period_apart_do_not(world):
    items = brought(world, (0, 1.0, T0), (1, 2.0, T0 + 50 * MS))
    assert [shape[2] for shape in shapes(items)] == [(0,), (1,)]


def test_two_samples_of_a_tag_at_one_time_stay_two_in_order(world):
    items = brought(world, (0, 1.0, T0), (0, 2.0, T0), (1, 5.0, T0))
    assert [item.values for item in items] == [(1.0, 5.0, None), (2.0, None, None)]


def test_a_clock_that_is_set_back_does_not_turn_the_order_round(world):
    items = brought(world, (0, 1.0, T0), (0, 2.0, T0 - 10**12), (0, 3.0, T0 + MS))
    assert [item.values[0] for item in items] == [1.0, 2.0, 3.0]


def test_uncertain_keeps_its_value_and_bad_keeps_its_status(world):
    uncertain, bad = 0x4090_0000, 0x808C_0300
    (frame,) = brought(world, (0, 1.0, T0, uncertain), (1, 2.0, T0, bad), (2, 3.0, T0))
    assert (frame.values, frame.present) == ((1.0, None, 3.0), None)
    assert frame.status == (uncertain, bad, 0)


def test_good_without_a_value_is_said_to_be_bad(world):
    (frame,) = brought(world, (0, None, T0, 0, None, NO_VALUE), (1, None, T0, 0, None, 0))
    assert (frame.values, frame.present) == ((None, None, None), (0, 1))
    assert frame.status == (BAD_NO_VALUE, BAD_NO_VALUE, 0)


def test_another_type_than_declared_is_told_once_and_is_no_value(world):
    frame, loss = brought(world, (0, 1.0, T0), (1, 2.0, T0, 0, None, FLOAT))
    assert (frame.present, frame.status) == ((0,), (0, BAD_TYPE_MISMATCH, 0))
    assert (loss.cause, loss.tags, loss.to_utc_ns) == ("refused", (1,), None)
    assert loss.detail == (
        "tag a/all/t1: the profile declares FLOAT64, the server sends Float; write type: FLOAT32"
    )
    assert len(brought(world, (0, 1.0, T0 + MS), (1, 2.0, T0 + MS, 0, None, FLOAT))) == 1


def test_the_overflow_bit_is_a_gap_from_the_sample_before(world):
    brought(world, (0, 1.0, T0))
    frame, loss = brought(world, (0, 9.0, T0 + 900 * MS, 0x0000_0480))
    assert frame.status == (0x480, 0, 0)
    assert shapes([loss]) == [("overrun", T0, T0 + 900 * MS, (0,))]


def test_what_an_interruption_cost_is_bounded_by_the_device_samples_around_it(world):
    brought(world, (0, 1.0, T0), (1, 1.0, T0), (2, 1.0, T0 - 10 * MS))
    for point in world.points:
        point.interrupted = "the server was away"
    items = brought(world, (0, 7.0, T0 + 5000 * MS), (1, 7.0, T0 + 5000 * MS))
    assert shapes(items[1:]) == [("link_lost", T0, T0 + 5000 * MS, (0, 1))]
    (only,) = brought(world, (0, 8.0, T0 + 5100 * MS))
    assert isinstance(only, Frame)


def test_the_sample_that_was_the_last_before_is_not_a_new_one(world):
    """The server sends it again when it is asked to watch the tag anew."""
    brought(world, (0, 1.0, T0), (1, 1.0, T0))
    for point in world.points:
        point.interrupted = "the server was away"
    items = brought(world, (0, 1.0, T0), (1, 4.0, T0 + MS))
    assert shapes(items) == [
        ("a/all", (None, 4.0, None), (1,), T0 + MS),
        ("link_lost", 1, 1, (0,)),
        ("link_lost", T0, T0 + MS, (1,)),
    ]


def test_a_sample_that_a_server_repeats_in_every_respect_is_stored_once(world):
    """node-opcua does so when a session goes on over another connection."""
    brought(world, (0, 1.0, T0, 0, T0))
    assert brought(world, (0, 1.0, T0, 0, T0 + 1)) == []
    (frame,) = brought(world, (0, 1.0, T0, 0x4000_0000))
    assert frame.status == (0x4000_0000, 0, 0)
    assert len(brought(world, (0, 2.0, T0))) == 1


def test_equal_samples_without_a_time_are_all_stored(world):
    assert len(brought(world, (3, 1.0, None), (3, 1.0, None))) == 2


def test_what_a_subscription_that_was_taken_over_brings_twice_is_stored_once(world):
    """Messages that are stored but were not yet acknowledged come again, in their order."""
    for point in world.points[:2]:
        point.last_source_ns = point.stored_until_ns = T0
        point.interrupted = "the agent was away"
    assert brought(world, (0, 1.0, T0 - MS), (1, 1.0, T0 - MS), (0, 2.0, T0)) == []
    items = brought(world, (0, 3.0, T0 + MS), (1, 3.0, T0 + MS), (0, 2.0, T0))
    assert shapes(items) == [
        ("a/all", (3.0, 3.0, None), (0, 1), T0 + MS),
        ("a/all", (2.0, None, None), (0,), T0),
    ]


def test_a_take_over_that_does_not_reach_back_to_what_is_stored_leaves_a_gap(world):
    point = world.points[3]
    point.last_source_ns = point.stored_until_ns = T0
    point.interrupted = "the agent was away"
    items = brought(world, (3, 3.0, T0 + 900 * MS))
    assert shapes(items)[1] == ("link_lost", T0, T0 + 900 * MS, (0,))


def test_what_cannot_be_had_is_said_in_the_next_frame_of_its_group(world):
    world.assembler.refused[world.points[0].group] = {2: 0x8034_0000}
    (frame,) = brought(world, (0, 1.0, T0))
    assert (frame.present, frame.status) == ((0,), (0, 0, 0x8034_0000))
    (frame,) = brought(world, (0, 1.0, T0 + MS))
    assert frame.status == 0


def test_an_item_that_nobody_knows_is_passed_over(world):
    assert brought(world, (77, 1.0, T0)) == []


def test_each_scalar_type_has_one_that_it_is_taken_from():
    assert set(KIND_OF) == set(DataType) - {DataType.STRING}

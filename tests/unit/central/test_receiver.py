"""The receiver's patience: when a hole is asked for, and what may not fill the event table."""

from edgeagent.central.receiver import REPEAT_REQUEST_S_MAX, _FloodGate, _Holes, _Pacer, _Repetition
from edgeagent.central.store import Note, Standing
from tests.consumers import until
from tests.unit.central.life import KEY


def standing(upto: int, wanted: tuple[int, int] | None = None) -> Standing:
    return Standing(KEY, upto, bytes(32), (), wanted)


def test_a_hole_is_asked_for_after_a_while_and_then_ever_more_rarely():
    holes = _Holes(5.0)
    holes.see(standing(4, (5, 8)), None, 100.0)
    assert holes.due(104.9) == []
    assert holes.due(105.0) == [(KEY, 5, 8)]
    asked = [at for at in range(106, 3000) if holes.due(float(at))]
    waits = [second - first for first, second in zip([105, *asked], asked, strict=False)]
    assert waits[:4] == [10, 20, 40, 80]
    assert max(waits) == REPEAT_REQUEST_S_MAX


def test_progress_is_patience_anew():
    holes = _Holes(5.0)
    holes.see(standing(4, (5, 8)), None, 100.0)
    holes.see(standing(6, (7, 8)), None, 104.0)
    assert holes.due(108.9) == []
    assert holes.due(109.0) == [(KEY, 7, 8)]
    holes.see(standing(12), None, 110.0)
    assert holes.open == {}


def test_the_end_that_a_head_announces_is_waited_for():
    holes = _Holes(5.0)
    holes.see(standing(4), 4, 100.0)
    assert holes.open == {}
    holes.see(standing(4), 9, 100.0)
    holes.see(standing(4), None, 103.0)
    assert holes.due(105.0) == [(KEY, 5, 9)]
    holes.see(standing(4), 12, 106.0)
    assert holes.open == {KEY: (5, 12)}
    holes.see(standing(12), None, 107.0)
    assert holes.open == {}


async def test_receipts_keep_their_pace_and_the_last_one_is_sent():
    sent: list[int] = []
    pacer = _Pacer(0.05, lambda standing: sent.append(standing.upto))
    pacer.offer(standing(1))
    assert sent == [1], "the first at once"
    for upto in (2, 3):
        pacer.offer(standing(upto))
    assert sent == [1]
    await until("the last one", lambda: sent == [1, 3])
    pacer.offer(standing(4))
    pacer.flush()
    assert sent == [1, 3, 4]


def test_a_proof_is_repeated_ever_more_rarely():
    proofs = _Repetition(1.0)
    said = [at for at in range(3000) if proofs.is_due(7, float(at))]
    assert said[:6] == [0, 1, 3, 7, 15, 31]
    assert said[-1] - said[-2] == REPEAT_REQUEST_S_MAX
    assert proofs.is_due(8, 5.0)


def test_a_flood_of_notes_is_counted_not_stored():
    class Clock:
        boot_id = "b"
        now = 0

        def utc_ns(self) -> int:
            return 0

        def boot_ns(self) -> int:
            return self.now

    clock = Clock()
    gate = _FloodGate(clock)
    note = Note(None, "a", "batch.rejected", "warning", "x", {"bytes": 1})
    other = note._replace(site="b")
    passed = gate.pass_on([note, note, other, note])
    assert [(each.site, each.facts["held_back_before"]) for each in passed] == [("a", 0), ("b", 0)]
    clock.now = 59 * 10**9
    assert gate.pass_on([note]) == []
    clock.now = 60 * 10**9
    assert [each.facts["held_back_before"] for each in gate.pass_on([note, note])] == [3]

"""How far UTC can be trusted: what chrony says, and steps of the clock.

Method: golden lines of ``chronyc -c tracking``, a stand-in for chronyc, clocks set by hand.
"""

import asyncio
import os
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.model.clock import CLOCK_UNKNOWN, ClockState
from edgeagent.operate import timekeeping
from edgeagent.operate.timekeeping import (
    ClockTrust,
    ask_chrony,
    clock_context,
    keep_time,
    parse_tracking,
)
from tests.clocks import ManualClock
from tests.fakes import TapeJournal, TapeRecorder

SYNCED = (
    "D5A1057D,ntp.example,3,1693922143.510279942,0.000011205,-0.000001730,0.000028143,"
    "-12.551,-0.001,0.031,0.010203040,0.000401234,64.7,Normal"
)
FAR_OFF = SYNCED.replace("0.000401234", "1.600000000")
NEVER = (
    "00000000,,0,0.000000000,0.000000000,0.000000000,0.000000000,0.000,0.000,0.000,"
    "1.000000000,1.000000000,0.0,Not synchronised"
)


@pytest.mark.parametrize(
    ("line", "state"),
    [
        # 0.000011205 + 0.000401234 + 0.010203040 / 2 = 5.51 ms, rounded up to 2^23 ns
        (SYNCED, ClockState("synced", 2**23, "chrony")),
        (SYNCED.replace("Normal", "Insert second"), ClockState("synced", 2**23, "chrony")),
        (SYNCED.replace("0.000011205", "-0.000011205"), ClockState("synced", 2**23, "chrony")),
        (FAR_OFF, ClockState("holdover", 2**31, "chrony")),
        (NEVER, ClockState("unsynced", None, "chrony")),
        (SYNCED + "\n", ClockState("synced", 2**23, "chrony")),
        ("", CLOCK_UNKNOWN),
        ("506 Cannot talk to daemon", CLOCK_UNKNOWN),
        (SYNCED.rsplit(",", 4)[0], CLOCK_UNKNOWN),
        (SYNCED.replace("0.010203040", "soon"), CLOCK_UNKNOWN),
        (SYNCED.replace("0.010203040", "nan"), CLOCK_UNKNOWN),
        (SYNCED.replace("0.010203040", "-inf"), CLOCK_UNKNOWN),
    ],
)
def test_what_chrony_says(line, state):
    assert parse_tracking(line) == state


@given(st.text() | st.lists(st.floats().map(str), max_size=16).map(",".join))
def test_garbage_is_unknown_and_never_an_error(line):
    assert parse_tracking(line).state in ("synced", "holdover", "unsynced", "unknown")


@given(st.floats(0, 10), st.floats(0, 10))
def test_the_bound_is_never_below_what_chrony_says_and_seldom_moves(offset, dispersion):
    fields = SYNCED.split(",")
    fields[4], fields[10], fields[11] = str(offset), "0", str(dispersion)
    state = parse_tracking(",".join(fields))
    exact_ns = (offset + dispersion) * 1e9
    assert exact_ns <= state.error_ns + 1
    assert state.error_ns <= max(1, 2 * exact_ns)
    assert state.error_ns.bit_count() == 1
    assert state.state == ("synced" if exact_ns < 10**9 else "holdover")


def stand_in(tmp_path, monkeypatch, script):
    """Put a program called chronyc before all others."""
    program = tmp_path / "chronyc"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")


async def test_chronyc_is_asked(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, f"[ \"$*\" = '-c tracking' ] && echo '{SYNCED}'")
    assert await ask_chrony() == ClockState("synced", 2**23, "chrony")


@pytest.mark.parametrize(
    "script", ["exit 1", "echo '506 Cannot talk to daemon'; exit 1", "kill $$"]
)
async def test_a_chronyc_that_fails_leaves_us_in_the_dark(tmp_path, monkeypatch, script):
    stand_in(tmp_path, monkeypatch, script)
    assert await ask_chrony() == CLOCK_UNKNOWN


async def test_a_machine_without_chrony(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await ask_chrony() == CLOCK_UNKNOWN


async def test_a_chronyc_that_cannot_be_started(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "")
    (tmp_path / "chronyc").write_text("#!/no/such/interpreter\n")
    assert await ask_chrony() == CLOCK_UNKNOWN


@pytest.mark.parametrize("give_up", [True, False])
async def test_a_chronyc_that_hangs_does_not_stay(tmp_path, monkeypatch, give_up):
    """Given up after its time, or cancelled because the agent stops: no process is left."""
    pid_file = tmp_path / "pid"
    stand_in(
        tmp_path,
        monkeypatch,
        f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}\nexec sleep 60",
    )
    monkeypatch.setattr(timekeeping, "CHRONYC_TIMEOUT_S", 0.3 if give_up else 60)
    asking = asyncio.create_task(ask_chrony())
    while not pid_file.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.005)
    if give_up:
        assert await asking == CLOCK_UNKNOWN
    else:
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


class Clocks(ManualClock):
    """The boot-time clock follows the virtual loop; UTC may be stepped."""

    def boot_ns(self) -> int:
        return self.boot + round(asyncio.get_running_loop().time() * 1e9)

    def utc_ns(self) -> int:
        return self.utc + round(asyncio.get_running_loop().time() * 1e9)


@asynccontextmanager
async def kept(trust=None):
    """A recorder, the answers that chrony will give, and when it was asked; time is kept."""
    recorder = TapeRecorder(TapeJournal(), Clocks())
    answers, asked = [CLOCK_UNKNOWN], []

    async def ask():
        asked.append(asyncio.get_running_loop().time())
        return answers[-1]

    task = asyncio.create_task(keep_time(recorder, ask, trust))
    try:
        yield recorder, answers, asked
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.looptime
async def test_the_context_follows_what_chrony_says():
    async with kept() as (recorder, answers, asked):
        await asyncio.sleep(0.5)
        assert recorder.context["clock"] == {"state": "unknown", "error_ns": None, "source": "none"}
        answers.append(ClockState("synced", 2**20, "chrony"))
        await asyncio.sleep(601)
        assert recorder.context["clock"] == clock_context(answers[-1])
        await asyncio.sleep(2999)
        assert len(asked) == 7
        assert recorder.events == []


@pytest.mark.looptime
@pytest.mark.parametrize("step_s", [3600.0, -0.5])
async def test_a_step_of_utc_is_an_event_once(step_s):
    async with kept() as (recorder, _, _):
        await asyncio.sleep(10.5)
        recorder.clock.step(step_s)
        await asyncio.sleep(10)
        ((kind, severity, facts),) = recorder.events
        assert (kind, severity) == ("clock.step", "alarm")
        assert facts["after_ns"] - facts["before_ns"] == step_s * 1e9


@pytest.mark.looptime
async def test_a_slewed_clock_is_no_step():
    async with kept() as (recorder, _, _):
        for _ in range(100):
            await asyncio.sleep(1)
            recorder.clock.step(0.0005)
        assert recorder.events == []


@pytest.mark.looptime
async def test_chrony_is_asked_again_soon_until_it_is_synchronised():
    async with kept() as (_, answers, asked):
        answers.append(ClockState("unsynced", None, "chrony"))
        await asyncio.sleep(601)
        before = len(asked)
        await asyncio.sleep(120)
        assert len(asked) - before == 4
        answers.append(ClockState("synced", 2**20, "chrony"))
        await asyncio.sleep(60)
        before = len(asked)
        await asyncio.sleep(500)
        assert len(asked) == before


@pytest.mark.looptime
async def test_health_is_told_who_answered_when_and_what_was_stepped():
    trust = ClockTrust()
    async with kept(trust) as (recorder, answers, asked):
        await asyncio.sleep(10.5)
        assert (trust.state, trust.answered_s) == (CLOCK_UNKNOWN, None), "asked, not answered"
        answers.append(ClockState("synced", 2**20, "chrony"))
        await asyncio.sleep(600)
        assert (trust.state, trust.answered_s) == (answers[-1], asked[-1])
        recorder.clock.step(-3600)
        await asyncio.sleep(2)
        now_s = asyncio.get_running_loop().time()
        assert trust.steps.values(now_s) == [pytest.approx(-3600)]
        answers.append(CLOCK_UNKNOWN)
        await asyncio.sleep(1200)
        assert trust.answered_s == asked[1], "the last that was an answer"

"""The promise: what was read is delivered, or lies in a recorded gap, whatever is killed.

Method: libmodbus slaves keep a ledger of every reply. Agent, broker and receiver are killed with
`kill -9` at random moments. At the end every reply in the ledger is in the receiver's database,
unaltered and in order, or inside a gap that is no longer than the kill explains.
"""

import random
import time
from pathlib import Path

import pytest

from tests.system.chain import Chain, Gap, Held, by_device, check_against_ledger, wait_until
from tests.system.ledger import Answer

PERIOD_S = 0.05
ANSWER_S = 0.05
LATE_POLL_S = 1.0


def kill_and_restart(chain: Chain, victim: str) -> tuple[int, int] | None:
    """Kill one part; return (killed, first answer afterwards) in UTC ns if it was the agent."""
    killed_ns = time.time_ns()
    if victim == "broker":
        chain.broker.kill()
        chain.broker.start()
        return None
    part = chain.agent if victim == "agent" else chain.receiver
    part.kill()
    before = chain.answers()
    part.start()
    if victim == "receiver":
        return None
    wait_until("the agent polls again", lambda: chain.answers() > before)
    return killed_ns, time.time_ns()


def run_with_kills(chain: Chain, kills: int, values: int, seed: int) -> None:
    dice = random.Random(seed)
    victims = ["agent", "broker", "receiver"] * kills
    dice.shuffle(victims)
    replies_needed = values // 73 + 1
    outages: list[tuple[int, int]] = []
    with chain:
        wait_until("the first values", lambda: chain.answers() > 100)
        for number, victim in enumerate(victims, 1):
            due = min(replies_needed * number // (len(victims) + 1), replies_needed)
            wait_until("enough values before the next kill", lambda due=due: chain.answers() > due)
            time.sleep(dice.uniform(0, 0.2))
            outage = kill_and_restart(chain, victim)
            if outage:
                outages.append(outage)
        wait_until("all values", lambda: chain.answers() > replies_needed, 600)
        chain.finish()
        answers = chain.slave.answers()
        held = by_device(chain.bodies())
    assert check_against_ledger(held, answers) >= values * 0.9
    check_that_the_check_can_fail(held, answers)
    for name, device in held.items():
        for gap in device.gaps:
            assert explained(gap, outages), f"{name}: {gap} with kills at {outages}, seed {seed}"


def check_that_the_check_can_fail(held: dict[str, Held], answers: list[Answer]) -> None:
    """A checker that never failed is no evidence: lose, alter, swap."""
    device = held["device-0"]
    middle = len(device.frames) // 2
    lost = Held(device.frames[:middle] + device.frames[middle + 1 :], device.gaps)
    altered_frame = [*device.frames[middle]]
    altered_frame[11] = [*altered_frame[11][:-1], 4711.0]
    altered = Held([*device.frames[:middle], altered_frame], device.gaps)
    swapped = Held(device.frames[:middle][::-1], device.gaps)
    for broken in (lost, altered, swapped):
        with pytest.raises(AssertionError):
            check_against_ledger({**held, "device-0": broken}, answers)


def explained(gap: Gap, outages: list[tuple[int, int]]) -> bool:
    """Return whether a gap is the beginning, the end, or one kill of the agent plus a period."""
    if gap.cause in ("first_value", "agent_stopped"):
        return True
    if gap.cause == "overrun":  # a busy machine, not a kill; as short as a late poll
        return gap.until_ns - gap.since_ns < LATE_POLL_S * 1e9
    slack_ns = (PERIOD_S + ANSWER_S) * 1e9
    return gap.cause == "agent_killed" and any(
        killed - slack_ns <= gap.since_ns and gap.until_ns <= again + slack_ns
        for killed, again in outages
    )


@pytest.mark.timeout(300)
def test_three_kills_of_each_part(tmp_path: Path) -> None:
    chain = Chain(tmp_path, devices=20, period=f"{PERIOD_S * 1e3:.0f} ms")
    run_with_kills(chain, kills=3, values=1_000_000, seed=4711)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2])
def test_twenty_kills_of_each_part(tmp_path: Path, seed: int) -> None:
    chain = Chain(tmp_path, devices=20, period=f"{PERIOD_S * 1e3:.0f} ms")
    run_with_kills(chain, kills=20, values=4_000_000, seed=seed)

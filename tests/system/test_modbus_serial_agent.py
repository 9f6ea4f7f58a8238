"""The whole chain over one RS-485 line: libmodbus units, agent, broker, receiver, as processes.

The units' ledgers are the truth: each of their replies is in the receiver's database, unaltered and
in order, or lies inside a gap.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import pytest

from tests.system import ledger
from tests.system.chain import Chain, Held, by_device, check_against_ledger, wait_until
from tests.system.ledger import Answer, LedgerSlave
from tests.system.serial_bus import LATE, BusFault, Probabilities, SerialBus, in_background

UNITS = (17, 18)
DEAD = 19
PERIOD_S = 0.25
TIMEOUT_S = 0.1
ALLOWED_DEVIATION = 0.1

CAUSES_OF_A_LINE = {"first_value", "agent_stopped", "timeout", "bad_reply", "refused", "overrun"}


class UnitsOnALine:
    """What :class:`~tests.system.chain.Chain` needs of its slaves, on a line of its own."""

    def __init__(
        self, directory: Path, *, replies: Probabilities | None = None, dead: bool = False
    ) -> None:
        self.ledger = directory / "ledger"
        self.bus = SerialBus(
            directory,
            tuple(f"unit-{unit}" for unit in UNITS),
            replies=replies,
            exception_codes=(4, 5, 6),  # after 1 to 3 the driver asks again in five minutes only
            timeout_s=TIMEOUT_S,
        )
        self.act: Callable[[Callable[[], None]], None]
        """Calls a function of the bus where the bus runs."""
        self._configured = (*UNITS, DEAD) if dead else UNITS
        self._slowest_s = TIMEOUT_S * (LATE[1] if replies else 1)
        self._stack = ExitStack()

    def __enter__(self) -> "UnitsOnALine":
        self.act = self._stack.enter_context(in_background(self.bus))
        for unit in UNITS:
            port = self.bus.slaves[f"unit-{unit}"]
            self._stack.enter_context(LedgerSlave(self.ledger, serial=(port, unit)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def answers(self) -> list[Answer]:
        return list(ledger.read_ledger(self.ledger))

    def profile_text(self, period: str) -> str:
        return ledger.profile_text(period, identity=True)

    def site_sections(self) -> str:
        lines = [
            "links:",
            "  line:",
            f"    {{driver: modbus, framing: rtu, device: {self.bus.master}, baud_rate: 115200,",
            f"     parity: none, timeout: {TIMEOUT_S:g} s, slowest_reply: {self._slowest_s:g} s}}",
            "instruments:",
        ]
        for unit in self._configured:
            name = ledger.instrument_name(unit)
            lines.append(f"  {name}: {{profile: {ledger.PROFILE}, link: line, unit_id: {unit}}}")
        return "\n".join((*lines, ""))


def counted(units: UnitsOnALine, unit: int) -> list[Answer]:
    return [each for each in units.answers() if each.counted and each.port_index == unit]


def mean_period_s(answers: list[Answer]) -> float:
    first, *_, last = answers
    return (last.boottime_ns - first.boottime_ns) / 1e9 / (len(answers) - 1)


def polled(units: UnitsOnALine, times: int) -> Callable[[], bool]:
    """Whether each unit has been polled so often from now on."""
    before = {unit: len(counted(units, unit)) for unit in UNITS}
    return lambda: all(len(counted(units, unit)) >= before[unit] + times for unit in UNITS)


def run(tmp_path: Path, units: UnitsOnALine) -> Chain:
    return Chain(tmp_path, period=f"{PERIOD_S * 1e3:.0f} ms", slave=units)


def held_by_receiver(chain: Chain, units: UnitsOnALine) -> dict[str, Held]:
    chain.finish()
    held = by_device(chain.bodies())
    check_against_ledger(held, units.answers())
    return held


def test_a_line_with_all_faults_delivers_what_was_answered_or_a_gap(tmp_path: Path) -> None:
    faults = [fault for fault in BusFault if fault is not BusFault.ECHO]
    units = UnitsOnALine(tmp_path, replies=dict.fromkeys(faults, 0.12 / len(faults)))
    with run(tmp_path, units) as chain:
        wait_until("polls over the faulty line", polled(units, 12))
        assert units.bus.struck.total() > 3
        units.act(units.bus.heal)
        wait_until("polls over the healed line", polled(units, 5))
        held = held_by_receiver(chain, units)
        answers = units.answers()
    for unit in UNITS:
        device = held[ledger.instrument_name(unit)]
        assert len(device.frames) > 8
        assert {gap.cause for gap in device.gaps} <= CAUSES_OF_A_LINE
    check_that_the_check_can_fail(held, answers)


def check_that_the_check_can_fail(held: dict[str, Held], answers: list[Answer]) -> None:
    """Values of the one unit under the name of the other, and a value of another reply."""
    one, other = (ledger.instrument_name(unit) for unit in UNITS)
    swapped = {one: held[other], other: held[one]}
    first, second, *rest = held[one].frames
    late = [*second]
    late[11] = [second[11][0], *first[11][1:]]
    for broken in (swapped, {**held, one: Held([first, late, *rest], held[one].gaps)}):
        with pytest.raises(AssertionError):
            check_against_ledger(broken, answers)


def test_a_dead_unit_and_a_vanished_port_cost_the_others_little(tmp_path: Path) -> None:
    """Goal: neighbours of a dead unit keep their period; after a replug data resume by themselves.

    Method: three units are configured, two are there. The mean period of those two is taken from
    their own ledger. Then the adapter is pulled and comes back as another device.
    """
    units = UnitsOnALine(tmp_path, dead=True)
    with run(tmp_path, units) as chain:
        wait_until("first values", polled(units, 1))
        before = {unit: len(counted(units, unit)) for unit in UNITS}
        wait_until("values beside a dead unit", polled(units, 16))
        for unit in UNITS:
            period_s = mean_period_s(counted(units, unit)[before[unit] :])
            assert period_s == pytest.approx(PERIOD_S, rel=ALLOWED_DEVIATION), f"unit {unit}"

        units.act(units.bus.unplug)
        wait_until("the port is gone", lambda: chain.status()["links"][0]["state"] == "down")
        asked = len(units.answers())
        units.act(units.bus.replug)
        wait_until("values after the replug", polled(units, 3))
        for unit in UNITS:
            mine = (each for each in units.answers()[asked:] if each.port_index == unit)
            assert next(mine).address == ledger.IDENTITY_ADDRESS
        held = held_by_receiver(chain, units)
    for unit in UNITS:
        assert "link_lost" in {gap.cause for gap in held[ledger.instrument_name(unit)].gaps}
    assert held[ledger.instrument_name(DEAD)].frames == []

"""A processing run and a vial filler do what their module texts say."""

from random import Random

from simulators.process.cell_processing import (
    CHAMBER_WARM,
    PUMP_BLOCKED,
    STEPS,
    CellProcessing,
    CellProcessingSettings,
)
from simulators.process.vial_filling import (
    GUARD_OPEN,
    INFEED_STARVED,
    VialFilling,
    VialFillingSettings,
)


def processing() -> CellProcessing:
    short = CellProcessingSettings(
        isolate_s=10, transduce_s=20, wash_s=10, formulate_s=10, rest_s=5
    )
    return CellProcessing(short, Random(1))


def test_a_run_goes_through_its_steps_and_leaves_a_result():
    process = processing()
    seen = []
    for _ in range(50):
        if process.step_name not in seen:
            seen.append(process.step_name)
        process.step(1.0)
    assert tuple(seen) == STEPS
    assert process.step_name is None
    [ended] = process.ended
    assert (ended.number, ended.started_s, ended.stopped_s) == (1, 0.0, 50.0)
    assert 0.6 < ended.viable_cells / 2.0e9 < 0.8
    process.step(5.0)
    assert (process.run, process.step_name) == (2, "isolate")


def test_a_blocked_pump_holds_the_run_and_nothing_is_lost():
    process = processing()
    process.step(5.0)
    process.disturbances.begin(PUMP_BLOCKED)
    process.step(100.0)
    assert process.held
    assert (process.step_s, process.paused_s, process.flow_ml_min) == (5.0, 100.0, 0.0)
    process.disturbances.end(PUMP_BLOCKED)
    process.step(45.0)
    assert process.ended[0].stopped_s == 150.0


def test_a_warm_chamber_is_warm():
    process = processing()
    process.disturbances.begin(CHAMBER_WARM)
    process.step(8.0)
    assert process.true_temperature_c > process.target_temperature_c + 0.5


def filler(**more: float) -> VialFilling:
    return VialFilling(VialFillingSettings(vials_per_min=60.0, **more), Random(1))  # type: ignore[arg-type]


def states(line: VialFilling, seconds: int) -> list[str]:
    seen = [line.state]
    for _ in range(seconds):
        line.step(1.0)
        if line.state != seen[-1]:
            seen.append(line.state)
    return seen


def test_a_filler_completes_its_batch_and_begins_the_next():
    line = filler(batch=10)
    assert states(line, 60)[:9] == [
        "Stopped", "Resetting", "Idle", "Starting", "Execute", "Completing", "Complete",
        "Resetting", "Idle",
    ]  # fmt: skip
    assert line.processed >= 10


def test_missing_vials_suspend_it_and_an_open_guard_aborts_it():
    line = filler()
    states(line, 15)
    line.disturbances.begin(INFEED_STARVED)
    assert states(line, 10) == ["Execute", "Suspending", "Suspended"]
    count = line.processed
    line.disturbances.end(INFEED_STARVED)
    assert states(line, 10) == ["Suspended", "Unsuspending", "Execute"]
    assert line.processed > count
    line.disturbances.begin(GUARD_OPEN)
    assert states(line, 10) == ["Execute", "Aborting", "Aborted"]
    line.disturbances.end(GUARD_OPEN)
    assert states(line, 10)[:4] == ["Aborted", "Clearing", "Stopped", "Resetting"]

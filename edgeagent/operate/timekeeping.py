"""How far the machine's UTC can be trusted, and whether it was stepped.

The time service is asked (chrony's ``chronyc -c tracking``, chronyc(1)); the kernel's own yes or
no stays yes for hours after synchronisation was lost and is not used.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from edgeagent.journal import Recorder
from edgeagent.model.clock import CLOCK_UNKNOWN, ClockState
from edgeagent.model.recent import Recent

ASK_EVERY_S = 600.0
ASK_AGAIN_S = 30.0
"""While chrony is there and not synchronised: after a start of the machine it soon is."""
CHRONYC_TIMEOUT_S = 5.0
STEP_NS = 100_000_000
SYNCED_ERROR_NS_MAX = 1_000_000_000
STEPS_WINDOW_S = 24 * 3600.0

AskClock = Callable[[], Awaitable[ClockState]]


@dataclass(slots=True)
class ClockTrust:
    """What is known of UTC; read by health, changed by :func:`keep_time`.

    :ivar answered_s: when a time service last answered, on the loop's clock; ``None`` if none has
    :ivar steps: by how much UTC was moved within the last day, in seconds
    """

    state: ClockState = CLOCK_UNKNOWN
    answered_s: float | None = None
    steps: Recent = field(default_factory=lambda: Recent(STEPS_WINDOW_S))


async def ask_chrony() -> ClockState:
    """Return what chrony says of this machine's clock; ``unknown`` where there is no chrony."""
    program = shutil.which("chronyc")
    if program is None:
        return CLOCK_UNKNOWN
    try:
        process = await asyncio.create_subprocess_exec(
            program, "-c", "tracking",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return CLOCK_UNKNOWN
    try:
        async with asyncio.timeout(CHRONYC_TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        return CLOCK_UNKNOWN
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return parse_tracking(output.decode("ascii", "replace"))


def parse_tracking(line: str) -> ClockState:
    """Return the state of one line of ``chronyc -c tracking``.

    Fields: reference id, name, stratum, reference time, system offset, last offset, RMS offset,
    frequency, residual, skew, root delay, root dispersion, update interval, leap status. The error
    is bounded by |offset| + dispersion + delay / 2 (RFC 5905, root distance).
    """
    fields = line.strip().split(",")
    try:
        offset, delay, dispersion = (abs(float(fields[i])) for i in (4, 10, 11))
        error_ns = int((offset + dispersion + delay / 2) * 1e9)
    except (IndexError, ValueError, OverflowError):
        return CLOCK_UNKNOWN
    if fields[-1] == "Not synchronised":
        return ClockState("unsynced", None, "chrony")
    state = "synced" if error_ns < SYNCED_ERROR_NS_MAX else "holdover"
    return ClockState(state, _coarse(error_ns), "chrony")


def _coarse(error_ns: int) -> int:
    """Round an error bound up to a power of two, so that a context does not change every time."""
    return 1 << max(0, error_ns - 1).bit_length()


async def keep_time(
    recorder: Recorder, ask: AskClock = ask_chrony, trust: ClockTrust | None = None
) -> None:
    """Note the clock's state in the context and its steps as events, for ever.

    :param trust: kept up to date, for whoever reads it
    """
    clock, trust = recorder.clock, trust or ClockTrust()
    loop = asyncio.get_running_loop()
    ask_at_s = loop.time()
    offset_ns = clock.utc_ns() - clock.boot_ns()
    while True:
        if loop.time() >= ask_at_s:
            trust.state = await ask()
            again = trust.state.state == "unsynced"
            ask_at_s = loop.time() + (ASK_AGAIN_S if again else ASK_EVERY_S)
            if trust.state != CLOCK_UNKNOWN:
                trust.answered_s = loop.time()
            recorder.set_context({"clock": clock_context(trust.state)})
        await asyncio.sleep(1.0)
        now_ns = clock.utc_ns() - clock.boot_ns()
        if abs(now_ns - offset_ns) > STEP_NS:
            trust.steps.add(loop.time(), (now_ns - offset_ns) / 1e9)
            recorder.event(
                "clock.step",
                "alarm",
                f"UTC was moved by {(now_ns - offset_ns) / 1e9:+.3f} s",
                before_ns=offset_ns,
                after_ns=now_ns,
            )
        offset_ns = now_ns


def clock_context(state: ClockState) -> dict[str, object]:
    """Return the ``clock`` key of a context."""
    return {"state": state.state, "error_ns": state.error_ns, "source": state.source}

"""Composition root: the one place that builds the agent's objects and owns its tasks."""

import asyncio
import signal
from contextlib import suppress
from random import Random
from typing import cast

import structlog

from edgeagent import __version__
from edgeagent.acquire.acquisition import Acquisition
from edgeagent.acquire.polled import PolledLink
from edgeagent.acquire.subscribed import SubscribedLink
from edgeagent.configure import LinkPlan, SitePlan
from edgeagent.driver import PolledDriver
from edgeagent.journal import Journal, Recorder
from edgeagent.journal.journal import StateDirectory
from edgeagent.model.clock import CLOCK_UNKNOWN, Clock, SystemClock
from edgeagent.operate.control import serve_control
from edgeagent.operate.status import Agent
from edgeagent.operate.timekeeping import clock_context, keep_time
from edgeagent.publish.lossless import LosslessStream

STOP_LINKS_WITHIN_S = 3.0
DRAIN_WITHIN_S = 3.0

log = structlog.get_logger()


def make_link(
    link: LinkPlan, acquisition: Acquisition, clock: Clock, random: Random
) -> PolledLink | SubscribedLink:
    """Build the owner of one link; which kind is a matter of what its driver can do."""
    driver = link.kind.open(link.settings, link.instruments, clock)
    if hasattr(driver, "poll"):
        polled = cast(PolledDriver, driver)
        return PolledLink(link.name, polled, link.instruments, acquisition, random)
    return SubscribedLink(link.name, driver, link.instruments, acquisition, random)


async def run_agent(
    plan: SitePlan, *, clock: Clock | None = None, stop: asyncio.Event | None = None
) -> None:
    """Run one site's agent until SIGTERM, SIGINT or ``stop``.

    :raises StartRefused: the state directory cannot be used
    :raises JournalFailed: the journal cannot be opened, or could not be mended
    """
    clock = clock or SystemClock()
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(ValueError, NotImplementedError):  # not the main thread: a test stops us
            loop.add_signal_handler(number, stop.set)
    directory = StateDirectory(plan.settings.state_dir)
    try:
        journal = await Journal.open(directory.path, clock)
        try:
            await _run(plan, clock, journal, stop)
        finally:
            await journal.close()
    finally:
        directory.release()


async def _run(plan: SitePlan, clock: Clock, journal: Journal, stop: asyncio.Event) -> None:
    settings = plan.settings
    random = Random()  # noqa: S311 - jitter only
    recorder = Recorder(
        journal,
        clock,
        commit_within_s=settings.journal.commit_within / 1e9,
        held_bytes_max=settings.journal.held_bytes,
    )
    await recorder.load()
    recorder.set_context(
        {
            "boot_id": clock.boot_id,
            "agent": __version__,
            "configuration": plan.revision,
            "clock": clock_context(CLOCK_UNKNOWN),
            "instruments": {},
            "batches": {},
        }
    )
    acquisition = Acquisition(recorder, plan.instruments)
    links = [make_link(link, acquisition, clock, random) for link in plan.links]
    stream = LosslessStream(
        settings.site, settings.topic_root, settings.broker, settings.stream, recorder, random
    )
    agent = Agent(plan, recorder, acquisition, stream)
    async with asyncio.TaskGroup() as tasks:
        committing = tasks.create_task(recorder.run(), name="journal")
        await acquisition.begin()
        recorder.event(
            "agent.started", "info", f"edgeagent {__version__} started", agent=__version__
        )
        polling = [
            tasks.create_task(link.run(), name=f"link:{link.status.name}")
            for link in links
            if link.status.name in _in_use(plan)
        ]
        others = [
            tasks.create_task(stream.run(), name="publish"),
            tasks.create_task(keep_time(recorder), name="time"),
            tasks.create_task(serve_control(agent, settings.state_dir), name="control"),
        ]
        log.info("agent.ready", site=settings.site, links=len(polling))
        await stop.wait()
        await _stop(polling, others, committing, acquisition, stream)


def _in_use(plan: SitePlan) -> set[str]:
    return {link.name for link in plan.links if link.instruments}


async def _stop(
    polling: list[asyncio.Task[None]],
    others: list[asyncio.Task[None]],
    committing: asyncio.Task[None],
    acquisition: Acquisition,
    stream: LosslessStream,
) -> None:
    """Stop reading, record that we did, let the tail leave, stop the rest."""
    await _cancel(polling, STOP_LINKS_WITHIN_S)
    acquisition.stop()
    acquisition.recorder.event("agent.stopped", "info", "stopped by command")
    await acquisition.recorder.flush()
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_WITHIN_S):
            await stream.drained()
    await _cancel([*others, committing], STOP_LINKS_WITHIN_S)


async def _cancel(tasks: list[asyncio.Task[None]], within_s: float) -> None:
    for task in tasks:
        task.cancel()
    _, stuck = await asyncio.wait(tasks, timeout=within_s)
    for task in stuck:
        log.error("task.stuck", task=task.get_name())

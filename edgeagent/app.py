"""Composition root: the one place that builds the agent's objects and owns its tasks."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from random import Random

import structlog

from edgeagent import __version__
from edgeagent.acquire.acquisition import Acquisition
from edgeagent.acquire.backfill import Backfill
from edgeagent.configure import SitePlan
from edgeagent.journal import Journal, Recorder
from edgeagent.journal.journal import StateDirectory
from edgeagent.journal.retention import Retention
from edgeagent.model.clock import CLOCK_UNKNOWN, Clock, SystemClock
from edgeagent.operate.access import account_of, every_role
from edgeagent.operate.acts import ActRefused, Acts
from edgeagent.operate.certificates import certificate_acts
from edgeagent.operate.consumers import consumer_acts
from edgeagent.operate.control import serve_control
from edgeagent.operate.expiry import keep_expiries
from edgeagent.operate.history import History
from edgeagent.operate.links import Links, cancel, open_drivers
from edgeagent.operate.look import Looks
from edgeagent.operate.notify import Notifier, keep_alive
from edgeagent.operate.reload import Configuration
from edgeagent.operate.status import Agent
from edgeagent.operate.timekeeping import clock_context, keep_time
from edgeagent.publish.lossless import LosslessStream

STOP_TASKS_WITHIN_S = 3.0
DRAIN_WITHIN_S = 3.0
SAY_STOPPED_WITHIN_S = 1.0

log = structlog.get_logger()


async def run_agent(
    plan: SitePlan, *, clock: Clock | None = None, stop: asyncio.Event | None = None
) -> None:
    """Run one site's agent until SIGTERM, SIGINT or ``stop``; SIGHUP reloads its configuration.

    :raises StartRefused: the state directory cannot be used
    :raises JournalFailed: the journal cannot be opened, or could not be mended
    """
    clock = clock or SystemClock()
    stop = stop or asyncio.Event()
    _on_signal(stop.set, signal.SIGTERM, signal.SIGINT)
    directory = StateDirectory(plan.settings.state_dir)
    try:
        journal = await Journal.open(directory.path, clock)
        try:
            await _run(plan, clock, journal, stop)
        finally:
            await journal.close()
    finally:
        directory.release()


def _on_signal(do: Callable[[], object], *numbers: signal.Signals) -> None:
    loop = asyncio.get_running_loop()
    for number in numbers:
        with suppress(ValueError, NotImplementedError):  # not the main thread: a test stops us
            loop.add_signal_handler(number, do)


async def _run(plan: SitePlan, clock: Clock, journal: Journal, stop: asyncio.Event) -> None:
    settings = plan.settings
    random = Random()  # noqa: S311 - jitter only
    notifier = Notifier.from_environment(os.environ)
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
    stream = LosslessStream(
        settings.site, settings.topic_root, settings.broker, settings.stream, recorder, random
    )
    async with asyncio.TaskGroup() as tasks:
        committing = tasks.create_task(recorder.run(), name="journal")
        await acquisition.begin()
        recorder.event(
            "agent.started", "info", f"edgeagent {__version__} started", agent=__version__
        )
        backfill = Backfill(acquisition, random)
        acquisition.continuity.on_stretch = backfill.gap_ended
        links = Links(tasks, acquisition, random, backfill)
        configuration = Configuration(plan, recorder, acquisition, links, stream)
        history = History(backfill, acquisition)
        retention = Retention(recorder, settings.journal, settings.state_dir)
        agent = Agent(configuration, recorder, acquisition, stream, retention.state)
        expiries = agent.vitals.expiries
        kinds = [
            configuration.act(),
            *consumer_acts(recorder),
            *history.acts(),
            *certificate_acts(plan.pki, recorder, settings.site, expiries.changed.set),
        ]
        acts = Acts(recorder, kinds)
        agent.backfill = backfill
        looks, listening = Looks(settings.state_dir), asyncio.Event()
        links.start(plan.links, open_drivers(plan.links, clock))
        others = [
            tasks.create_task(stream.run(), name="publish"),
            tasks.create_task(retention.run(), name="retention"),
            tasks.create_task(keep_time(recorder, trust=agent.vitals.clock), name="time"),
            tasks.create_task(agent.keep_vitals(), name="health"),
            tasks.create_task(keep_expiries(plan.pki, recorder, expiries), name="certificates"),
            tasks.create_task(
                serve_control(agent, acts, looks, settings.control, listening), name="control"
            ),
            tasks.create_task(keep_alive(notifier, recorder.prove_progress), name="watchdog"),
        ]
        reload = asyncio.Event()
        _on_signal(reload.set, signal.SIGHUP)
        others.append(tasks.create_task(_reload_on(reload, acts), name="reload"))
        await listening.wait()
        log.info("agent.ready", site=settings.site, links=len(links))
        notifier.ready(f"site {settings.site}: {len(links)} links")
        await stop.wait()
        notifier.stopping()
        await _stop(links, others, committing, acquisition, stream)


async def _reload_on(asked: asyncio.Event, acts: Acts) -> None:
    """Reload whenever the signal comes: whoever may send it is root or the service's user."""
    while True:
        await asked.wait()
        asked.clear()
        person = every_role(account_of(os.geteuid()), os.geteuid())
        try:
            await acts.perform(person, {"act": "configuration.reload", "reason": "SIGHUP"})
        except ActRefused as error:
            log.error("configuration.refused", error=str(error))


async def _stop(
    links: Links,
    others: list[asyncio.Task[None]],
    committing: asyncio.Task[None],
    acquisition: Acquisition,
    stream: LosslessStream,
) -> None:
    """Stop reading, record that we did, let the tail leave, stop the rest."""
    await links.stop()
    acquisition.stop()
    acquisition.recorder.event("agent.stopped", "info", "stopped by command")
    with suppress(TimeoutError):  # a disk without a free byte must not keep us
        async with asyncio.timeout(DRAIN_WITHIN_S):
            await acquisition.recorder.flush()
            await stream.drained()
    with suppress(TimeoutError):
        async with asyncio.timeout(SAY_STOPPED_WITHIN_S):
            await stream.say_stopped()
    await cancel([*others, committing], STOP_TASKS_WITHIN_S)

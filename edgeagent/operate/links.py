"""The owner tasks of all links: started, stopped, and exchanged while the others go on."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias, cast

import structlog

from edgeagent.acquire.acquisition import Acquisition
from edgeagent.acquire.backfill import Backfill
from edgeagent.acquire.polled import PolledLink
from edgeagent.acquire.subscribed import SubscribedLink
from edgeagent.configure import LinkPlan
from edgeagent.driver import PolledDriver, SubscribedDriver
from edgeagent.model.clock import Clock

STOP_WITHIN_S = 3.0

Driver: TypeAlias = PolledDriver | SubscribedDriver

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LinkChange:
    """How the links of one plan become those of another.

    :ivar kept: names of links that both plans state alike; they are not touched
    :ivar started: links that were not there, or are stated otherwise now
    :ivar stopped: names of links that are gone, or are stated otherwise now
    """

    kept: tuple[str, ...]
    started: tuple[LinkPlan, ...]
    stopped: tuple[str, ...]

    def stated(self) -> dict[str, list[str]]:
        """Return the change as a person and an audit record are told."""
        started = {link.name for link in self.started}
        return {
            "started": sorted(started - set(self.stopped)),
            "stopped": sorted(set(self.stopped) - started),
            "restarted": sorted(started & set(self.stopped)),
        }


def compare_links(before: Iterable[LinkPlan], after: Iterable[LinkPlan]) -> LinkChange:
    """Return what must be done to go from one plan's links to another's."""
    running = {link.name: link for link in before if link.instruments}
    wanted = {link.name: link for link in after if link.instruments}
    kept = {n for n, link in wanted.items() if n in running and link.same_as(running[n])}
    return LinkChange(
        tuple(sorted(kept)),
        tuple(link for name, link in wanted.items() if name not in kept),
        tuple(sorted(running.keys() - kept)),
    )


def open_drivers(links: Iterable[LinkPlan], clock: Clock) -> dict[str, Driver]:
    """Make the driver of each link; touches no device yet."""
    return {
        link.name: link.kind.open(link.settings, link.instruments, clock)
        for link in links
        if link.instruments
    }


class Links:
    """The running links, each with its owner task."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        acquisition: Acquisition,
        random: Random,
        backfill: Backfill | None = None,
    ) -> None:
        self._tasks = tasks
        self._acquisition = acquisition
        self._random = random
        self._backfill = backfill
        self._running: dict[str, asyncio.Task[None]] = {}

    def start(self, links: Iterable[LinkPlan], drivers: Mapping[str, Driver]) -> None:
        """Start the owner task of each link."""
        for link in links:
            if link.name in drivers:
                owner = self._owner(link, drivers[link.name])
                task = self._tasks.create_task(owner.run(), name=f"link:{link.name}")
                self._running[link.name] = task

    def _owner(self, link: LinkPlan, driver: Driver) -> PolledLink | SubscribedLink:
        """Which kind of owner is a matter of what the driver can do."""
        status = self._acquisition.link(link.name)
        status.state, status.cause, status.silent = "connecting", None, {}
        parts = link.instruments, self._acquisition, self._random
        if hasattr(driver, "poll"):
            return PolledLink(link.name, cast(PolledDriver, driver), *parts)
        return SubscribedLink(link.name, driver, *parts, self._backfill)

    async def stop(self, names: Iterable[str] | None = None) -> None:
        """Stop some links, or all, and close what they hold open."""
        chosen = list(self._running if names is None else names)
        await cancel([self._running.pop(name) for name in chosen], STOP_WITHIN_S)

    def __len__(self) -> int:
        return len(self._running)


async def cancel(tasks: Sequence[asyncio.Task[None]], within_s: float) -> None:
    """Cancel tasks and wait for their end, but not for ever."""
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    _, stuck = await asyncio.wait(tasks, timeout=within_s)
    for task in stuck:
        log.error("task.stuck", task=task.get_name())

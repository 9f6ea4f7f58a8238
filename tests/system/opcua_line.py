"""The real owner of an OPC UA link, over a journal in memory, judged by a server's ledger."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

from drivers.opcua.driver import OpcUaDriver
from edgeagent.acquire.acquisition import Acquisition
from edgeagent.acquire.subscribed import SubscribedLink
from edgeagent.driver import Instrument
from edgeagent.journal import Recorder
from edgeagent.model.clock import SystemClock
from edgeagent.model.frame import Origin
from edgeagent.model.record import Lane, decode_json
from tests.fakes import SlowJournal
from tests.system.opcua_peer import Tick

FLOWS_WITHIN_S = 5.0
"""Data flow again so soon after what was broken is whole."""


class Gap(NamedTuple):
    """A gap as its last record states it, in nanoseconds UTC."""

    cause: str
    since_ns: float
    until_ns: float
    tags: tuple[int, ...] | None
    detail: str | None


class Killed(Exception):
    """Raised inside :func:`line_of`: the agent ends as by kill -9; what is not durable is gone."""


class Line:
    """What one link has put into its journal."""

    def __init__(self, journal: SlowJournal, acquisition: Acquisition, link: SubscribedLink):
        self.journal = journal
        self.acquisition = acquisition
        self.status = link.status

    def values(self, tag: int, origin: Origin = Origin.LIVE) -> list[int]:
        """Return every value of a tag that is durable, in order."""
        found = []
        for record in self._records("F"):
            present = record[8]
            if record[6] != origin:
                continue
            if present is None:
                found.append(record[11][tag])
            elif tag in present:
                found.append(record[11][present.index(tag)])
        return found

    def gaps(self) -> list[Gap]:
        """Return every gap, as the last record with its number says."""
        last: dict[int, Gap] = {}
        for record in self._records("G"):
            _, _, _, _, _, _, number, cause, since, until, tags, detail = record
            last[number] = Gap(
                cause,
                since[0] if since else float("-inf"),
                until[0] if until else float("inf"),
                None if tags is None else tuple(tags),
                detail,
            )
        return list(last.values())

    def _records(self, kind: str) -> list[list[Any]]:
        bodies = self.journal.bodies(Lane.DATA)
        return [decode_json(body) for body in bodies if body[2:3].decode() == kind]

    async def flows(self, beyond: int, tag: int = 0, within_s: float = FLOWS_WITHIN_S) -> None:
        """Wait until a value beyond this one is durable."""
        try:
            async with asyncio.timeout(within_s):
                while max(self.values(tag)[-1:], default=-1) <= beyond:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(
                f"nothing beyond {beyond} within {within_s} s; {self.status}"
            ) from None

    def judge(self, ticks: list[Tick], tag: int) -> int:
        """Prove that each tick is held once, in order, or lies in a gap; return how many are lost.

        Judged from the first to the last that is held.
        """
        held = self.values(tag)
        assert held == sorted(set(held)), f"out of order or twice: {_oddities(held)}"
        known = {tick.value: tick.source_ns for tick in ticks}
        assert set(held) <= known.keys(), "holds what never was"
        gaps = [gap for gap in self.gaps() if gap.tags is None or tag in gap.tags]
        lost = [v for v in known if held[0] < v < held[-1] and v not in set(held)]
        for value in lost:
            inside = any(gap.since_ns <= known[value] <= gap.until_ns for gap in gaps)
            assert inside, f"tick {value} at {known[value]} is lost without a gap: {gaps}"
        return len(lost)


def _oddities(held: list[int]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in pairwise(held) if b <= a]


@asynccontextmanager
async def line_of(
    driver: OpcUaDriver, *instruments: Instrument, journal: SlowJournal | None = None
) -> AsyncIterator[Line]:
    """Run a link over a journal in memory; the same journal again is the next life of the agent."""
    journal = journal or SlowJournal()
    recorder = Recorder(
        journal,  # type: ignore[arg-type]
        SystemClock(),
        commit_within_s=0.012,
        held_bytes_max=16_000_000,
    )
    await recorder.load()
    recorder.set_context({"boot_id": recorder.clock.boot_id})
    acquisition = Acquisition(recorder, instruments)
    await acquisition.begin()
    link = SubscribedLink("hall", driver, instruments, acquisition, Random(7))
    tasks = [asyncio.create_task(recorder.run()), asyncio.create_task(link.run())]
    try:
        yield Line(journal, acquisition, link)
    except Killed:
        assert driver._channel is not None
        driver._channel.abort("killed")
    finally:
        for task in reversed(tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await driver.close()

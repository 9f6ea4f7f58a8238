"""What the server remembers of a gap is fetched, once and whole, through cuts, kills and orders.

Method: `edgeagent run` as a process; node-opcua keeps history and writes every value to a
ledger. What is in the journal, live and back-filled, is held against the ledger.
"""

import asyncio
import datetime
import json
from types import SimpleNamespace

import pytest

from edgeagent.model.frame import Origin
from simulators.link import Link
from tests.system.chain import edgeagent, wait_until
from tests.system.opcua_line import Line
from tests.system.opcua_peer import NodeServer, Tick
from tests.system.test_opcua_agent import Agent


def moment(tick: Tick) -> str:
    return datetime.datetime.fromtimestamp(tick.source_ns / 10**9, datetime.UTC).isoformat()


REASON = ("--reason", "a test")


class Site:
    """An agent, a cable that may be bad, and a server that remembers."""

    def __init__(self, directory, server: NodeServer, link: Link) -> None:
        self.server = server
        self.link = link
        cable = SimpleNamespace(url=f"opc.tcp://127.0.0.1:{link.port}")
        self.agent = Agent(directory, cable)
        self.config = ("--config", str(self.agent.config))

    async def flows(self) -> None:
        """Wait until live values come."""
        await self.until("values", lambda: self.status()["frames"] > 5)

    def status(self) -> dict:
        """Return the status of the link."""
        return json.loads(edgeagent("status", "--json", *self.config))["links"][0]

    def jobs(self) -> list[dict]:
        return json.loads(edgeagent("backfill", "list", "--json", *self.config))

    async def until(self, what: str, holds) -> None:
        await asyncio.to_thread(wait_until, what, holds)

    async def do(self, *words: str) -> dict:
        done = await asyncio.to_thread(
            edgeagent, "backfill", *words, *REASON, "--json", *self.config
        )
        return json.loads(done)

    async def up(self) -> None:
        """Start the agent; wait until it talks and values come."""
        self.agent.process.start()
        await asyncio.to_thread(wait_until, "socket", self._answers)
        await self.flows()

    def _answers(self) -> bool:
        try:
            self.status()
        except AssertionError:
            return False
        return True

    async def end(self) -> Line:
        code = await asyncio.to_thread(self.agent.process.stop)
        assert code == 0, self.agent.process.log.read_text()[-2000:]
        return await asyncio.to_thread(self.agent.line)


@pytest.fixture
async def site(request, tmp_path):
    """A site; a test may give options of the server."""
    with NodeServer(tmp_path, **getattr(request, "param", {"history": 100_000})) as server:
        link = Link("127.0.0.1", server.port)
        await link.start()
        made = Site(tmp_path, server, link)
        try:
            yield made
        finally:
            made.agent.process.kill()
            await link.stop()


@pytest.mark.parametrize("clock", ["right", "back", pytest.param("ahead", marks=pytest.mark.long)])
async def test_a_gap_is_filled_with_what_the_server_remembers_and_stays_on_record(site, clock):
    """The cable is cut under a 10 Hz subscription and the server forgets the subscription.

    The server's clock is right, or three days off.
    """
    server, link = site.server, site.link
    await asyncio.to_thread(server.order, clock)
    await site.up()
    link.refuse()
    await link.cut()
    await asyncio.to_thread(server.order, "forget")
    await asyncio.sleep(4)
    await link.start()
    await site.until("a job", site.jobs)
    await site.until("its end", lambda: all(job["state"] == "done" for job in site.jobs()))
    line = await site.end()
    for tag in (0, 1):
        ticks = {tick.value for tick in server.ticks(tag)}
        live, filled = line.values(tag), line.values(tag, Origin.BACKFILL)
        assert line.judge(server.ticks(tag), tag) == len(filled) >= 30
        assert filled == sorted(set(filled)), "in order, none twice"
        assert not set(live) & set(filled)
        assert {v for v in ticks if live[0] <= v <= live[-1]} == set(live) | set(filled)
    assert any(gap.cause != "first_value" for gap in line.gaps()), "annotated, not erased"


PAST = {"history": 100_000, "past": 20_000, "limits": {"maxNodesPerHistoryReadData": 1}}


@pytest.mark.parametrize("site", [PAST], indirect=True)
async def test_a_backfill_goes_on_through_kills_and_orders(site):
    """A slow cable: the agent is killed in the middle, the job cancelled and taken up again."""
    server, link = site.server, site.link
    await site.up()
    ticks = server.ticks(0)
    first, last = ticks[100], ticks[20_000]
    link.bytes_per_s_max = 60_000

    started = await site.do("start", "device", "all", "--from", moment(first), "--to", moment(last))
    number = started["job"]

    def job() -> dict:
        return {each["job"]: each for each in site.jobs()}[number]

    await site.until("a beginning", lambda: job()["percent"] > 0)
    site.agent.process.kill()
    await site.up()
    before = job()
    assert 0 < before["percent"] < 100
    assert (await site.do("cancel", str(number)))["state"] == "cancelled"
    reached = job()["percent"]
    await asyncio.sleep(1)
    assert job()["percent"] == reached < 100
    assert (await site.do("resume", str(number)))["state"] == "waiting"
    await site.until("more", lambda: job()["percent"] > reached)
    link.bytes_per_s_max = None
    await site.until("its end", lambda: job()["state"] == "done")
    await site.until(
        "that of the kill's gap", lambda: {x["state"] for x in site.jobs()} == {"done"}
    )
    frames = job()["frames"]
    line = await site.end()
    wanted = [tick.value for tick in ticks if first.source_ns < tick.source_ns < last.source_ns]
    for tag in (0, 1):
        live, filled = line.values(tag), line.values(tag, Origin.BACKFILL)
        assert [value for value in filled if value <= wanted[-1]] == wanted
        after = [value for value in filled if value > wanted[-1]]
        assert line.judge(server.ticks(tag), tag) == len(after), (
            "what the kill cost is fetched, too"
        )
        assert sorted({*live, *after}) == list(range(live[0], live[-1] + 1))
    assert frames == len(wanted), "both tags share their frames"

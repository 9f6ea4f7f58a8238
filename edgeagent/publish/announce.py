"""Retained messages: where each lane stands, and what a late joiner needs to read frames."""

from typing import Any

import msgspec

from edgeagent.journal import Epoch
from edgeagent.model.record import Lane
from edgeagent.publish.delivery import HEADS_UNTIL_SILENT, Delivery
from edgeagent.publish.outlet import Outlet

STOPPED_UNTIL_SILENT_NS = 3600 * 10**9
"""How long a stop by command is taken for intended: an update, or a restart of the machine with a
look at it, fits; an agent that nobody started again is noticed in the same shift."""


class Announcer:
    """Publishes schemas and contexts once a connection, and the head each time it is asked."""

    def __init__(self, delivery: Delivery, outlet: Outlet) -> None:
        self._delivery = delivery
        self._outlet = outlet
        self._said: set[tuple[str, int]] = set()

    async def announce(self) -> None:
        """Publish what is new among schemas and contexts, then the head."""
        journal, topics = self._delivery.journal, self._delivery.topics
        epoch = journal.epoch.uuid
        for number, content in await journal.descriptions(Lane.DATA, "S"):
            self._describe(topics.schema(epoch, number), Lane.DATA, number, content)
        for lane in Lane:
            for number, content in (await journal.descriptions(lane, "C"))[-1:]:
                self._describe(topics.context(lane), lane, number, content)
        self._outlet.say(topics.head, await self._head(), retain=True)

    def _describe(self, topic: str, lane: Lane, number: int, content: bytes) -> None:
        if (topic, number) in self._said:
            return
        self._said.add((topic, number))
        self._outlet.say(
            topic,
            {
                "v": 1,
                "site": self._delivery.site,
                "epoch": self._delivery.journal.epoch.uuid,
                "lane": lane.value,
                "number": number,
                "content": msgspec.Raw(content),
            },
            retain=True,
        )

    async def _head(self) -> dict[str, Any]:
        delivery, journal = self._delivery, self._delivery.journal
        epoch, before = journal.epoch, journal.epochs[:-1]
        lanes = await self._lanes(epoch)
        held = [(each.uuid, await self._lanes(each)) for each in before]
        earlier = [
            {"epoch": uuid, "lanes": of}
            for uuid, of in held
            if any(lane["lowest"] <= lane["highest"] for lane in of.values())
        ]
        health = None if delivery.brief_health is None else await delivery.brief_health()
        # Nothing waits from here on: no head that says "running" follows one that says "stopped".
        at = delivery.recorder.clock.utc_ns()
        every_ns = delivery.settings.head_every
        promised_ns = HEADS_UNTIL_SILENT * every_ns
        return {
            "v": 1,
            "site": delivery.site,
            "epoch": epoch.uuid,
            "at": at,
            "period": every_ns,
            "next_by": at + (STOPPED_UNTIL_SILENT_NS if delivery.stopped else promised_ns),
            "state": "stopped" if delivery.stopped else "running",
            "health": None if delivery.stopped else health,
            "lanes": lanes,
            "earlier": earlier,
            "configuration": delivery.recorder.context.get("configuration"),
            "suppressed_alarms": [],
        }

    async def _lanes(self, epoch: Epoch) -> dict[str, Any]:
        journal = self._delivery.journal
        return {lane.value: (await journal.lane_range(epoch, lane)).stated() for lane in Lane}

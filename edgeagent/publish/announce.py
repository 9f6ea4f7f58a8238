"""Retained messages: where each lane stands, and what a late joiner needs to read frames."""

from typing import Any

import msgspec

from edgeagent.journal import Epoch
from edgeagent.model.record import Lane
from edgeagent.publish.delivery import Delivery
from edgeagent.publish.outlet import Outlet


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
        journal, recorder = self._delivery.journal, self._delivery.recorder
        return {
            "v": 1,
            "site": self._delivery.site,
            "epoch": journal.epoch.uuid,
            "at": recorder.clock.utc_ns(),
            "lanes": await self._lanes(journal.epoch),
            "earlier": [
                {"epoch": epoch.uuid, "lanes": await self._lanes(epoch)}
                for epoch in journal.epochs[:-1]
            ],
            "configuration": recorder.context.get("configuration"),
            "suppressed_alarms": [],
        }

    async def _lanes(self, epoch: Epoch) -> dict[str, Any]:
        journal = self._delivery.journal
        return {lane.value: (await journal.lane_range(epoch, lane)).stated() for lane in Lane}

"""One broker connection as the stream uses it: windows for batches, plain JSON for the rest."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from edgeagent.model.record import Batch, Lane, encode_json
from edgeagent.mqtt import Session
from edgeagent.publish.delivery import Delivery

NDJSON = "application/x-ndjson"
JSON = "application/json"


class Outlet:
    """Sends within the windows that PUBACKs open.

    Three windows share the server's Receive Maximum: one for each lane, so that events never
    wait behind data, and one for everything that goes to single consumers.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._session: Session | None = None
        self._slots: dict[int, asyncio.Semaphore] = {}

    def open(self, session: Session) -> None:
        """Begin to use a connection."""
        size = max(1, min(self._delivery.settings.window_messages, session.receive_maximum // 3))
        self._session = session
        self.windows = {lane: asyncio.Semaphore(size) for lane in Lane}
        self.aside = asyncio.Semaphore(size)

    def on_published(self, message_id: int) -> None:
        """Free the slot of a message that the broker has taken."""
        slot = self._slots.pop(message_id, None)
        if slot is not None:
            slot.release()

    @property
    def session(self) -> Session:
        """The connection."""
        assert self._session is not None
        return self._session

    async def send(self, topic: str, batch: Batch, window: asyncio.Semaphore) -> int:
        """Publish a batch as soon as its window allows; return its size in bytes."""
        await window.acquire()
        payload = batch.encode()
        message_id = self.session.publish(topic, payload, content_type=NDJSON)
        self._slots[message_id] = window
        self._delivery.desk.sent(batch)
        self._delivery.status.messages += 1
        self._delivery.status.records += len(batch.bodies)
        if batch.missing:
            self._report_damage(batch)
        return len(payload)

    def say(
        self,
        topic: str,
        value: Mapping[str, Any],
        *,
        retain: bool = False,
        correlation: bytes | None = None,
    ) -> None:
        """Publish a JSON object."""
        payload = encode_json(value)
        self.session.publish(
            topic, payload, retain=retain, content_type=JSON, correlation=correlation
        )

    def _report_damage(self, batch: Batch) -> None:
        """Record once what is damaged; a block that is lost is one alarm, not a thousand."""
        places = {seq: (batch.epoch, batch.lane, seq) for seq in batch.missing}
        news = [seq for seq, place in places.items() if place not in self._delivery.damaged]
        self._delivery.damaged.update(places.values())
        for first, last in _runs(news):
            which = f"record {first} of" if first == last else f"records {first} to {last} of"
            self._delivery.recorder.event(
                "record.corrupt",
                "alarm",
                f"{which} lane {batch.lane} cannot be delivered: damaged on this disk",
                epoch=batch.epoch,
                lane=batch.lane.value,
                seq=first,
                last=last,
            )


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return first and last of each run of consecutive numbers, which come in order."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs

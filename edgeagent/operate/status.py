"""The running agent as people and scripts see it, and the acts that they may do."""

from collections.abc import Callable
from typing import Any

from edgeagent import __version__
from edgeagent.acquire.acquisition import Acquisition, LinkStatus
from edgeagent.configure import SitePlan
from edgeagent.journal import Recorder
from edgeagent.model import quality
from edgeagent.model.record import Lane
from edgeagent.operate.consumers import Act, change_consumer, consumer_rows
from edgeagent.publish.lossless import LosslessStream


class Agent:
    """One running agent, for status, watch and acts."""

    def __init__(
        self, plan: SitePlan, recorder: Recorder, acquisition: Acquisition, stream: LosslessStream
    ) -> None:
        self.plan = plan
        self.recorder = recorder
        self._acquisition = acquisition
        self._stream = stream

    async def status(self) -> dict[str, Any]:
        """Return everything that ``edgeagent status`` shows."""
        return {
            "running": True,
            "site": self.plan.settings.site,
            "agent": __version__,
            "configuration": self.plan.revision,
            "at_utc_ns": self.recorder.clock.utc_ns(),
            "clock": self.recorder.context.get("clock"),
            "journal": await self._journal(),
            "delivery": self._delivery(),
            "links": [self._link(status) for status in self._acquisition.links.values()],
            "gaps": {
                "open": self._acquisition.continuity.open_count(),
                "opened": self._acquisition.continuity.gaps_opened,
            },
            "groups": self.groups(),
        }

    async def _journal(self) -> dict[str, Any]:
        journal = self.recorder.journal
        return {
            "epoch": journal.epoch.uuid,
            "epochs": len(journal.epochs),
            "highest": {lane.value: journal.heads[lane][0] for lane in Lane},
            "bytes": await journal.file_bytes(),
            "frames": self._acquisition.frames,
            "full_since_utc_ns": self.recorder.full_since_ns,
            "mended": journal.mended,
        }

    def _delivery(self) -> dict[str, Any]:
        status = self._stream.status
        return {
            "broker": self.plan.settings.broker.url,
            "state": status.state,
            "cause": status.cause,
            "since_utc_ns": status.since_utc_ns,
            "messages": status.messages,
            "records": status.records,
            "receipts": status.receipts,
            "refused": status.refused,
            "catching_up": list(status.catching_up),
            "consumers": consumer_rows(self.recorder.journal),
        }

    def _link(self, status: LinkStatus) -> dict[str, Any]:
        return {
            "link": status.name,
            "state": status.state,
            "since_utc_ns": status.since_utc_ns,
            "cause": status.cause,
            "silent": dict(status.silent),
            "frames": status.frames,
            "failures": status.failures,
            "skipped": status.skipped,
            "connects": status.connects,
            "late_ms": round(status.late_s * 1e3, 1),
        }

    def groups(self) -> list[dict[str, Any]]:
        """Return the latest values of every group, with units and quality."""
        return [self._group(key) for key in sorted(self._acquisition.latest)]

    def _group(self, key: str) -> dict[str, Any]:
        frame, conditioned = self._acquisition.latest[key]
        line = self._acquisition.continuity.lines[key]
        statuses = dict(conditioned.statuses)
        uncertain = not self._acquisition.commissioned(frame.group.instrument)
        floor = quality.UNCERTAIN if uncertain else quality.GOOD
        present = set(range(len(conditioned.values)) if frame.present is None else frame.present)
        return {
            "instrument": frame.group.instrument,
            "group": frame.group.group,
            "period_ns": frame.group.period_ns,
            "utc_ns": frame.received_utc_ns,
            "gap": None if line.whole is None else line.whole.cause,
            "values": [
                {
                    "tag": tag.name,
                    "value": conditioned.values[i] if i in present else None,
                    "unit": tag.unit,
                    "quality": quality.name(statuses.get(i, floor)) if i in present else "absent",
                }
                for i, tag in enumerate(frame.group.tags)
            ],
        }

    async def act(self, act: Act) -> dict[str, Any]:
        """Do what a person asked for; recorded with who and why.

        :raises ValueError: if it cannot be done, in words for that person
        """
        await change_consumer(self.recorder, act)
        return {"done": act.verb, "consumer": act.consumer}

    def on_commit(self, listener: Callable[[Any], None]) -> Callable[[], None]:
        """Call ``listener`` after each commit; return what ends it."""
        listeners = self.recorder.listeners
        listeners.append(listener)
        return lambda: listeners.remove(listener)

"""The running agent as people and scripts see it."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from edgeagent import __version__
from edgeagent.acquire.acquisition import Acquisition, LinkStatus
from edgeagent.acquire.backfill import Backfill
from edgeagent.configure import SitePlan
from edgeagent.journal import Recorder
from edgeagent.model import quality
from edgeagent.model.record import Lane
from edgeagent.operate.consumers import consumer_rows
from edgeagent.operate.facts import Facts
from edgeagent.operate.health import health
from edgeagent.operate.measure import Vitals, measure, watch_vitals
from edgeagent.operate.metrics import metrics_text
from edgeagent.operate.reload import Configuration
from edgeagent.publish.lossless import LosslessStream


class Agent:
    """One running agent, for status, watch, health and metrics.

    :param budget: returns how the journal stands against its budget: ``Retention.state``
    :ivar vitals: what is measured for health alone
    """

    def __init__(
        self,
        configuration: Configuration,
        recorder: Recorder,
        acquisition: Acquisition,
        stream: LosslessStream,
        budget: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self._configuration = configuration
        self.recorder = recorder
        self._acquisition = acquisition
        self._stream = stream
        self._budget = budget
        self.backfill: Backfill | None = None
        self.vitals = Vitals(asyncio.get_running_loop().time())
        stream.report_health(self.brief_health)

    @property
    def plan(self) -> SitePlan:
        """The configuration that is in force."""
        return self._configuration.plan

    async def keep_vitals(self) -> None:
        """Measure what only health asks for, for ever."""
        await watch_vitals(self.vitals, self._acquisition)

    def budget(self) -> Mapping[str, Any] | None:
        """Return how the journal stands against its budget, ``None`` if nobody keeps one."""
        return None if self._budget is None else self._budget()

    async def measure(self) -> Facts:
        """Return what is measured at this moment."""
        return await measure(
            __version__,
            self.plan,
            self.recorder,
            self._acquisition,
            self._stream,
            self.vitals,
            self.budget(),
        )

    async def health(self) -> dict[str, Any]:
        """Return every check and the worst state of all, as JSON."""
        return health(await self.measure()).stated()

    async def brief_health(self) -> dict[str, Any]:
        """Return the worst state and the names of the checks that are not ok, as JSON."""
        return health(await self.measure()).brief()

    async def metrics(self) -> str:
        """Return everything that is measured in the text format of Prometheus."""
        return metrics_text(await self.measure())

    async def status(self) -> dict[str, Any]:
        """Return everything that ``edgeagent status`` shows."""
        return {
            "running": True,
            "site": self.plan.settings.site,
            "agent": __version__,
            "configuration": self.plan.revision,
            "at_utc_ns": self.recorder.clock.utc_ns(),
            "clock": self.recorder.context.get("clock"),
            "health": await self.health(),
            "journal": await self._journal(),
            "delivery": self._delivery(),
            "links": [self._link(status) for status in self._acquisition.links.values()],
            "gaps": {
                "open": self._acquisition.continuity.open_count(),
                "opened": self._acquisition.continuity.gaps_opened,
            },
            "backfills": [] if self.backfill is None else self.backfill.stated(),
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

    def on_commit(self, listener: Callable[[Any], None]) -> Callable[[], None]:
        """Call ``listener`` after each commit; return what ends it."""
        listeners = self.recorder.listeners
        listeners.append(listener)
        return lambda: listeners.remove(listener)

"""Back-fill by hand: what a person may start, end and take up again."""

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from edgeagent.acquire.acquisition import Acquisition
from edgeagent.acquire.backfill import Backfill, Job, NoSuchJob
from edgeagent.acquire.continuity import Stretch
from edgeagent.model.profile import Name, Strict
from edgeagent.model.settings import Role
from edgeagent.operate.acts import Act, ActKind, ActRefused


class StartArguments(Strict):
    """Which group, and which stretch of the device's time."""

    instrument: Name
    group: Name
    from_utc_ns: int = Field(ge=0)
    to_utc_ns: int = Field(ge=0)


class JobArguments(Strict):
    """Which job is meant."""

    job: int = Field(ge=1)


@dataclass(frozen=True, slots=True)
class History:
    """The acts on back-fills."""

    backfill: Backfill
    acquisition: Acquisition

    def acts(self) -> list[ActKind]:
        """Return the acts ``backfill.start``, ``.cancel`` and ``.resume``."""
        return [
            ActKind("backfill.start", Role.ENGINEER, StartArguments, self._start),
            ActKind("backfill.cancel", Role.ENGINEER, JobArguments, self._cancel),
            ActKind("backfill.resume", Role.ENGINEER, JobArguments, self._resume),
        ]

    async def _start(self, act: Act) -> dict[str, Any]:
        asked = act.arguments
        name = f"{asked.instrument}/{asked.group}"
        groups = {str(group): group for group in self.acquisition.groups}
        if name not in groups:
            raise ActRefused(f"there is no group {name}; known: {', '.join(sorted(groups))}")
        group = groups[name]
        if not self.backfill.remembers(group):
            raise ActRefused(f"{name}: its link is down, or its device remembers nothing")
        bounds = tuple((i, asked.from_utc_ns, asked.to_utc_ns) for i in range(len(group.tags)))
        try:
            job = self.backfill.start(
                Stretch(group, bounds, f"{act.person.account}: {act.reason}"), **act.facts()
            )
        except NoSuchJob as error:
            raise ActRefused(str(error)) from None
        return await self._done(job)

    async def _cancel(self, act: Act) -> dict[str, Any]:
        try:
            job = self.backfill.cancel(act.arguments.job, **act.facts())
        except NoSuchJob as error:
            raise ActRefused(str(error)) from None
        return await self._done(job)

    async def _resume(self, act: Act) -> dict[str, Any]:
        try:
            job = self.backfill.resume(act.arguments.job, **act.facts())
        except NoSuchJob as error:
            raise ActRefused(str(error)) from None
        return await self._done(job)

    async def _done(self, job: Job) -> dict[str, Any]:
        await self.acquisition.recorder.flush()
        return job.stated()

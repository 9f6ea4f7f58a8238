"""Taking up a changed configuration while running: all of it or nothing, and no more than changed.

Everything that can be refused is found before anything is touched. Links that both files state
alike go on; they miss no poll. What holds for the life of a process takes a restart, and is said.
"""

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeagent.acquire.acquisition import Acquisition
from edgeagent.configure import LinkPlan, SitePlan, load_plan
from edgeagent.journal import Recorder
from edgeagent.model.errors import ConfigurationError
from edgeagent.model.profile import Strict
from edgeagent.model.settings import BrokerSettings, Role
from edgeagent.operate.acts import Act, ActKind, ActRefused
from edgeagent.operate.links import Driver, LinkChange, Links, compare_links, open_drivers
from edgeagent.publish.lossless import LosslessStream

FAULTS_ON_RECORD_MAX = 10
_OF_THE_PROCESS = ("site", "enterprise", "state_dir", "pki", "topic_root", "journal", "control")
"""Keys of the site file that hold for the life of a process."""


class ReloadRefused(ActRefused):
    """A configuration that cannot be taken up; the one before holds in full."""


class NoArguments(Strict):
    """Nothing is to be stated."""


class Configuration:
    """The plan that is in force, and how another one comes into force."""

    def __init__(
        self,
        plan: SitePlan,
        recorder: Recorder,
        acquisition: Acquisition,
        links: Links,
        stream: LosslessStream,
    ) -> None:
        self.plan = plan
        self._recorder = recorder
        self._acquisition = acquisition
        self._links = links
        self._stream = stream
        self._secrets = _digest_of_files(plan.settings.broker)
        self._one_at_a_time = asyncio.Lock()

    def act(self) -> ActKind:
        """Return the act ``configuration.reload``."""
        return ActKind("configuration.reload", Role.ENGINEER, NoArguments, self.reload)

    async def reload(self, act: Act) -> dict[str, Any]:
        """Read the site file again and bring it into force.

        :raises ReloadRefused: with every fault; nothing was changed
        """
        async with self._one_at_a_time:
            try:
                wanted = await asyncio.to_thread(load_plan, self.plan.file)
                _refuse_restarts(self.plan, wanted)
                change = compare_links(self.plan.links, wanted.links)
                drivers = open_drivers(change.started, self._recorder.clock)
            except ConfigurationError as error:
                self._note_refusal(act, error)
                await self._recorder.flush()
                raise ReloadRefused(
                    f"{error}\nnothing was changed: the configuration before stays in force"
                ) from None
            return await self._bring_into_force(act, wanted, change, drivers)

    async def _bring_into_force(
        self, act: Act, wanted: SitePlan, change: LinkChange, drivers: dict[str, Driver]
    ) -> dict[str, Any]:
        before = self.plan.revision
        kept = {link.name: link for link in self.plan.links if link.name in change.kept}
        plan = replace(wanted, links=tuple(kept.get(link.name, link) for link in wanted.links))
        await self._links.stop(change.stopped)
        self._recorder.set_context({"configuration": plan.revision})
        self._acquisition.change(plan.instruments, _groups_on(self.plan.links, change.stopped))
        self._acquisition.forget_links({link.name for link in plan.links if link.instruments})
        self._links.start(change.started, drivers)
        secrets = _digest_of_files(plan.settings.broker)
        redeliver = secrets != self._secrets or _delivery(plan) != _delivery(self.plan)
        self.plan, self._secrets = plan, secrets
        stated = {**change.stated(), "delivery": "restarted" if redeliver else "untouched"}
        self._recorder.event(
            "configuration.reloaded",
            "info",
            f"configuration taken up by {act.person.account}: {act.reason}",
            before=before,
            after=plan.revision,
            **stated,
            **act.facts(),
        )
        if redeliver:
            self._stream.change(plan.settings.broker, plan.settings.stream)
        await self._recorder.flush()
        return {"before": before, "after": plan.revision, "kept": list(change.kept), **stated}

    def _note_refusal(self, act: Act, error: ConfigurationError) -> None:
        faults = [str(fault) for fault in error.faults]
        self._recorder.event(
            "configuration.refused",
            "warning",
            f"{len(faults)} faults; the configuration before stays in force",
            before=self.plan.revision,
            faults=faults[:FAULTS_ON_RECORD_MAX],
            **act.facts(),
        )


def _refuse_restarts(running: SitePlan, wanted: SitePlan) -> None:
    """Refuse changes that only a new process can make.

    :raises ConfigurationError: naming them all
    """
    faults = [
        wanted.document.fault(
            (key,), "changed, and holds for the life of a process", "systemctl restart edgeagent"
        )
        for key in _OF_THE_PROCESS
        if getattr(running.settings, key) != getattr(wanted.settings, key)
    ]
    if faults:
        raise ConfigurationError(faults)


def _delivery(plan: SitePlan) -> tuple[object, object]:
    return plan.settings.broker, plan.settings.stream


def _groups_on(links: tuple[LinkPlan, ...], names: tuple[str, ...]) -> set[str]:
    return {
        str(group)
        for link in links
        if link.name in names
        for instrument in link.instruments
        for group in instrument.groups
    }


def _digest_of_files(broker: BrokerSettings) -> str:
    """Return what tells that a password or a certificate was exchanged under the same name."""
    digest = hashlib.sha256()
    for path in (
        broker.password_file,
        broker.ca_file,
        broker.certificate_file,
        broker.key_file,
    ):
        digest.update(b"\0" if path is None else _content(path))
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        return str(error.errno).encode()

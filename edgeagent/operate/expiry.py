"""The ends of certificates: looked at every minute, an event before they come."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from edgeagent.journal import Recorder
from edgeagent.pki.folder import Folder, look, revocations, write_file

LOOK_EVERY_S = 60.0
DAY_NS = 86_400 * 10**9
STAGES_D = (60, 30, 14, 7, 1, 0)
"""Days before the end at which it is an event, once each."""
ALARM_STAGE_D = 1
REPORTED_NAME = "expiry.json"


@dataclass(frozen=True, slots=True)
class Expiring:
    """Something that ends: an own, trusted or issuing certificate, or a revocation list.

    :ivar place: ``own``, ``trusted``, ``issuers`` or ``crl``
    """

    place: str
    name: str
    fingerprint: str
    not_after_ns: int

    def stage_d(self, utc_ns: int) -> int | None:
        """Return the last of :data:`STAGES_D` that was passed, ``None`` if none was.

        A revocation list is renewed every few days: only its end counts.
        """
        left_ns = self.not_after_ns - utc_ns
        stages = STAGES_D[-1:] if self.place == "crl" else STAGES_D
        return min((stage for stage in stages if left_ns <= stage * DAY_NS), default=None)


@dataclass(slots=True)
class Expiries:
    """What is known of the ends of certificates; read by health, kept by :func:`keep_expiries`."""

    found: tuple[Expiring, ...] = ()
    changed: asyncio.Event = field(default_factory=asyncio.Event)


def expiring(folder: Folder) -> tuple[Expiring, ...]:
    """Return everything in the folder that the agent relies on. Reads files."""
    kept = look(folder, "own", "trusted", "issuers").kept
    found = {
        each.certificate.fingerprint: Expiring(
            each.place,
            each.certificate.subject,
            each.certificate.fingerprint,
            _ns(each.certificate.not_after),
        )
        for each in reversed(kept)
    }
    for revoked in revocations(folder).lists:
        if revoked.next_update is not None:
            found[revoked.fingerprint] = Expiring(
                "crl", revoked.issuer, revoked.fingerprint, _ns(revoked.next_update)
            )
    return tuple(found.values())


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**9


async def keep_expiries(folder: Folder, recorder: Recorder, expiries: Expiries) -> None:
    """Look into the folder for ever; each stage before an end is an event, once."""
    path = folder.root / REPORTED_NAME
    reported = await asyncio.to_thread(_reported, path)
    while True:
        expiries.changed.clear()
        expiries.found = await asyncio.to_thread(expiring, folder)
        # By a clock that is known to be wrong everything may seem to have expired.
        if recorder.context.get("clock", {}).get("state") != "unsynced":
            before, reported = reported, _report_all(recorder, expiries.found, reported)
            if reported != before:
                await recorder.committed()
                await asyncio.to_thread(_keep_reported, path, reported)
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await expiries.changed.wait()
        except TimeoutError:
            continue


def _report_all(
    recorder: Recorder, found: tuple[Expiring, ...], reported: dict[str, int]
) -> dict[str, int]:
    """Report each stage that is new; return the last stage of everything that is there."""
    after = {}
    for each in found:
        stage, before = each.stage_d(recorder.clock.utc_ns()), reported.get(each.fingerprint)
        if stage is not None and (before is None or stage < before):
            _report(recorder, each, stage)
            before = stage
        if before is not None:
            after[each.fingerprint] = before
    return after


def _report(recorder: Recorder, each: Expiring, stage: int) -> None:
    end = f"{_moment(each.not_after_ns):%Y-%m-%d}"
    what = "revocation list" if each.place == "crl" else f"certificate ({each.place})"
    verb = "expired" if stage == 0 else "expires"
    recorder.event(
        "certificate.expires",
        "alarm" if stage <= ALARM_STAGE_D else "warning",
        f"{what} {each.name!r} {verb} on {end}",
        place=each.place,
        fingerprint=each.fingerprint,
        subject=each.name,
        not_after=_moment(each.not_after_ns).isoformat(),
        days=stage,
    )


def _moment(utc_ns: int) -> datetime:
    return datetime.fromtimestamp(utc_ns / 1e9, UTC)


def _reported(path: Path) -> dict[str, int]:
    """Return the last stage that was reported of each certificate, by its fingerprint."""
    try:
        stated = json.loads(path.read_bytes())
        return {str(key): int(stage) for key, stage in stated.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _keep_reported(path: Path, reported: dict[str, int]) -> None:
    try:
        write_file(path, json.dumps(reported, sort_keys=True).encode(), 0o644)
    except OSError:
        return  # said again after a restart; the event itself is in the journal

"""Certificates of a running agent: made, trusted and rejected on record, and shown."""

import asyncio
import base64
import binascii
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, field_validator, model_validator

from edgeagent.journal import Recorder
from edgeagent.model.profile import Strict
from edgeagent.model.settings import Role
from edgeagent.operate.acts import Act, ActKind, ActRefused
from edgeagent.pki.certificate import Certificate, PkiError, printable, read_certificate
from edgeagent.pki.folder import (
    Folder,
    Kept,
    NotFound,
    find,
    look,
    move,
    put,
    revocations,
)
from edgeagent.pki.judge import Believed
from edgeagent.pki.own import DAYS, KEY_BITS, KEY_BITS_CHOICES, Wish, create

LEFTOVERS_SHOWN = 3

T = TypeVar("T")


# -- acts --------------------------------------------------------------------------------------


class CreateArguments(Strict):
    """What the agent's certificate is to state."""

    uri: str | None = Field(None, min_length=1, max_length=200)
    hosts: tuple[str, ...] = Field((), max_length=20)
    days: int = Field(DAYS, ge=1, le=36_500)
    key_bits: int = KEY_BITS
    replace: bool = False
    request: bool = False

    @field_validator("key_bits")
    @classmethod
    def _allowed(cls, bits: int) -> int:
        if bits not in KEY_BITS_CHOICES:
            raise ValueError(f"{bits} is none of {', '.join(map(str, KEY_BITS_CHOICES))}")
        return bits

    @field_validator("uri", "hosts")
    @classmethod
    def _plain(cls, stated: Any) -> Any:
        for text in (stated,) if isinstance(stated, str) else stated or ():
            if not text or not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError(f"{text!r} is not plain ASCII without spaces")
        return stated


class TrustArguments(Strict):
    """A certificate that was refused, by its fingerprint, or one that is brought along."""

    fingerprint: str | None = None
    certificate: str | None = Field(None, description="DER in base64")

    @model_validator(mode="after")
    def _one_of_both(self) -> "TrustArguments":
        if (self.fingerprint is None) == (self.certificate is None):
            raise ValueError("give fingerprint or certificate")
        return self


class RejectArguments(Strict):
    """A certificate that is trusted, by its fingerprint."""

    fingerprint: str


@dataclass(frozen=True, slots=True)
class _Desk:
    """What the acts work with."""

    folder: Folder
    recorder: Recorder
    site: str
    changed: Callable[[], None]
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def create(self, act: Act) -> dict[str, Any]:
        asked: CreateArguments = act.arguments
        host = socket.gethostname()
        wish = Wish(
            name=f"edgeagent {self.site}",
            uri=asked.uri or f"urn:{host}:edgeagent:{self.site}",
            hosts=asked.hosts or (host,),
            days=asked.days,
            key_bits=asked.key_bits,
        )
        now = _moment(self.recorder.clock.utc_ns())
        made = await self._in_thread(
            lambda: create(self.folder, wish, now, replace=asked.replace, request=asked.request)
        )
        facts = {
            "before": None if made.before is None else made.before.fingerprint,
            "after": made.certificate.fingerprint,
            "request": None if made.request is None else str(made.request),
        }
        self._record("certificate.created", "own certificate made", made.certificate, act, facts)
        await self.recorder.flush()
        return {**row("own", self.folder.own_certificate, made.certificate, now), **facts}

    async def trust(self, act: Act) -> dict[str, Any]:
        asked: TrustArguments = act.arguments
        certificate, path, others = await self._in_thread(lambda: self._trusted(asked))
        facts = {"same_application": [each.fingerprint for each in others[:LEFTOVERS_SHOWN]]}
        self._record("certificate.trusted", "certificate trusted", certificate, act, facts)
        await self.recorder.flush()
        now = _moment(self.recorder.clock.utc_ns())
        return {**row("trusted", path, certificate, now), **facts}

    def _trusted(self, asked: TrustArguments) -> tuple[Certificate, Path, list[Certificate]]:
        if asked.certificate is not None:
            try:
                certificate = read_certificate(base64.b64decode(asked.certificate, validate=True))
            except binascii.Error:
                raise PkiError("certificate is no base64") from None
            self._refuse_trusted(certificate)
            rejected = [
                each
                for each in look(self.folder, "rejected").kept
                if each.certificate.der == certificate.der
            ]
            path = put(self.folder, certificate, "trusted")
            for each in rejected:
                each.path.unlink(missing_ok=True)
        else:
            assert asked.fingerprint is not None
            try:
                kept = find(self.folder, asked.fingerprint, "rejected")
            except NotFound:
                self._refuse_trusted(find(self.folder, asked.fingerprint).certificate)
                raise
            certificate, path = kept.certificate, move(self.folder, kept, "trusted")
        return certificate, path, Believed.of(self.folder).same_application(certificate)

    def _refuse_trusted(self, certificate: Certificate) -> None:
        if Believed.of(self.folder).holds(certificate):
            raise PkiError(f"{certificate.fingerprint} is trusted already; nothing was changed")

    async def reject(self, act: Act) -> dict[str, Any]:
        asked: RejectArguments = act.arguments

        def rejected() -> tuple[Kept, Path]:
            kept = find(self.folder, asked.fingerprint, "trusted")
            return kept, move(self.folder, kept, "rejected")

        kept, path = await self._in_thread(rejected)
        self._record("certificate.rejected", "certificate rejected", kept.certificate, act, {})
        await self.recorder.flush()
        now = _moment(self.recorder.clock.utc_ns())
        return row("rejected", path, kept.certificate, now)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Do something with the files; nothing else is done with them meanwhile."""
        try:
            async with self.one_at_a_time:
                return await asyncio.to_thread(work)
        except PkiError as error:
            raise ActRefused(str(error)) from None
        except OSError as error:
            raise ActRefused(
                f"{error.filename}: {error.strerror}; give it to the service's user"
            ) from None

    def _record(
        self, event: str, text: str, certificate: Certificate, act: Act, facts: dict[str, Any]
    ) -> None:
        self.recorder.event(
            event,
            "info",
            f"{text} by {act.person.account}: {act.reason}",
            fingerprint=certificate.fingerprint,
            subject=certificate.subject,
            not_after=certificate.not_after.isoformat(),
            **facts,
            **act.facts(),
        )
        self.changed()


def certificate_acts(
    folder: Folder, recorder: Recorder, site: str, changed: Callable[[], None] = lambda: None
) -> list[ActKind]:
    """Return the acts ``certificate.create``, ``.trust`` and ``.reject``.

    :param changed: called when one of them has changed the folder
    """
    desk = _Desk(folder, recorder, site, changed)
    return [
        ActKind("certificate.create", Role.ENGINEER, CreateArguments, desk.create),
        ActKind("certificate.trust", Role.ENGINEER, TrustArguments, desk.trust),
        ActKind("certificate.reject", Role.ENGINEER, RejectArguments, desk.reject),
    ]


# -- what people see ---------------------------------------------------------------------------


def row(place: str, path: Path, certificate: Certificate, now: datetime) -> dict[str, Any]:
    """Return a certificate as JSON; what strangers wrote is safe to print."""
    return {
        "place": place,
        "fingerprint": certificate.fingerprint,
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "uris": [printable(uri) for uri in certificate.uris],
        "hosts": [printable(host) for host in certificate.hosts],
        "authority": certificate.is_authority,
        "key_bits": certificate.key_bits,
        "not_before": certificate.not_before.isoformat(),
        "not_after": certificate.not_after.isoformat(),
        "left_days": (certificate.not_after - now).days,
        "file": str(path),
        "pem": certificate.pem().decode("ascii"),
    }


def rows(folder: Folder, utc_ns: int) -> dict[str, Any]:
    """Return everything in the folder as JSON: ``certificates``, ``crl`` and ``unreadable``.

    Reads files.
    """
    now, contents, revoked = _moment(utc_ns), look(folder), revocations(folder)
    return {
        "folder": str(folder.root),
        "certificates": [
            row(each.place, each.path, each.certificate, now) for each in contents.kept
        ],
        "crl": [
            {
                "issuer": each.issuer,
                "next_update": each.next_update and each.next_update.isoformat(),
            }
            for each in revoked.lists
        ],
        "unreadable": [
            {"file": str(path), "reason": why}
            for path, why in (*contents.unreadable, *revoked.unreadable)
        ],
    }


def _moment(utc_ns: int) -> datetime:
    return datetime.fromtimestamp(utc_ns / 1e9, UTC)

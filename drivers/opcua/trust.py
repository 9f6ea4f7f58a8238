"""Whom we believe: the one place that decides about a server's certificate.

Nothing is trusted that a person has not put into the PKI folder, itself or by the authority that
issued it, and nothing is accepted instead. What is refused is kept, so that it can be looked at.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from edgeagent.pki.certificate import Certificate, PkiError, printable, read_certificate
from edgeagent.pki.folder import Folder, keep_rejected
from edgeagent.pki.judge import Believed, Doubt, judge

PREFIX_CHARACTERS = 12
"""Of a fingerprint: enough to name one certificate of a site."""


class Untrusted(Exception):
    """A server's certificate that is not accepted: why, and what to do.

    :ivar is_withdrawn: whether nobody stands for it, or somebody has taken that back: a connection
        that is up must end, too. What has merely grown old lets it go on
    """

    def __init__(self, text: str, *, is_withdrawn: bool) -> None:
        super().__init__(text)
        self.is_withdrawn = is_withdrawn


class Trust(Protocol):
    """Says whether a server may be talked to; called before a secure channel is opened."""

    def __call__(
        self, certificate: bytes, application_uri: str, host: str, now_utc_ns: int
    ) -> None:
        """Accept a server. May read and write files.

        :param certificate: DER, as the server sent it (of a chain the first)
        :param application_uri: what the server calls itself
        :param host: where it was found
        :param now_utc_ns: the agent's time
        :raises Untrusted: if it is not accepted
        """


def folder_trust(folder: Folder) -> Trust:
    """Accept whom the PKI folder says; it is read anew for each connection."""

    def trust(certificate: bytes, application_uri: str, host: str, now_utc_ns: int) -> None:
        try:
            shown = read_certificate(certificate)
        except PkiError as error:
            raise Untrusted(f"the server's certificate {error}", is_withdrawn=True) from None
        believed = Believed.of(folder)
        now = datetime.fromtimestamp(now_utc_ns / 1e9, UTC)
        doubts = judge(shown, believed, uri=application_uri, host=host, now=now)
        if not doubts:
            return
        who = f"the server's certificate {shown.subject!r}"
        kinds = {doubt.kind for doubt in doubts}
        is_withdrawn = bool(kinds & {"untrusted", "revoked"})
        # Of clocks, not of trust; and what lies under trusted is not put beside it.
        is_kept = kinds != {"time"} and not believed.holds(shown)
        failure = _kept(folder, shown) if is_kept else ""
        if "untrusted" not in kinds:
            raise Untrusted(f"{who} {_joined(doubts)}{failure}", is_withdrawn=is_withdrawn)
        others = [doubt for doubt in doubts if doubt.kind != "untrusted"]
        besides = f"; besides, it {_joined(others)}" if others else ""
        unknown = _unknown(folder, believed, shown, who)
        raise Untrusted(f"{unknown}{failure}{besides}", is_withdrawn=is_withdrawn)

    return trust


def _joined(doubts: Sequence[Doubt]) -> str:
    return "; it ".join(doubt.text for doubt in doubts)


def _unknown(folder: Folder, believed: Believed, shown: Certificate, who: str) -> str:
    """Say that nobody has accepted it, how it differs from what was known, and what to type."""
    accept = f"put it into {folder.trusted}"
    if folder.trusted is None:
        prefix = shown.fingerprint[:PREFIX_CHARACTERS]
        accept = f"type: edgeagent certs trust {prefix} --reason '...'"
    known = believed.same_application(shown)
    if known:
        return (
            f"{who} has changed: {_dated(shown)}, instead of {_dated(known[0])} that is trusted; "
            f"if the server was given a new one, compare the fingerprint with it, then {accept}; "
            "if not, somebody else may answer in its place"
        )
    return (
        f"{who} is not trusted; compare its SHA-256 fingerprint {shown.fingerprint} with the "
        f"server's, then {accept}"
    )


def _dated(certificate: Certificate) -> str:
    begin, end = certificate.not_before, certificate.not_after
    return f"{certificate.fingerprint}, valid {begin:%Y-%m-%d} to {end:%Y-%m-%d}"


def _kept(folder: Folder, shown: Certificate) -> str:
    """Keep a refused certificate; return what went wrong with that."""
    try:
        keep_rejected(folder, shown)
    except OSError as error:
        path: Path = folder.place("rejected")
        return f"; it could not be kept in {path}: {printable(error.strerror or str(error))}"
    return ""

"""Whether a certificate that somebody shows is to be believed (OPC 10000-4 section 6.1.3).

Pure: what is in the PKI folder, the certificate and the time in; every doubt out, in the order in
which the standard looks. Nothing is believed because something is missing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from edgeagent.pki.certificate import Certificate, RevocationList, printable
from edgeagent.pki.folder import Folder, Revocations, look, revocations

KEY_BITS_MIN = 2048
KEY_BITS_MAX = 4096
"""Of an application (OPC 10000-7); an authority's key may be longer."""
WEAK_HASHES = ("md5", "sha1")
CHAIN_MAX = 8

Kind: TypeAlias = Literal[
    "chain", "weak", "untrusted", "time", "host", "uri", "usage", "revoked", "no_crl"
]


@dataclass(frozen=True, slots=True)
class Doubt:
    """One reason not to believe a certificate.

    :ivar text: what is wrong, and behind a semicolon what to do
    """

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Believed:
    """What a person has put into the PKI folder."""

    trusted: tuple[Certificate, ...] = ()
    issuers: tuple[Certificate, ...] = ()
    revocations: Revocations = field(default_factory=Revocations)

    @classmethod
    def of(cls, folder: Folder) -> "Believed":
        """Read it from the folder."""
        kept = look(folder, "trusted", "issuers").kept
        return cls(
            tuple(each.certificate for each in kept if each.place == "trusted"),
            tuple(each.certificate for each in kept if each.place == "issuers"),
            revocations(folder),
        )

    def holds(self, certificate: Certificate) -> bool:
        """Whether a person has accepted this very certificate."""
        return any(each.der == certificate.der for each in self.trusted)

    def same_application(self, certificate: Certificate) -> list[Certificate]:
        """Return other accepted certificates of the same application URI, the newest first."""
        known = {
            each.fingerprint: each
            for each in self.trusted
            if set(each.uris) & set(certificate.uris) and each.der != certificate.der
        }
        return sorted(known.values(), key=lambda each: each.not_before, reverse=True)


def judge(
    shown: Certificate, believed: Believed, *, uri: str, host: str, now: datetime
) -> list[Doubt]:
    """Return every reason not to talk to the one who shows this certificate.

    Of a certificate that a person has accepted itself, by its fingerprint, host name and purpose
    are not looked at: the person has said whose it is.

    :param uri: what the other end calls itself
    :param host: where it was found: a DNS name or an address
    """
    chain, broken = _chain(shown, believed)
    is_pinned = believed.holds(shown)
    doubts = [Doubt("chain", broken)] if broken else []
    doubts += _weakness(chain)
    if not is_pinned and not any(map(believed.holds, chain)):
        doubts.append(Doubt("untrusted", "is not trusted"))
    doubts += _time(chain, now)
    if not is_pinned and host.lower() not in shown.hosts:
        names = printable(", ".join(shown.hosts)) or "no host"
        text = f"is for {names}, not for {host}; write its name into url, or trust it itself"
        doubts.append(Doubt("host", text))
    if uri not in shown.uris:
        names = printable(", ".join(map(repr, shown.uris))) or "nobody"
        text = f"is of {names}, but the server calls itself {printable(uri)!r}; renew it there"
        doubts.append(Doubt("uri", text))
    if not is_pinned and not _is_for_servers(shown):
        doubts.append(Doubt("usage", "is not meant for a server; have another one issued"))
    return doubts + list(_revocation(chain, believed.revocations, now))


# -- the chain ---------------------------------------------------------------------------------


def _chain(shown: Certificate, believed: Believed) -> tuple[list[Certificate], str]:
    """Return the certificate with the authorities above it, and what is wrong with that."""
    chain = [shown]
    while not chain[-1].is_self_issued:
        last = chain[-1]
        named = [
            each
            for each in (*believed.trusted, *believed.issuers)
            if each.parsed.subject == last.parsed.issuer and each.der != last.der
        ]
        if not named:
            return chain, (
                f"was issued by {last.issuer!r}, who is not known; put the authority's "
                "certificate into issuers/ and its revocation list into crl/"
            )
        able = [each for each in named if _may_issue(each, below=len(chain) - 1)]
        signers = [each for each in able if _has_signed(each, last)]
        if not signers:
            fault = "is not signed by it" if able else "is no authority for it"
            return chain, f"names {last.issuer!r} as its issuer, but {fault}; do not trust it"
        chain.append(max(signers, key=lambda each: each.not_after))
        if len(chain) > CHAIN_MAX:
            return chain, f"has more than {CHAIN_MAX} authorities above it; do not trust it"
    if not _has_signed(chain[-1], chain[-1]):
        return chain, "has no valid signature; do not trust it"
    return chain, ""


def _may_issue(authority: Certificate, below: int) -> bool:
    """Whether it is an authority, for so many further authorities below it."""
    length = authority.path_length
    return authority.is_authority and (length is None or below <= length)


def _has_signed(issuer: Certificate, issued: Certificate) -> bool:
    try:
        issued.parsed.verify_directly_issued_by(issuer.parsed)
    except Exception:  # noqa: BLE001 - whatever a library raises: nothing is proved
        return False
    return True


def _weakness(chain: Sequence[Certificate]) -> Iterator[Doubt]:
    for depth, each in enumerate(chain):
        whose = "has" if depth == 0 else f"stands below {each.subject!r}, which has"
        bits = each.key_bits
        if bits is None:
            text = f"{whose} no RSA key; renew it with one of {KEY_BITS_MIN} bits or more"
            yield Doubt("weak", text)
        elif bits < KEY_BITS_MIN or (depth == 0 and bits > KEY_BITS_MAX):
            text = f"{whose} a key of {bits} bits; renew it with {KEY_BITS_MIN} to {KEY_BITS_MAX}"
            yield Doubt("weak", text)
        if each.signed_with in WEAK_HASHES and not (depth and each.is_self_issued):
            text = f"{whose} a signature with {each.signed_with.upper()}; renew it with SHA256"
            yield Doubt("weak", text)


# -- time, purpose, revocation -----------------------------------------------------------------


def _time(chain: Sequence[Certificate], now: datetime) -> Iterator[Doubt]:
    clock = f"it is {now:%Y-%m-%d %H:%M} UTC here; check the clocks of both sides"
    for depth, each in enumerate(chain):
        whose = "" if depth == 0 else f"stands below {each.subject!r}, which "
        if now > each.not_after:
            text = (
                f"{whose}expired on {each.not_after:%Y-%m-%d %H:%M} UTC, and {clock}, or renew it"
            )
            yield Doubt("time", text)
        elif now < each.not_before:
            text = f"{whose}is valid only from {each.not_before:%Y-%m-%d %H:%M} UTC, and {clock}"
            yield Doubt("time", text)


def _is_for_servers(shown: Certificate) -> bool:
    try:
        purposes = shown.parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return any(
        each in purposes
        for each in (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    )


def _revocation(chain: Sequence[Certificate], known: Revocations, now: datetime) -> Iterator[Doubt]:
    for issued, issuer in pairwise(chain):
        lists = [each for each in known.lists if _is_list_of(each, issuer)]
        withdrawn = _withdrawn(issued, lists)
        which = "" if issued is chain[0] else f"stands below {issued.subject!r}, which "
        if withdrawn is not None:
            text = f"{which}was revoked on {withdrawn:%Y-%m-%d} by {issuer.subject!r}"
            yield Doubt("revoked", f"{text}; renew it, or find out why")
            continue
        if issuer.fingerprint in known.without:
            continue
        if not any(_is_current(each, now) for each in lists):
            fault = "is out of date" if lists else "is missing"
            yield Doubt(
                "no_crl",
                f"{which}may have been revoked: the revocation list of {issuer.subject!r} {fault}; "
                f"put it into crl/, or, if there is none, the line {issuer.fingerprint} into "
                "issuers/no-crl",
            )


def _is_list_of(revoked: RevocationList, issuer: Certificate) -> bool:
    if revoked.parsed.issuer != issuer.parsed.subject:
        return False
    try:
        key = issuer.parsed.public_key()
        return revoked.parsed.is_signature_valid(key)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - a list whose signature cannot be proved is none
        return False


def _is_current(revoked: RevocationList, now: datetime) -> bool:
    until = revoked.next_update
    return revoked.last_update <= now and (until is None or now <= until)


def _withdrawn(issued: Certificate, lists: Iterable[RevocationList]) -> datetime | None:
    for each in lists:
        entry = each.parsed.get_revoked_certificate_by_serial_number(issued.serial)
        if entry is not None:
            return entry.revocation_date_utc
    return None

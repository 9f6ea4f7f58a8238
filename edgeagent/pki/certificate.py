"""One X.509 certificate, read once into plain facts; safe for what strangers send."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from edgeagent.model.errors import EdgeAgentError

PEM_BEGINS = b"-----"
TEXT_CHARACTERS_MAX = 200

ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)


class PkiError(EdgeAgentError):
    """Something about certificates that a person must mend, in words for that person."""


class NotACertificate(PkiError):
    """Bytes that are no certificate."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate states.

    :ivar der: as it goes over the wire
    :ivar fingerprint: SHA-256 over ``der``, in hex: what people compare
    :ivar uris: application URIs (OPC 10000-6 section 6.2.2 wants exactly one); as they stand there,
        see :func:`printable`
    :ivar hosts: DNS names and addresses, in lower case; likewise
    :ivar key_bits: length of its RSA key; ``None`` if it has another kind of key
    :ivar signed_with: name of the signature's hash, e.g. ``sha256``
    :ivar is_authority: whether it may issue certificates (RFC 5280 section 4.2.1.9)
    :ivar path_length: how many authorities may stand between it and what it is for
    """

    der: bytes = field(repr=False)
    fingerprint: str
    subject: str
    issuer: str
    serial: int
    not_before: datetime
    not_after: datetime
    uris: tuple[str, ...]
    hosts: tuple[str, ...]
    key_bits: int | None
    signed_with: str
    is_authority: bool
    path_length: int | None
    parsed: x509.Certificate = field(repr=False, compare=False)

    @property
    def is_self_issued(self) -> bool:
        """Whether nobody stands above it."""
        return self.parsed.subject == self.parsed.issuer

    def pem(self) -> bytes:
        """Return it as PEM."""
        return self.parsed.public_bytes(Encoding.PEM)


def read_certificate(raw: bytes) -> Certificate:
    """Return the first certificate of DER or PEM.

    :raises NotACertificate: whatever is wrong with it
    """
    return read_certificates(raw)[0]


def read_certificates(raw: bytes) -> list[Certificate]:
    """Return every certificate of a PEM, or the one of a DER.

    :raises NotACertificate: if one of them cannot be read
    """
    try:
        if raw.lstrip().startswith(PEM_BEGINS):
            return [_facts(each) for each in x509.load_pem_x509_certificates(raw)]
        return [_facts(x509.load_der_x509_certificate(raw))]
    except Exception as error:  # noqa: BLE001 - whatever a library raises at what strangers send
        reason = printable(str(error)) or type(error).__name__
        raise NotACertificate(f"cannot be read as a certificate: {reason}") from None


def _facts(stated: x509.Certificate) -> Certificate:
    key = stated.public_key()
    signed_with = stated.signature_hash_algorithm
    names = _extension(stated, x509.SubjectAlternativeName)
    limits = _extension(stated, x509.BasicConstraints)
    usage = _extension(stated, x509.KeyUsage)
    signs = usage is None or usage.key_cert_sign
    hosts: list[str] = []
    if names is not None:
        hosts += names.get_values_for_type(x509.DNSName)
        hosts += map(str, names.get_values_for_type(x509.IPAddress))
    uris = [] if names is None else names.get_values_for_type(x509.UniformResourceIdentifier)
    return Certificate(
        der=stated.public_bytes(Encoding.DER),
        fingerprint=stated.fingerprint(hashes.SHA256()).hex(),
        subject=printable(stated.subject.rfc4514_string()),
        issuer=printable(stated.issuer.rfc4514_string()),
        serial=stated.serial_number,
        not_before=stated.not_valid_before_utc,
        not_after=stated.not_valid_after_utc,
        uris=tuple(uris),
        hosts=tuple(host.lower() for host in hosts),
        key_bits=key.key_size if isinstance(key, RSAPublicKey) else None,
        signed_with="none" if signed_with is None else signed_with.name,
        is_authority=limits is not None and limits.ca and signs,
        path_length=None if limits is None else limits.path_length,
        parsed=stated,
    )


def _extension(stated: x509.Certificate, kind: type[ExtensionT]) -> ExtensionT | None:
    try:
        return stated.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def printable(text: str) -> str:
    """Return what a stranger wrote so that it cannot take over a terminal or fill a log."""
    clean = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    if len(clean) <= TEXT_CHARACTERS_MAX:
        return clean
    return clean[: TEXT_CHARACTERS_MAX - 1] + "…"


@dataclass(frozen=True, slots=True)
class RevocationList:
    """Which certificates their authority has withdrawn (RFC 5280 section 5).

    :ivar next_update: until when it counts; ``None`` without end
    """

    fingerprint: str
    issuer: str
    last_update: datetime
    next_update: datetime | None
    parsed: x509.CertificateRevocationList = field(repr=False, compare=False)


def read_revocation_list(raw: bytes) -> RevocationList:
    """Return a revocation list of DER or PEM.

    :raises PkiError: whatever is wrong with it
    """
    try:
        is_pem = raw.lstrip().startswith(PEM_BEGINS)
        parsed = (x509.load_pem_x509_crl if is_pem else x509.load_der_x509_crl)(raw)
        for _ in parsed:  # each entry is read now, not when somebody is to be judged
            pass
        return RevocationList(
            fingerprint=parsed.fingerprint(hashes.SHA256()).hex(),
            issuer=printable(parsed.issuer.rfc4514_string()),
            last_update=parsed.last_update_utc,
            next_update=parsed.next_update_utc,
            parsed=parsed,
        )
    except Exception as error:  # noqa: BLE001 - whatever a library raises
        reason = printable(str(error)) or type(error).__name__
        raise PkiError(f"cannot be read as a revocation list: {reason}") from None

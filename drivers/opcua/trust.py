"""Whom we believe: the one place that decides about a server's certificate.

Nothing is trusted that a person has not put into the folder, and nothing is accepted instead.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding


class Untrusted(Exception):
    """A server's certificate that is not accepted: why, and what to do."""


class Trust(Protocol):
    """Says whether a server may be talked to; called before a secure channel is opened."""

    def __call__(self, certificate: bytes, application_uri: str, now_utc_ns: int) -> None:
        """Accept a server.

        :param certificate: DER, as the server sent it (of a chain the first)
        :param application_uri: what the server calls itself
        :param now_utc_ns: the agent's time
        :raises Untrusted: if it is not accepted
        """


def fingerprint(certificate: bytes) -> str:
    """Return the SHA-256 fingerprint by which people compare certificates."""
    return x509.load_der_x509_certificate(certificate).fingerprint(hashes.SHA256()).hex()


def trusted_folder(folder: Path) -> Trust:
    """Accept only certificates that lie in ``folder`` (``*.der`` or ``*.pem``), byte for byte."""

    def trust(certificate: bytes, application_uri: str, now_utc_ns: int) -> None:
        try:
            stated = x509.load_der_x509_certificate(certificate)
        except ValueError as error:
            raise Untrusted(f"the server's certificate cannot be read: {error}") from None
        who = f"the server's certificate {stated.subject.rfc4514_string()!r}"
        if certificate not in _certificates(folder):
            raise Untrusted(
                f"{who} is not trusted; compare its SHA-256 fingerprint "
                f"{fingerprint(certificate)} with the server's, then put it into {folder}"
            )
        now = datetime.fromtimestamp(now_utc_ns / 1e9, UTC)
        if now > stated.not_valid_after_utc:
            raise Untrusted(f"{who} expired on {stated.not_valid_after_utc:%Y-%m-%d}; renew it")
        if now < stated.not_valid_before_utc:
            begin = f"{stated.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            raise Untrusted(f"{who} is valid only from {begin}; check the clocks of both sides")
        if application_uri not in _uris(stated):
            raise Untrusted(f"{who} is not of {application_uri!r}, as the server calls itself")

    return trust


def _certificates(folder: Path) -> set[bytes]:
    found = set()
    for path in (*folder.glob("*.der"), *folder.glob("*.crt"), *folder.glob("*.pem")):
        try:
            raw = path.read_bytes()
            is_pem = raw.startswith(b"-----")
            parsed = (x509.load_pem_x509_certificate if is_pem else x509.load_der_x509_certificate)(
                raw
            )
        except (OSError, ValueError):
            continue
        found.add(parsed.public_bytes(Encoding.DER))
    return found


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)

"""Certificates for tests: self-signed, issued by an authority, expired, weak, revoked."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgeagent.pki.certificate import Certificate, read_certificate
from tests.clocks import START_UTC_NS

NOW = datetime.fromtimestamp(START_UTC_NS / 1e9, UTC)
"""The time of a :class:`~tests.clocks.ManualClock` at its start."""
URI = "urn:acme:freezer"
HOST = "freezer.local"


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return always the same key for a number: making one takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def curve_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(
    name: str = "Freezer",
    *,
    uri: str | None = URI,
    hosts: Sequence[str] = (HOST,),
    days: float = 365,
    age: float = 10,
    now: datetime = NOW,
    key: Any = None,
    above: "Authority | None" = None,
    authority: bool = False,
    path_length: int | None = None,
    hash_with: Any = None,
    purposes: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH,),
) -> Certificate:
    """Return a certificate; signed by itself unless somebody is above."""
    key = key or rsa_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = subject if above is None else above.certificate.parsed.subject
    signer = key if above is None else above.key
    names: list[x509.GeneralName] = [] if uri is None else [x509.UniformResourceIdentifier(uri)]
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    usage = x509.KeyUsage(True, True, True, True, False, authority, authority, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=age))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(authority, path_length), critical=True)
        .add_extension(usage, critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(purposes)), critical=False)
    signed = builder.sign(signer, hash_with or hashes.SHA256())
    return read_certificate(signed.public_bytes(Encoding.DER))


class Authority:
    """Issues certificates and revocation lists."""

    def __init__(self, name: str = "Site CA", number: int = 1, **facts: Any) -> None:
        self.key = rsa_key(100 + number)
        self.certificate = certificate(
            name, uri=None, hosts=(), key=self.key, authority=True, **facts
        )

    def issue(self, **facts: Any) -> Certificate:
        return certificate(above=self, **facts)

    def revokes(
        self, *revoked: Certificate, days: float = 7, age: float = 1, now: datetime = NOW
    ) -> bytes:
        """Return a revocation list."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.parsed.subject)
            .last_update(now - timedelta(days=age))
            .next_update(now + timedelta(days=days))
        )
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.serial)
            entry = entry.revocation_date(now - timedelta(days=age))
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def key_pem(key: Any) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

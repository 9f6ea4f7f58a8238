"""Application certificates for tests (OPC 10000-6 section 6.2.2)."""

import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

URI = "urn:edgeagent:test:agent"


class Pair(NamedTuple):
    """Certificate and key, as files."""

    certificate: Path
    key: Path


def make(directory: Path, name: str, *, uri: str = URI, days: float = 30, age: float = 2) -> Pair:
    """Write a self-signed certificate (DER) and its key (PEM).

    :param days: how long it is valid from now; negative: it has expired
    :param age: how many days ago it became valid
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(True, True, True, True, False, True, False, False, False)
    purposes = [x509.ExtendedKeyUsageOID.CLIENT_AUTH, x509.ExtendedKeyUsageOID.SERVER_AUTH]
    names = [x509.UniformResourceIdentifier(uri), x509.DNSName("localhost")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=age))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pair = Pair(directory / f"{name}.der", directory / f"{name}.pem")
    pair.certificate.write_bytes(certificate.public_bytes(Encoding.DER))
    pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pair

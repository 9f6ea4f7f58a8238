"""Making the agent's own key, certificate and request (OPC 10000-6 section 6.2.2)."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgeagent.pki.certificate import Certificate, PkiError, read_certificate
from edgeagent.pki.folder import Folder, write_file

BACKDATED = timedelta(days=3)
"""A server whose clock is behind must not find it not yet valid."""
DAYS = 1095
KEY_BITS = 3072
KEY_BITS_CHOICES = (2048, 3072, 4096)
"""What all security policies that we speak allow (OPC 10000-7, Basic256Sha256 and others)."""
COMMON_NAME_CHARACTERS_MAX = 64


class AlreadyThere(PkiError):
    """There is a certificate or a key, and nobody said that it is to be replaced."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the certificate is to state.

    :ivar uri: application URI: what servers know this agent by, for ever
    :ivar hosts: DNS names and addresses of this machine
    """

    name: str
    uri: str
    hosts: Sequence[str]
    days: int = DAYS
    key_bits: int = KEY_BITS


@dataclass(frozen=True, slots=True)
class Created:
    """What was made.

    :ivar certificate: the certificate that is in force now
    :ivar before: the one that it replaced
    :ivar request: the request for an authority, if one was wanted
    """

    certificate: Certificate
    before: Certificate | None
    request: Path | None


def create(
    folder: Folder, wish: Wish, now: datetime, *, replace: bool = False, request: bool = False
) -> Created:
    """Make a key and a self-signed certificate, and a request on demand.

    A request alone is made for the key that is there already.

    :raises AlreadyThere: if there is one and ``replace`` is not said; nothing was changed
    :raises PkiError: if what is there cannot be used
    :raises OSError: if a file cannot be written
    """
    before = own_certificate(folder)
    is_there = before is not None or folder.own_key.exists()
    if is_there and not (replace or request):
        raise AlreadyThere(
            f"there is a certificate in {folder.own_certificate.parent}; servers that trust it "
            "must trust a new one first: say --replace to make one, --csr to have it issued by "
            "an authority"
        )
    if is_there and not replace:
        key, certificate = _own_key(folder), before
        stated = _names(wish) if before is None else _names_of(before)
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=wish.key_bits)
        certificate = None
        stated = _names(wish)
    if certificate is None:
        made = _self_signed(key, stated, now, wish.days)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_file(folder.own_key, secret, 0o600)
        write_file(folder.own_certificate, made.public_bytes(Encoding.PEM), 0o644)
        certificate = read_certificate(made.public_bytes(Encoding.DER))
    if request:
        write_file(folder.own_request, _request(key, stated), 0o644)
    return Created(certificate, before, folder.own_request if request else None)


def own_certificate(folder: Folder) -> Certificate | None:
    """Return the agent's own certificate, ``None`` if there is none.

    :raises PkiError: if the file is no certificate
    """
    try:
        return read_certificate(folder.own_certificate.read_bytes())
    except FileNotFoundError:
        return None
    except PkiError as error:
        raise PkiError(f"{folder.own_certificate} {error}; say --replace, or restore it") from None


def _own_key(folder: Folder) -> rsa.RSAPrivateKey:
    try:
        key = load_pem_private_key(folder.own_key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise PkiError(f"{folder.own_key}: {error}; say --replace, or restore it") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise PkiError(f"{folder.own_key} is no RSA key; say --replace")
    return key


_Names = tuple[x509.Name, x509.SubjectAlternativeName]


def _names(wish: Wish) -> _Names:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, wish.name[:COMMON_NAME_CHARACTERS_MAX])]
    )
    return subject, x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(wish.uri), *map(_host, wish.hosts)]
    )


def _names_of(certificate: Certificate) -> _Names:
    stated = certificate.parsed
    names = stated.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return stated.subject, names


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_itself: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=signs_itself,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


_PURPOSE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
_NO_AUTHORITY = x509.BasicConstraints(ca=False, path_length=None)


def _self_signed(
    key: rsa.RSAPrivateKey, names: _Names, now: datetime, days: int
) -> x509.Certificate:
    subject, alternative = names
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    begin = now.replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - BACKDATED)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(identifier, critical=False)
        .add_extension(issuer, critical=False)
        .add_extension(alternative, critical=False)
        .add_extension(_NO_AUTHORITY, critical=True)
        .add_extension(_usage(signs_itself=True), critical=True)
        .add_extension(_PURPOSE, critical=False)
        .sign(key, hashes.SHA256())
    )


def _request(key: rsa.RSAPrivateKey, names: _Names) -> bytes:
    subject, alternative = names
    made = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(alternative, critical=False)
        .add_extension(_NO_AUTHORITY, critical=True)
        .add_extension(_usage(signs_itself=False), critical=True)
        .add_extension(_PURPOSE, critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)

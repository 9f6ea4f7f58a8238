"""The agent's own certificate: as OPC 10000-6 section 6.2.2 asks, and never lost by accident."""

import ssl
import stat
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edgeagent.pki.certificate import PkiError
from edgeagent.pki.folder import Folder
from edgeagent.pki.own import AlreadyThere, Wish, create, own_certificate
from tests.authority import NOW, certificate

WISH = Wish("edgeagent berlin-1", "urn:edge:edgeagent:berlin-1", ("edge", "10.0.0.7"), 1095, 2048)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "pki")


def test_the_certificate_states_what_the_standard_asks(folder):
    made = create(folder, WISH, NOW).certificate
    assert (made.uris, made.hosts) == ((WISH.uri,), ("edge", "10.0.0.7"))
    assert (made.key_bits, made.signed_with, made.is_authority) == (2048, "sha256", False)
    assert made.not_before == NOW.replace(microsecond=0) - timedelta(days=3)
    assert made.not_after == NOW.replace(microsecond=0) + timedelta(days=1095)
    extensions = made.parsed.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.content_commitment
    assert usage.value.key_encipherment
    assert usage.value.data_encipherment
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    made.parsed.verify_directly_issued_by(made.parsed)


def test_three_years_and_3072_bits_are_what_comes_without_a_word():
    wish = Wish("a", "urn:a", ())
    assert (wish.days, wish.key_bits) == (1095, 3072)


def test_the_key_is_for_the_service_alone_and_fits(folder):
    made = create(folder, WISH, NOW).certificate
    assert stat.S_IMODE(folder.own_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.own_key.parent.stat().st_mode) == 0o700
    key = load_pem_private_key(folder.own_key.read_bytes(), None)
    assert key.public_key() == made.parsed.public_key()
    ssl.create_default_context().load_cert_chain(folder.own_certificate, folder.own_key)


def test_nothing_is_overwritten_without_a_word(folder):
    first = create(folder, WISH, NOW).certificate
    key = folder.own_key.read_bytes()
    with pytest.raises(AlreadyThere, match="say --replace"):
        create(folder, WISH, NOW)
    assert (own_certificate(folder), folder.own_key.read_bytes()) == (first, key)
    again = create(folder, WISH, NOW, replace=True)
    assert (again.before, again.certificate != first) == (first, True)
    assert folder.own_key.read_bytes() != key


def test_a_key_alone_is_not_overwritten_either(folder):
    create(folder, WISH, NOW)
    folder.own_certificate.unlink()
    with pytest.raises(AlreadyThere):
        create(folder, WISH, NOW)


def test_a_request_is_for_the_key_that_is_there(folder):
    first = create(folder, WISH, NOW).certificate
    made = create(folder, WISH, NOW, request=True)
    assert made.certificate == first == own_certificate(folder)
    request = x509.load_pem_x509_csr(folder.own_request.read_bytes())
    assert request.is_signature_valid
    assert request.public_key() == first.parsed.public_key()
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [WISH.uri]


def test_certificate_and_request_come_in_one_step(folder):
    made = create(folder, WISH, NOW, request=True)
    assert (made.before, made.request) == (None, folder.own_request)
    assert own_certificate(folder) == made.certificate


def test_a_certificate_that_an_authority_issued_may_be_followed_by_others(folder):
    made = create(folder, WISH, NOW).certificate
    folder.own_certificate.write_bytes(made.pem() + certificate("CA").pem())
    assert own_certificate(folder) == made


def test_a_spoilt_certificate_is_named(folder):
    create(folder, WISH, NOW)
    folder.own_certificate.write_text("oops")
    with pytest.raises(PkiError, match=r"certificate\.pem cannot be read as a certificate"):
        create(folder, WISH, NOW)
    with pytest.raises(PkiError):
        create(folder, WISH, NOW, request=True)

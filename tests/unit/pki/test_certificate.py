"""Reading certificates: what strangers send raises one error and cannot write on a terminal."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.opcua.trust import Untrusted, folder_trust
from edgeagent.pki.certificate import (
    NotACertificate,
    PkiError,
    printable,
    read_certificate,
    read_certificates,
    read_revocation_list,
)
from edgeagent.pki.folder import Folder
from tests.authority import HOST, URI, Authority, certificate
from tests.clocks import START_UTC_NS

SOUND = certificate(hosts=(HOST, "10.0.0.7"))


def test_der_and_pem_say_the_same():
    for raw in (SOUND.der, SOUND.pem(), b"\n" + SOUND.pem()):
        read = read_certificate(raw)
        assert read == SOUND
        assert (read.uris, read.hosts) == ((URI,), (HOST, "10.0.0.7"))
    assert read_certificates(SOUND.pem() + certificate("Other").pem())[1].subject == "CN=Other"


@given(st.binary(max_size=200) | st.just(b"-----BEGIN CERTIFICATE-----\nAAAA\n"))
def test_garbage_is_no_certificate(raw):
    with pytest.raises(NotACertificate, match="cannot be read"):
        read_certificate(raw)


@given(st.data())
def test_a_mutated_revocation_list_is_read_or_refused(data):
    raw = bytearray(Authority().revokes(SOUND))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(PkiError):
        assert read_revocation_list(bytes(raw)).issuer.isprintable()


@given(st.data())
def test_a_mutated_certificate_is_refused_and_nothing_else_happens(tmp_path_factory, data):
    """A bit anywhere in it: whatever it says then, it is not the one that was accepted."""
    raw = bytearray(SOUND.der)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    if bytes(raw) == SOUND.der:
        return
    root = tmp_path_factory.getbasetemp() / "mutated"
    (root / "trusted").mkdir(parents=True, exist_ok=True)
    (root / "trusted" / "sound.der").write_bytes(SOUND.der)
    trust = folder_trust(Folder(root))
    trust(SOUND.der, URI, HOST, START_UTC_NS)
    with pytest.raises(Untrusted) as caught:
        trust(bytes(raw), URI, HOST, START_UTC_NS)
    assert str(caught.value).isprintable()


def test_a_name_cannot_take_over_a_terminal():
    hostile = certificate("Freezer\x1b[2J\n\u202e")
    assert hostile.subject.isprintable()
    assert printable("a" * 300).endswith("a…")

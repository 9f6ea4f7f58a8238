"""Whom to believe: each step of OPC 10000-4 section 6.1.3, passed and failed."""

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from edgeagent.pki.folder import Folder, put
from edgeagent.pki.judge import Believed, judge
from tests.authority import HOST, NOW, URI, Authority, certificate, curve_key, rsa_key

SITE_CA = Authority()
SHORT = Authority("Short CA", 2, path_length=0)


def doubts(shown, trusted=(), issuers=(), *, uri=URI, host=HOST, now=NOW):
    return judge(shown, Believed(tuple(trusted), tuple(issuers)), uri=uri, host=host, now=now)


def kinds(*arguments, **facts):
    return [doubt.kind for doubt in doubts(*arguments, **facts)]


class Site:
    """A PKI folder in which an authority is trusted."""

    def __init__(self, root, *authorities):
        self.folder = Folder(root)
        (root / "crl").mkdir()
        (root / "issuers").mkdir()
        for each in authorities or (SITE_CA,):
            put(self.folder, each.certificate, "trusted")

    def crl(self, content, name="ca.crl"):
        (self.folder.root / "crl" / name).write_bytes(content)

    def doubts(self, shown, **facts):
        where = {"uri": URI, "host": HOST, "now": NOW} | facts
        return judge(shown, Believed.of(self.folder), **where)

    def kinds(self, shown, **facts):
        return [doubt.kind for doubt in self.doubts(shown, **facts)]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_what_a_person_has_accepted_is_believed():
    shown = certificate()
    assert kinds(shown, [shown]) == []


def test_what_nobody_has_accepted_is_not():
    assert kinds(certificate()) == ["untrusted"]
    assert kinds(certificate(), [certificate()]) == ["untrusted"], "another serial number"


def test_a_trusted_application_is_no_authority_for_others():
    """Its self-signed certificate may sign certificates by its key usage, but is none of a CA."""
    trusted = certificate("Freezer")
    rogue = Authority.__new__(Authority)
    rogue.key, rogue.certificate = rsa_key(), trusted
    shown = rogue.issue(name="Rogue", key=rsa_key(1))
    assert kinds(shown, [trusted]) == ["chain", "untrusted"]


@pytest.mark.parametrize(
    ("facts", "kind", "words"),
    [
        ({"days": -1}, "time", "expired on 2026-11-"),
        ({"age": -1}, "time", "is valid only from 2026-11-"),
        ({"uri": "urn:acme:other"}, "uri", "is of 'urn:acme:other', but the server calls itself"),
        ({"uri": None}, "uri", "is of nobody"),
        ({"key": rsa_key(9, 1024)}, "weak", "has a key of 1024 bits"),
        ({"key": curve_key()}, "weak", "has no RSA key"),
    ],
)
def test_also_an_accepted_certificate_must_be_in_order(facts, kind, words):
    shown = certificate(**{"age": 10, "days": 10} | facts)
    (doubt,) = doubts(shown, [shown])
    assert (doubt.kind, words in doubt.text) == (kind, True), doubt.text


def test_a_wrong_clock_is_named_as_what_it_may_be():
    shown = certificate(days=10)
    (doubt,) = doubts(shown, [shown], now=NOW + timedelta(days=4000))
    assert "check the clocks of both sides" in doubt.text


def test_of_an_accepted_certificate_host_and_purpose_do_not_matter():
    shown = certificate(hosts=(), purposes=[ExtendedKeyUsageOID.CLIENT_AUTH])
    assert kinds(shown, [shown], host="10.0.0.7") == []


def test_what_a_trusted_authority_issued_is_believed(site):
    site.crl(SITE_CA.revokes())
    shown = SITE_CA.issue(key=rsa_key(2))
    assert site.kinds(shown) == []
    assert site.kinds(shown, host=HOST.upper()) == []


def test_of_what_an_authority_issued_host_and_purpose_matter(site):
    site.crl(SITE_CA.revokes())
    shown = SITE_CA.issue(hosts=("10.0.0.7", "other"), purposes=[ExtendedKeyUsageOID.CLIENT_AUTH])
    assert site.kinds(shown, host="10.0.0.7") == ["usage"]
    assert site.kinds(shown) == ["host", "usage"]
    assert "is for other, 10.0.0.7, not for freezer.local" in site.doubts(shown)[0].text


def test_a_revoked_certificate_is_refused_also_when_the_list_is_old(site):
    shown = SITE_CA.issue()
    site.crl(SITE_CA.revokes(shown))
    assert site.kinds(shown) == ["revoked"]
    site.crl(SITE_CA.revokes(shown, days=-1, age=9))
    assert site.kinds(shown) == ["revoked"]


def test_a_list_that_is_missing_or_old_or_of_somebody_else_is_no_list(site):
    shown = SITE_CA.issue()
    assert site.kinds(shown) == ["no_crl"]
    assert f"the line {SITE_CA.certificate.fingerprint}" in site.doubts(shown)[0].text
    site.crl(SITE_CA.revokes(days=-1, age=9))
    assert "is out of date" in site.doubts(shown)[0].text
    site.crl(Authority("Site CA", 7).revokes(), "same-name-other-key.crl")
    assert site.kinds(shown) == ["no_crl"]
    site.crl(b"no list at all", "rubbish.crl")
    assert site.kinds(shown) == ["no_crl"]


def test_an_authority_without_lists_is_named_in_the_issuers_folder(site):
    shown = SITE_CA.issue()
    listed = site.folder.without_crl
    listed.write_text(f"# the vendor publishes none\n{SITE_CA.certificate.fingerprint.upper()}\n")
    assert site.kinds(shown) == []
    listed.write_text("00ff  # another one\n")
    assert site.kinds(shown) == ["no_crl"]


def test_an_unknown_issuer_breaks_the_chain_also_below_an_accepted_certificate():
    shown = SITE_CA.issue()
    (doubt,) = doubts(shown, [shown])
    assert doubt.kind == "chain"
    assert "put the authority's certificate into issuers/" in doubt.text
    assert kinds(shown) == ["chain", "untrusted"]


def test_an_issuer_is_a_link_of_the_chain_and_not_trusted_by_itself(site):
    middle = Authority("Middle", 3, above=SITE_CA)
    shown = middle.issue()
    site.crl(SITE_CA.revokes(), "root.crl")
    site.crl(middle.revokes(), "middle.crl")
    assert site.kinds(shown) == ["chain", "untrusted"]
    put(site.folder, middle.certificate, "issuers")
    assert site.kinds(shown) == [], "the root above it is trusted"
    assert kinds(shown, [], [middle.certificate, SITE_CA.certificate])[0] == "untrusted"
    site.crl(SITE_CA.revokes(middle.certificate), "root.crl")
    (doubt,) = site.doubts(shown)
    assert (doubt.kind, "stands below 'CN=Middle'" in doubt.text) == ("revoked", True)


def test_an_expired_authority_does_not_vouch(site, tmp_path):
    old = Authority("Old CA", 5, days=-1)
    put(site.folder, old.certificate, "trusted")
    site.crl(old.revokes())
    (doubt,) = site.doubts(old.issue())
    assert doubt.text.startswith("stands below 'CN=Old CA', which expired on ")


def test_a_renewed_authority_of_the_same_key_takes_over(site):
    again = certificate("Site CA", uri=None, hosts=(), key=SITE_CA.key, authority=True, days=999)
    put(site.folder, again, "trusted")
    site.crl(SITE_CA.revokes())
    assert site.kinds(SITE_CA.issue()) == []


def test_an_authority_may_not_make_more_authorities_than_it_was_allowed(tmp_path):
    site = Site(tmp_path, SHORT)
    site.crl(SHORT.revokes())
    assert site.kinds(SHORT.issue()) == []
    below = Authority("Below", 4, above=SHORT)
    put(site.folder, below.certificate, "issuers")
    site.crl(below.revokes(), "below.crl")
    assert site.kinds(below.issue()) == ["chain", "untrusted"]


def test_a_forged_issuer_name_does_not_help(site):
    site.crl(SITE_CA.revokes())
    forged = Authority("Site CA", 8)
    (chain, untrusted) = site.doubts(forged.issue())
    assert (chain.kind, untrusted.kind) == ("chain", "untrusted")
    assert "is not signed by it" in chain.text


def test_a_weak_signature_of_the_application_is_refused():
    shown = certificate(hash_with=hashes.SHA224())
    assert kinds(shown, [shown]) == []
    assert shown.signed_with == "sha224"

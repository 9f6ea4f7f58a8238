"""``edgeagent certs``: what a person types and reads while no agent runs.

Method: the command on real files; what is on record is read from the journal afterwards.
"""

import json
import os
import stat

import pytest
from click.testing import CliRunner

from edgeagent.cli import main
from edgeagent.pki.certificate import read_certificate
from edgeagent.pki.folder import Folder, keep_rejected, put
from tests.authority import Authority, certificate, rsa_key

SITE = """\
site: berlin-1
state_dir: state
broker: {url: mqtt://broker}
links: {gateway: {driver: modbus, host: 10.0.0.7}}
instruments: {probe: {profile: adam-4015, link: gateway, unit_id: 1}}
"""


class Commands:
    def __init__(self, directory):
        self.config = directory / "site.yaml"
        self.config.write_text(SITE)
        self.state_dir = directory / "state"
        self.folder = Folder(self.state_dir / "pki")

    def __call__(self, *words, code=0):
        done = CliRunner().invoke(main, [*words, "--config", str(self.config)])
        assert done.exit_code == code, f"{done.exit_code}\n{done.output}{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def certs(self, *words, code=0):
        return self("certs", *words, code=code)

    def json(self, *words):
        return json.loads(self.certs(*words, "--json").splitlines()[-1])

    def audit(self, event):
        exported = self("journal", "export", "--lane", "event")
        bodies = [json.loads(line) for line in exported.splitlines() if line.startswith("[")]
        return [body[6] for body in bodies if body[0] == "E" and body[5] == event]


@pytest.fixture
def site(tmp_path):
    return Commands(tmp_path)


def create(site, *words):
    return site.json("create", "--key-bits", "2048", "--reason", "commissioning", *words)


def test_a_certificate_is_made_and_on_record(site):
    made = create(site)
    host = os.uname().nodename
    assert (made["uris"], made["hosts"]) == ([f"urn:{host}:edgeagent:berlin-1"], [host])
    assert made["subject"] == "CN=edgeagent berlin-1"
    assert stat.S_IMODE(site.folder.own_key.stat().st_mode) == 0o600
    (record,) = site.audit("certificate.created")
    assert record["after"] == made["fingerprint"] == record["fingerprint"]
    assert (record["reason"], record["uid"]) == ("commissioning", os.geteuid())
    assert "before" not in record


def test_a_second_one_takes_a_word(site):
    first = create(site)
    said = site.certs("create", "--reason", "again", code=2)
    assert "say --replace to make one" in said
    second = create(
        site, "--replace", "--uri", "urn:hall:7", "--host", "a.example", "--host", "::1"
    )
    assert (second["before"], second["uris"]) == (first["fingerprint"], ["urn:hall:7"])
    assert second["hosts"] == ["a.example", "::1"]
    assert [r.get("before") for r in site.audit("certificate.created")] == [
        None,
        first["fingerprint"],
    ]


def test_a_request_is_written_on_demand(site):
    create(site)
    said = site.certs("create", "--csr", "--reason", "site CA")
    assert f"request:     {site.folder.own_request}" in said
    assert site.folder.own_request.read_text().startswith("-----BEGIN CERTIFICATE REQUEST-----")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--key-bits", "1024"], "key_bits: 1024 is none of 2048, 3072, 4096"),
        (["--host", "a b"], "'a b' is not plain ASCII without spaces"),
        (["--uri", "urn:ü"], "'urn:ü' is not plain ASCII"),
        (["--reason", " "], "a reason is required"),
    ],
)
def test_what_cannot_be_stated_is_said(site, words, said):
    assert said in site.certs("create", "--reason", "x", *words, code=2)
    assert not site.folder.own_key.exists()


def test_the_list_warns_of_what_ends(site):
    create(site, "--days", "20")
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    put(site.folder, certificate("Freezer A", now=now, days=100), "trusted")
    put(site.folder, certificate("Freezer B", now=now, days=-1), "trusted")
    put(site.folder, Authority(now=now).certificate, "issuers")
    keep_rejected(site.folder, certificate("Stranger\n\x1b[2J", now=now))
    (site.folder.place("trusted") / "notes.txt").write_text("call the vendor")
    site.folder.place("crl").mkdir()
    (site.folder.place("crl") / "rubbish.crl").write_text("rubbish")
    shown = {line.split()[-1].split("=")[-1]: line for line in site.certs("list").splitlines()}
    assert "only 19 d left" in shown["berlin-1"]
    assert " 99 d left" in shown["A"]
    assert "only" not in shown["A"]
    assert "EXPIRED" in shown["B"]
    assert shown["CA"].startswith("issuers")
    assert "\x1b" not in str(shown)
    found = site.json("list")
    places = [each["place"] for each in found["certificates"]]
    assert places == ["own", "trusted", "trusted", "rejected", "issuers"]
    assert [each["file"].rpartition("/")[2] for each in found["unreadable"]] == [
        "notes.txt",
        "rubbish.crl",
    ]
    assert "pem" not in found["certificates"][0]


def test_an_empty_folder_says_how_to_begin(site):
    assert site.certs("list") == "no own certificate: edgeagent certs create --reason '...'\n"


def test_a_folder_that_cannot_be_read_is_not_shown_as_empty(site):
    site.state_dir.mkdir()
    site.folder.root.write_text("a file where a folder should be")
    said = site.certs("list", code=77)
    assert "Not a directory; start the agent, or run this as the service's user" in said


def test_what_was_refused_is_trusted_by_its_prefix_and_rejected_again(site):
    shown = certificate()
    keep_rejected(site.folder, shown)
    prefix = shown.fingerprint[:12]
    done = site.certs("trust", prefix, "--reason", "compared, change 4713")
    assert done == f"trusted: {shown.fingerprint} {shown.subject}\n"
    (record,) = site.audit("certificate.trusted")
    assert record["fingerprint"] == shown.fingerprint
    assert record["reason"] == "compared, change 4713"
    said = site.certs("trust", prefix, "--reason", "again", code=2)
    assert "is trusted already; nothing was changed" in said
    site.certs("reject", prefix, "--reason", "scrapped")
    assert [each["place"] for each in site.json("list")["certificates"]] == ["rejected"]
    assert len(site.audit("certificate.rejected")) == 1


def test_a_file_can_be_trusted_before_its_server_was_ever_seen(site, tmp_path):
    shown = certificate()
    keep_rejected(site.folder, shown)
    (tmp_path / "freezer.der").write_bytes(shown.der)
    site.certs("trust", str(tmp_path / "freezer.der"), "--reason", "from the vendor")
    assert [each["place"] for each in site.json("list")["certificates"]] == ["trusted"]
    (tmp_path / "rubbish.der").write_bytes(b"rubbish")
    said = site.certs("trust", str(tmp_path / "rubbish.der"), "--reason", "x", code=2)
    assert "rubbish.der cannot be read as a certificate" in said


def test_who_trusts_a_new_certificate_is_reminded_of_the_old_one(site):
    old, new = certificate(), certificate(key=rsa_key(1))
    put(site.folder, old, "trusted")
    keep_rejected(site.folder, new)
    said = site.certs("trust", new.fingerprint[:8], "--reason", "renewed")
    assert f"edgeagent certs reject {old.fingerprint[:16]} --reason" in said


@pytest.mark.parametrize("verb", ["trust", "reject"])
def test_a_prefix_that_names_nothing_is_said(site, verb):
    said = site.certs(verb, "00ff00ff", "--reason", "x", code=2)
    assert "no certificate 00ff00ff in" in said
    assert "edgeagent certs list" in said
    assert "is no beginning of a fingerprint" in site.certs(verb, "xyz", "--reason", "x", code=2)


def test_one_is_shown_by_prefix_by_file_and_as_our_own(site, tmp_path):
    made = create(site)
    by_name = site.certs("show", "own", "--save", str(tmp_path / "agent.der"))
    assert f"fingerprint: {made['fingerprint']}" in by_name
    assert (
        read_certificate((tmp_path / "agent.der").read_bytes()).fingerprint == made["fingerprint"]
    )
    assert site.certs("show", made["fingerprint"][:10].upper()) == by_name
    assert f"fingerprint: {made['fingerprint']}" in site.certs("show", str(tmp_path / "agent.der"))
    site.certs("show", "own", "--save", str(tmp_path / "agent.pem"))
    assert (tmp_path / "agent.pem").read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert "no certificate 00ff" in site.certs("show", "00ff", code=2)


def test_the_folder_may_lie_elsewhere(site, tmp_path):
    site.config.write_text(SITE + "pki: certificates\n")
    made = create(site)
    assert made["file"] == str(tmp_path / "certificates" / "own" / "certificate.pem")


def test_root_leaves_no_files_that_the_service_cannot_read(site, monkeypatch):
    create(site)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    said = site.certs("create", "--replace", "--reason", "x", code=77)
    assert "start the agent first, or run this as that account: sudo -u " in said

"""Certificates with a real agent and a server that we did not write: refused, trusted, changed.

Method: `edgeagent run` against node-opcua with security on and nothing else stated; a person types
what the agent says is to be typed. The journal is what was done, by whom and why.
"""

import json
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime

from tests.authority import certificate, key_pem, rsa_key
from tests.conformance.opcua.server import URI
from tests.system.chain import Part, edgeagent, wait_until
from tests.system.opcua_peer import NodeServer

PROFILE = {
    "profile": "ledger",
    "version": "1.0.0",
    "make": "Acme",
    "model": "L1",
    "device_class": "test",
    "driver": "opcua",
    "source": [{"manual": "none", "confidence": "simulated-only"}],
    "opcua": {"namespaces": {"t": URI}},
    "identity": {"serial_number": {"node": "/t:Device/t:serial"}},
    "groups": {
        "all": {"period": "100 ms", "tags": {"c0": {"type": "INT64", "node": "nsu=t;s=c0"}}}
    },
}
SERVER_URI = "urn:edgeagent:test:server"


class Site:
    """An agent whose site file says of security nothing at all."""

    def __init__(self, directory, url):
        (directory / "ledger.yaml").write_text(json.dumps(PROFILE))
        self.config = directory / "site.yaml"
        site = {
            "site": "hall",
            "state_dir": "state",
            "profile_dirs": ["."],
            "broker": {"url": "mqtt://127.0.0.1:9"},
            "links": {"ua": {"driver": "opcua", "url": url}},
            "instruments": {"device": {"profile": "ledger", "link": "ua"}},
        }
        self.config.write_text(json.dumps(site))
        self.pki = directory / "state" / "pki"
        self.process = Part("agent", directory, "run", "--config", str(self.config))

    def certs(self, *words):
        return edgeagent("certs", *words, "--config", str(self.config))

    def types(self, said):
        """Type what a refusal says is to be typed."""
        (line,) = re.findall(r"edgeagent (certs trust [0-9a-f]+ --reason '\.\.\.')", said)
        return edgeagent(*shlex.split(line), "--config", str(self.config))

    def listed(self):
        found = json.loads(self.certs("list", "--json"))["certificates"]
        return [(each["place"], each["fingerprint"]) for each in found if each["place"] != "own"]

    def status(self):
        command = [sys.executable, "-m", "edgeagent", "status", "--json", "--config", self.config]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 3), f"{done.returncode}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def cause(self):
        return self.status()["links"][0]["cause"] or ""

    def check(self):
        checks = self.status()["health"]["checks"]
        (found,) = [each for each in checks if each["name"] == "certificates"]
        return found

    def is_up(self):
        return self.status()["links"][0]["state"] == "up"

    def waits_for(self, words):
        wait_until(f"the cause {words!r}", lambda: words in self.cause())
        return self.cause()

    def audit(self):
        exported = edgeagent("journal", "export", "--lane", "event", "--config", str(self.config))
        bodies = [json.loads(line) for line in exported.splitlines() if line.startswith("[")]
        events = [(body[5], body[6]) for body in bodies if body[0] == "E"]
        return [(name, facts) for name, facts in events if name.startswith("certificate.")]


def server_options(directory, name, **facts):
    """Return what lets node-opcua show this certificate."""
    key = facts.pop("key", rsa_key())
    facts = {"uri": SERVER_URI, "hosts": ("127.0.0.1",), "now": datetime.now(UTC)} | facts
    made = certificate(name, key=key, **facts)
    (directory / f"{name}.pem").write_bytes(made.pem())
    (directory / f"{name}.key").write_bytes(key_pem(key))
    files = {
        "certificateFile": directory / f"{name}.pem",
        "privateKeyFile": directory / f"{name}.key",
    }
    return made, {key: str(path) for key, path in files.items()}


def test_what_the_agent_says_is_to_be_typed_brings_the_link_up(tmp_path):
    first, files = server_options(tmp_path, "first", days=400)
    second, changed = server_options(tmp_path, "second", days=20, key=rsa_key(1))
    with NodeServer(tmp_path, secure=True, acceptAll=True, **files) as server:
        site = Site(tmp_path, server.url)
        site.process.start()
        wait_until("the agent answers", (tmp_path / "state" / "control.sock").exists)
        try:
            said = site.waits_for("the agent has no certificate in ")
            assert "type: edgeagent certs create" in said
            site.certs("create", "--key-bits", "2048", "--reason", "commissioning")
            said = site.waits_for("is not trusted; compare its SHA-256 fingerprint")
            assert first.fingerprint in said
            assert site.listed() == [("rejected", first.fingerprint)]
            assert "trusted: " in site.types(said)
            wait_until("the link is up", site.is_up)
            assert site.check()["state"] == "ok"

            server.kill()
            server._options |= changed
            server.start()
            said = site.waits_for("has changed: ")
            assert f"{second.fingerprint}, valid " in said
            assert f"instead of {first.fingerprint}, valid " in said
            reminded = site.types(said)
            assert f"certs reject {first.fingerprint[:16]}" in reminded
            site.certs("reject", first.fingerprint[:16], "--reason", "renewed")
            wait_until("the link is up again", site.is_up)
            wait_until("it is known to end soon", lambda: site.check()["state"] == "warning")
            assert sorted(site.listed()) == sorted(
                [("trusted", second.fingerprint), ("rejected", first.fingerprint)]
            )
        finally:
            assert site.process.stop() == 0, site.process.log.read_text()[-2000:]
        done = [
            (name, facts.get("fingerprint"), facts.get("reason")) for name, facts in site.audit()
        ]
        own = json.loads(site.certs("show", "own", "--json"))["fingerprint"]
        assert done[:2] == [
            ("certificate.created", own, "commissioning"),
            ("certificate.trusted", first.fingerprint, "..."),
        ]
        assert ("certificate.expires", second.fingerprint, None) in done[2:]
        assert ("certificate.rejected", first.fingerprint, "renewed") in done[2:]


def test_the_server_of_others_is_refused_for_what_is_wrong_with_it(tmp_path):
    """Trusted by a person, and yet expired or of another application."""
    _, files = server_options(tmp_path, "expired", days=-1)
    _, changed = server_options(tmp_path, "other", uri="urn:acme:another", key=rsa_key(1))
    with NodeServer(tmp_path, secure=True, acceptAll=True, **files) as server:
        site = Site(tmp_path, server.url)
        site.certs("create", "--key-bits", "2048", "--reason", "test")
        for each in ("expired", "other"):
            site.certs("trust", str(tmp_path / f"{each}.pem"), "--reason", "test")
        site.process.start()
        wait_until("the agent answers", (tmp_path / "state" / "control.sock").exists)
        try:
            said = site.waits_for("expired on ")
            assert "check the clocks of both sides" in said
            assert site.check()["state"] == "fault"
            server.kill()
            server._options |= changed
            server.start()
            site.waits_for("is of 'urn:acme:another', but the server calls itself ")
        finally:
            assert site.process.stop() == 0, site.process.log.read_text()[-2000:]

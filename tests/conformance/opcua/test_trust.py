"""Who may be the server: the driver against asyncua's server with one certificate after another.

The server trusts everybody here; what the agent does not accept is refused before a secure channel
is opened, kept under rejected, and said in a line that tells what to type.
"""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from asyncua import Server, ua

from drivers.opcua import DRIVER
from drivers.opcua.trust import Untrusted
from edgeagent.driver import LinkLost
from edgeagent.model.clock import SystemClock
from edgeagent.pki.folder import Folder, find, look, move, put
from edgeagent.pki.own import Wish, create
from tests.authority import Authority, certificate, key_pem, rsa_key
from tests.conformance.opcua.server import URI, instrument, profile, taken

SERVER_URI = "urn:acme:server"
NOW = datetime.now(UTC)
POLICY = ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt


def shown(**facts):
    return certificate(**{"uri": SERVER_URI, "hosts": ("127.0.0.1",), "now": NOW} | facts)


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path / "pki")
    create(made, Wish("agent", "urn:test:agent", ("localhost",), key_bits=2048), NOW)
    return made


@asynccontextmanager
async def serving(directory, its, key=None):
    """Run a server with this certificate; yield its address."""
    (directory / "server.der").write_bytes(its.der)
    (directory / "server.pem").write_bytes(key_pem(key or rsa_key()))
    server = Server()
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0")
    await server.set_application_uri(SERVER_URI)
    server.set_security_policy([POLICY])
    await server.load_certificate(str(directory / "server.der"))
    await server.load_private_key(str(directory / "server.pem"))
    index = await server.register_namespace(URI)
    await server.nodes.objects.add_variable(ua.NodeId("x", index), f"{index}:x", 1.5)
    before = asyncio.all_tasks()
    async with server:
        yield f"opc.tcp://127.0.0.1:{server.bserver._server.sockets[0].getsockname()[1]}"
    left = asyncio.all_tasks() - before  # of sessions that nobody closed
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@asynccontextmanager
async def connected(url, folder, clock=None):
    """Connect as an agent does that has no key in its site file but the address."""
    settings = DRIVER.at_site(DRIVER.link_settings.model_validate({"url": url}), folder.root)
    device = instrument("device", profile({"x": {"type": "FLOAT64", "s": "x"}}))
    made = DRIVER.open(settings, [device], clock or SystemClock())
    try:
        await made.connect()
        yield made
    finally:
        await made.close()


async def connect(url, folder, clock=None):
    async with connected(url, folder, clock) as link:
        (frame,) = await taken(link, 1)
        assert frame.values == (1.5,)


async def refusal(url, folder, clock=None) -> str:
    with pytest.raises(LinkLost) as caught:
        await connect(url, folder, clock)
    return str(caught.value)


def rejected(folder):
    return [each.certificate for each in look(folder, "rejected").kept]


async def test_an_agent_without_a_certificate_says_how_one_is_made(tmp_path):
    async with serving(tmp_path, shown()) as url:
        said = await refusal(url, Folder(tmp_path / "pki"))
    assert said == (
        f"the agent has no certificate in {tmp_path}/pki/own; "
        "type: edgeagent certs create --reason '...'"
    )


async def test_unknown_then_rejected_then_trusted_then_connected(tmp_path, folder):
    its = shown()
    async with serving(tmp_path, its) as url:
        said = await refusal(url, folder)
        assert "is not trusted; compare its SHA-256 fingerprint" in said
        assert f"type: edgeagent certs trust {its.fingerprint[:12]} --reason '...'" in said
        assert rejected(folder) == [its]
        move(folder, find(folder, its.fingerprint[:12], "rejected"), "trusted")
        await connect(url, folder)
        move(folder, find(folder, its.fingerprint[:12], "trusted"), "rejected")
        assert "is not trusted" in await refusal(url, folder)


async def test_a_changed_certificate_is_refused_with_both_fingerprints(tmp_path, folder):
    before, after = shown(days=20), shown(days=500, key=rsa_key(1))
    put(folder, before, "trusted")
    async with serving(tmp_path, after, rsa_key(1)) as url:
        said = await refusal(url, folder)
    assert f"has changed: {after.fingerprint}, valid {after.not_before:%Y-%m-%d} to " in said
    assert f"instead of {before.fingerprint}, valid " in said
    assert f"edgeagent certs trust {after.fingerprint[:12]}" in said
    assert rejected(folder) == [after]


class Stopped(SystemClock):
    """A machine whose clock is wrong by some days."""

    def __init__(self, days):
        super().__init__()
        self.days = days

    def utc_ns(self):
        return super().utc_ns() + int(timedelta(days=self.days).total_seconds()) * 10**9


@pytest.mark.parametrize(("days", "words"), [(-4000, "is valid only from "), (4000, "expired on ")])
async def test_a_wrong_clock_of_ours_is_a_matter_of_clocks(days, words, tmp_path, folder):
    put(folder, shown(), "trusted")
    async with serving(tmp_path, look(folder, "trusted").kept[0].certificate) as url:
        said = await refusal(url, folder, Stopped(days))
    assert words in said
    assert "check the clocks of both sides" in said
    assert "not trusted" not in said
    assert rejected(folder) == [], "nothing is wrong with it"


async def test_an_expired_certificate_is_refused_also_when_it_is_trusted(tmp_path, folder):
    its = shown(days=-1)
    put(folder, its, "trusted")
    async with serving(tmp_path, its) as url:
        said = await refusal(url, folder)
    assert f"expired on {its.not_after:%Y-%m-%d %H:%M} UTC" in said


async def test_a_certificate_of_another_application_is_refused(tmp_path, folder):
    its = shown(uri="urn:acme:another")
    put(folder, its, "trusted")
    async with serving(tmp_path, its) as url:
        said = await refusal(url, folder)
    assert f"is of 'urn:acme:another', but the server calls itself '{SERVER_URI}'" in said
    assert rejected(folder) == [], "it lies under trusted already"


async def test_all_that_is_wrong_is_said_at_once(tmp_path, folder):
    async with serving(tmp_path, shown(uri="urn:acme:another", days=-1)) as url:
        said = await refusal(url, folder)
    assert "is not trusted" in said
    assert "besides, it expired on " in said
    assert "; it is of 'urn:acme:another'" in said


async def test_a_server_is_trusted_by_its_authority_until_that_revokes_it(tmp_path, folder):
    authority = Authority(now=NOW)
    its = shown(above=authority)
    put(folder, authority.certificate, "trusted")
    revocations = folder.place("crl") / "site-ca.crl"
    revocations.parent.mkdir()
    async with serving(tmp_path, its) as url:
        assert "the revocation list of 'CN=Site CA' is missing" in await refusal(url, folder)
        revocations.write_bytes(authority.revokes(now=NOW))
        await connect(url, folder)
        revocations.write_bytes(authority.revokes(its, now=NOW))
        assert "was revoked on " in await refusal(url, folder)
    elsewhere = shown(above=authority, hosts=("freezer",))
    revocations.write_bytes(authority.revokes(now=NOW))
    async with serving(tmp_path, elsewhere) as url:
        assert "is for freezer, not for 127.0.0.1" in await refusal(url, folder)
    assert rejected(folder) == [its, elsewhere] or rejected(folder) == [elsewhere, its]


@pytest.mark.parametrize("by", ["a person", "its authority"])
async def test_withdrawn_trust_ends_a_connection_that_is_up(by, tmp_path, folder, monkeypatch):
    monkeypatch.setattr("drivers.opcua.watch.JUDGE_EVERY_S", 0.1)
    authority = Authority(now=NOW)
    its = shown() if by == "a person" else shown(above=authority)
    revocations = folder.place("crl") / "site-ca.crl"
    revocations.parent.mkdir()
    revocations.write_bytes(authority.revokes(now=NOW))
    put(folder, its if by == "a person" else authority.certificate, "trusted")
    async with serving(tmp_path, its) as url, connected(url, folder) as link:
        await taken(link, 1)
        await asyncio.sleep(1.5)  # it is judged again meanwhile, and stays
        if by == "a person":
            move(folder, find(folder, its.fingerprint, "trusted"), "rejected")
        else:
            revocations.write_bytes(authority.revokes(its, now=NOW))
        async with asyncio.timeout(30):
            with pytest.raises(LinkLost, match=r"is not trusted|was revoked on "):
                await link.next()


async def test_what_has_merely_run_out_lets_a_connection_go_on(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("drivers.opcua.watch.JUDGE_EVERY_S", 0.1)
    its = shown(days=400)
    put(folder, its, "trusted")
    clock = Stopped(0)
    async with serving(tmp_path, its) as url, connected(url, folder, clock) as link:
        await taken(link, 1)
        clock.days = 500
        with pytest.raises(Untrusted, match="expired on "):
            link._connector._judge(link._connector._shown)
        await asyncio.sleep(1.5)
        assert link._channel.lost is None


async def test_what_cannot_be_kept_is_said_and_refused_all_the_same(tmp_path, folder):
    (folder.root / "rejected").write_text("a file where a folder should be")
    async with serving(tmp_path, shown()) as url:
        said = await refusal(url, folder)
    assert "is not trusted" in said
    assert f"it could not be kept in {folder.root}/rejected: " in said

"""Who may talk to whom, and what a person reads when somebody may not.

Method: node-opcua with three policies in two modes, a user, and a certificate store of its own;
every wrong link is refused in a line that names the reason and the mend. Nothing falls back.
"""

import asyncio
import shutil
from types import SimpleNamespace

import pytest

from edgeagent.driver import LinkLost
from tests.conformance.opcua.certificates import make
from tests.conformance.opcua.server import driver, instrument, profile, taken
from tests.system.opcua_line import line_of
from tests.system.opcua_peer import NodeServer

TAGS = {"c0": {"type": "INT64", "s": "c0"}}
POLICIES = ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A server, its folder of trusted clients, and an agent that both sides trust."""
    directory = tmp_path_factory.mktemp("opcua")
    with NodeServer(directory, secure=True, tokenMs=1500, user=["edge", "s3cret"]) as server:
        trusted = directory / "trusted"
        trusted.mkdir()
        own = next((directory / "pki" / "own" / "certs").glob("*.pem"))
        shutil.copy(own, trusted / "server.pem")
        agent = make(directory, "agent")
        clients = directory / "pki" / "trusted" / "certs"
        shutil.copy(agent.certificate, clients)
        (directory / "password").write_text("s3cret\n")
        settings = {
            "security": {},
            "certificate_file": agent.certificate,
            "key_file": agent.key,
            "trusted_dir": trusted,
            "user": {"username": "edge", "password_file": directory / "password"},
        }
        yield SimpleNamespace(
            server=server, directory=directory, settings=settings, clients=clients
        )


def link(world, **changes):
    device = instrument("device", profile(TAGS, period="100 ms"))
    return driver(world.server.url, device, **(world.settings | changes))


async def refusal(world, **changes) -> str:
    """Return what a person reads when this link is opened."""
    made = link(world, **changes)
    try:
        with pytest.raises(LinkLost) as caught:
            await made.connect()
    finally:
        await made.close()
    return str(caught.value)


@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
@pytest.mark.parametrize("policy", POLICIES)
async def test_values_come_under_each_policy_and_mode(policy, mode, world):
    made = link(world, security={"policy": policy, "mode": mode})
    try:
        await made.connect()
        assert await taken(made, 3)
    finally:
        await made.close()


async def test_encryption_with_basic256sha256_is_what_comes_without_a_word(world):
    made = link(world)
    try:
        await made.connect()
        assert made._channel.policy.URI.endswith("#Basic256Sha256")
        assert made._channel.policy.Mode.name == "SignAndEncrypt"
    finally:
        await made.close()


async def test_a_user_may_show_a_certificate(world, tmp_path):
    mine = make(tmp_path, "person")
    shutil.copy(mine.certificate, world.clients)
    user = {"certificate_file": mine.certificate, "key_file": mine.key}
    made = link(world, user=user)
    try:
        await made.connect()
        assert await taken(made, 1)
    finally:
        await made.close()


async def test_a_wrong_password_is_named(world, tmp_path):
    (tmp_path / "password").write_text("wrong")
    said = await refusal(world, user={"username": "edge", "password_file": tmp_path / "password"})
    assert "correct user" in said
    assert "wrong name or password" in said or "does not accept this user" in said


async def test_nobody_is_not_let_in_where_a_user_is_wanted(world):
    said = await refusal(world, user=None)
    assert said.startswith("the server does not accept anonymous here; it accepts: ")
    assert said.endswith("correct user")


async def test_a_server_that_nobody_trusted_is_refused_with_its_fingerprint(world, tmp_path):
    said = await refusal(world, trusted_dir=tmp_path)
    assert "is not trusted; compare its SHA-256 fingerprint" in said
    assert f"put it into {tmp_path}" in said


async def test_an_agent_that_the_server_does_not_trust_reads_why(world, tmp_path):
    rogue = make(tmp_path, "rogue")
    said = await refusal(world, certificate_file=rogue.certificate, key_file=rogue.key)
    assert "trust" in said
    assert "Assertion" not in said


async def test_an_expired_certificate_of_the_agent_is_refused_by_the_server(world, tmp_path):
    old = make(tmp_path, "old", days=-1)
    said = await refusal(world, certificate_file=old.certificate, key_file=old.key)
    assert "Bad" in said
    assert "Assertion" not in said


async def test_a_key_that_does_not_fit_is_found_before_anything_is_sent(world, tmp_path):
    other = make(tmp_path, "other")
    said = await refusal(world, key_file=other.key)
    assert said.startswith(f"{other.key} is not the key of ")


async def test_a_password_goes_encrypted_even_where_messages_do_not(world):
    """Over None this server wants the user token encrypted, and gets it so."""
    made = link(world, security="none")
    try:
        await made.connect()
        assert await taken(made, 1)
    finally:
        await made.close()


async def test_a_channel_is_renewed_every_few_seconds_under_flowing_data(world):
    """Tokens of 1.5 s are renewed long before; one that is not would end the connection."""
    made = link(world)
    try:
        await made.connect()
        channel = made._channel
        tokens = set()
        async with asyncio.timeout(30):
            while len(tokens) < 3:
                for frame in await made.next():
                    await made.committed(frame)
                tokens.add(channel._protocol._connection.security_token.TokenId)
        assert channel.lost is None
    finally:
        await made.close()


@pytest.mark.long
async def test_five_thousand_tags_fit_into_one_encrypted_subscription(tmp_path, world):
    options = {"secure": True, "acceptAll": True, "counters": 5000, "tickMs": 1000}
    with NodeServer(tmp_path, **options) as server:
        trusted = tmp_path / "trusted"
        trusted.mkdir()
        shutil.copy(next((tmp_path / "pki" / "own" / "certs").glob("*.pem")), trusted)
        tags = {f"c{i}": {"type": "INT64", "s": f"c{i}"} for i in range(5000)}
        device = instrument("device", profile(tags, period="1 s", group={"every_change": True}))
        own = {"trusted_dir": trusted, "user": None, "timeout": "20 s"}
        made = driver(server.url, device, **(world.settings | own))
        async with line_of(made, device) as line:
            await line.flows(0, 4999, within_s=60)
            begun = line.values(0)[-1]
            await line.flows(begun + 10, 4999, within_s=60)
            assert len(made._subscriptions) == 1
        for tag in (0, 2500, 4999):
            assert line.judge(server.ticks(tag), tag) == 0

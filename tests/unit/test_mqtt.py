"""The MQTT session adapter against a real mosquitto."""

import asyncio
import contextlib
import datetime
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgeagent.model.settings import BrokerSettings
from edgeagent.mqtt import BrokerRefused, BrokerUnreachable, Message, Session, Will, connect
from tests.brokers import Mosquitto, free_port, tool

VERSIONS = ("5", "3.1.1")


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


def settings_of(broker: Mosquitto, version: str = "5", **more: Any) -> BrokerSettings:
    return BrokerSettings(url=broker.url, version=version, **more)


@contextlib.asynccontextmanager
async def session_of(settings: BrokerSettings, name: str, **more: Any) -> AsyncIterator[Session]:
    """A session that is closed whatever happens."""
    session = await connect(settings, name, **({"on_message": lambda _: None} | more))
    try:
        yield session
    finally:
        await session.close()


class Inbox:
    """Messages as they come, to be awaited."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()

    def __call__(self, message: Message) -> None:
        self.messages.put_nowait(message)

    async def next(self) -> Message:
        async with asyncio.timeout(5):
            return await self.messages.get()


@pytest.mark.parametrize("version", VERSIONS)
async def test_messages_travel_and_are_acknowledged(broker, version):
    inbox, published = Inbox(), asyncio.Queue()
    settings = settings_of(broker, version)
    async with (
        session_of(settings, "taker", on_message=inbox, manual_ack=True) as taker,
        session_of(settings, "giver", on_published=published.put_nowait) as giver,
    ):
        await taker.subscribe(["a/+", "b"])
        for payload in (b"", b"x" * 300_000, bytes(range(256))):
            message_id = giver.publish("a/1", payload)
            async with asyncio.timeout(5):
                assert await published.get() == message_id
            got = await inbox.next()
            assert (got.topic, got.payload, got.retain) == ("a/1", payload, False)
            assert got.handle > 0
            taker.acknowledge(got)
        giver.publish("b", b"unreliable", qos=0)
        assert (await inbox.next()).handle == 0


async def test_properties_travel_with_mqtt_5(broker):
    async with session_of(settings_of(broker), "giver") as giver:
        giver.publish(
            "p/1",
            b"{}",
            retain=True,
            content_type="application/json",
            correlation=b"c-1",
            message_expiry_s=60,
        )
        listener = await asyncio.create_subprocess_exec(
            *(tool("mosquitto_sub"), "-p", str(broker.port), "-V", "5", "-t", "p/1"),
            *("-C", "1", "-W", "5", "-F", "%C|%D|%E|%F|%p"),
            stdout=subprocess.PIPE,
        )
        output, _ = await listener.communicate()
    assert output.decode().strip() in {f"application/json|c-1|{s}|1|{{}}" for s in (59, 60)}


async def test_response_topic_and_correlation_come_in(broker):
    inbox = Inbox()
    async with session_of(settings_of(broker), "taker", on_message=inbox) as taker:
        await taker.subscribe(["ask"])
        asker = await asyncio.create_subprocess_exec(
            *(tool("mosquitto_pub"), "-p", str(broker.port), "-V", "5", "-t", "ask", "-m", "?"),
            *("-D", "publish", "response-topic", "answer/me"),
            *("-D", "publish", "correlation-data", "42"),
        )
        assert await asker.wait() == 0
        got = await inbox.next()
    assert (got.response_topic, got.correlation) == ("answer/me", b"42")


async def test_retained_flag_and_will(broker):
    inbox = Inbox()
    will = Will("will/1", b"gone", retain=True)
    async with session_of(settings_of(broker), "watcher", on_message=inbox) as watcher:
        await watcher.subscribe(["will/#"])
        dying = await connect(settings_of(broker), "dying", on_message=lambda _: None, will=will)
        dying._wire.abort()
        assert await dying.closed()
        assert (await inbox.next()).payload == b"gone"
        late = Inbox()
        async with session_of(settings_of(broker), "late", on_message=late) as second:
            await second.subscribe(["will/#"])
            assert (await late.next()).retain


@pytest.mark.parametrize("version", VERSIONS)
async def test_unacknowledged_messages_stop_the_flow_and_an_acknowledgement_resumes_it(
    broker, version
):
    """The broker holds back what exceeds the window: so our memory is bounded."""
    inbox = Inbox()
    settings = settings_of(broker, version)
    async with (
        session_of(settings, "slow", on_message=inbox, manual_ack=True, receive_maximum=5) as slow,
        session_of(settings, "fast") as fast,
    ):
        await slow.subscribe(["flood"])
        count = 5 if version == "5" else 20  # mosquitto's own max_inflight_messages
        for number in range(count + 3):
            fast.publish("flood", str(number).encode())
        held = [await inbox.next() for _ in range(count)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await inbox.messages.get()
        slow.acknowledge(held[0])
        assert (await inbox.next()).payload == str(count).encode()


async def test_a_small_server_window_is_kept(tmp_path):
    """paho queues beyond the server's Receive Maximum; the broker would disconnect otherwise."""
    published: asyncio.Queue[int] = asyncio.Queue()
    with Mosquitto(tmp_path, settings=["max_inflight_messages 3"]) as broker:
        async with session_of(
            settings_of(broker), "giver", on_published=published.put_nowait
        ) as giver:
            assert giver.receive_maximum == 3
            sent = [giver.publish("x", b"y") for _ in range(50)]
            async with asyncio.timeout(5):
                assert [await published.get() for _ in sent] == sent


async def test_nagle_is_off(broker):
    async with session_of(settings_of(broker), "quick") as session:
        found = session._wire._transport.get_extra_info("socket")
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_wrong_password_is_told_in_words(tmp_path, version):
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    with Mosquitto(tmp_path, users={"agent": "right"}) as broker:
        for more in ({}, {"username": "agent", "password_file": secret}):
            with pytest.raises(BrokerRefused, match="check username"):
                await connect(settings_of(broker, version, **more), "x", on_message=print)
        secret.write_text("right\n")
        more = {"username": "agent", "password_file": secret}
        async with session_of(settings_of(broker, version, **more), "x"):
            pass
        secret.unlink()
        with pytest.raises(BrokerRefused, match="password cannot be read"):
            await connect(settings_of(broker, version, **more), "x", on_message=print)


async def test_a_refused_publication_ends_the_session_with_the_topic(tmp_path):
    published: list[int] = []
    with Mosquitto(tmp_path, permissions="topic write mine/#\ntopic read mine/#\n") as broker:
        session = await connect(
            settings_of(broker), "x", on_message=print, on_published=published.append
        )
        allowed = session.publish("mine/1", b"1")
        session.publish("yours/1", b"1")
        async with asyncio.timeout(5):
            reason = await session.closed()
        assert "yours/1" in reason
        assert "not authorized" in reason
        assert published == [allowed]
        with pytest.raises(BrokerUnreachable, match="yours/1"):
            session.publish("mine/1", b"2")
        await session.close()


class Scripted(asyncio.Protocol):
    """A server that answers each packet with the next bytes; None hangs up."""

    def __init__(self, answers: Sequence[bytes | None], served: list[asyncio.Transport]) -> None:
        self.answers = list(answers)
        self.served = served

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.served.append(transport)

    def data_received(self, data: bytes) -> None:
        if self.answers:
            answer = self.answers.pop(0)
            self.transport.abort() if answer is None else self.transport.write(answer)


@contextlib.asynccontextmanager
async def scripted_broker(*answers: bytes | None) -> AsyncIterator[str]:
    """The address of a broker that says what mosquitto never says."""
    served: list[asyncio.Transport] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Scripted(answers, served), "127.0.0.1", 0)
    try:
        yield f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for transport in served:
            transport.abort()
        await asyncio.sleep(0)


ACCEPTED = {"5": b"\x20\x03\x00\x00\x00", "3.1.1": b"\x20\x02\x00\x00"}
REFUSED_FILTER = {"5": b"\x90\x04\x00\x01\x00\x87", "3.1.1": b"\x90\x03\x00\x01\x80"}


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_refused_subscription_raises(version):
    async with (
        scripted_broker(ACCEPTED[version], REFUSED_FILTER[version]) as url,
        session_of(BrokerSettings(url=url, version=version), "x") as session,
    ):
        with pytest.raises(BrokerRefused, match="subscription to secret/# refused"):
            await session.subscribe(["secret/#"])


@pytest.mark.parametrize(
    ("version", "answer", "error", "words"),
    [
        ("5", b"\x20\x03\x00\x84\x00", BrokerRefused, "set the broker's version to 3.1.1"),
        ("5", b"\x20\x02\x00\x01", BrokerRefused, "set the broker's version to 3.1.1"),
        ("5", b"\x20\x03\x00\x87\x00", BrokerRefused, "what the broker allows"),
        ("5", b"\x20\x03\x00\x85\x00", BrokerRefused, "another client_id"),
        ("5", b"\x20\x03\x00\x89\x00", BrokerUnreachable, "busy"),
        ("3.1.1", b"\x20\x02\x00\x01", BrokerRefused, "version to 5"),
        ("3.1.1", b"\x20\x02\x00\x03", BrokerUnreachable, "unavailable"),
        ("3.1.1", b"\x20\x02\x00\x05", BrokerRefused, "what the broker allows"),
    ],
)
async def test_every_refusal_says_what_to_mend(version, answer, error, words):
    async with scripted_broker(answer) as url:
        with pytest.raises(error, match=words):
            await connect(BrokerSettings(url=url, version=version), "x", on_message=print)


async def test_a_takeover_names_its_cause():
    taken_over = b"\xe0\x02\x8e\x00"
    async with (
        scripted_broker(ACCEPTED["5"] + taken_over) as url,
        session_of(BrokerSettings(url=url), "x") as session,
        asyncio.timeout(5),
    ):
        assert "same client id" in await session.closed()


async def test_nobody_there_and_no_name():
    url = f"mqtt://127.0.0.1:{free_port()}"
    with pytest.raises(BrokerUnreachable, match="refused"):
        await connect(BrokerSettings(url=url), "x", on_message=print)
    with pytest.raises(BrokerUnreachable, match="resolved"):
        await connect(BrokerSettings(url="mqtt://no-such-host.invalid"), "x", on_message=print)


async def test_a_host_name_is_looked_up(broker):
    async with session_of(BrokerSettings(url=f"mqtt://localhost:{broker.port}"), "named"):
        pass


@pytest.mark.parametrize("answers", [(), (b"HTTP/1.1 400 Bad Request\r\n\r\n",), (None,)])
async def test_a_silent_a_strange_and_a_rude_server(answers):
    async with scripted_broker(*answers) as url:
        with pytest.raises(BrokerUnreachable):
            await connect(BrokerSettings(url=url), "x", on_message=print, timeout_s=0.2)


async def test_a_cancelled_connect_leaves_nothing_open():
    """An open socket would be a ResourceWarning, and a warning is an error here."""
    async with scripted_broker() as url:
        attempt = connect(BrokerSettings(url=url), "x", on_message=print)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(attempt, 0.1)


async def test_a_dead_broker_ends_the_session_and_a_stopped_one_does_not_hang_close(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("edgeagent.mqtt.CLOSE_TIMEOUT_S", 0.2)
    with Mosquitto(tmp_path) as broker:
        session = await connect(settings_of(broker), "x", on_message=print)
        os.kill(broker.pid, signal.SIGSTOP)
        session.publish("x", b"y" * 8_000_000)
        async with asyncio.timeout(1):
            await session.close()
        os.kill(broker.pid, signal.SIGCONT)
        session = await connect(settings_of(broker), "x", on_message=print)
        broker.kill()
        async with asyncio.timeout(5):
            assert await session.closed()
        await session.close()


async def test_a_frozen_broker_is_noticed_by_the_keepalive(tmp_path):
    with Mosquitto(tmp_path) as broker:
        session = await connect(settings_of(broker, keepalive="1 s"), "x", on_message=print)
        os.kill(broker.pid, signal.SIGSTOP)
        async with asyncio.timeout(8):
            assert "keep alive" in await session.closed()
        os.kill(broker.pid, signal.SIGCONT)


def _key_usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def make_certificate(directory: Path, name: str, issuer: tuple[Any, Any] | None) -> tuple[Any, Any]:
    """Write ``name``.pem and ``name``.key, signed by the issuer or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signer_name, signer_key = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(_key_usage(certificates=issuer is None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key()),
            critical=False,
        )
        .sign(signer_key, hashes.SHA256())
    )
    (directory / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, key


async def test_tls(tmp_path):
    """Both certificates are checked, large messages pass, and refusals say what is wrong."""
    authority = make_certificate(tmp_path, "authority", None)
    for name in ("localhost", "elsewhere", "client"):
        make_certificate(tmp_path, name, authority)
    inbox = Inbox()
    files = {"ca_file": tmp_path / "authority.pem"}
    own = {"certificate_file": tmp_path / "client.pem", "key_file": tmp_path / "client.key"}
    server = (tmp_path / "localhost.pem", tmp_path / "localhost.key")
    with Mosquitto(tmp_path, tls=server, client_authority=tmp_path / "authority.pem") as broker:
        url = f"mqtts://localhost:{broker.port}"
        settings = BrokerSettings(url=url, **files, **own)
        async with session_of(settings, "x", on_message=inbox) as session:
            found = session._wire._transport.get_extra_info("ssl_object")
            assert found.version() in ("TLSv1.2", "TLSv1.3")
            await session.subscribe(["big"])
            payload = os.urandom(1_000_000)
            session.publish("big", payload)
            assert (await inbox.next()).payload == payload
        with pytest.raises(BrokerRefused, match="certificate is not accepted"):
            await connect(BrokerSettings(url=url, **own), "x", on_message=print)
        with pytest.raises(BrokerRefused, match=r"certificate names 127\.0\.0\.1"):
            await connect(BrokerSettings(url=broker.url, **files, **own), "x", on_message=print)
        # The broker's alert and its hanging up race each other.
        with pytest.raises((BrokerRefused, BrokerUnreachable), match="certificate_file"):
            await connect(BrokerSettings(url=url, **files), "x", on_message=print)
        missing = {"ca_file": tmp_path / "missing.pem"}
        with pytest.raises(BrokerRefused, match="cannot be used"):
            await connect(BrokerSettings(url=url, **missing), "x", on_message=print)


async def test_tls_on_a_plain_port_is_refused_in_words(broker):
    with pytest.raises(BrokerUnreachable, match="speaks TLS"):
        await connect(BrokerSettings(url=f"mqtts://127.0.0.1:{broker.port}"), "x", on_message=print)


async def test_a_failing_callback_ends_the_session(broker):
    def fail(_message: Message) -> None:
        raise ZeroDivisionError

    async with session_of(settings_of(broker), "broken", on_message=fail) as session:
        await session.subscribe(["boom"])
        session.publish("boom", b"")
        async with asyncio.timeout(30):  # drawing a traceback takes long on a busy machine
            assert "ZeroDivisionError" in await session.closed()


def test_the_tls_floor_is_1_2(tmp_path):
    from edgeagent.mqtt import _tls_context

    make_certificate(tmp_path, "authority", None)
    settings = BrokerSettings(url="mqtts://x", ca_file=tmp_path / "authority.pem")
    context = _tls_context(settings)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname

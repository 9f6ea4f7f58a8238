"""One MQTT connection, from CONNECT to its end, on the event loop.

paho-mqtt encodes and decodes; asyncio owns the socket and TLS. No thread, no retry and no state
that outlives a connection: paho re-sends what an earlier connection left unacknowledged when a
client object is used again, so every :class:`Session` has a client of its own. Who reconnects,
and when, is the caller's business.
"""

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edgeagent.model.errors import EdgeAgentError
from edgeagent.model.settings import BrokerSettings

READ_BYTES = 65_536
CLOSE_TIMEOUT_S = 2.0
SUBSCRIBE_TIMEOUT_S = 10.0
HOUSEKEEPING_S = 1.0
RECEIVE_MAXIMUM_UNSTATED = 65_535  # MQTT 5, 3.2.2.3.3
JSON = "application/json"

_UNSUPPORTED_VERSION, _BAD_CLIENT_ID, _BAD_LOGIN, _NOT_AUTHORIZED = 0x84, 0x85, 0x86, 0x87
_TAKEN_OVER = 0x8E
_COME_BACK_LATER = (0x88, 0x89, 0x8B, 0x9C, 0x9D, 0x9F)  # busy, unavailable, moved, rate exceeded

T = TypeVar("T")
log = structlog.get_logger()


class BrokerUnreachable(EdgeAgentError):
    """Nobody answers there, or the connection is gone: try again later."""


class BrokerRefused(EdgeAgentError):
    """The broker, or its certificate, was not accepted: a person must mend a setting or a right."""


class Message(NamedTuple):
    """A message that came in.

    :ivar handle: what :meth:`Session.acknowledge` needs; 0 when nothing is to be acknowledged
    """

    topic: str
    payload: bytes
    retain: bool
    response_topic: str | None
    correlation: bytes | None
    handle: int


class Will(NamedTuple):
    """What the broker publishes when the connection ends without a DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


def ignore(_message_id: int) -> None:
    """Take no note of a PUBACK."""


async def connect(
    settings: BrokerSettings,
    client_id: str,
    *,
    on_message: Callable[[Message], None],
    on_published: Callable[[int], None] = ignore,
    will: Will | None = None,
    manual_ack: bool = False,
    receive_maximum: int = 100,
    timeout_s: float = 10.0,
) -> "Session":
    """Open a connection and wait for the broker's consent.

    :param on_message: called in the loop for each message; must be quick and must not raise
    :param on_published: called with the message id when the broker has taken a message (PUBACK;
        with QoS 0 when it is handed to the system)
    :param manual_ack: the caller acknowledges messages itself, with :meth:`Session.acknowledge`
    :param receive_maximum: most messages that the broker may send ahead of our acknowledgements;
        MQTT 5 only
    :param timeout_s: for everything together
    :raises BrokerRefused: with the reason in words, and what to mend
    :raises BrokerUnreachable: if nobody answers, or not in time
    """
    session = Session(settings, client_id, on_message, on_published, will, manual_ack)
    await session.open(receive_maximum, timeout_s)
    return session


Connect = Callable[..., Awaitable["Session"]]
"""The way to a broker: :func:`connect`, or what stands in its place where there is no network."""


class Session:
    """One connection that the broker has accepted; made by :func:`connect`, never used again.

    Not more than the caller's own window of messages is ever buffered here.

    :ivar mqtt5: whether properties travel (content type, expiry, response topic)
    :ivar receive_maximum: most messages that the broker takes without having acknowledged them
    """

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        on_message: Callable[[Message], None],
        on_published: Callable[[int], None],
        will: Will | None,
        manual_ack: bool,
    ) -> None:
        self.mqtt5 = settings.version == "5"
        self.receive_maximum = RECEIVE_MAXIMUM_UNSTATED
        self._settings = settings
        self._on_message = on_message
        self._on_published = on_published
        self._loop = asyncio.get_running_loop()
        self._wire = _Wire(self._read, self._lost)
        self._client = self._new_client(client_id, will, manual_ack)
        self._answer: asyncio.Future[EdgeAgentError | None] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._subscribing: dict[int, asyncio.Future[Sequence[ReasonCode]]] = {}
        self._topics: dict[int, str] = {}
        self._writing = False
        self._timer: asyncio.TimerHandle | None = None

    def _new_client(self, client_id: str, will: Will | None, manual_ack: bool) -> "_Client":
        client = _Client(
            self._wire,
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if self.mqtt5 else True,
            protocol=MQTTProtocolVersion.MQTTv5 if self.mqtt5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=manual_ack,
        )
        client.on_socket_register_write = self._want_write
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        client.on_publish = self._published
        client.on_subscribe = self._subscribed
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        return client

    # Life

    async def open(self, receive_maximum: int, timeout_s: float) -> None:
        """Do the work of :func:`connect`, once."""
        try:
            async with asyncio.timeout(timeout_s):
                access = await _aside(lambda: _read_access(self._settings))
                await self._open_transport(access.tls, timeout_s)
                await self._log_in(access.password, receive_maximum)
        except TimeoutError:
            self._abort()
            raise BrokerUnreachable(
                f"{self._settings.url}: no answer within {timeout_s:g} s; check address and "
                f"network, and that the broker speaks MQTT {self._settings.version}"
            ) from None
        except BaseException:
            self._abort()
            raise

    async def _open_transport(self, tls: ssl.SSLContext | None, timeout_s: float) -> None:
        """Connect to one of the broker's addresses. asyncio sets TCP_NODELAY on its sockets."""
        host, port = self._settings.host, self._settings.port
        addresses = await self._addresses(host, port)
        for address in addresses:
            try:
                async with asyncio.timeout(timeout_s / len(addresses)):
                    await self._loop.create_connection(
                        lambda: self._wire,
                        address,
                        port,
                        ssl=tls,
                        server_hostname=host if tls else None,
                    )
            except (OSError, TimeoutError) as error:  # an ssl.SSLError is an OSError
                if address == addresses[-1]:
                    raise self._unreachable(error) from error
            else:
                return

    async def _addresses(self, host: str, port: int) -> list[str]:
        """Look the name up; asyncio's own way would keep a stopping process waiting for DNS."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        try:
            found = await _aside(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            raise BrokerUnreachable(
                f"{self._settings.url}: the name cannot be resolved ({error.strerror}); "
                "check the address and the name service"
            ) from None
        return list(dict.fromkeys(str(address[4][0]) for address in found))

    def _unreachable(self, error: Exception) -> EdgeAgentError:
        url, host = self._settings.url, self._settings.host
        if isinstance(error, ssl.SSLCertVerificationError):
            return BrokerRefused(
                f"{url}: the broker's certificate is not accepted ({error.verify_message}); "
                f"check ca_file, and that the certificate names {host}"
            )
        if isinstance(error, ssl.SSLError):
            return BrokerRefused(
                f"{url}: no TLS connection ({error.reason}); check that this port speaks TLS 1.2 "
                "or later, and certificate_file if the broker asks for one"
            )
        if isinstance(error, ConnectionRefusedError):
            return BrokerUnreachable(f"{url}: connection refused; check that the broker runs there")
        if self._settings.tls and isinstance(error, ConnectionResetError):
            return BrokerUnreachable(f"{url}: reset by peer; check that this port speaks TLS")
        return BrokerUnreachable(f"{url}: cannot be reached ({str(error) or 'no answer'})")

    async def _log_in(self, password: str | None, receive_maximum: int) -> None:
        settings, client = self._settings, self._client
        if settings.username is not None:
            client.username_pw_set(settings.username, password)
        asked: dict[str, Any] = {}
        if self.mqtt5:
            properties = _properties(
                PacketTypes.CONNECT, SessionExpiryInterval=0, ReceiveMaximum=receive_maximum
            )
            asked = {"clean_start": True, "properties": properties}
        keepalive_s = max(1, settings.keepalive // 10**9)
        client.connect(settings.host, settings.port, keepalive_s, **asked)
        refusal = await self._answer
        if refusal is not None:
            raise refusal
        self._timer = self._loop.call_later(HOUSEKEEPING_S, self._keep_alive)

    async def closed(self) -> str:
        """Wait until the connection is gone; return the reason, for a person."""
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Take leave (DISCONNECT) and close, within two seconds. Never raises; callable again."""
        self._disconnect("closed by this side")
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._wire.gone.wait()
        except TimeoutError:
            pass
        finally:
            self._abort()

    def _disconnect(self, reason: str) -> None:
        if not self._ended.done():
            self._end(reason)
            self._client.disconnect()  # queued: paho must not write from within its callbacks

    def _abort(self) -> None:
        self._end("given up")
        self._wire.abort()

    def _end(self, reason: str, refusal: EdgeAgentError | None = None) -> None:
        if self._ended.done():
            return
        self._ended.set_result(reason)
        if self._timer is not None:
            self._timer.cancel()
        # A dead peer never takes what is still buffered, so a polite close could last for ever.
        self._loop.call_later(CLOSE_TIMEOUT_S, self._wire.abort)
        if not self._answer.done():
            self._answer.set_result(
                refusal or BrokerUnreachable(f"{self._settings.url}: {reason} during the login")
            )
        for waiting in self._subscribing.values():
            if not waiting.done():
                waiting.set_result(())

    def _keep_alive(self) -> None:
        self._client.loop_misc()
        if not self._ended.done():
            self._timer = self._loop.call_later(HOUSEKEEPING_S, self._keep_alive)

    # Between asyncio and paho

    def _read(self) -> None:
        try:
            while self._wire.pending and not self._ended.done():
                self._client.loop_read()
        except Exception as error:
            self._end(f"internal error: {error!r}")
            self._wire.abort()
            log.exception("mqtt.failed", broker=self._settings.url)

    def _want_write(self, *_: object) -> None:
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._writing = False
        self._client.loop_write()
        self._wire.flush()

    def _lost(self, error: Exception | None) -> None:
        if isinstance(error, ssl.SSLError):  # TLS 1.3: the broker judges our certificate afterwards
            refusal = self._unreachable(error)
            self._end(str(refusal), refusal)
        elif error is not None and self._settings.tls and not self._answer.done():
            self._end(f"connection lost ({error}; is a certificate_file asked for?)")
        elif error is not None:
            self._end(f"connection lost: {error}")
        else:  # mosquitto 2.0.11 gives no reason when another client takes over
            self._end(
                "the broker closed the connection; if it goes on, look for another client "
                "with the same client id"
            )

    # What paho calls

    def _connected(
        self, _client: object, _data: object, _flags: object, code: ReasonCode, answer: Any
    ) -> None:
        if code.is_failure:
            refusal = self._refusal(code)
            self._end(str(refusal), refusal)
            return
        self.receive_maximum = getattr(answer, "ReceiveMaximum", RECEIVE_MAXIMUM_UNSTATED)
        self._client.keep_within(self.receive_maximum)
        self._answer.set_result(None)

    def _refusal(self, code: ReasonCode) -> EdgeAgentError:
        url, version = self._settings.url, self._settings.version
        if code.value in _COME_BACK_LATER:
            return BrokerUnreachable(f"{url}: {code}")
        mend = {
            _UNSUPPORTED_VERSION: f"it does not speak MQTT {version}; set the broker's version to "
            + ("3.1.1" if self.mqtt5 else "5"),
            _BAD_CLIENT_ID: "choose another client_id",
            _BAD_LOGIN: "check username and password_file",
            _NOT_AUTHORIZED: "check username, password_file and what the broker allows this user",
        }.get(code.value, "see the broker's log")
        return BrokerRefused(f"{url}: refused: {str(code).lower()}; {mend}")

    def _disconnected(
        self,
        _client: object,
        _data: object,
        flags: paho.DisconnectFlags,
        code: ReasonCode,
        _properties: object,
    ) -> None:
        if not flags.is_disconnect_packet_from_server:
            self._end(f"connection lost: {str(code).lower()}", self._version_refusal(code))
        elif code.value == _TAKEN_OVER:
            self._end("another client took over with the same client id; give each its own")
        else:
            self._end(f"the broker ended the session: {str(code).lower()}")

    def _version_refusal(self, code: ReasonCode) -> EdgeAgentError | None:
        """Return how paho tells that the broker refused version or client id under MQTT 3.1.1."""
        if self.mqtt5 or self._answer.done() or str(code) != "Protocol error":
            return None
        return BrokerRefused(
            f"{self._settings.url}: MQTT 3.1.1 or the client id is refused; "
            "set the broker's version to 5, or choose another client_id"
        )

    def _received(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        properties = message.properties
        self._on_message(
            Message(
                message.topic,
                bytes(message.payload),
                message.retain,
                getattr(properties, "ResponseTopic", None),
                getattr(properties, "CorrelationData", None),
                message.mid if message.qos else 0,
            )
        )

    def _published(
        self, _client: object, _data: object, message_id: int, code: ReasonCode, _properties: object
    ) -> None:
        topic = self._topics.pop(message_id, "")
        if code.is_failure:
            self._disconnect(
                f"the broker refuses messages on {topic}: {str(code).lower()}; "
                "check what it allows this user"
            )
        else:
            self._on_published(message_id)

    def _subscribed(
        self,
        _client: object,
        _data: object,
        message_id: int,
        codes: Sequence[ReasonCode],
        _properties: object,
    ) -> None:
        waiting = self._subscribing.get(message_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(codes)

    # What callers do

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        content_type: str | None = None,
        correlation: bytes | None = None,
        message_expiry_s: int | None = None,
    ) -> int:
        """Hand a message to the connection; return its id.

        With QoS 1 the caller hears of the broker's consent through ``on_published``. A refusal
        (MQTT 5 only; a broker of 3.1.1 has no words for it) ends the session. Content type,
        correlation and expiry are left out under 3.1.1.

        :param content_type: also says that the payload is UTF-8 (payload format indicator)
        :raises BrokerUnreachable: if the session is over; nothing was sent or kept
        """
        if self._ended.done():
            raise BrokerUnreachable(self._ended.result())
        properties = None
        if self.mqtt5 and (content_type or correlation or message_expiry_s is not None):
            properties = _packed(content_type, correlation, message_expiry_s)
        sent = self._client.publish(topic, payload, qos, retain, properties)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise BrokerUnreachable(f"message not taken: {paho.error_string(sent.rc)}")
        self._topics[sent.mid] = topic
        return sent.mid

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe with QoS 1 and wait for the broker's consent.

        :raises BrokerRefused: if the broker refuses one of the filters
        :raises BrokerUnreachable: if the session ends first, or no answer comes
        """
        if self._ended.done():
            raise BrokerUnreachable(self._ended.result())
        _, message_id = self._client.subscribe([(each, 1) for each in filters])
        assert message_id is not None, "paho lost its socket without telling"
        answer = self._subscribing[message_id] = self._loop.create_future()
        try:
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_S):
                codes = await answer
        except TimeoutError:
            raise BrokerUnreachable("the broker does not answer a subscription") from None
        finally:
            del self._subscribing[message_id]
        if not codes:
            raise BrokerUnreachable(await self.closed())
        for each, code in zip(filters, codes, strict=False):
            if code.is_failure:
                raise BrokerRefused(
                    f"{self._settings.url}: subscription to {each} refused: {str(code).lower()}; "
                    "check what the broker allows this user"
                )

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that a message is taken care of; nothing when the session is over."""
        if message.handle and not self._ended.done():
            self._client.ack(message.handle, 1)


class _Client(paho.Client):
    """paho's client on a connection that is already there."""

    def __init__(self, wire: "_Wire", *args: Any, **keywords: Any) -> None:
        self._wire = wire
        super().__init__(*args, **keywords)

    def _create_socket(self) -> Any:
        return self._wire

    def keep_within(self, receive_maximum: int) -> None:
        """Queue what exceeds the server's window: it would end the session otherwise.

        paho offers this before the connection only, when the server's word is not known yet.
        """
        unlimited = receive_maximum == RECEIVE_MAXIMUM_UNSTATED
        self._max_inflight_messages = 0 if unlimited else receive_maximum


class _Wire(asyncio.BufferedProtocol):
    """What paho takes for its socket: bytes that asyncio has read, and asyncio's way out.

    Reading ahead in 64 KiB saves paho's three system calls per packet; writing collects what one
    turn of the loop produced.
    """

    def __init__(
        self, on_bytes: Callable[[], None], on_lost: Callable[[Exception | None], None]
    ) -> None:
        self._on_bytes = on_bytes
        self._on_lost = on_lost
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._received = bytearray()
        self._unsent: list[bytes | bytearray] = []
        self._transport: asyncio.Transport | None = None
        self.gone = asyncio.Event()

    @property
    def pending(self) -> int:
        """Bytes that paho has not read yet."""
        return len(self._received)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        # asyncio's TLS reads into slices of it; a slice of a bytearray would be a copy.
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._received += self._buffer[:nbytes]
        self._on_bytes()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None  # paho closes its socket again when its client is collected
        self.gone.set()
        self._on_lost(error)

    # paho's side

    def recv(self, size: int) -> bytes:
        if not self._received:
            raise BlockingIOError
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def send(self, data: bytes | bytearray) -> int:
        self._unsent.append(data)
        return len(data)

    def flush(self) -> None:
        """Give to asyncio what paho has written."""
        if self._unsent and self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent = []

    def close(self) -> None:
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close without sending what is still buffered."""
        if self._transport is not None:
            self._transport.abort()

    def fileno(self) -> int:
        return -1

    def setblocking(self, flag: bool) -> None:
        """Nothing to set: this never blocks."""


class _Packed(Properties):
    """Properties of a PUBLISH that are encoded once: paho's own take longer than a message."""

    def __init__(self, properties: Properties) -> None:
        # paho's own __init__ builds the tables that pack() needs; its __setattr__ forbids others.
        object.__setattr__(self, "_bytes", properties.pack())  # type: ignore[no-untyped-call]

    def pack(self) -> bytes:
        packed: bytes = object.__getattribute__(self, "_bytes")
        return packed


def _properties(packet_type: int, **values: object) -> Properties:
    properties = Properties(packet_type)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        if value is not None:
            setattr(properties, name, value)
    return properties


@lru_cache(maxsize=64)
def _packed(
    content_type: str | None, correlation: bytes | None, expiry_s: int | None
) -> Properties:
    return _Packed(
        _properties(
            PacketTypes.PUBLISH,
            PayloadFormatIndicator=None if content_type is None else 1,
            ContentType=content_type,
            CorrelationData=correlation,
            MessageExpiryInterval=expiry_s,
        )
    )


class _Access(NamedTuple):
    """What the settings' files hold."""

    tls: ssl.SSLContext | None
    password: str | None


def _read_access(settings: BrokerSettings) -> _Access:
    """Read certificates and password.

    :raises BrokerRefused: if a file cannot be read
    """
    return _Access(_tls_context(settings) if settings.tls else None, _read_password(settings))


def _read_password(settings: BrokerSettings) -> str | None:
    if settings.password_file is None:
        return None
    try:
        return settings.password_file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerRefused(
            f"{settings.password_file}: the password cannot be read ({error}); "
            "check the path and its permissions"
        ) from None


def _tls_context(settings: BrokerSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.certificate_file is not None:
            context.load_cert_chain(settings.certificate_file, settings.key_file)
    except (OSError, ValueError) as error:
        raise BrokerRefused(
            f"{settings.url}: a certificate or key cannot be used ({error}); "
            "check ca_file, certificate_file and key_file"
        ) from None
    return context


async def _aside(work: Callable[[], T]) -> T:
    """Run blocking work beside the loop, in a thread that nobody waits for at exit."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Callable[[], T]] = loop.create_future()

    def tell(outcome: Callable[[], T]) -> None:
        if not done.done():
            done.set_result(outcome)

    def run() -> None:
        outcome = _outcome(work)
        with suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(tell, outcome)

    threading.Thread(target=run, name="mqtt-aside", daemon=True).start()
    return (await done)()


def _outcome(work: Callable[[], T]) -> Callable[[], T]:
    """Do the work now; return a function that returns its result or raises its error."""
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - raised again in the loop
        caught = error

        def fail() -> T:
            raise caught

        return fail
    return lambda: result

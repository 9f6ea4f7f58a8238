"""The secure channel and the service codec, taken from asyncua; the only file that touches it.

Of asyncua we use its protocol class (chunks, secure channel, cryptography) and its generated
service types. Its Client, sessions, subscriptions and reconnection are not used: they lose
subscriptions silently after a stall.

Private parts that are touched, each checked by :func:`self_test` at start:

==================================================  ===========================================
``UASocketProtocol._send_request``                  a request whose answer is a future, unawaited
``UASocketProtocol._process_received_data``         one complete chunk in
``UASocketProtocol._process_received_message``      an Error message, for its reason
``UASocketProtocol._open_secure_channel_exchange``  set while a channel is opened or renewed
``UASocketProtocol._callbackmap``                   where the answer to Hello is awaited
``UASocketProtocol._connection._limits``            an Acknowledge overwrites our own bounds
==================================================  ===========================================
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import asyncua.ua
from asyncua.client.ua_client import UASocketProtocol
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import Buffer, create_nonce
from asyncua.crypto.security_policies import (
    SecurityPolicyAes128Sha256RsaOaep,
    SecurityPolicyAes256Sha256RsaPss,
    SecurityPolicyBasic256Sha256,
    SecurityPolicyNone,
)
from asyncua.crypto.security_policies import encrypt_asymmetric as _encrypt_asymmetric
from asyncua.crypto.security_policies import sign_asymmetric as _sign_asymmetric
from asyncua.ua.status_codes import get_name_and_doc
from asyncua.ua.ua_binary import (
    nodeid_to_binary,
    struct_from_binary,
    struct_to_binary,
    uatcp_to_binary,
    variant_from_binary,
)

from drivers.opcua.notification import SERVICE_FAULT, check_read, decode_publish
from edgeagent.driver import LinkLost

__all__ = [
    "MESSAGE_BYTES_MAX",
    "POLICIES",
    "Channel",
    "Refused",
    "decode_variant",
    "encode_node_id",
    "encrypt_asymmetric",
    "self_test",
    "sign_asymmetric",
    "status_name",
    "ua",
]

ua: Any = asyncua.ua
"""The generated service types; what asyncua states of their types is half of it."""

encrypt_asymmetric: Any = _encrypt_asymmetric
sign_asymmetric: Any = _sign_asymmetric

TESTED: Final = "2.1."
"""Versions of asyncua whose private parts are known."""

DEFAULT_PORT: Final = 4840
CHUNK_BYTES: Final = 65_536
CHUNKS_MAX: Final = 512
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bounds that we state in Hello and hold the server to, whatever it acknowledges."""

HELLO_WITHIN_S: Final = 30.0
"""A server that stalls takes connections and answers when it goes on: then we are already there."""

CHANNEL_LIFETIME_MS: Final = 3_600_000
RENEW_AFTER: Final = 0.75
"""Share of a token's lifetime after which a new one is asked for (OPC 10000-4 section 5.6.2)."""

POLICIES: Final[dict[str, Any]] = {
    "None": SecurityPolicyNone,
    "Basic256Sha256": SecurityPolicyBasic256Sha256,
    "Aes128Sha256RsaOaep": SecurityPolicyAes128Sha256RsaOaep,
    "Aes256Sha256RsaPss": SecurityPolicyAes256Sha256RsaPss,
}

ResponseT = TypeVar("ResponseT")

# Its log repeats, without link or mend, what we raise.
logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)


class Refused(Exception):
    """The server answered a service with a Bad status.

    :ivar status: the status code
    """

    def __init__(self, status: int, reason: str = "") -> None:
        self.status = status
        super().__init__(f"{status_name(status)}{f' ({reason})' if reason else ''}")


def status_name(status: int) -> str:
    """Return the symbolic name of a status code, e.g. ``BadNodeIdUnknown``."""
    name = str(get_name_and_doc(status & 0xFFFF_0000)[0])
    return name if name not in ("Bad", "Good", "Uncertain") else f"0x{status:08X}"


def decode_variant(encoded: bytes) -> Any:
    """Return the value of one encoded Variant, as asyncua represents it."""
    return variant_from_binary(Buffer(encoded)).Value


def encode_node_id(node: Any) -> bytes:
    """Return a NodeId in its shortest form, as a server sends it."""
    if node.NodeIdType in _NUMERIC:
        number, index = int(node.Identifier), int(node.NamespaceIndex)
        kinds = ua.NodeIdType
        if number < 256 and index == 0:
            kind = kinds.TwoByte
        else:
            kind = kinds.FourByte if number < 65_536 and index < 256 else kinds.Numeric
        node = ua.NodeId(number, index, kind)
    return bytes(nodeid_to_binary(node))


_NUMERIC = (ua.NodeIdType.TwoByte, ua.NodeIdType.FourByte, ua.NodeIdType.Numeric)


class _Protocol(UASocketProtocol):
    """One connection that remembers why it ended and holds the server to bounds."""

    def __init__(self, timeout_s: float, policy: Any, on_lost: Callable[[], None]) -> None:
        super().__init__(timeout_s, policy, _limits())
        self.reason: str | None = None
        self.was_cut = False
        self._received = bytearray()
        self._fault: int | None = None
        self._on_lost = on_lost

    def data_received(self, data: bytes) -> None:
        """Take complete chunks, none larger than we said."""
        received = self._received
        received += data
        while len(received) >= 8 and self.reason is None:
            size = int.from_bytes(received[4:8], "little")
            if not 8 <= size <= CHUNK_BYTES:
                self.end(
                    f"the server sent a chunk of {size} bytes; at most {CHUNK_BYTES} are taken"
                )
                return
            if len(received) < size:
                return
            chunk = bytes(received[:size])
            del received[:size]
            self._process_received_data(chunk)

    def _process_received_message(self, msg: Any) -> None:
        if isinstance(msg, ua.ErrorMessage):
            self.was_cut = True
            self.end(_words(None if msg.Error is None else msg.Error.value, msg.Reason))
        elif self._open_secure_channel_exchange is not None:  # a refusal is no such response
            self._fault = _fault(msg) if isinstance(msg, ua.Message) else None
        super()._process_received_message(msg)

    def disconnect_socket(self) -> None:
        """End the connection at once; asyncua calls this while it handles what went wrong."""
        error = sys.exception()
        if isinstance(error, ua.UaStatusCodeError):
            self.was_cut = True
            self.end(f"what the server sent was not taken: {status_name(error.code)}")
        elif self._fault is not None:
            self.end(_words(self._fault, None))
        else:
            self.end(f"{type(error).__name__}: {error}" if error else "closed")

    def end(self, reason: str) -> None:
        """End the connection for good; the first reason counts."""
        self.reason = self.reason or reason
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail everything that waits."""
        self.was_cut = self.was_cut or self.reason is None
        self.reason = self.reason or (str(exc) if exc else "the server closed the connection")
        super().connection_lost(exc)
        self._on_lost()

    def keep_bounds(self) -> None:
        """Take of an Acknowledge only how much the server can receive."""
        limits = self._connection._limits  # noqa: SLF001
        ours, server_buffer = _limits(), limits.max_recv_buffer
        limits.max_recv_buffer = ours.max_recv_buffer
        limits.max_send_buffer = min(ours.max_send_buffer, server_buffer or CHUNK_BYTES)
        limits.max_chunk_count = ours.max_chunk_count
        limits.max_message_size = ours.max_message_size


def _limits() -> TransportLimits:
    return TransportLimits(CHUNK_BYTES, CHUNK_BYTES, CHUNKS_MAX, MESSAGE_BYTES_MAX)


def _words(status: int | None, reason: str | None) -> str:
    name = "an error" if status is None else status_name(status)
    return f"the server says {name}{f': {reason}' if reason else ''}"


def _fault(message: Any) -> int | None:
    """Return the status of a message that is a ServiceFault."""
    body = bytes(message.body())
    if not body.startswith(_SERVICE_FAULT):
        return None
    header = struct_from_binary(ua.ResponseHeader, Buffer(body[len(_SERVICE_FAULT) :]))
    return int(header.ServiceResult.value)


_SERVICE_FAULT = bytes((1, 0)) + SERVICE_FAULT.to_bytes(2, "little")


class Channel:
    """A connection with a secure channel; made by :meth:`open`.

    :ivar policy: the security policy with the keys of both ends
    :ivar timeout_s: longest wait for an answer
    """

    def __init__(
        self, url: str, policy: Any, timeout_s: float, on_lost: Callable[[], None]
    ) -> None:
        self.url = url
        self.policy = policy
        self.timeout_s = timeout_s
        self._protocol = _Protocol(timeout_s, policy, on_lost)
        self._renewing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        url: str,
        policy: Any,
        timeout_s: float,
        on_lost: Callable[[], None] = lambda: None,
    ) -> "Channel":
        """Connect and open a secure channel.

        :param on_lost: called once when the connection has ended, by whomever
        :raises LinkLost: with the reason that the server or the network gave
        """
        channel = cls(url, policy, timeout_s, on_lost)
        try:
            await channel._connect()
            lifetime_ms = await channel._open_secure_channel(ua.SecurityTokenRequestType.Issue)
        except BaseException:
            channel._protocol.end("given up")
            raise
        channel._renewing = asyncio.create_task(channel._renew(lifetime_ms), name=f"renew:{url}")
        return channel

    @property
    def lost(self) -> str | None:
        """Why the connection has ended, ``None`` while it is up."""
        return self._protocol.reason

    @property
    def was_cut(self) -> bool:
        """Whether it ended by the server, or by what it sent; not by silence and not by us."""
        return self._protocol.was_cut

    def bind(self, token: Any) -> None:
        """Send this session's authentication token with every request from now on."""
        self._protocol.authentication_token = token

    def send(self, request: Any) -> "asyncio.Future[Buffer]":
        """Send a request whose answer may take as long as it likes.

        :raises LinkLost: if the connection has ended
        """
        try:
            return self._protocol._send_request(request, timeout=0)  # noqa: SLF001
        except (ConnectionError, RuntimeError) as error:
            raise LinkLost(self.lost or str(error)) from None

    async def ask(self, request: Any, response: type[ResponseT], timeout_s: float = 0) -> ResponseT:
        """Send a request and return its response.

        :raises Refused: if the server answers with a Bad status
        :raises LinkLost: if there is no answer, or none that can be read
        """
        data = await self._answer(request, timeout_s or self.timeout_s)
        try:
            if response is ua.ReadResponse:  # values may nest, and be arrays of nothing
                check_read(bytes(data))
            answer: Any = struct_from_binary(response, data)
            result = int(answer.ResponseHeader.ServiceResult.value)
        except Exception as error:
            name = type(request).__name__
            raise LinkLost(f"the answer to {name} cannot be read: {error!r}") from error
        if result >> 31:
            raise Refused(result)
        return answer  # type: ignore[no-any-return]

    async def ask_bytes(self, request: Any, timeout_s: float = 0) -> bytes:
        """Send a request and return the body of its response; raises as :meth:`ask`."""
        return bytes(await self._answer(request, timeout_s or self.timeout_s))

    async def _answer(self, request: Any, wait_s: float) -> Buffer:
        name = type(request).__name__
        try:
            async with asyncio.timeout(wait_s + 1):
                return await self._protocol.send_request(request, wait_s)
        except ua.UaStatusCodeError as error:
            if self.lost is not None:
                raise LinkLost(self.lost) from None
            raise Refused(error.code) from None
        except TimeoutError:
            raise LinkLost(f"no answer to {name} within {wait_s:g} s") from None
        except OSError as error:
            raise LinkLost(self.lost or str(error)) from None

    async def close(self) -> None:
        """End the channel and the connection. Never raises."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        if self.lost is None:
            with suppress(Exception):  # the other end sees it, or not
                await self._protocol.close_secure_channel()
        self._protocol.end("closed by us")

    async def end_session(self, within_s: float) -> None:
        """Ask the server to forget the session and its subscriptions. Never raises."""
        request = ua.CloseSessionRequest()
        request.DeleteSubscriptions = True
        with suppress(Refused, LinkLost):
            await self.ask(request, ua.CloseSessionResponse, within_s)

    def abort(self, reason: str) -> None:
        """End the connection at once."""
        self._protocol.end(reason)

    async def _connect(self) -> None:
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.timeout_s):
                await loop.create_connection(lambda: self._protocol, host, port)
        except TimeoutError:
            raise LinkLost(f"{host}:{port} does not answer within {self.timeout_s:g} s") from None
        except socket.gaierror as error:
            raise LinkLost(f"host {host!r} is not known ({error.strerror}); correct url") from None
        except OSError as error:
            words = os.strerror(error.errno) if error.errno else str(error)
            raise LinkLost(f"{host}:{port}: {words}; correct url, or start the server") from None
        try:
            async with asyncio.timeout(HELLO_WITHIN_S):
                await self._hello()
        except TimeoutError:
            raise LinkLost(f"{host}:{port} does not say hello; is it OPC UA?") from None
        except (ua.UaError, ConnectionError, OSError) as error:
            raise LinkLost(self.lost or str(error)) from None

    async def _hello(self) -> None:
        """Say hello with our real bounds (asyncua states the chunk count as message size)."""
        hello = ua.Hello(
            ReceiveBufferSize=CHUNK_BYTES,
            SendBufferSize=CHUNK_BYTES,
            MaxMessageSize=MESSAGE_BYTES_MAX,
            MaxChunkCount=CHUNKS_MAX,
            EndpointUrl=self.url,
        )
        protocol = self._protocol
        acknowledged: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        protocol._callbackmap[0] = acknowledged  # noqa: SLF001
        if protocol.transport is None:
            raise ConnectionError("the server closed the connection")
        protocol.transport.write(uatcp_to_binary(ua.MessageType.Hello, hello))
        await acknowledged
        protocol.keep_bounds()

    async def _open_secure_channel(self, kind: Any) -> int:
        """Ask for a security token; return its lifetime in milliseconds."""
        parameters = ua.OpenSecureChannelParameters(
            ClientProtocolVersion=0,
            RequestType=kind,
            SecurityMode=self.policy.Mode,
            RequestedLifetime=CHANNEL_LIFETIME_MS,
            ClientNonce=create_nonce(self.policy.secure_channel_nonce_length),
        )
        try:
            async with asyncio.timeout(self.timeout_s + 1):
                opened = await self._protocol.open_secure_channel(parameters)
        except TimeoutError:
            reason = self.lost or f"no secure channel within {self.timeout_s:g} s"
            raise LinkLost(reason) from None
        except Exception as error:  # noqa: BLE001 - a refusal may come as a bare AssertionError
            raise LinkLost(self.lost or f"no secure channel: {error!r}") from None
        return int(opened.SecurityToken.RevisedLifetime)

    async def _renew(self, lifetime_ms: int) -> None:
        while True:
            await asyncio.sleep(lifetime_ms / 1000 * RENEW_AFTER)
            try:
                lifetime_ms = await self._open_secure_channel(ua.SecurityTokenRequestType.Renew)
            except LinkLost as error:
                self.abort(f"the secure channel was not renewed: {error}")
                return
            self._protocol.revolve_security_token()


def self_test() -> None:
    """Check, at start and without a network, that asyncua is as this file expects it.

    One PublishResponse, encoded by asyncua, is decoded by both decoders.

    :raises LinkLost: if asyncua has changed; nothing is acquired by guesswork
    """
    wrong = list(_changed())
    if wrong:
        raise LinkLost(f"asyncua {asyncua.__version__} is not as expected: {'; '.join(wrong)}")


def _changed() -> list[str]:
    wrong = [] if asyncua.__version__.startswith(TESTED) else [f"only {TESTED}x is known"]
    private = ("_send_request", "_process_received_data", "_process_received_message")
    wrong += [f"no {name}" for name in private if not hasattr(UASocketProtocol, name)]
    protocol = _Protocol(
        1.0, POLICIES["None"](None, None, None, ua.MessageSecurityMode.None_), lambda: None
    )
    if not isinstance(getattr(protocol, "_callbackmap", None), dict):
        wrong.append("no _callbackmap")
    if not hasattr(protocol, "_open_secure_channel_exchange"):
        wrong.append("no _open_secure_channel_exchange")
    connection = getattr(protocol, "_connection", None)
    if not isinstance(getattr(connection, "_limits", None), TransportLimits):
        wrong.append("no _connection._limits")
    if wrong:
        return wrong
    body = _sample_body()
    ours = decode_publish(body, decode_variant)
    theirs = struct_from_binary(ua.PublishResponse, Buffer(body))
    items = theirs.Parameters.NotificationMessage.NotificationData[0].MonitoredItems
    same = (
        ours.samples.handles == [item.ClientHandle for item in items]
        and ours.samples.values == [item.Value.Value.Value for item in items]
        and ours.sequence == theirs.Parameters.NotificationMessage.SequenceNumber
    )
    return [] if same else ["the two decoders differ"]


def _sample_body() -> bytes:
    def item(handle: int, value: ua.Variant) -> Any:
        return ua.MonitoredItemNotification(ClientHandle=handle, Value=ua.DataValue(value))

    values = [ua.Variant(x / 4, ua.VariantType.Double) for x in range(6)]
    values += [ua.Variant("µ", ua.VariantType.String), ua.Variant([1, 2], ua.VariantType.Int16)]
    changes = ua.DataChangeNotification(
        MonitoredItems=[item(handle, value) for handle, value in enumerate(values)]
    )
    message = ua.NotificationMessage(SequenceNumber=7, NotificationData=[changes])
    response = ua.PublishResponse(
        Parameters=ua.PublishResult(SubscriptionId=3, NotificationMessage=message)
    )
    return bytes(struct_to_binary(response))

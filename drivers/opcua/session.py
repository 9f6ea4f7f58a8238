"""Opening a session: discovery, trust, channel, identity; the real reason where one is refused."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from cryptography.hazmat.primitives.serialization import load_pem_private_key as load_pem_key

from drivers.opcua.settings import OpcUaLinkSettings, UserSettings
from drivers.opcua.stack import (
    MESSAGE_BYTES_MAX,
    POLICIES,
    Channel,
    Refused,
    encrypt_asymmetric,
    sign_asymmetric,
    ua,
)
from drivers.opcua.trust import Trust, Untrusted
from edgeagent.driver import LinkLost
from edgeagent.model.clock import Clock

APPLICATION_URI = "urn:edgeagent"
"""What the agent calls itself where no certificate says otherwise."""

MENDS = {
    "BadIdentityTokenRejected": "the server does not accept this user; correct user",
    "BadIdentityTokenInvalid": "the server does not accept this kind of user; correct user",
    "BadUserAccessDenied": "wrong name or password, or not allowed; correct user",
    "BadUserSignatureInvalid": "the user's key does not fit its certificate; correct user",
    "BadSecurityChecksFailed": "the server does not trust the agent's certificate, or its clock "
    "differs; let its administrator trust it",
    "BadCertificateUntrusted": "let the server's administrator trust the agent's certificate",
    "BadCertificateTimeInvalid": "the agent's certificate has expired or is not valid yet for the "
    "server's clock; check the clocks of both sides, or renew it: edgeagent certs create --replace",
    "BadCertificateUriInvalid": "make the agent's certificate anew: "
    "edgeagent certs create --replace",
    "BadTooManySessions": "the server has no session left; end others there",
    "BadTcpEndpointUrlInvalid": "the server has no such endpoint; correct url",
}


@dataclass(slots=True)
class Session:
    """A session that the server knows: it outlives the connection on which it was made.

    :ivar number: its NodeId in the server's diagnostics
    :ivar token: authenticates the session's requests
    :ivar nonce: the server's last, to be signed at the next activation
    """

    number: Any
    token: Any
    nonce: bytes
    certificate: bytes
    user_tokens: Sequence[Any]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Credentials:
    """Certificate and key, from files whose format is seen from their content."""

    certificate: x509.Certificate
    key: RSAPrivateKey


def load_credentials(certificate_file: Path, key_file: Path) -> Credentials:
    """Read a certificate and its key, DER or PEM.

    :raises LinkLost: if one of them cannot be read, or they do not belong together
    """
    raw = _read(certificate_file)
    try:
        is_pem = raw.startswith(b"-----")
        load = x509.load_pem_x509_certificate if is_pem else x509.load_der_x509_certificate
        certificate = load(raw)
    except ValueError as error:
        raise LinkLost(f"{certificate_file} is no certificate: {error}") from None
    raw = _read(key_file)
    try:
        is_pem = raw.startswith(b"-----")
        key = load_pem_key(raw, None) if is_pem else load_der_private_key(raw, None)
    except (ValueError, TypeError) as error:
        raise LinkLost(f"{key_file} is no private key without a password: {error}") from None
    if not isinstance(key, RSAPrivateKey):
        raise LinkLost(f"{key_file} is no RSA key; make one of 2048 bits or more")
    if key.public_key() != certificate.public_key():
        raise LinkLost(f"{key_file} is not the key of {certificate_file}; correct one of them")
    return Credentials(certificate, key)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LinkLost(f"{path}: {error.strerror}; create it or correct the path") from None


class Connector:
    """Opens channels and sessions of one link."""

    def __init__(self, settings: OpcUaLinkSettings, trust: Trust, clock: Clock, name: str) -> None:
        self._settings = settings
        self._trust = trust
        self._clock = clock
        self._name = name
        self._timeout_s = settings.timeout / 1e9
        self._shown: _Endpoint | None = None

    async def withdrawn(self) -> str | None:
        """Return why the server of the last connection is trusted no more, ``None`` while it is."""
        if self._settings.security is None or self._shown is None:
            return None
        try:
            await asyncio.to_thread(self._judge, self._shown)
        except Untrusted as error:
            return str(error) if error.is_withdrawn else None
        return None

    async def open(self, kept: Session | None, on_lost: Callable[[], None]) -> tuple[
        Channel, Session, bool
    ]:  # fmt: skip
        """Return a channel, an active session, and whether that is the one that was kept.

        :raises LinkLost: in words that say what to do
        """
        own = await asyncio.to_thread(self._own)
        endpoint = await self._endpoint()
        policy = self._policy(own, endpoint.certificate)
        channel = await self._channel(policy, on_lost)
        try:
            if kept is not None and await self._reactivated(channel, kept):
                return channel, kept, True
            session = await self._create(channel, endpoint, own)
            await self._activate(channel, session)
        except Refused as error:
            await channel.close()
            raise LinkLost(_mended(str(error))) from None
        except LinkLost as error:
            await channel.close()
            raise LinkLost(_mended(str(error))) from None
        except BaseException:
            channel.abort("given up")
            await channel.close()
            raise
        return channel, session, False

    async def _channel(self, policy: Any, on_lost: Callable[[], None]) -> Channel:
        try:
            return await Channel.open(self._settings.url, policy, self._timeout_s, on_lost)
        except LinkLost as error:
            raise LinkLost(_mended(str(error))) from None

    def _own(self) -> Credentials | None:
        settings = self._settings
        if settings.security is None:
            return None
        certificate_file, key_file = settings.own_files
        with suppress(OSError):  # what may not be looked at is said when it is read
            if settings.certificate_file is None and not certificate_file.exists():
                raise LinkLost(
                    f"the agent has no certificate in {certificate_file.parent}; "
                    "type: edgeagent certs create --reason '...'"
                )
        return load_credentials(certificate_file, key_file)

    def _policy(self, own: Credentials | None, server: bytes) -> Any:
        security = self._settings.security
        if security is None or own is None:
            return POLICIES["None"](None, None, None, ua.MessageSecurityMode.None_)
        mode = getattr(ua.MessageSecurityMode, security.mode)
        return POLICIES[security.policy](server, own.certificate, own.key, mode)

    async def _endpoint(self) -> "_Endpoint":
        """Ask the server how it may be talked to; take exactly what the site file wants."""
        policy = POLICIES["None"](None, None, None, ua.MessageSecurityMode.None_)
        channel = await self._channel(policy, lambda: None)
        try:
            request = ua.GetEndpointsRequest()
            request.Parameters.EndpointUrl = self._settings.url
            answer = await channel.ask(request, ua.GetEndpointsResponse)
        except Refused as error:
            raise LinkLost(_mended(f"the server names no endpoints: {error}")) from None
        finally:
            await channel.close()
        endpoint = self._chosen(answer.Endpoints or [])
        if self._settings.security is not None:
            try:
                await asyncio.to_thread(self._judge, endpoint)
            except Untrusted as error:
                raise LinkLost(str(error)) from None
        self._shown = endpoint
        return endpoint

    def _chosen(self, offered: Sequence[Any]) -> "_Endpoint":
        security = self._settings.security
        name, mode = ("None", "None_") if security is None else (security.policy, security.mode)
        uri = POLICIES[name].URI
        for endpoint in offered:
            if endpoint.SecurityPolicyUri == uri and endpoint.SecurityMode.name == mode:
                return _Endpoint(
                    _first(endpoint.ServerCertificate or b""),
                    endpoint.Server.ApplicationUri or "",
                    endpoint.UserIdentityTokens or [],
                )
        choices = sorted(
            {f"{e.SecurityPolicyUri.rpartition('#')[2]} {e.SecurityMode.name}" for e in offered}
        )
        wanted = "none" if security is None else f"{security.policy} {security.mode}"
        raise LinkLost(
            f"the server does not offer security {wanted}; it offers: {', '.join(choices)}; "
            "correct security, or the server"
        )

    def _judge(self, endpoint: "_Endpoint") -> None:
        host = urlsplit(self._settings.url).hostname or ""
        self._trust(endpoint.certificate, endpoint.uri, host, self._clock.utc_ns())

    async def _create(
        self, channel: Channel, endpoint: "_Endpoint", own: Credentials | None
    ) -> Session:
        nonce = secrets.token_bytes(32)
        certificate = b"" if own is None else own.certificate.public_bytes(Encoding.DER)
        request = ua.CreateSessionRequest()
        parameters = request.Parameters
        parameters.ClientDescription = ua.ApplicationDescription(
            ApplicationUri=_own_uri(own),
            ApplicationName=ua.LocalizedText("edgeagent"),
            ApplicationType=ua.ApplicationType.Client,
        )
        parameters.EndpointUrl = self._settings.url
        parameters.SessionName = self._name
        parameters.ClientNonce = nonce
        parameters.ClientCertificate = certificate or None
        parameters.RequestedSessionTimeout = self._settings.session_timeout / 1e6
        parameters.MaxResponseMessageSize = MESSAGE_BYTES_MAX
        created = (await channel.ask(request, ua.CreateSessionResponse)).Parameters
        if own is not None:
            if _first(created.ServerCertificate or b"") != endpoint.certificate:
                raise LinkLost(
                    "the server shows another certificate than before; check the network"
                )
            try:
                channel.policy.asymmetric_cryptography.verify(
                    certificate + nonce, created.ServerSignature.Signature
                )
            except Exception:  # noqa: BLE001 - whatever a library raises at a wrong signature
                raise LinkLost(
                    "the server does not prove that its certificate is its own"
                ) from None
        channel.bind(created.AuthenticationToken)
        return Session(
            created.SessionId,
            created.AuthenticationToken,
            created.ServerNonce or b"",
            endpoint.certificate,
            endpoint.user_tokens,
            created.RevisedSessionTimeout / 1000,
        )

    async def _reactivated(self, channel: Channel, kept: Session) -> bool:
        """Take up the session on a new channel, if the server still knows it."""
        channel.bind(kept.token)
        try:
            await self._activate(channel, kept)
        except Refused:
            channel.bind(ua.NodeId())
            return False
        return True

    async def _activate(self, channel: Channel, session: Session) -> None:
        request = ua.ActivateSessionRequest()
        parameters = request.Parameters
        parameters.LocaleIds = ["en"]
        challenge = (channel.policy.peer_certificate or b"") + session.nonce
        if self._settings.security is not None:
            parameters.ClientSignature.Algorithm = channel.policy.AsymmetricSignatureURI
            parameters.ClientSignature.Signature = channel.policy.asymmetric_cryptography.signature(
                challenge
            )
        token, signature = await asyncio.to_thread(self._user, channel, session)
        parameters.UserIdentityToken = token
        if signature is not None:
            parameters.UserTokenSignature = signature
        answer = await channel.ask(request, ua.ActivateSessionResponse)
        session.nonce = answer.Parameters.ServerNonce or b""

    def _user(self, channel: Channel, session: Session) -> tuple[Any, Any]:
        """Return the user identity token and, for a certificate, its signature."""
        user = self._settings.user
        if user is None:
            policy, _ = _token_policy(session, ua.UserTokenType.Anonymous, "anonymous", channel)
            return ua.AnonymousIdentityToken(PolicyId=policy), None
        if user.username is not None:
            return self._by_name(user, channel, session), None
        assert user.certificate_file is not None
        assert user.key_file is not None
        mine = load_credentials(user.certificate_file, user.key_file)
        policy, uri = _token_policy(session, ua.UserTokenType.Certificate, "a certificate", channel)
        der = mine.certificate.public_bytes(Encoding.DER)
        signature, algorithm = sign_asymmetric(mine.key, session.certificate + session.nonce, uri)
        return (
            ua.X509IdentityToken(PolicyId=policy, CertificateData=der),
            ua.SignatureData(Algorithm=algorithm, Signature=signature),
        )

    def _by_name(self, user: UserSettings, channel: Channel, session: Session) -> Any:
        assert user.password_file is not None
        policy, uri = _token_policy(session, ua.UserTokenType.UserName, "a user name", channel)
        password = _read(user.password_file).rstrip(b"\r\n")
        token = ua.UserNameIdentityToken(PolicyId=policy, UserName=user.username)
        if uri == POLICIES["None"].URI:
            if channel.policy.Mode != ua.MessageSecurityMode.SignAndEncrypt:
                raise LinkLost("the password would be sent in clear; set security, or no user")
            token.Password, token.EncryptionAlgorithm = password, None
            return token
        secret = password + session.nonce
        key = x509.load_der_x509_certificate(session.certificate).public_key()
        encrypted, algorithm = encrypt_asymmetric(
            key, len(secret).to_bytes(4, "little") + secret, uri
        )
        token.Password, token.EncryptionAlgorithm = encrypted, algorithm
        return token


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """What discovery tells of the endpoint that is used."""

    certificate: bytes
    uri: str
    user_tokens: Sequence[Any]


def _token_policy(session: Session, kind: Any, words: str, channel: Channel) -> tuple[str, str]:
    """Return id and security policy of a kind of user that the server accepts."""
    for policy in session.user_tokens:
        if policy.TokenType == kind:
            return policy.PolicyId, policy.SecurityPolicyUri or channel.policy.URI
    kinds = sorted({policy.TokenType.name for policy in session.user_tokens})
    raise LinkLost(
        f"the server does not accept {words} here; it accepts: {', '.join(kinds) or 'nobody'}; "
        "correct user"
    )


def _own_uri(own: Credentials | None) -> str:
    """Return the application URI, which must be that of the certificate."""
    if own is not None:
        try:
            extension = own.certificate.extensions.get_extension_for_class(
                x509.SubjectAlternativeName
            )
            return extension.value.get_values_for_type(x509.UniformResourceIdentifier)[0]
        except (x509.ExtensionNotFound, IndexError):
            raise LinkLost(
                "the agent's certificate states no URI; type: edgeagent certs create --replace"
            ) from None
    return APPLICATION_URI


def _first(chain: bytes) -> bytes:
    """Return the first certificate of a chain (a DER SEQUENCE with a length of two bytes)."""
    return chain[: int.from_bytes(chain[2:4], "big") + 4]


def _mended(text: str) -> str:
    """Add to a refusal what to do about it."""
    for name, mend in MENDS.items():
        if name in text:
            return f"{text}; {mend}"
    return text

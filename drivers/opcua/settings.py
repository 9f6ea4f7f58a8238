"""What a site file may state of an OPC UA link and of an instrument on it."""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from drivers.opcua.address import parse, resolve
from edgeagent.model.profile import Strict
from edgeagent.model.quantity import DurationNs
from edgeagent.pki.folder import Folder


class SecuritySettings(Strict):
    """How the messages are protected. There is no fall-back: the server offers it or is refused."""

    policy: Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"] = (
        "Basic256Sha256"
    )
    mode: Literal["SignAndEncrypt", "Sign"] = "SignAndEncrypt"


class UserSettings(Strict):
    """Who the agent is to the server: a name with a password, or a certificate with its key."""

    username: str | None = Field(None, min_length=1)
    password_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "UserSettings":
        by_name = (self.username, self.password_file)
        by_certificate = (self.certificate_file, self.key_file)
        if (None in by_name) == (None in by_certificate) or any(
            one is not None for one in (by_certificate if None not in by_name else by_name)
        ):
            raise ValueError(
                "is no user; give username and password_file, or certificate_file and key_file"
            )
        return self


def _unprotected(value: Any) -> Any:
    """Let ``none`` be written as the word that it is."""
    return None if value == "none" else value


class OpcUaLinkSettings(Strict):
    """One session with an OPC UA server."""

    url: str = Field(description="opc.tcp://host[:port][/path]")
    security: Annotated[SecuritySettings | None, BeforeValidator(_unprotected)] = Field(
        SecuritySettings(),
        description="default: {policy: Basic256Sha256, mode: SignAndEncrypt}. Only the word 'none' "
        "switches it off",
    )
    certificate_file: Path | None = Field(
        None,
        description="the agent's own certificate, DER or PEM; default: that in the site's PKI "
        "folder",
    )
    key_file: Path | None = Field(None, description="its private key; goes with certificate_file")
    trusted_dir: Path | None = Field(
        None,
        description="folder with the server certificates that a person has accepted; default: "
        "trusted in the site's PKI folder",
    )
    user: UserSettings | None = Field(None, description="default: anonymous")
    timeout: DurationNs = Field(4 * 10**9, description="longest wait for each answer")
    session_timeout: DurationNs = Field(
        300 * 10**9,
        description="how long the server keeps session and subscriptions for an agent that is away",
    )
    _pki: Path | None = PrivateAttr(None)

    @field_validator("url")
    @classmethod
    def _reachable_form(cls, url: str) -> str:
        if "@" in url:
            raise ValueError("no user or password in the address; use user")
        try:
            parts = urlsplit(url)
            well_formed = parts.scheme == "opc.tcp" and parts.hostname and parts.port != 0
        except ValueError:
            well_formed = None
        if not well_formed:
            raise ValueError(f"{url!r} is no address of a server; write e.g. opc.tcp://host:4840")
        return url

    @field_validator("security", mode="before")
    @classmethod
    def _said_openly(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("has no value; write none, or leave it out for encryption")
        return value

    @model_validator(mode="after")
    def _complete(self) -> "OpcUaLinkSettings":
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together; add the other one")
        return self

    def at_site(self, pki: Path) -> "OpcUaLinkSettings":
        """Return these settings at a site whose PKI folder this is."""
        placed = self.model_copy()
        placed._pki = pki  # noqa: SLF001 - our own
        return placed

    @property
    def pki(self) -> Folder:
        """Where certificates are looked for, and kept when they are refused."""
        return Folder(self._pki or self.trusted_dir or Path("pki"), self.trusted_dir)

    @property
    def own_files(self) -> tuple[Path, Path]:
        """The agent's certificate and its key."""
        if self.certificate_file is not None and self.key_file is not None:
            return self.certificate_file, self.key_file
        return self.pki.own_certificate, self.pki.own_key


class OpcUaInstrumentSettings(Strict):
    """Where on its server an instrument is."""

    start: str | None = Field(
        None,
        description="node from which the profile's browse paths begin, e.g. "
        "nsu=urn:acme:freezers;s=Freezer-3; default: the profile's start",
    )

    @field_validator("start")
    @classmethod
    def _address(cls, start: str | None) -> str | None:
        if start is not None:
            try:
                resolve(parse(start), {})
            except ValueError as error:
                problem = str(error).split(";")[0]
                raise ValueError(f"{problem}; write the namespace as its whole URI") from None
        return start

"""The site file: what this one centre has, and where its records go."""

from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from edgeagent.model.profile import Name, Strict
from edgeagent.model.quantity import DurationNs

DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}


class BrokerSettings(Strict):
    """How to reach an MQTT broker. Secrets are files, never values."""

    url: str = Field(description="mqtt://host[:port] or mqtts://host[:port]")
    version: Literal["5", "3.1.1"] = "5"
    client_id: str | None = Field(None, description="default: the site's name and its role")
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = Field(None, description="default: the system's authorities")
    certificate_file: Path | None = None
    key_file: Path | None = None
    keepalive: DurationNs = 15 * 10**9

    @field_validator("url")
    @classmethod
    def _reachable_form(cls, url: str) -> str:
        if "@" in url:
            raise ValueError("no user or password in the address; use username and password_file")
        if not _is_broker_address(url):
            raise ValueError(
                f"{url!r} is no broker address; write e.g. mqtts://broker.example:8883"
            )
        return url

    @model_validator(mode="after")
    def _pairs(self) -> "BrokerSettings":
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together; add the other one")
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs a username; add username")
        if self.tls is False and (self.ca_file or self.certificate_file):
            raise ValueError("certificates need an mqtts:// address; correct url or remove them")
        return self

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def host(self) -> str:
        """Host name or address of the broker."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """TCP port of the broker."""
        parts = urlsplit(self.url)
        return parts.port or DEFAULT_PORTS[parts.scheme]


def _is_broker_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    rest = parts.path.strip("/") or parts.query or parts.fragment
    return parts.scheme in DEFAULT_PORTS and bool(parts.hostname) and port != 0 and not rest


class StreamSettings(Strict):
    """Limits of the lossless stream."""

    window_messages: int = Field(20, ge=1, le=1000, description="messages without PUBACK at a time")
    batch_bytes: int = Field(
        131_072, ge=1024, le=8_388_608, description="largest batch, if a record fits"
    )
    head_every: DurationNs = 10 * 10**9
    resend_after: DurationNs = Field(
        5 * 10**9, description="resend when a cursor stands still so long"
    )


class JournalSettings(Strict):
    """Limits of the journal."""

    commit_within: DurationNs = Field(12 * 10**6, description="longest wait for the rest of a tick")
    held_bytes: int = Field(
        16_777_216, ge=65_536, description="records kept in memory while the disk refuses them"
    )


class LinkSettings(BaseModel):
    """One connection. Keys besides ``driver`` belong to the driver's own model."""

    model_config = ConfigDict(extra="allow", frozen=True)
    driver: str


class InstrumentGroup(Strict):
    """What a site may change of a profile's group."""

    period: DurationNs | None = None


class InstrumentSettings(BaseModel):
    """One device at this site. Further keys belong to the driver's own model."""

    model_config = ConfigDict(extra="allow", frozen=True)
    profile: Name
    link: Name
    serial_number: str | None = None
    firmware: str | None = None
    area: Name | None = None
    process_cell: Name | None = None
    unit: Name | None = None
    groups: dict[Name, InstrumentGroup] = {}

    @property
    def expected(self) -> tuple[tuple[str, str], ...]:
        """Identity facts that this site commissioned."""
        facts = {"serial_number": self.serial_number, "firmware": self.firmware}
        return tuple((name, value) for name, value in facts.items() if value is not None)


class SiteSettings(Strict):
    """The whole site file."""

    site: Name
    enterprise: Name | None = None
    state_dir: Path
    topic_root: str = Field("edge/v1", pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")
    profile_dirs: tuple[Path, ...] = Field((), description="searched before the profiles that ship")
    broker: BrokerSettings
    stream: StreamSettings = StreamSettings()
    journal: JournalSettings = JournalSettings()
    links: dict[Name, LinkSettings] = Field(min_length=1)
    instruments: dict[Name, InstrumentSettings] = Field(min_length=1)


def driver_keys(settings: LinkSettings | InstrumentSettings) -> dict[str, Any]:
    """Return the keys that belong to the driver's own model."""
    return dict(settings.model_extra or {})

"""The site file: what this one centre has, and where its records go."""

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from edgeagent.model.profile import Name, Strict
from edgeagent.model.quantity import DurationNs, SizeBytes

DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}
DAY_NS = 86_400 * 10**9
RESERVE_BYTES_MIN = 32 * 10**6
"""The quarter that is kept for housekeeping must hold the write-ahead log while it is moved."""
BUDGET_RESERVES_MIN = 2


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
    """Limits of the journal (``docs/operating.md``)."""

    commit_within: DurationNs = Field(12 * 10**6, description="longest wait for the rest of a tick")
    held_bytes: int = Field(
        16_777_216, ge=65_536, description="records kept in memory while the disk refuses them"
    )
    budget: SizeBytes = Field(20 * 10**9, description="largest journal; the reserve comes on top")
    reserve: SizeBytes = Field(
        64 * 10**6,
        description="disk space set aside for critical tags, alarms and audit when all else is "
        "full; at least 32 MB",
    )
    keep: DurationNs = Field(
        90 * DAY_NS, description="how long received records stay, if the budget lets them"
    )
    evidence_keep: DurationNs = Field(
        30 * DAY_NS, description="how long raw replies stay, if the budget lets them"
    )
    pack_after: DurationNs = Field(
        3600 * 10**9, description="age at which records are packed; at most 1 d"
    )

    @field_validator("reserve")
    @classmethod
    def _does_its_work(cls, reserve: int) -> int:
        if reserve < RESERVE_BYTES_MIN:
            raise ValueError("is too small to work with; write 32 MB or more")
        return reserve

    @field_validator("pack_after")
    @classmethod
    def _within_a_day(cls, pack_after: int) -> int:
        if pack_after > DAY_NS:
            raise ValueError("is longer than a day; write 1 d or less")
        return pack_after

    @model_validator(mode="after")
    def _in_proportion(self) -> "JournalSettings":
        if self.budget < BUDGET_RESERVES_MIN * self.reserve:
            raise ValueError("budget is less than twice the reserve; raise budget")
        if "evidence_keep" in self.model_fields_set and self.evidence_keep > self.keep:
            raise ValueError(
                "evidence_keep is longer than keep, and no reply outlives its record; "
                "lower evidence_keep or raise keep"
            )
        return self


class Role(StrEnum):
    """What a person may do on the control socket. Every role may look."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ENGINEER = "engineer"
    QUALITY = "quality"


class ControlSettings(Strict):
    """Who reaches the running agent, and where."""

    socket: Path | None = Field(None, description="default: control.sock in state_dir")
    roles: dict[Role, tuple[str, ...]] = Field(
        {role: (f"edgeagent-{role}",) for role in Role},
        description="Unix groups whose members have a role; root and the service's own user have "
        "every role",
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
    critical: tuple[Name, ...] | None = Field(
        None,
        description="tags that are stored from the reserve when the journal is full, in place of "
        "those that the profile names",
    )

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
    pki: Path | None = Field(
        None, description="folder with certificates and keys; default: pki in state_dir"
    )
    topic_root: str = Field("edge/v1", pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")
    profile_dirs: tuple[Path, ...] = Field((), description="searched before the profiles that ship")
    broker: BrokerSettings
    stream: StreamSettings = StreamSettings()
    journal: JournalSettings = JournalSettings()
    control: ControlSettings = ControlSettings()
    links: dict[Name, LinkSettings] = Field(min_length=1)
    instruments: dict[Name, InstrumentSettings] = Field(min_length=1)


def driver_keys(settings: LinkSettings | InstrumentSettings) -> dict[str, Any]:
    """Return the keys that belong to the driver's own model."""
    return dict(settings.model_extra or {})

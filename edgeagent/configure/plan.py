"""The site as one checked plan: settings, drivers, profiles, compiled schemas."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from importlib import import_module, resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from edgeagent.configure.document import Document, Path_, parse_document, read_document
from edgeagent.configure.place import SOCKET_NAME, pki_of
from edgeagent.configure.validate import validate
from edgeagent.driver import ENTRY_POINT_GROUP, DriverKind, Instrument
from edgeagent.model.errors import ConfigurationError, Fault
from edgeagent.model.frame import GroupSchema
from edgeagent.model.profile import Profile
from edgeagent.model.settings import (
    ControlSettings,
    InstrumentSettings,
    LinkSettings,
    SiteSettings,
    driver_keys,
)

if TYPE_CHECKING:
    from edgeagent.pki.folder import Folder

PROFILES_ENTRY_POINT_GROUP = "edgeagent.profiles"

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """One link with its driver's kind, its settings and the instruments on it."""

    name: str
    kind: DriverKind
    settings: Any
    instruments: tuple[Instrument, ...]

    def same_as(self, other: "LinkPlan") -> bool:
        """Return whether both say the same, so that a running link may simply go on."""
        mine, theirs = self.instruments, other.instruments
        return (self.name, self.kind.name, self.settings) == (
            other.name,
            other.kind.name,
            other.settings,
        ) and list(map(_stated, mine)) == list(map(_stated, theirs))


def _stated(instrument: Instrument) -> tuple[object, ...]:
    """Return all that was said of an instrument; its schemas are compared by what they hold."""
    schemas = [
        tuple(getattr(group, each.name) for each in fields(group)) for group in instrument.groups
    ]
    return (
        instrument.name,
        instrument.profile,
        instrument.settings,
        instrument.expected,
        schemas,
    )


@dataclass(frozen=True, slots=True)
class SitePlan:
    """A configuration in which no fault was found.

    :ivar document: the site file
    :ivar profiles: the profile files that it uses
    :ivar revision: SHA-256 over the site file and these profiles
    """

    document: Document
    settings: SiteSettings
    links: tuple[LinkPlan, ...]
    profiles: tuple[Document, ...]
    revision: str

    @property
    def file(self) -> Path:
        """The site file."""
        return Path(self.document.file)

    @property
    def pki(self) -> "Folder":
        """The folder with certificates and keys."""
        from edgeagent.pki.folder import Folder  # loads cryptography, which few commands need

        assert self.settings.pki is not None, "resolved when the plan was loaded"
        return Folder(self.settings.pki)

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """All instruments, link by link."""
        return tuple(instrument for link in self.links for instrument in link.instruments)

    @property
    def groups(self) -> tuple[GroupSchema, ...]:
        """All groups, instrument by instrument."""
        return tuple(group for instrument in self.instruments for group in instrument.groups)


class InstalledDrivers(Mapping[str, DriverKind]):
    """The installed drivers by name; one is imported when it is first asked for."""

    def __init__(self) -> None:
        self._entries = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
        self._loaded: dict[str, DriverKind] = {}

    def __getitem__(self, name: str) -> DriverKind:
        if name not in self._loaded:
            self._loaded[name] = self._entries[name].load()
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def driver_kinds() -> Mapping[str, DriverKind]:
    """Return the installed drivers by name."""
    return InstalledDrivers()


def load_plan(path: Path, kinds: Mapping[str, DriverKind] | None = None) -> SitePlan:
    """Read and check a site file and every profile that it names.

    :raises ConfigurationError: with all faults
    """
    return _Loader(read_document(path), driver_kinds() if kinds is None else kinds).load(
        path.parent
    )


def load_profile(path: Path, kinds: Mapping[str, DriverKind] | None = None) -> Profile[Any, Any]:
    """Read and check one profile file.

    :raises ConfigurationError: with all faults
    """
    faults: list[Fault] = []
    document = read_document(path)
    profile = _profile(document, driver_kinds() if kinds is None else kinds, faults)
    if profile is None or faults:
        raise ConfigurationError(faults)
    return profile


def shipped_profiles() -> dict[str, bytes]:
    """Return the profiles that installed packages ship, by name."""
    found: dict[str, bytes] = {}
    for entry in entry_points(group=PROFILES_ENTRY_POINT_GROUP):
        for item in resources.files(import_module(entry.value)).iterdir():
            if item.name.endswith(".yaml"):
                found[item.name.removesuffix(".yaml")] = item.read_bytes()
    return found


class _Loader:
    """One pass over a site file; collects faults instead of stopping at the first."""

    def __init__(self, document: Document, kinds: Mapping[str, DriverKind]) -> None:
        self._document = document
        self._kinds = kinds
        self._faults: list[Fault] = []
        self._profiles: dict[str, Profile[Any, Any] | None] = {}
        self._used: dict[str, Document] = {}

    def load(self, base: Path) -> SitePlan:
        settings = validate(SiteSettings, self._document.data, self._document, (), self._faults)
        links = self._sound(LinkSettings, "links", settings)
        instruments = self._sound(InstrumentSettings, "instruments", settings)
        self._find_files(settings, base)
        by_link: dict[str, list[Instrument]] = {name: [] for name in links}
        for name, instrument in instruments.items():
            self._add_instrument(links, name, instrument, by_link)
        found = [self._link(name, link, by_link[name]) for name, link in links.items()]
        plans = [link for link in found if link is not None]
        self._check_endpoints(plans)
        if settings is None or self._faults:
            faults = dict.fromkeys(self._faults)
            raise ConfigurationError(sorted(faults, key=lambda f: (f.file, f.line or 0)))
        pki = pki_of(base, settings.state_dir, settings.pki)
        resolved = settings.model_copy(
            update={
                "state_dir": base / settings.state_dir,
                "pki": pki,
                "broker": _resolved(settings, base),
                "control": _resolved_control(settings, base),
            }
        )
        profiles = tuple(self._used[name] for name in sorted(self._used))
        placed = tuple(
            replace(link, settings=link.kind.at_site(link.settings, pki)) for link in plans
        )
        return SitePlan(self._document, resolved, placed, profiles, self._revision())

    def _sound(self, model: type[M], key: str, settings: SiteSettings | None) -> dict[str, M]:
        """Return the entries of a section that are sound, even when the file as a whole is not."""
        if settings is not None:
            return dict(getattr(settings, key))
        entries = self._document.data.get(key)
        sound = {}
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            with suppress(ValidationError):
                sound[name] = _without_faults(model, entry)
        return sound

    def _fault(self, path: Path_, problem: str, mend: str) -> None:
        self._faults.append(self._document.fault(path, problem, mend))

    def _revision(self) -> str:
        digest = hashlib.sha256(self._document.raw)
        for name in sorted(self._used):
            digest.update(b"\0" + name.encode() + b"\0" + self._used[name].raw)
        return digest.hexdigest()

    def _find_files(self, settings: SiteSettings | None, base: Path) -> None:
        self._dirs: list[Path] = []
        if settings is None:
            listed = self._document.data.get("profile_dirs")
            listed = [listed] if isinstance(listed, str) else listed
            self._dirs += [base / str(d) for d in listed] if isinstance(listed, list) else []
            return
        self._dirs += [base / directory for directory in settings.profile_dirs]
        for key in _BROKER_FILES:
            path: Path | None = getattr(settings.broker, key)
            if path is None or _is_for_the_service_alone(path):
                continue
            if not (base / path).is_file():
                self._fault(("broker", key), f"no file {path}", "create it or correct the path")
        for index, directory in enumerate(self._dirs):
            if not directory.is_dir():
                self._fault(
                    ("profile_dirs", index), f"no directory {directory}", "correct the path"
                )

    def _add_instrument(
        self,
        links: Mapping[str, LinkSettings],
        name: str,
        wanted: InstrumentSettings,
        by_link: dict[str, list[Instrument]],
    ) -> None:
        at: Path_ = ("instruments", name)
        link = links.get(wanted.link)
        if link is None and ("links", wanted.link) not in self._document.lines:
            mend = f"use one of: {', '.join(links)}" if links else "add it below links"
            self._fault((*at, "link"), f"no link {wanted.link!r}", mend)
        profile = self._profile_named(wanted.profile, (*at, "profile"))
        if profile is None or link is None:
            return
        if profile.driver != link.driver and link.driver in self._kinds:
            self._fault(
                (*at, "link"),
                f"{wanted.profile} speaks {profile.driver}, link {wanted.link} {link.driver}",
                f"put it on a link with driver: {profile.driver}",
            )
        if profile.driver != link.driver:
            return
        kind = self._kinds[profile.driver]
        own = validate(
            kind.instrument_settings,
            driver_keys(wanted),
            self._document,
            at,
            self._faults,
            InstrumentSettings.model_fields,
        )
        for group in wanted.groups.keys() - profile.groups.keys():
            known = ", ".join(profile.groups)
            self._fault(
                (*at, "groups", group), f"profile has no group {group!r}", f"use one of: {known}"
            )
        for index, tag in enumerate(wanted.critical or ()):
            if tag not in profile.acquired():
                known = ", ".join(sorted(profile.acquired()))
                self._fault(
                    (*at, "critical", index), f"no tag {tag!r} is read", f"use one of: {known}"
                )
        if own is None:
            return
        periods = {key: g.period for key, g in wanted.groups.items() if g.period is not None}
        schemas = profile.schemas(name, periods, wanted.critical)
        instrument = Instrument(name, profile, own, schemas, wanted.expected)
        self._check_clash(kind, instrument, by_link[wanted.link], at)
        misfit = kind.misfit(instrument, by_link[wanted.link])
        if misfit is not None:
            problem, _, mend = misfit.partition("; ")
            self._fault(at, problem, mend)
        by_link[wanted.link].append(instrument)

    def _check_clash(
        self, kind: DriverKind, new: Instrument, others: Iterable[Instrument], at: Path_
    ) -> None:
        for other in others:
            reason = kind.clash(other.settings, new.settings)
            if reason is not None:
                self._fault(
                    at,
                    f"{reason}, as {other.name} has",
                    "give each its own address, or its own link",
                )

    def _link(
        self, name: str, link: LinkSettings, instruments: list[Instrument]
    ) -> LinkPlan | None:
        kind = self._kinds.get(link.driver)
        if kind is None:
            known = ", ".join(sorted(self._kinds)) or "none"
            self._fault(
                ("links", name, "driver"), f"no driver {link.driver!r}", f"installed: {known}"
            )
            return None
        own = validate(
            kind.link_settings,
            driver_keys(link),
            self._document,
            ("links", name),
            self._faults,
            LinkSettings.model_fields,
        )
        return None if own is None else LinkPlan(name, kind, own, tuple(instruments))

    def _check_endpoints(self, links: Iterable[LinkPlan]) -> None:
        seen: dict[str, str] = {}
        for link in links:
            end = link.kind.endpoint(link.settings)
            if end in seen:
                self._fault(
                    ("links", link.name),
                    f"leads to {end}, as link {seen[end]} does",
                    "put their instruments on one link",
                )
            seen.setdefault(end, link.name)

    def _profile_named(self, name: str, at: Path_) -> Profile[Any, Any] | None:
        if name not in self._profiles:
            self._profiles[name] = self._load_profile(name, at)
        return self._profiles[name]

    def _load_profile(self, name: str, at: Path_) -> Profile[Any, Any] | None:
        try:
            document = self._find_profile(name)
        except ConfigurationError as error:
            self._faults += error.faults
            return None
        if document is None:
            known = sorted(
                {*shipped_profiles(), *(p.stem for d in self._dirs for p in d.glob("*.yaml"))}
            )
            self._fault(at, f"no profile {name!r}", f"use one of: {', '.join(known)}")
            return None
        self._used[name] = document
        return _profile(document, self._kinds, self._faults)

    def _find_profile(self, name: str) -> Document | None:
        for directory in self._dirs:
            path = directory / f"{name}.yaml"
            if path.is_file():
                return read_document(path)
        raw = shipped_profiles().get(name)
        return None if raw is None else parse_document(f"{name}.yaml", raw)


def _without_faults(model: type[M], entry: Any) -> M:
    """Return what is sound of an entry, so that one run shows also the faults behind the first."""
    try:
        return model.model_validate(entry)
    except ValidationError as error:
        wrong = {details["loc"][0] for details in error.errors() if details["loc"]}
        if not isinstance(entry, dict):
            raise
        return model.model_validate({key: entry[key] for key in entry if key not in wrong})


_BROKER_FILES = ("password_file", "ca_file", "certificate_file", "key_file")


def _is_for_the_service_alone(path: Path) -> bool:
    """Whether a file is a credential that nobody else can see (systemd.exec(5))."""
    return path.is_relative_to("/run/credentials") and "CREDENTIALS_DIRECTORY" not in os.environ


def _resolved(settings: SiteSettings, base: Path) -> Any:
    """Return the broker settings with paths that do not depend on the working directory."""
    broker = settings.broker
    paths = {key: base / getattr(broker, key) for key in _BROKER_FILES if getattr(broker, key)}
    return broker.model_copy(update=paths)


def _resolved_control(settings: SiteSettings, base: Path) -> ControlSettings:
    socket = base / (settings.control.socket or settings.state_dir / SOCKET_NAME)
    return settings.control.model_copy(update={"socket": socket})


def _profile(
    document: Document, kinds: Mapping[str, DriverKind], faults: list[Fault]
) -> Profile[Any, Any] | None:
    driver = document.data.get("driver")
    kind = kinds.get(driver) if isinstance(driver, str) else None
    if kind is None:
        known = ", ".join(sorted(kinds)) or "none"
        problem = "is missing" if driver is None else f"no driver {driver!r}"
        faults.append(document.fault(("driver",), problem, f"installed: {known}"))
        return None
    profile = validate(kind.profile, document.data, document, (), faults)
    stem = Path(document.file).stem
    if profile is not None and profile.profile != stem:
        faults.append(
            document.fault(
                ("profile",), f"is {profile.profile!r} in a file named {stem}", f"write {stem}"
            )
        )
        return None
    return profile

"""The PKI folder: what lies where, and moving a certificate from one place to another."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgeagent.pki.certificate import (
    Certificate,
    PkiError,
    RevocationList,
    read_certificates,
    read_revocation_list,
)

PLACES = ("own", "trusted", "rejected", "issuers")
REJECTED_MAX = 100
"""Files in ``rejected/``: a server that shows another certificate each time fills no disk."""
FILE_BYTES_MAX = 1 << 20
PREFIX_CHARACTERS_MIN = 4


class NotFound(PkiError):
    """No certificate, or more than one, begins with what a person typed."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A PKI folder.

    :ivar trusted: where the accepted certificates lie; ``None`` for ``trusted/`` in it
    """

    root: Path
    trusted: Path | None = None

    def place(self, name: str) -> Path:
        """Return the folder of one of the :data:`PLACES`, or ``crl``."""
        if name == "trusted" and self.trusted is not None:
            return self.trusted
        return self.root / name

    @property
    def own_certificate(self) -> Path:
        """The agent's own certificate; the authorities above it may follow in the same file."""
        return self.root / "own" / "certificate.pem"

    @property
    def own_key(self) -> Path:
        """Its private key, which nobody but the service can read."""
        return self.root / "own" / "key.pem"

    @property
    def own_request(self) -> Path:
        """A request for an authority to issue a certificate for that key."""
        return self.root / "own" / "request.pem"

    @property
    def without_crl(self) -> Path:
        """Fingerprints of authorities that publish no revocation list, one a line."""
        return self.root / "issuers" / "no-crl"


@dataclass(frozen=True, slots=True)
class Kept:
    """A certificate that lies in the folder."""

    place: str
    path: Path
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Contents:
    """What was found in some places of the folder.

    :ivar unreadable: files that hold no certificate, with the reason
    """

    kept: tuple[Kept, ...]
    unreadable: tuple[tuple[Path, str], ...]


def look(folder: Folder, *places: str) -> Contents:
    """Return every certificate in these places, by default in all."""
    kept: list[Kept] = []
    unreadable: list[tuple[Path, str]] = []
    for place in places or PLACES:
        only = (folder.own_certificate,) if place == "own" else None
        for path in only or _files(folder.place(place)):
            if path == folder.without_crl:
                continue
            try:
                found = read_certificates(_read(path))
            except FileNotFoundError:
                continue
            except (OSError, PkiError) as error:
                unreadable.append((path, _reason(error)))
                continue
            kept += [Kept(place, path, certificate) for certificate in found]
    return Contents(tuple(kept), tuple(unreadable))


@dataclass(frozen=True, slots=True)
class Revocations:
    """What is known of withdrawn certificates.

    :ivar without: fingerprints of authorities that publish no list
    :ivar unreadable: files that hold no list, with the reason
    """

    lists: tuple[RevocationList, ...] = ()
    without: frozenset[str] = frozenset()
    unreadable: tuple[tuple[Path, str], ...] = ()


def revocations(folder: Folder) -> Revocations:
    """Return the revocation lists of the folder."""
    lists, unreadable = [], []
    for path in _files(folder.place("crl")):
        try:
            lists.append(read_revocation_list(_read(path)))
        except (OSError, PkiError) as error:
            unreadable.append((path, _reason(error)))
    without: set[str] = set()
    with suppress(OSError):
        text = _read(folder.without_crl).decode("utf-8", "replace")
        stated = (normalised(line.partition("#")[0]) for line in text.splitlines())
        without = {line for line in stated if line}
    return Revocations(tuple(lists), frozenset(without), tuple(unreadable))


def find(folder: Folder, prefix: str, *places: str) -> Kept:
    """Return the certificate whose fingerprint begins with ``prefix``, in the first place it is in.

    :param prefix: hex digits; colons, spaces and capitals do not matter
    :raises NotFound: if there is none, or it is not clear which is meant
    """
    wanted = normalised(prefix)
    if len(wanted) < PREFIX_CHARACTERS_MIN or wanted.strip("0123456789abcdef"):
        raise NotFound(
            f"{prefix!r} is no beginning of a fingerprint; give at least {PREFIX_CHARACTERS_MIN} "
            "hex digits: edgeagent certs list"
        )
    found = [
        each
        for each in look(folder, *places).kept
        if each.certificate.fingerprint.startswith(wanted)
    ]
    if not found:
        where = " or ".join(places or PLACES)
        raise NotFound(f"no certificate {prefix} in {where}; see: edgeagent certs list")
    if len({each.certificate.fingerprint for each in found}) > 1:
        raise NotFound(f"{prefix} begins {len(found)} fingerprints; give more of it")
    return found[0]


def normalised(fingerprint: str) -> str:
    """Return a fingerprint as we write it: hex in lower case, without colons and spaces."""
    return "".join(fingerprint.split()).replace(":", "").lower()


def move(folder: Folder, kept: Kept, to: str) -> Path:
    """Move a certificate, every copy of it, to another place; return its file there.

    :raises PkiError: if a file holds others too, which would go with it; nothing was changed
    :raises OSError: if the files cannot be changed
    """
    there = look(folder, kept.place).kept
    files = {each.path for each in there if each.certificate.der == kept.certificate.der}
    for each in there:
        if each.path in files and each.certificate.der != kept.certificate.der:
            raise PkiError(f"{each.path} holds several certificates; take it out with an editor")
    path = put(folder, kept.certificate, to)
    for file in files:
        file.unlink(missing_ok=True)
    return path


def put(folder: Folder, certificate: Certificate, place: str) -> Path:
    """Write a certificate into a place, under its fingerprint; return its file.

    :raises OSError: if it cannot be written
    """
    path = folder.place(place) / f"{certificate.fingerprint}.pem"
    write_file(path, certificate.pem(), 0o644)
    return path


def keep_rejected(folder: Folder, certificate: Certificate) -> None:
    """Keep a certificate that was refused, once; the oldest yields when there are too many.

    :raises OSError: if it cannot be written
    """
    place = folder.place("rejected")
    known = {each.certificate.fingerprint for each in look(folder, "rejected").kept}
    if certificate.fingerprint in known:
        return
    files = sorted(_files(place), key=lambda path: (path.stat().st_mtime_ns, path.name))
    for path in files[: max(0, len(files) + 1 - REJECTED_MAX)]:
        path.unlink(missing_ok=True)
    put(folder, certificate, "rejected")


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that it is there in whole or not at all, also after a crash.

    :raises OSError: if it cannot be written
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _files(place: Path) -> Iterator[Path]:
    """Yield the files of a place by name; hidden ones are being written."""
    with suppress(OSError):
        yield from sorted(
            path for path in place.iterdir() if path.is_file() and not path.name.startswith(".")
        )


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        raw = file.read(FILE_BYTES_MAX + 1)
    if len(raw) > FILE_BYTES_MAX:
        raise PkiError(f"is larger than {FILE_BYTES_MAX} bytes")
    return raw


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)

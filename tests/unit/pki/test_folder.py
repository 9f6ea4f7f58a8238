"""The PKI folder: bounded, without duplicates, whole after a crash; clear about which is meant."""

import os
import stat

import pytest

from edgeagent.pki.certificate import PkiError
from edgeagent.pki.folder import (
    REJECTED_MAX,
    Folder,
    NotFound,
    find,
    keep_rejected,
    look,
    move,
    put,
    write_file,
)
from tests.authority import certificate


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "pki")


def names(folder, place):
    return sorted(path.name for path in folder.place(place).iterdir())


def test_a_refused_certificate_is_kept_once(folder):
    shown = certificate()
    for _ in range(3):
        keep_rejected(folder, shown)
    assert names(folder, "rejected") == [f"{shown.fingerprint}.pem"]
    (folder.place("rejected") / "by-hand.der").write_bytes(shown.der)
    (folder.place("rejected") / f"{shown.fingerprint}.pem").unlink()
    keep_rejected(folder, shown)
    assert names(folder, "rejected") == ["by-hand.der"], "known by content, whatever its file"


def test_the_oldest_refused_certificate_yields(folder):
    shown = [certificate(f"Server {number}") for number in range(REJECTED_MAX + 3)]
    for age, each in enumerate(shown):
        keep_rejected(folder, each)
        os.utime(folder.place("rejected") / f"{each.fingerprint}.pem", ns=(age, age))
    assert names(folder, "rejected") == sorted(f"{each.fingerprint}.pem" for each in shown[3:])


def test_a_prefix_names_one_certificate_however_it_is_written(folder):
    shown = certificate()
    put(folder, shown, "rejected")
    typed = ":".join(shown.fingerprint[i : i + 2] for i in range(0, 64, 2)).upper()
    for prefix in (shown.fingerprint[:4], shown.fingerprint, typed, typed.replace(":", " ")):
        assert find(folder, prefix, "rejected").certificate == shown


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("abc", "is no beginning of a fingerprint; give at least 4 hex digits"),
        ("", "is no beginning"),
        ("../x", "is no beginning"),
        ("00000000", "no certificate 00000000 in rejected; see: edgeagent certs list"),
    ],
)
def test_what_names_nothing_is_said(folder, prefix, words):
    put(folder, certificate(), "rejected")
    with pytest.raises(NotFound, match=words.replace(".", r"\.")):
        find(folder, prefix, "rejected")


def test_a_prefix_of_two_is_refused(folder, monkeypatch):
    first, second = certificate("a"), certificate("b")
    put(folder, first, "rejected")
    put(folder, second, "rejected")
    monkeypatch.setattr("edgeagent.pki.folder.PREFIX_CHARACTERS_MIN", 0)
    with pytest.raises(NotFound, match="begins 2 fingerprints; give more of it"):
        find(folder, "", "rejected")


def test_moving_leaves_one_file(folder):
    shown = certificate()
    put(folder, shown, "rejected")
    path = move(folder, find(folder, shown.fingerprint[:12], "rejected"), "trusted")
    assert (names(folder, "rejected"), names(folder, "trusted")) == ([], [path.name])


def test_every_copy_is_moved(folder):
    """A copy under another name that stayed would still be believed."""
    shown = certificate()
    put(folder, shown, "trusted")
    (folder.place("trusted") / "vendor.der").write_bytes(shown.der)
    (folder.place("trusted") / "twice.pem").write_bytes(shown.pem() * 2)
    move(folder, find(folder, shown.fingerprint, "trusted"), "rejected")
    assert names(folder, "trusted") == []


def test_a_bundle_is_not_moved_as_a_whole(folder):
    bundle = folder.place("trusted") / "bundle.pem"
    one, other = certificate("a"), certificate("b")
    write_file(bundle, one.pem() + other.pem(), 0o644)
    assert [each.certificate for each in look(folder, "trusted").kept] == [one, other]
    with pytest.raises(PkiError, match="holds several certificates"):
        move(folder, find(folder, other.fingerprint, "trusted"), "rejected")
    assert bundle.exists()


def test_what_cannot_be_read_is_named_and_stops_nothing(folder):
    shown = certificate()
    put(folder, shown, "trusted")
    (folder.place("trusted") / "notes.txt").write_text("call the vendor")
    (folder.place("trusted") / "huge.pem").write_bytes(b"-" * ((1 << 20) + 1))
    (folder.place("trusted") / ".half-written.pem").write_text("-----BEGIN")
    found = look(folder, "trusted")
    assert [each.certificate for each in found.kept] == [shown]
    assert [path.name for path, _ in found.unreadable] == ["huge.pem", "notes.txt"]


def test_a_folder_that_is_not_there_is_empty(folder):
    assert look(folder).kept == ()


def test_a_file_is_there_in_whole_or_not_at_all(folder, monkeypatch):
    path = folder.place("own") / "key.pem"
    write_file(path, b"first", 0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def fails(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"second", 0o600)
    assert (path.read_bytes(), names(folder, "own")) == (b"first", ["key.pem"])

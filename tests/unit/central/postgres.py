"""A real PostgreSQL for tests: its own cluster, on a Unix socket, thrown away afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INSTALL = "apt-get install postgresql"


class Cluster:
    """A running cluster. ``url`` is that of a new, empty database each time it is asked."""

    def __init__(self, binaries: Path, directory: Path) -> None:
        self._binaries = binaries
        self._directory = directory
        self._databases = 0

    def run(self, program: str, *arguments: str, **more: Any) -> None:
        """Run one of PostgreSQL's programs as its user; it refuses to run as root."""
        command = [str(self._binaries / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(
            command, cwd=self._directory, capture_output=True, text=True, check=False, **more
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")

    def start(self) -> None:
        data = str(self._directory / "data")
        self.run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {self._directory} -c listen_addresses='' -c fsync=off"
        log = str(self._directory / "log")
        self.run("pg_ctl", "-D", data, "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", str(self._directory / "data"), "-m", "immediate", "stop")

    def new_database(self) -> str:
        """Return the address of an empty database."""
        self._databases += 1
        name = f"test{self._databases}"
        self.run("createdb", "-h", str(self._directory), "-U", "postgres", name)
        return f"postgresql://postgres@/{name}?host={self._directory}"


def binaries() -> Path:
    """Return where the newest PostgreSQL's programs are."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    if elsewhere is None:
        raise RuntimeError(f"PostgreSQL is missing; {INSTALL}")
    return Path(elsewhere).resolve().parent


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Start a cluster, and stop it."""
    # Not under pytest's directory: that one is closed to other users.
    directory = Path(tempfile.mkdtemp(prefix="edgeagent-pg-"))
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            raise RuntimeError(f"there is no user postgres; {INSTALL}") from None
        os.chown(directory, user.pw_uid, user.pw_gid)
    cluster = Cluster(binaries(), directory)
    try:
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(directory)

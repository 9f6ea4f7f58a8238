"""A Debian of its own, booted with systemd: the same release as this machine, no network.

The root file system is made once, by debootstrap from the mirror that this machine's apt uses, and
kept in the cache; each container runs on a copy. Takes root.
"""

import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.system.installed import cache, output_of

PACKAGES = ("chrony", "dbus", "libpam-systemd", "mosquitto", "python3", "python3-venv",
            "systemd", "systemd-sysv", "udev")  # fmt: skip
TOOLS = {
    "debootstrap": "debootstrap",
    "nsenter": "util-linux",
    "systemd-nspawn": "systemd-container",
}
BOOT_WITHIN_S = 120.0


def _release() -> str:
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def _mirror(release: str) -> str:
    """Where this machine's apt gets the release from."""
    targets = output_of(
        "apt-get", "indextargets", "--format", "$(CODENAME) $(RELEASE) $(REPO_URI)",
        "Created-By: Packages",
    )  # fmt: skip
    for target in targets.splitlines():
        *names, uri = target.split()
        if release in names:
            return uri
    raise AssertionError(f"apt has no source for {release}: {targets}")


def root_file_system() -> Path:
    """A pristine Debian: made if it is not there, never booted."""
    release = _release()
    folder = cache() / f"rootfs-{release}-{platform.machine()}"
    if not folder.exists():
        arriving = folder.with_name(f"{folder.name}.{os.getpid()}")
        arriving.parent.mkdir(parents=True, exist_ok=True)
        try:
            output_of(
                "debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}",
                release, arriving, _mirror(release),
            )  # fmt: skip
            (arriving / "etc" / "machine-id").write_text("")  # another for each copy
            arriving.rename(folder)
        finally:
            shutil.rmtree(arriving, ignore_errors=True)
    return folder


class Container:
    """A booted copy of the root file system below ``directory``.

    ``prepare`` puts files into it before it boots; ``devices`` binds nodes of this machine (on the
    left) into its /dev.
    """

    def __init__(
        self,
        directory: Path,
        *,
        prepare: Callable[[Path], None],
        devices: Sequence[tuple[Path, str]] = (),
    ) -> None:
        missing = {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
        assert not missing, f"apt-get install {' '.join(sorted(missing))}"
        assert os.geteuid() == 0, "a container takes root: sudo make long"
        self.root = directory / "root"
        self._log = directory / "console.log"
        self._prepare = prepare
        self._devices = devices
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> "Container":
        try:
            output_of("cp", "--archive", "--reflink=auto", root_file_system(), self.root)
            self._prepare(self.root)
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def _boot(self) -> None:
        binds = [f"--bind={here}:{there}" for here, there in self._devices]
        with self._log.open("wb") as log:
            self._nspawn = subprocess.Popen(
                [
                    "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot",
                    "--console=pipe", "--private-network", f"--directory={self.root}", *binds,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + BOOT_WITHIN_S
        while "running" not in self._state():
            assert self._nspawn.poll() is None, self._log.read_text()[-2000:]
            assert time.monotonic() < deadline, f"{self._state()}\n{self._log.read_text()[-2000:]}"
            time.sleep(0.2)

    def _state(self) -> str:
        assert self._nspawn is not None
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        self._init = int((children.read_text().split() or ["0"])[0])
        return self.try_run("systemctl", "is-system-running").stdout if self._init else "no init"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._nspawn is not None:
            with suppress(ProcessLookupError):
                os.kill(self._init or self._nspawn.pid, signal.SIGKILL)
            self._nspawn.wait(30)
        shutil.rmtree(self.root, ignore_errors=True)

    def try_run(self, *command: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program inside, as root or as another user with all of that user's groups."""
        if user is not None:
            command = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *command)
        inside = [
            "nsenter", f"--target={self._init}", "--mount", "--uts", "--ipc", "--net", "--pid",
            "--cgroup", "--root", "--wd=/", "--",
        ]  # fmt: skip
        return subprocess.run(
            [*inside, *command],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8"},
        )

    def run(self, *command: str, user: str | None = None) -> str:
        """Run a program inside, which must succeed; return what it printed."""
        done = self.try_run(*command, user=user)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

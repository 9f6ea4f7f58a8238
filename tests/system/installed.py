"""The agent installed by its own script, below a folder of the test."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
LOCK = CHECKOUT / "requirements" / "service.txt"


def cache() -> Path:
    """Where downloads are kept from one run to the next."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "edgeagent-tests"


def output_of(*command: str | Path) -> str:
    """Run a program; return what it wrote to both outputs."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def system_python() -> str:
    """The machine's own interpreter: the one that a service could run on."""
    found = Path("/usr/bin/python3")
    assert found.exists(), "the service runs on the system's Python: apt-get install python3"
    return str(found.resolve())


def wheels() -> Path:
    """The locked packages of the service as files, downloaded once."""
    version = Path(system_python()).name.removeprefix("python")
    lock = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]
    folder = cache() / f"wheels-{version}-{lock}"
    if not folder.exists():
        arriving = folder.with_name(f"{folder.name}.{os.getpid()}")
        output_of(
            sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq",
            "--require-hashes", "--only-binary", ":all:", "--python-version", version,
            "--requirement", LOCK, "--dest", arriving,
        )  # fmt: skip
        arriving.rename(folder)
    return folder


def run_script(
    name: str, destdir: Path, *, find_links: Path | None = None, umask: int = 0o022
) -> subprocess.CompletedProcess[str]:
    """Run scripts/install or scripts/uninstall for a folder, without a package index."""
    environment = {
        **os.environ,
        "DESTDIR": str(destdir),
        "PYTHON": system_python(),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(find_links or wheels()),
    }
    return subprocess.run(
        [CHECKOUT / "scripts" / name],
        env=environment,
        umask=umask,
        capture_output=True,
        text=True,
    )


def install(destdir: Path, *, umask: int = 0o022) -> str:
    """Install below a folder; return what was printed."""
    done = run_script("install", destdir, umask=umask)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

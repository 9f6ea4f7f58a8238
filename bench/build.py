"""Compile the C programs of the bench at run time, once per change of their source."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror")


def cache_dir() -> Path:
    """Return the folder of compiled programs, private to this user."""
    folder = Path(tempfile.gettempdir()) / f"edgeagent-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to somebody else; remove it")
    return folder


def compiled(source: Path) -> Path:
    """Return the program of a single C file, compiled unless the same source already was.

    :raises RuntimeError: if there is no compiler, with the line that installs one
    """
    digest = hashlib.sha256("\0".join(FLAGS).encode() + source.read_bytes()).hexdigest()[:16]
    program = cache_dir() / f"{source.stem}-{digest}"
    if not program.exists():
        if shutil.which("gcc") is None:
            raise RuntimeError("the bench needs a C compiler: apt-get install -y gcc libc6-dev")
        fresh = program.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", *FLAGS, str(source), "-o", str(fresh)], check=True)
        fresh.rename(program)  # at once, so that two benches never run half a program
    return program

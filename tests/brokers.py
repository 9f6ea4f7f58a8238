"""A real mosquitto for tests: on a free port, as it would be installed, killed when done.

with Mosquitto(tmp_path) as broker:
    ... broker.url ...
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

START_TIMEOUT_S = 10.0
INSTALL = "apt-get install mosquitto mosquitto-clients"


def tool(name: str) -> str:
    """Return the path of a program; fail with the way to get it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        raise RuntimeError(f"{name} is missing; {INSTALL}")
    return found


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """One broker. ``settings`` are further lines of its configuration.

    :ivar users: name to password; anonymous only when empty
    :ivar permissions: text of an ACL file, see mosquitto.conf(5)
    :ivar tls: certificate and key of the server, with the authority for clients if any
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Sequence[str] = (),
        users: dict[str, str] | None = None,
        permissions: str | None = None,
        tls: tuple[Path, Path] | None = None,
        client_authority: Path | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"{'mqtts' if tls else 'mqtt'}://127.0.0.1:{self.port}"
        self.log = directory / f"mosquitto-{self.port}.log"
        self._configuration = directory / f"mosquitto-{self.port}.conf"
        self._process: subprocess.Popen[bytes] | None = None
        lines = ["user root", f"listener {self.port} 127.0.0.1", "set_tcp_nodelay true", *settings]
        if tls is not None:
            lines += [f"certfile {tls[0]}", f"keyfile {tls[1]}"]
        if client_authority is not None:
            lines += [f"cafile {client_authority}", "require_certificate true"]
        lines.append(f"allow_anonymous {'false' if users else 'true'}")
        if users:
            lines.append(f"password_file {_password_file(directory / f'users-{self.port}', users)}")
        if permissions is not None:
            acl = directory / f"acl-{self.port}"
            acl.write_text(permissions)
            acl.chmod(0o600)
            lines.append(f"acl_file {acl}")
        self._configuration.write_text("\n".join(lines) + "\n")

    def start(self) -> "Mosquitto":
        """Start, also again after :meth:`kill`; return when it answers."""
        assert self._process is None, "already running"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [tool("mosquitto"), "-c", str(self._configuration)],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"mosquitto does not start:\n{self.log.read_text()}")
            time.sleep(0.01)
        return self

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def pid(self) -> int:
        """Process id while it runs."""
        assert self._process is not None, "not running"
        return self._process.pid

    def kill(self) -> None:
        """Kill -9; nothing happens when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> "Mosquitto":
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


def _password_file(path: Path, users: dict[str, str]) -> Path:
    path.write_text("")
    path.chmod(0o600)
    for name, password in users.items():
        subprocess.run([tool("mosquitto_passwd"), "-b", str(path), name, password], check=True)
    return path

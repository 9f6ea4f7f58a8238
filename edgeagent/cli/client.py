"""Asking the running agent, over its Unix socket."""

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeagent.cli.exits import CommandFailed, Exit
from edgeagent.operate.control import socket_path

TIMEOUT_S = 10.0


class NotRunning(CommandFailed):
    """Nobody listens on the socket."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(
            f"no agent is running on {state_dir}; "
            "start it: systemctl start edgeagent, or edgeagent run",
            Exit.NOT_RUNNING,
        )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        # Through the directory's descriptor: a socket's address has at most 107 bytes.
        directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{directory}/{self._path.name}")
        finally:
            os.close(directory)


def _ask(state_dir: Path, method: str, path: str, body: Any = None) -> http.client.HTTPResponse:
    connection = _UnixConnection(socket_path(state_dir))
    try:
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, {"Content-Type": "application/json"})
        return connection.getresponse()
    except PermissionError:
        raise CommandFailed(
            f"{state_dir}: not allowed; run this as the service's user", Exit.NOT_ALLOWED
        ) from None
    except (FileNotFoundError, ConnectionError):
        raise NotRunning(state_dir) from None


def ask(state_dir: Path, method: str, path: str, body: Any = None) -> Any:
    """Return the answer to one request.

    :raises CommandFailed: with the agent's own words when it refuses
    :raises NotRunning: when there is no agent
    """
    with _ask(state_dir, method, path, body) as response:
        answer = json.load(response)
        if response.status >= 400:
            raise CommandFailed(answer.get("error", "refused"), Exit.USAGE)
        return answer


def follow(state_dir: Path, path: str) -> Iterator[Any]:
    """Yield the JSON lines of a stream, until the agent ends."""
    with _ask(state_dir, "GET", path) as response:
        try:
            for line in response:
                yield json.loads(line)
        except TimeoutError:
            return

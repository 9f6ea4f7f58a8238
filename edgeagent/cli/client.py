"""Asking the running agent, over its Unix socket."""

import http.client
import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from edgeagent.cli.exits import CommandFailed, Exit
from edgeagent.configure.place import find_place

TIMEOUT_S = 10.0


class NotRunning(CommandFailed):
    """Nobody listens on the socket."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"no agent answers at {path}; start it: systemctl start edgeagent, or edgeagent run",
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


_EXITS = {403: Exit.NOT_ALLOWED, 422: Exit.CONFIGURATION, 500: Exit.INTERNAL, 503: Exit.JOURNAL}


def _ask(
    config: Path, method: str, path: str, body: Any = None, *, for_ever: bool = False
) -> http.client.HTTPResponse:
    address = find_place(config).socket
    connection = _UnixConnection(address)
    try:
        payload = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request(method, path, payload, headers)
        connected = connection.sock
        response = connection.getresponse()
        if for_ever:
            connected.settimeout(None)
    except PermissionError:
        raise CommandFailed(
            f"{address}: not allowed; ask to be added to one of the agent's groups, or run this as "
            "the service's user",
            Exit.NOT_ALLOWED,
        ) from None
    except TimeoutError:
        raise CommandFailed(
            f"{address}: the agent does not answer within {TIMEOUT_S:g} s", Exit.NOT_RUNNING
        ) from None
    except (FileNotFoundError, NotADirectoryError, ConnectionError):
        raise NotRunning(address) from None
    finally:
        connection.close()  # an answer that is still to be read holds the socket itself
    if response.status >= 400:
        with response:
            text = json.load(response)["error"]
        raise CommandFailed(text, _EXITS.get(response.status, Exit.USAGE))
    return response


def ask(config: Path, method: str, path: str, body: Any = None) -> Any:
    """Return the answer of the running agent to one request.

    :param config: the site file, which says where the agent listens
    :raises CommandFailed: with the agent's own words when it refuses
    :raises NotRunning: when there is no agent
    """
    with _ask(config, method, path, body) as response:
        return json.load(response)


def ask_text(config: Path, path: str) -> str:
    """Return the answer to a request for plain text; errors as :func:`ask`."""
    with _ask(config, "GET", path) as response:
        return response.read().decode()


def act(config: Path, name: str, reason: str, **arguments: Any) -> Any:
    """Have the running agent do something; return what it says of it.

    :raises CommandFailed: with the agent's own words when it refuses
    :raises NotRunning: when there is no agent
    """
    return ask(config, "POST", "/acts", {"act": name, "reason": reason, "arguments": arguments})


def follow(config: Path, path: str) -> Iterator[Any]:
    """Yield the JSON lines of a stream that has no end, until the agent ends."""
    broken = suppress(http.client.IncompleteRead, ConnectionError)
    with _ask(config, "GET", path, for_ever=True) as response, broken:
        for line in response:
            yield json.loads(line)


def lines(config: Path, path: str, **query: Any) -> Iterator[bytes]:
    """Yield the lines of an answer that has an end.

    :raises CommandFailed: when the agent ends or goes silent before
    """
    asked = urlencode({key: value for key, value in query.items() if value is not None})
    try:
        with _ask(config, "GET", f"{path}?{asked}") as response:
            yield from response
    except (http.client.IncompleteRead, ConnectionError, TimeoutError):
        raise CommandFailed("the agent ended in mid-answer; try again", Exit.NOT_RUNNING) from None

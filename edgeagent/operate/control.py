"""The control socket: HTTP on a Unix socket in the state directory; no TCP port is opened."""

import asyncio
import json
import os
import pwd
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from edgeagent.model.errors import JournalFailed, JournalFull
from edgeagent.operate.consumers import Act

if TYPE_CHECKING:
    from edgeagent.operate.status import Agent

SOCKET_NAME = "control.sock"
REQUEST_BYTES_MAX = 65_536
_UCRED = struct.Struct("3i")


def socket_path(state_dir: Path) -> Path:
    """Return where the agent of a state directory listens."""
    return state_dir / SOCKET_NAME


def account_of(uid: int) -> str:
    """Return the account name of a user id."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid:{uid}"


def _peer(request: web.Request) -> str:
    """Return the account at the other end (unix(7), SO_PEERCRED)."""
    assert request.transport is not None
    connection: socket.socket = request.transport.get_extra_info("socket")
    _, uid, _ = _UCRED.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    return account_of(uid)


class _Handlers:
    def __init__(self, agent: "Agent") -> None:
        self._agent = agent

    async def status(self, _: web.Request) -> web.Response:
        return web.json_response(await self._agent.status())

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """Stream the latest values as JSON lines, at most one a commit."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        fresh = asyncio.Event()
        stop = self._agent.on_commit(lambda _: fresh.set())
        try:
            while True:
                line = json.dumps({"groups": self._agent.groups()}) + "\n"
                await response.write(line.encode())
                await fresh.wait()
                fresh.clear()
        except ConnectionError:
            return response
        finally:
            stop()

    async def act(self, request: web.Request) -> web.Response:
        try:
            asked = await request.json()
            act = Act(asked["verb"], asked["consumer"], _peer(request), asked["reason"])
            return web.json_response(await self._agent.act(act))
        except (ValueError, KeyError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        except (JournalFull, JournalFailed) as error:
            return web.json_response({"error": str(error)}, status=503)


async def serve_control(agent: "Agent", state_dir: Path) -> None:
    """Serve until cancelled."""
    handlers = _Handlers(agent)
    app = web.Application(client_max_size=REQUEST_BYTES_MAX)
    app.router.add_get("/status", handlers.status)
    app.router.add_get("/watch", handlers.watch)
    app.router.add_post("/consumers", handlers.act)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    path = socket_path(state_dir)
    path.unlink(missing_ok=True)
    try:
        await web.SockSite(runner, _listen(path)).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)


def _listen(path: Path) -> socket.socket:
    """Bind through the directory's descriptor: a socket's address has at most 107 bytes."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        path.chmod(0o600)
        return listener
    finally:
        os.close(directory)

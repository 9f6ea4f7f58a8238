"""The control socket: HTTP on a Unix socket; no TCP port is opened.

The kernel says who asks. Everybody with a role may look; an act takes the role of its kind. What
one account may hold open at a time is bounded, and so is every request.
"""

import asyncio
import json
import logging
import os
import socket
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import structlog
from aiohttp import web

from edgeagent.journal.journal import EXIT_CANNOT_CREATE
from edgeagent.model.errors import JournalFailed, JournalFull, StartRefused
from edgeagent.model.record import Lane
from edgeagent.model.settings import ControlSettings, Role
from edgeagent.operate.access import Person, gids_of, peer_uid, person_at
from edgeagent.operate.acts import ActRefused, Acts, NotAllowed
from edgeagent.operate.certificates import rows
from edgeagent.operate.look import CannotLook, Looks
from edgeagent.operate.metrics import CONTENT_TYPE
from edgeagent.operate.reload import ReloadRefused

if TYPE_CHECKING:
    from edgeagent.operate.status import Agent

REQUEST_BYTES_MAX = 65_536
CONNECTIONS_MAX = 64
REFUSED_CLOSED_AFTER_S = 1.0
CONNECTIONS_OF_ONE_ACCOUNT_MAX = 16

log = structlog.get_logger()

_PERSON = web.RequestKey("person", Person)
_Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

# What strangers send is answered, not logged: each broken request would fill the log.
logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


class _Handlers:
    def __init__(self, agent: "Agent", acts: Acts, looks: Looks) -> None:
        self._agent = agent
        self._acts = acts
        self._looks = looks

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

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response(await self._agent.health())

    async def metrics(self, _: web.Request) -> web.Response:
        text = await self._agent.metrics()
        return web.Response(text=text, headers={"Content-Type": CONTENT_TYPE})

    async def certificates(self, _: web.Request) -> web.Response:
        folder, now_ns = self._agent.plan.pki, self._agent.recorder.clock.utc_ns()
        return web.json_response(await asyncio.to_thread(rows, folder, now_ns))

    async def journal(self, _: web.Request) -> web.Response:
        try:
            state = await self._looks.state()
            return web.json_response({**state, "budget": self._agent.budget()})
        except CannotLook as error:
            return _error(409, str(error))

    async def verify(self, request: web.Request) -> web.StreamResponse:
        return await _stream(request, "application/x-ndjson", self._looks.verify())

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Stream batches of one lane: query ``lane``, ``epoch``, ``from``, ``to``."""
        asked = request.query
        try:
            lane = Lane(asked.get("lane", Lane.DATA.value))
            first, last = (int(asked[key]) if key in asked else None for key in ("from", "to"))
        except ValueError as error:
            return _error(400, str(error))
        site = self._agent.plan.settings.site
        batches = self._looks.export(site, asked.get("epoch"), lane, first, last)
        return await _stream(request, "application/octet-stream", batches)

    async def act(self, request: web.Request) -> web.Response:
        try:
            asked = await request.json()
        except ValueError as error:  # also of bytes that are no text
            return _error(400, f"the request is no JSON: {error}")
        try:
            return web.json_response(await self._acts.perform(request[_PERSON], asked))
        except NotAllowed as error:
            return _error(403, str(error))
        except ReloadRefused as error:
            return _error(422, str(error))
        except ActRefused as error:
            return _error(400, str(error))
        except (JournalFull, JournalFailed) as error:
            return _error(503, str(error))


async def _stream(
    request: web.Request, content_type: str, pieces: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Answer piece by piece; what fails before the first piece is still an error by its status."""
    response = web.StreamResponse(headers={"Content-Type": content_type})
    async with aclosing(cast(AsyncGenerator[bytes], pieces)) as opened:
        try:
            first = await anext(opened, b"")
        except CannotLook as error:
            return _error(409, str(error))
        await response.prepare(request)
        try:
            await response.write(first)
            async for piece in opened:
                await response.write(piece)
        except ConnectionError:
            return response
    await response.write_eof()
    return response


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


def _check_person(settings: ControlSettings) -> Any:
    """Return the middleware that finds out who asks, and refuses those without any role."""

    @web.middleware
    async def check(request: web.Request, handler: _Answer) -> web.StreamResponse:
        assert request.transport is not None
        connection = request.transport.get_extra_info("socket")
        # Accounts and groups may come from a directory server that takes its time.
        person = await asyncio.to_thread(lambda: person_at(connection, gids_of(settings.roles)))
        if not person.roles:
            groups = ", ".join(settings.roles.get(Role.VIEWER, ())) or "none is named"
            text = f"{person.account} has no role here; who may look is in the group {groups}"
            return _error(403, text)
        request[_PERSON] = person
        return await handler(request)

    return check


@web.middleware
async def _say_what_failed(request: web.Request, handler: _Answer) -> web.StreamResponse:
    """Answer in JSON whatever happens; a defect of ours is logged with its traceback."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _error(error.status, f"{request.method} {request.path}: {error.reason}")
    except Exception as error:  # noqa: BLE001 - one request must not end the agent
        log.error("control.defect", path=request.path, trace=traceback.format_exc())
        return _error(500, f"a defect of the agent, see its log: {type(error).__name__}")


async def serve_control(
    agent: "Agent", acts: Acts, looks: Looks, settings: ControlSettings, listening: asyncio.Event
) -> None:
    """Serve until cancelled.

    :param listening: set once connections are taken
    :raises StartRefused: if the socket cannot be made
    """
    assert settings.socket is not None, "resolved when the plan was loaded"
    handlers = _Handlers(agent, acts, looks)
    app = web.Application(
        client_max_size=REQUEST_BYTES_MAX, middlewares=[_say_what_failed, _check_person(settings)]
    )
    app.router.add_get("/status", handlers.status)
    app.router.add_get("/watch", handlers.watch)
    app.router.add_get("/health", handlers.health)
    app.router.add_get("/metrics", handlers.metrics)
    app.router.add_get("/certificates", handlers.certificates)
    app.router.add_get("/journal", handlers.journal)
    app.router.add_get("/journal/verify", handlers.verify)
    app.router.add_get("/journal/export", handlers.export)
    app.router.add_post("/acts", handlers.act)
    path = settings.socket
    listener = _listen(path)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Door(cast(web.Server, runner.server)), sock=listener
        )
        listening.set()
        async with server:
            await asyncio.Event().wait()
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)


class _Door(asyncio.Protocol):
    """Lets a connection in, unless its account or all together hold too many."""

    def __init__(self, server: web.Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connected = cast(asyncio.Transport, transport)
        uid = peer_uid(connected.get_extra_info("socket"))
        held = Counter(
            peer_uid(handler.transport.get_extra_info("socket"))
            for handler in self._server.connections
            if handler.transport is not None
        )
        if held.total() >= CONNECTIONS_MAX or held[uid] >= CONNECTIONS_OF_ONE_ACCOUNT_MAX:
            connected.write(
                b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
                b"Content-Type: application/json\r\n\r\n"
                b'{"error": "too many connections; close some, e.g. edgeagent watch"}'
            )
            connected.write_eof()
            # Closed at once it would be reset, and the answer lost with what was sent to us.
            asyncio.get_running_loop().call_later(REFUSED_CLOSED_AFTER_S, connected.abort)
            return
        handler = self._server()
        connected.set_protocol(handler)
        handler.connection_made(connected)


def _listen(path: Path) -> socket.socket:
    """Make the socket of this agent, in place of one that a killed agent left.

    Everybody may connect; who has no role is refused by name. A directory that is closed to others
    keeps them out altogether.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        # Through the directory's descriptor: a socket's address has at most 107 bytes.
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"/proc/self/fd/{directory}/{path.name}")
            path.chmod(0o666)
            return listener
        finally:
            os.close(directory)
    except OSError as error:
        raise StartRefused(
            f"{path}: control.socket cannot be made ({error.strerror}); create its directory and "
            "give it to the service's user, or name another one",
            EXIT_CANNOT_CREATE,
        ) from None

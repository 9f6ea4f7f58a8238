"""An OPC UA server on loopback: asyncua's, in a thread of its own, so that many tests share it."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Coroutine
from typing import Any

from asyncua import Server, ua

from drivers.opcua import DRIVER
from drivers.opcua.driver import OpcUaDriver
from edgeagent.driver import Frame, Instrument, Loss
from edgeagent.model.clock import SystemClock

URI = "urn:edgeagent:test"


class ThreadedServer:
    """One server. Each test adds variables of its own and forgets them."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.server = Server()
        self.index = 0
        self.port = 0
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self.loop.run_forever, name="opcua-server")

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        self._wait(self._start())

    def stop(self) -> None:
        self._wait(self.server.stop())
        self._wait(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    async def _start(self) -> None:
        await self.server.init()
        self.server.set_endpoint("opc.tcp://127.0.0.1:0")
        self.server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        self.index = await self.server.register_namespace(URI)
        await self.server.start()
        self.port = self.server.bserver._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        """End what sessions that nobody closed have left running."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do something in the server's loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    async def add(self, value: Any, kind: ua.VariantType | None = None, name: str = "") -> str:
        """Add a variable; return the identifier of its node id."""
        name = f"{name or 'v'}-{next(self._numbers)}"
        node_id = ua.NodeId(name, self.index)
        objects = self.server.nodes.objects
        await self.do(objects.add_variable(node_id, f"{self.index}:{name}", value, kind))
        return name

    async def write(self, name: str, value: Any, **facts: Any) -> None:
        """Let a variable have a new value, as the device would."""
        variant = value if isinstance(value, ua.Variant) else ua.Variant(value)
        data = ua.DataValue(variant, **facts)
        await self.do(self.server.write_attribute_value(ua.NodeId(name, self.index), data))

    async def keep_history(self, name: str) -> None:
        """Let the server remember each value of a variable from now on."""
        node = self.server.get_node(ua.NodeId(name, self.index))
        await self.do(self.server.iserver.enable_history_data_change(node))

    def forget_subscriptions(self) -> None:
        """Drop every subscription without a word, as a server in trouble does."""
        service = self.server.iserver.subscription_service
        self._wait(service.delete_subscriptions(list(service.subscriptions)))


@contextlib.contextmanager
def running() -> Any:
    server = ThreadedServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def profile(
    tags: dict[str, Any], *, period: str = "50 ms", group: dict[str, Any] | None = None, **more: Any
) -> Any:
    """Return a profile of one group; of its tags, ``s`` is short for a node of the test server."""
    written = {
        name: {key: value for key, value in tag.items() if key != "s"}
        | ({"node": f"nsu=t;s={tag['s']}"} if "s" in tag else {})
        for name, tag in tags.items()
    }
    facts: dict[str, Any] = {
        "profile": "acme",
        "version": "1.0.0",
        "make": "Acme",
        "model": "B200",
        "device_class": "incubator",
        "driver": "opcua",
        "source": [{"manual": "none", "confidence": "simulated-only"}],
        "opcua": {"namespaces": {"t": URI}},
        "identity_unavailable": "a test",
        "groups": {"all": {"period": period, "tags": written} | (group or {})},
    }
    return DRIVER.profile.model_validate(facts | more)


def instrument(name: str, of: Any, **settings: Any) -> Instrument:
    """Return an instrument of a profile."""
    own = DRIVER.instrument_settings.model_validate(settings)
    return Instrument(name, of, own, of.schemas(name, {}), ())


def driver(url: str, *instruments: Instrument, **settings: Any) -> OpcUaDriver:
    """Return a driver of a link, without security unless told otherwise."""
    link = DRIVER.link_settings.model_validate(
        {"url": url, "security": "none", "timeout": "2 s"} | settings
    )
    made = DRIVER.open(link, instruments, SystemClock())
    assert isinstance(made, OpcUaDriver)
    return made


async def taken(of: OpcUaDriver, count: int = 1, within_s: float = 10.0) -> list[Frame | Loss]:
    """Return at least so many frames, and what came with them."""
    items: list[Frame | Loss] = []
    async with asyncio.timeout(within_s):
        while sum(isinstance(item, Frame) for item in items) < count:
            items += await of.next()
    return items

"""An OPC UA server for simulated devices, on asyncua's, behind a cable that can be pulled.

asyncua is the one protocol library here; the driver under test has its own subscriptions and its
own decoder. Values are looked at ten times a second; what has changed is written down and set.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncua.ua
from asyncua.server.server import Server

from simulators.devices.contract import POWERED_OFF
from simulators.devices.opcua_contract import (
    CLOCK_WRONG,
    CONNECTION_CUT,
    FROZEN,
    SESSION_CLOSED,
    SUBSCRIPTIONS_LOST,
    WIRE_DISTURBANCES,
    OpcUaDevice,
)
from simulators.ledger import Ledger
from simulators.link import Link
from simulators.wire.opcua_space import Space, Watched, data_value

ua: Any = asyncua.ua

TICK_S = 0.1
_SERVER_TIME, _SERVER_STATUS = 2258, 2256


class OpcUaServer:
    """One server with its devices. What befalls one of them befalls the server."""

    def __init__(
        self,
        name: str,
        devices: Mapping[str, OpcUaDevice],
        *,
        host: str,
        port: int,
        clock_offset_s: float = 0.0,
        ledger: Ledger | None = None,
        before_read: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._devices = devices
        self._host, self._port = host, port
        self._offset = timedelta(seconds=clock_offset_s)
        self._ledger = ledger
        self._before_read = before_read
        self._server = Server()
        self._space = Space(self._server)
        self._link: Link | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._in_force: set[str] = set()
        self._events: dict[Any, Any] = {}
        self._serving = False

    @property
    def endpoint(self) -> dict[str, Any]:
        """Where it listens."""
        port = self._link.port if self._link is not None else self._port
        return {"host": self._host, "port": port, "url": f"opc.tcp://{self._host}:{port}"}

    async def start(self) -> None:
        """:raises OSError: if the port cannot be had"""
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        server = self._server
        await server.init()
        server.disable_clock()
        server.set_endpoint("opc.tcp://127.0.0.1:0")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        await self._space.prepare()
        for key, device in self._devices.items():
            await self._space.add(key, device)
        await self._tick()
        for kind in {alarm.kind for alarm in self._space.alarms}:
            self._events[kind] = await server.get_event_generator(
                kind, emitting_node=ua.ObjectIds.Server
            )
        self._serving = True
        await server.start()
        listening = server.bserver._server  # type: ignore[union-attr]  # noqa: SLF001
        inner = listening.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self._link = Link("127.0.0.1", inner, host=self._host)
        self._link.port = self._port
        await self._link.start()
        self._ticking = asyncio.create_task(self._run(), name=f"opcua {self.name}")

    async def stop(self) -> None:
        """Stop at any time, any number of times."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
            self._ticking = None
        if self._link is not None:
            self._link.resume()
            await self._link.stop()
            self._link = None
        if self._serving:
            self._serving = False
            await self._close_sessions()
            await self._server.stop()

    async def _run(self) -> None:
        """Keep a steady beat; a late one is not made up for."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + TICK_S, loop.time())
            await asyncio.sleep(due - loop.time())
            await self._tick()

    async def _tick(self) -> None:
        self._before_read()
        await self._suffer()
        offset = self._offset if CLOCK_WRONG in self._in_force else timedelta()
        now = datetime.fromtimestamp(time.time(), UTC) + offset
        await self._space.grow()
        changed: dict[str, dict[str, Any]] = {}
        writes = []
        for entry in self._space.entries:
            value = entry.read()
            if value != entry.last or entry.is_new:
                entry.last, entry.is_new = value, False
                changed.setdefault(entry.device, {})[entry.path] = _plain(value)
                writes.append((entry.node, data_value(entry, value, now)))
        if self._ledger is not None:
            for device, values in changed.items():
                self._ledger.said(self.name, device, round(now.timestamp() * 1e6) * 1000, values)
        for node, value in writes:
            await self._server.write_attribute_value(node, value)
        await self._tell_time(now)
        for alarm in self._space.alarms:
            active = alarm.part.active()
            if active != alarm.was_active:
                alarm.was_active = active
                await self._raise(alarm, now, active=active)

    async def _raise(self, alarm: Watched, now: datetime, *, active: bool) -> None:
        """Send the event of an alarm that begins or ends (OPC 10000-9 section 5.5)."""
        generator = self._events.get(alarm.kind)
        if generator is None:
            return
        state = "Active" if active else "Inactive"
        facts = {
            "NodeId": alarm.node,
            "SourceNode": alarm.source,
            "SourceName": alarm.source_name,
            "ConditionName": alarm.name,
            "Severity": alarm.part.severity,
            "Retain": active,
            "ActiveState": ua.LocalizedText(state),
            "ActiveState/Id": active,
            "AckedState": ua.LocalizedText("Unacknowledged" if active else "Acknowledged"),
            "AckedState/Id": not active,
        }
        for name, value in facts.items():
            setattr(generator.event, name, value)
        await generator.trigger(now, f"{alarm.source_name}: {state.lower()}")

    async def _tell_time(self, now: datetime) -> None:
        node = self._server.get_node(ua.NodeId(_SERVER_STATUS))
        status = await node.read_value()
        status.CurrentTime = now
        await self._server.write_attribute_value(
            ua.NodeId(_SERVER_STATUS), ua.DataValue(ua.Variant(status))
        )
        await self._server.write_attribute_value(
            ua.NodeId(_SERVER_TIME), ua.DataValue(ua.Variant(now, ua.VariantType.DateTime))
        )

    # -- what befalls it ---------------------------------------------------------------------

    async def _suffer(self) -> None:
        """Let disturbances begin and end."""
        devices = self._devices.values()
        active = {
            name
            for device in devices
            for name in WIRE_DISTURBANCES
            if device.disturbances.active(name)
        }
        begun, ended = active - self._in_force, self._in_force - active
        self._in_force = active
        link = self._link
        if link is None:
            return
        if FROZEN in begun:
            link.stall()
        if FROZEN in ended:
            link.resume()
        if POWERED_OFF in begun:
            link.refuse()
            await link.cut()
        if POWERED_OFF in ended:
            await link.start()
        if CONNECTION_CUT in begun:
            await link.cut()
        if SUBSCRIPTIONS_LOST in begun:
            service = self._server.iserver.subscription_service
            await service.delete_subscriptions(list(service.subscriptions))
        if SESSION_CLOSED in begun:
            await self._close_sessions()

    async def _close_sessions(self) -> None:
        clients = self._server.bserver.clients if self._server.bserver is not None else []
        for client in list(clients):
            session = client.processor.session if client.processor is not None else None
            if session is not None:
                with contextlib.suppress(ua.UaError):
                    await session.close_session(True)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)

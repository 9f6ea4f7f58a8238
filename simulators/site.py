"""A scenario that runs: its processes, its instruments and its listening wires."""

import asyncio
import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from simulators.catalogue import (
    DEVICE_MODELS,
    OPCUA_KIND,
    PROCESS_MODELS,
    SERIAL_KINDS,
    TEXT_KIND,
)
from simulators.devices.contract import ModbusDevice
from simulators.devices.opcua_contract import OpcUaDevice
from simulators.devices.text_contract import TextDevice
from simulators.disturbance import Stepped
from simulators.faults import Dice, Faults
from simulators.ledger import Ledger
from simulators.scenario import PORT_FIRST, Scenario, WireSpec
from simulators.wire.line import Unit
from simulators.wire.modbus_serial import ModbusSerialServer
from simulators.wire.modbus_tcp import ModbusTcpServer
from simulators.wire.serial_port import DeviceServerPort, PtyPort, SerialPort
from simulators.wire.serial_text import SerialTextServer
from simulators.world import World

if TYPE_CHECKING:
    from simulators.wire.opcua_server import OpcUaServer

Wire: TypeAlias = "ModbusTcpServer | ModbusSerialServer | SerialTextServer | OpcUaServer"

_CATCH_UP_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the caller decides over the scenario's head."""

    host: str = "127.0.0.1"
    port_base: int = PORT_FIRST
    """Moves every wire: one on port 15 021 in the scenario listens on `port_base` + 1."""
    ephemeral: bool = False
    """Let the system choose every TCP port."""
    serial_dir: Path | None = None
    """Where the links to the pseudo-terminals stand; None for a directory that goes with the site.
    """
    seed: int | None = None
    """Instead of the scenario's; also of the faults of its wires."""
    faults: Faults | None = None
    """For every wire, instead of the scenario's."""
    ledger: Path | None = None


class Site:
    """Use as `async with Site(scenario, options) as site`; nothing listens outside of it."""

    def __init__(self, scenario: Scenario, options: RunOptions | None = None) -> None:
        self._scenario = scenario
        self._options = options or RunOptions()
        self._seed = scenario.seed if self._options.seed is None else self._options.seed
        self.processes = self._built_processes()
        self.devices = self._built_devices()
        self.world = World(
            {**self.processes, **self.devices}, scenario.events, speed=scenario.speed
        )
        self.wires: dict[str, Wire] = {}
        self._stack = contextlib.AsyncExitStack()

    @property
    def endpoints(self) -> dict[str, dict[str, Any]]:
        """Where each device is to be found, by its name."""
        return {
            key: {
                "model": spec.model,
                "wire": self._scenario.wires[spec.wire].kind,
                **self.wires[spec.wire].endpoint,
                "unit_id": spec.unit_id,
            }
            for key, spec in self._scenario.devices.items()
        }

    async def __aenter__(self) -> "Site":
        """:raises OSError: if a port or the ledger cannot be had"""
        async with contextlib.AsyncExitStack() as stack:
            ledger = self._opened_ledger(stack)
            serial_dir = self._serial_dir(stack)
            for name in self._scenario.wires:
                wire = self._wire(name, ledger, serial_dir)
                stack.push_async_callback(wire.stop)
                await wire.start()
                self.wires[name] = wire
            keeper = asyncio.create_task(self._keep_time(), name="simulated time")
            stack.push_async_callback(_ended, keeper)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def _opened_ledger(self, stack: contextlib.AsyncExitStack) -> Ledger | None:
        if self._options.ledger is None:
            return None
        ledger = Ledger(self._options.ledger)
        stack.callback(ledger.close)
        return ledger

    def _serial_dir(self, stack: contextlib.AsyncExitStack) -> Path:
        if self._options.serial_dir is not None:
            return self._options.serial_dir
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simulators-")))

    def _built_processes(self) -> dict[str, Stepped]:
        return {
            key: PROCESS_MODELS[spec.model].build(spec.settings, self._rng(key))
            for key, spec in self._scenario.processes.items()
        }

    def _built_devices(self) -> dict[str, ModbusDevice | TextDevice | OpcUaDevice]:
        start_utc_s = time.time()
        return {
            key: DEVICE_MODELS[spec.model].build(
                spec.settings, self.processes[spec.process], self._rng(key), start_utc_s
            )
            for key, spec in self._scenario.devices.items()
        }

    def _rng(self, key: str) -> Random:
        return Random(f"{self._seed}/{key}")

    def _wire(self, name: str, ledger: Ledger | None, serial_dir: Path) -> Wire:
        options, spec = self._options, self._scenario.wires[name]
        faults = options.faults or spec.faults
        if options.seed is not None:
            faults = dataclasses.replace(faults, seed=options.seed)
        here = {k: d for k, d in self._scenario.devices.items() if d.wire == name}
        dice, advance = Dice(faults, name), self.world.advance
        if spec.kind == TEXT_KIND:
            texts = {
                k: d for k, d in self.devices.items() if k in here and isinstance(d, TextDevice)
            }
            return SerialTextServer(
                name,
                texts,
                port=self._serial_port(spec, serial_dir),
                baud_rate=spec.baud_rate,
                dice=dice,
                ledger=ledger,
                before_read=advance,
            )
        if spec.kind == OPCUA_KIND:
            # Here, so that other sites do not load the protocol library.
            from simulators.wire.opcua_server import OpcUaServer

            return OpcUaServer(
                name,
                {k: d for k, d in self.devices.items() if k in here and isinstance(d, OpcUaDevice)},
                host=options.host,
                port=self._tcp_port(spec),
                clock_offset_s=spec.clock_offset_s,
                ledger=ledger,
                before_read=advance,
            )
        units = {
            spec.unit_id: Unit(key, device)
            for key, spec in here.items()
            if isinstance(device := self.devices[key], ModbusDevice)
        }
        if spec.kind not in SERIAL_KINDS:
            return ModbusTcpServer(
                name,
                units,
                host=options.host,
                port=self._tcp_port(spec),
                dice=dice,
                ledger=ledger,
                before_read=advance,
            )
        return ModbusSerialServer(
            name,
            units,
            framing=SERIAL_KINDS[spec.kind],
            port=self._serial_port(spec, serial_dir),
            baud_rate=spec.baud_rate,
            dice=dice,
            ledger=ledger,
            before_read=advance,
        )

    def _serial_port(self, spec: WireSpec, serial_dir: Path) -> SerialPort:
        if spec.device is not None:
            return PtyPort(serial_dir / spec.device)
        return DeviceServerPort(self._options.host, self._tcp_port(spec))

    def _tcp_port(self, spec: WireSpec) -> int:
        assert spec.port is not None, spec
        return 0 if self._options.ephemeral else self._options.port_base + spec.port - PORT_FIRST

    async def _keep_time(self) -> None:
        """Keep the distance to real time short while nobody reads."""
        while True:
            await asyncio.sleep(_CATCH_UP_S)
            self.world.advance()


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it is over."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

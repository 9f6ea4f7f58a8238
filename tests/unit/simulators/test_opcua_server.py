"""The simulated OPC UA server says what its devices say, and suffers what is done to it.

Method: asyncua's own client looks; the ledger is the truth.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asyncua import Client, ua

from simulators.devices.contract import POWERED_OFF
from simulators.devices.opcua_contract import (
    CLOCK_WRONG,
    CONNECTION_CUT,
    FROZEN,
    SESSION_CLOSED,
    SUBSCRIPTIONS_LOST,
)
from simulators.scenario import parse
from simulators.site import RunOptions, Site
from simulators.strict_yaml import ScenarioError
from simulators.wire.opcua_server import OpcUaServer

SCENARIO = """
description: one of each
speed: 10
processes:
  cabinet: {model: ult_freezer}
  run: {model: cell_processing, isolate_s: 2, transduce_s: 2, wash_s: 2, formulate_s: 2, rest_s: 60}
  line: {model: vial_filling}
wires:
  ua: {kind: opcua, port: 15030, clock_offset_s: -7200}
devices:
  freezer: {model: lads_ult_freezer, process: cabinet, wire: ua}
  processor: {model: lads_cell_processor, process: run, wire: ua}
  filler: {model: packml_filler, process: line, wire: ua}
"""

LADS = "http://opcfoundation.org/UA/LADS/"
DI = "http://opcfoundation.org/UA/DI/"
SIM = "urn:simulators:devices"
WITHIN_S = 20.0


@asynccontextmanager
async def running(tmp_path) -> AsyncIterator[tuple[Site, Client, Callable[..., Any]]]:
    """A site, a client on it, and a way to name a node by its path from Objects."""
    site = Site(parse(SCENARIO, "test", "test"), RunOptions(
        ephemeral=True, ledger=tmp_path / "ledger"))  # fmt: skip
    async with site:
        client = Client(site.endpoints["freezer"]["url"], timeout=2)
        async with client:
            indices = {uri: i for i, uri in enumerate(await client.get_namespace_array())}
            short = {"di": indices[DI], "lads": indices[LADS], "sim": indices[SIM], "": 0,
                     "packml": indices["http://opcfoundation.org/UA/PackML/"],
                     "machinery": indices["http://opcfoundation.org/UA/Machinery/"]}  # fmt: skip

            async def node(path: str) -> Any:
                steps = [step.rpartition(":") for step in path.split("/")]
                names = [f"{short[prefix]}:{name}" for prefix, _, name in steps]
                return await client.nodes.objects.get_child(names)

            yield site, client, node


UNIT = "di:DeviceSet/sim:freezer/lads:FunctionalUnitSet/sim:FreezerUnit"
SENSOR = f"{UNIT}/lads:FunctionSet/sim:TemperatureSensor/lads:SensorValue"


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_what_a_device_says_is_in_the_ledger_before_anybody_hears_it(tmp_path):
    async with running(tmp_path) as (_, _, node):
        value = await (await node(SENSOR)).read_data_value()
        stamp_ns = round(value.SourceTimestamp.timestamp() * 1e6) * 1000
        path = SENSOR.removeprefix("di:DeviceSet")
        lines = [json.loads(line) for line in (tmp_path / "ledger").read_text().splitlines()]
        said = {line["source_ns"]: line["values"].get(path) for line in lines
                if line["device"] == "freezer"}  # fmt: skip
        assert said[stamp_ns] == value.Value.Value


async def test_values_bear_units_ranges_and_types_of_the_vendor(tmp_path):
    async with running(tmp_path) as (_, _, node):
        units = await (await node(f"{SENSOR}/EngineeringUnits")).read_value()
        assert (units.UnitId, units.DisplayName.Text) == (4408652, "°C")
        bounds = await (await node(f"{SENSOR}/EURange")).read_value()
        assert (bounds.Low, bounds.High) == (-100.0, 50.0)
        kind = await (await node("di:DeviceSet/sim:freezer")).read_type_definition()
        assert kind.NamespaceIndex != 0
        same = await node(f"{UNIT}/lads:Operational/lads:SensorValue")
        assert same.nodeid == (await node(SENSOR)).nodeid


async def test_states_are_those_of_the_specification(tmp_path):
    async with running(tmp_path) as (site, _, node):
        state = await node(f"{UNIT}/lads:FunctionSet/sim:Door/lads:CoverState/CurrentState/Id")
        assert (await state.read_value()).Identifier == 5028
        site.processes["cabinet"].disturbances.begin("door_open")

        async def opened() -> bool:
            return (await state.read_value()).Identifier == 5025

        await until(opened)


async def test_a_run_that_has_ended_is_a_result_with_its_job(tmp_path):
    async with running(tmp_path) as (_, _, node):
        manager = (
            "di:DeviceSet/sim:processor/lads:FunctionalUnitSet/sim:ProcessingUnit"
            "/lads:ProgramManager"
        )
        results = await node(f"{manager}/lads:ResultSet")

        async def ended() -> bool:
            return bool(await results.get_children())

        await until(ended)
        [run] = await results.get_children()
        name = (await run.read_browse_name()).Name
        job = await node(f"{manager}/lads:ResultSet/sim:{name}/lads:SupervisoryJobId")
        assert await job.read_value() == "JOB-0815"


async def test_an_alarm_is_active_while_its_cause_lasts(tmp_path):
    async with running(tmp_path) as (site, _, node):
        pump = (
            "di:DeviceSet/sim:processor/lads:FunctionalUnitSet/sim:ProcessingUnit"
            "/lads:FunctionSet/sim:PumpFlow/lads:AlarmMonitor/ActiveState/Id"
        )
        active = await node(pump)
        site.processes["run"].disturbances.begin("pump_blocked")
        site.processes["run"]._begin()
        await until(active.read_value)
        site.processes["run"].disturbances.end("pump_blocked")

        async def over() -> bool:
            return not await active.read_value()

        await until(over)


class Heard:
    """Events as asyncua's client hands them over."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def event_notification(self, event: Any) -> None:
        state = getattr(event, "ActiveState/Id")
        self.events.append((event.SourceName, event.ConditionName, state, event.Retain))


async def test_an_alarm_that_begins_and_ends_is_two_events(tmp_path):
    async with running(tmp_path) as (site, client, _):
        heard = Heard()
        subscription = await client.create_subscription(100, heard)
        await subscription.subscribe_events(client.nodes.server, ua.NodeId(9482))
        run = site.processes["run"]
        run._begin()
        run.disturbances.begin("pump_blocked")

        async def came(number: int) -> bool:
            return len(heard.events) >= number

        await until(lambda: came(1))
        run.disturbances.end("pump_blocked")
        await until(lambda: came(2))
        assert heard.events == [
            ("PumpFlow", "AlarmMonitor", True, True),
            ("PumpFlow", "AlarmMonitor", False, False),
        ]


async def test_the_fillers_machines_are_one_in_the_other(tmp_path):
    async with running(tmp_path) as (_, _, node):
        base = "machinery:Machines/sim:filler/packml:BaseStateMachine"
        inner = f"{base}/packml:MachineState/packml:ExecuteState/CurrentState"
        state = await node(inner)
        assert (await node(f"{base}/CurrentState")) is not None

        async def executes() -> bool:
            value = await state.read_data_value(raise_on_bad_status=False)
            return getattr(value.Value.Value, "Text", None) == "Execute"

        await until(executes)


async def test_its_clock_can_be_wrong(tmp_path):
    async with running(tmp_path) as (site, client, node):
        before = (await (await node(SENSOR)).read_data_value()).SourceTimestamp
        site.devices["freezer"].disturbances.begin(CLOCK_WRONG)
        clock = client.get_node(ua.NodeId(2258))

        async def behind() -> bool:
            return (before - await clock.read_value()).total_seconds() > 7000

        await until(behind)
        stamp = (await (await node(SENSOR)).read_data_value()).SourceTimestamp
        assert (before - stamp).total_seconds() > 7000


async def test_subscriptions_are_lost_without_a_word(tmp_path):
    async with running(tmp_path) as (site, client, _):
        await client.create_subscription(100, object())
        service = site.wires["ua"]._server.iserver.subscription_service
        assert len(service.subscriptions) == 1
        site.devices["freezer"].disturbances.begin(SUBSCRIPTIONS_LOST)

        async def lost() -> bool:
            return not service.subscriptions

        await until(lost)


@pytest.mark.parametrize("what", [POWERED_OFF, CONNECTION_CUT, FROZEN, SESSION_CLOSED])
async def test_a_client_loses_a_server_that_suffers_and_finds_it_again(what, tmp_path):
    async with running(tmp_path) as (site, _, node):
        sensor = await node(SENSOR)
        site.devices["filler"].disturbances.begin(what)

        async def gone() -> bool:
            try:
                await asyncio.wait_for(sensor.read_value(), 1)
            except (ua.UaError, OSError, TimeoutError):
                return True
            return False

        await until(gone)
        site.devices["filler"].disturbances.end(what)

        async def back() -> bool:
            try:
                async with Client(site.endpoints["freezer"]["url"], timeout=1) as again:
                    return bool(await again.get_namespace_array())
            except (ua.UaError, OSError, TimeoutError, AssertionError):
                return False

        await until(back)


async def test_a_port_that_is_taken_is_said_and_nothing_is_left_behind():
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    server = OpcUaServer("ua", {}, host="127.0.0.1", port=taken.sockets[0].getsockname()[1])
    before = asyncio.all_tasks()
    with pytest.raises(OSError, match="address already in use"):
        await server.start()
    await server.stop()
    await server.stop()
    taken.close()
    await taken.wait_closed()
    assert asyncio.all_tasks() == before


def test_faults_of_replies_are_refused_on_this_wire():
    text = SCENARIO.replace("clock_offset_s: -7200", "faults: {no_answer: 0.5}")
    with pytest.raises(ScenarioError, match="what befalls an opcua wire is an event"):
        parse(text, "test", "test")


def test_a_modbus_device_does_not_fit_this_wire():
    text = SCENARIO + "  sensor: {model: thermo_tsx, process: cabinet, wire: ua}\n"
    with pytest.raises(ScenarioError, match="a thermo_tsx and a wire of this kind do not fit"):
        parse(text, "test", "test")

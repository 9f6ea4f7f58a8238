"""The peer: Modbus to MQTT as an engineer writes it in an afternoon, without durability.

Same devices, aligned ticks, registers, scaling and QoS as the agent; no journal, no receipts, no
gaps, no quality, no evidence: what the broker has not taken when it stops is lost. Not crippled:
one request per device and poll, one struct call instead of a conversion per value.
"""

import argparse
import asyncio
import itertools
import json
import struct
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from pymodbus import ModbusException
from pymodbus.client import AsyncModbusTcpClient

BLOCK = struct.Struct(">Q52h22f")  # farm.c: answer time, integers in tenths, floats


async def poll(port: int, broker: mqtt.Client, start_s: float, period_s: float) -> None:
    """Read one device on the grid that all devices share; publish each reply as one message."""
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    await client.connect()
    for tick in itertools.count():
        await asyncio.sleep(start_s + tick * period_s - time.monotonic())
        try:
            reply = await client.read_holding_registers(0, count=100)
        except ModbusException as error:
            print(port, error, flush=True)
            continue
        stamp_ns, *rest = BLOCK.unpack(struct.pack(">100H", *reply.registers))
        values = [stamp_ns, *(tenths / 10 for tenths in rest[:52]), *rest[52:]]
        message = json.dumps({"device": port, "utc_ns": time.time_ns(), "values": values})
        broker.publish(f"naive/{port}", message, qos=1)


async def main() -> None:
    """Poll all devices until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker-port", type=int, required=True)
    parser.add_argument("--period-ms", type=float, default=100)
    parser.add_argument("ports", type=int, nargs="+", help="Modbus TCP ports of 127.0.0.1")
    arguments = parser.parse_args()
    broker = mqtt.Client(CallbackAPIVersion.VERSION2)
    broker.connect("127.0.0.1", arguments.broker_port)
    broker.loop_start()
    start_s, period_s = time.monotonic() + 0.5, arguments.period_ms / 1000
    await asyncio.gather(*(poll(port, broker, start_s, period_s) for port in arguments.ports))


if __name__ == "__main__":
    asyncio.run(main())

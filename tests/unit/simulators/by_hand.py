"""A Modbus TCP client written out by hand: the tests speak bytes, as a stranger would."""

import asyncio
import struct
from contextlib import asynccontextmanager


def read_request(function, address, count):
    return struct.pack(">BHH", function, address, count)


def message(pdu, *, unit=1, transaction=1, protocol=0):
    return struct.pack(">HHHB", transaction, protocol, len(pdu) + 1, unit) + pdu


def registers(reply):
    """The registers of a reply that carries data."""
    assert reply[1] == len(reply) - 2, reply.hex()
    return list(struct.unpack(f">{reply[1] // 2}H", reply[2:]))


class ByHand:
    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def send(self, raw):
        self.writer.write(raw)
        await self.writer.drain()

    async def receive(self):
        """One message as (transaction, protocol, unit, protocol data unit)."""
        async with asyncio.timeout(2):
            header = await self.reader.readexactly(7)
            transaction, protocol, length, unit = struct.unpack(">HHHB", header)
            return transaction, protocol, unit, await self.reader.readexactly(length - 1)

    async def ask(self, pdu, *, unit=1, transaction=1):
        await self.send(message(pdu, unit=unit, transaction=transaction))
        return (await self.receive())[3]

    async def closed_by_peer(self):
        async with asyncio.timeout(2):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


@asynccontextmanager
async def connected(port, host="127.0.0.1"):
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield ByHand(reader, writer)
    finally:
        writer.transport.abort()

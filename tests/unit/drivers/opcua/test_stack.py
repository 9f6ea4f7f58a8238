"""What we touch of asyncua is as it was, and what a server sends is held to bounds.

Should a test here fail after an update of asyncua, the adapter has to be looked at again; nothing
else of ours knows asyncua.
"""

import asyncio
import inspect
from contextlib import suppress
from pathlib import Path

import pytest
from asyncua.client.ua_client import UASocketProtocol
from asyncua.common.connection import SecureConnection, TransportLimits

import drivers.opcua
from drivers.opcua import stack
from drivers.opcua.stack import CHUNK_BYTES, CHUNKS_MAX, MESSAGE_BYTES_MAX, Channel, ua
from edgeagent.driver import LinkLost


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_private_parts_are_as_they_were():
    stack.self_test()
    assert parameters(UASocketProtocol._send_request) == [
        "self", "request", "timeout", "message_type",
    ]  # fmt: skip
    assert parameters(UASocketProtocol._process_received_data) == ["self", "data"]
    assert parameters(UASocketProtocol._process_received_message) == ["self", "msg"]
    assert parameters(SecureConnection.__init__) == ["self", "security_policy", "limits"]
    assert list(TransportLimits.__dataclass_fields__) == [
        "max_recv_buffer", "max_send_buffer", "max_chunk_count", "max_message_size",
    ]  # fmt: skip


def test_another_asyncua_is_refused_and_not_guessed_at(monkeypatch):
    monkeypatch.setattr(stack.asyncua, "__version__", "2.2.0")
    with pytest.raises(
        LinkLost, match=r"asyncua 2\.2\.0 is not as expected: only 2\.1\.x is known"
    ):
        stack.self_test()


def test_decoders_that_differ_are_noticed_at_the_start(monkeypatch):
    monkeypatch.setattr(stack, "decode_variant", lambda encoded: "wrong")
    with pytest.raises(LinkLost, match="the two decoders differ"):
        stack.self_test()


def test_only_one_file_touches_asyncua():
    folder = Path(drivers.opcua.__file__).parent
    found = [p.name for p in folder.glob("*.py") if "import asyncua" in p.read_text()]
    found += [p.name for p in folder.glob("*.py") if "from asyncua" in p.read_text()]
    assert set(found) == {"stack.py"}


# -- a server that is none, or a hostile one -----------------------------------------------------


async def opened(script) -> tuple[str, bytes]:
    """Open a channel to a server that answers by a script; return the reason and what it got."""
    got = bytearray()
    served = asyncio.Event()

    async def serve(reader, writer):
        got.extend(await reader.read(1000))
        await script(writer)
        writer.transport.abort()
        served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        policy = stack.POLICIES["None"](None, None, None, ua.MessageSecurityMode.None_)
        with pytest.raises(LinkLost) as caught:
            await Channel.open(f"opc.tcp://127.0.0.1:{port}", policy, 0.5)
        await served.wait()
    finally:
        server.close()
        await server.wait_closed()
    return str(caught.value), bytes(got)


async def say(writer, raw: bytes) -> None:
    writer.write(raw)
    with suppress(ConnectionError):
        await writer.drain()
    await asyncio.sleep(0.1)


async def test_hello_states_our_bounds():
    _, got = await opened(lambda writer: say(writer, b""))
    hello = [int.from_bytes(got[i : i + 4], "little") for i in range(8, 28, 4)]
    assert hello == [0, CHUNK_BYTES, CHUNK_BYTES, MESSAGE_BYTES_MAX, CHUNKS_MAX]


async def test_a_server_that_closes_says_so():
    reason, _ = await opened(lambda writer: say(writer, b""))
    assert reason == "the server closed the connection"


async def test_a_web_server_is_not_taken_for_one():
    reason, _ = await opened(lambda writer: say(writer, b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert "at most 65536 are taken" in reason


async def test_a_chunk_larger_than_agreed_is_refused_before_it_is_stored():
    chunk = b"ACKF" + (2**31).to_bytes(4, "little")
    reason, _ = await opened(lambda writer: say(writer, chunk))
    assert reason == f"the server sent a chunk of {2**31} bytes; at most 65536 are taken"


async def test_the_words_of_an_error_message_reach_the_person():
    why = b"this endpoint is closed for the day"
    body = (0x8083_0000).to_bytes(4, "little") + len(why).to_bytes(4, "little") + why
    error = b"ERRF" + (8 + len(body)).to_bytes(4, "little") + body
    reason, _ = await opened(lambda writer: say(writer, error))
    assert reason == (
        "the server says BadTcpEndpointUrlInvalid: this endpoint is closed for the day"
    )


async def test_an_acknowledge_without_bounds_does_not_lift_ours():
    numbers = (0, 8192, 8192, 0, 0)
    ack = b"ACKF\x1c\0\0\0" + b"".join(n.to_bytes(4, "little") for n in numbers)
    protocol = stack._Protocol(1, stack.POLICIES["None"](), lambda: None)
    future = asyncio.get_running_loop().create_future()
    protocol._callbackmap[0] = future
    protocol.data_received(ack)
    protocol.keep_bounds()
    limits = protocol._connection._limits
    assert (limits.max_recv_buffer, limits.max_send_buffer) == (CHUNK_BYTES, 8192)
    assert (limits.max_chunk_count, limits.max_message_size) == (CHUNKS_MAX, MESSAGE_BYTES_MAX)

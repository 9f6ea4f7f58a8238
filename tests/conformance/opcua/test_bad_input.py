"""What is wrong with one tag or one link is said in a line with the mend; the rest goes on."""

import asyncio
import socket

import pytest
from asyncua import ua

from edgeagent.driver import Frame, LinkLost, Loss
from tests.conformance.opcua.server import driver, instrument, profile, running, taken


@pytest.fixture(scope="module")
def server():
    with running() as made:
        yield made


async def first(server, tags, **more):
    """Return the first frame and the losses of an instrument with these tags and a good one."""
    good = await server.add(1.5, ua.VariantType.Double, "good")
    of = profile({"good": {"type": "FLOAT64", "s": good}} | tags, **more)
    made = driver(server.url, instrument("device", of))
    try:
        await made.connect()
        items = await taken(made, 1)
    finally:
        await made.close()
    frames = [item for item in items if isinstance(item, Frame)]
    assert frames[0].values[0] == 1.5
    return frames[0], [item.detail for item in items if isinstance(item, Loss)]


@pytest.mark.parametrize(
    ("tag", "status", "words"),
    [
        (
            {"type": "FLOAT64", "node": "nsu=t;s=nobody"},
            0x8034_0000,
            "tag device/all/x: the server has no such node; correct node (BadNodeIdUnknown)",
        ),
        (
            {"type": "FLOAT64", "node": "/t:nobody"},
            0x8034_0000,
            "tag device/all/x: no such browse path (BadNoMatch); correct node",
        ),
        (
            {"type": "FLOAT64", "node": "nsu=urn:elsewhere;i=1"},
            0x8034_0000,
            "tag device/all/x: the server has no namespace 'urn:elsewhere'; it has: ",
        ),
    ],
)
async def test_a_tag_that_is_not_there(tag, status, words, server):
    frame, details = await first(server, {"x": tag})
    assert len(details) == 1
    assert details[0].startswith(words)
    assert (frame.present, frame.status) == ((0,), (0, status))


async def test_a_tag_of_another_type(server):
    node = await server.add(1.5, ua.VariantType.Float)
    _, details = await first(server, {"x": {"type": "FLOAT64", "s": node}})
    assert details == [
        "tag device/all/x: the profile declares FLOAT64, the server sends Float; "
        "write type: FLOAT32"
    ]


async def test_an_instrument_without_any_good_tag_is_said_too(server):
    made = driver(
        server.url, instrument("a", profile({"x": {"type": "BOOL", "node": "nsu=t;s=no"}}))
    )
    try:
        await made.connect()
        (loss,) = await made.next()
        assert (loss.cause, loss.tags, loss.to_utc_ns) == ("refused", (0,), None)
    finally:
        await made.close()


async def test_identity_is_read_from_nodes_and_held_against_what_is_expected(server):
    serial = await server.add("SN-7")
    of = profile(
        {"x": {"type": "FLOAT64", "s": await server.add(1.0)}},
        identity={
            "serial_number": {"node": f"nsu=t;s={serial}"},
            "model": {"node": "nsu=t;s=nowhere", "expect": "B200"},
            "running": {"node": "i=2259"},
        },
        identity_unavailable=None,
    )
    made = driver(server.url, instrument("device", of))
    try:
        (identity,) = await made.connect()
    finally:
        await made.close()
    assert identity.facts == (("serial_number", "SN-7"), ("running", "0"))
    assert identity.mismatches == ("model cannot be read; the profile expects B200",)


async def refusal(url: str, **settings) -> str:
    device = instrument("device", profile({"x": {"type": "BOOL", "node": "i=1"}}))
    made = driver(url, device, **settings)
    with pytest.raises(LinkLost) as caught:
        await made.connect()
    await made.close()
    return str(caught.value)


async def test_a_port_where_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        said = await refusal(f"opc.tcp://127.0.0.1:{port}")
    assert said == f"127.0.0.1:{port}: Connection refused; correct url, or start the server"


async def test_a_host_that_nobody_knows():
    said = await refusal("opc.tcp://no-such-host.invalid:4840")
    assert said.startswith("host 'no-such-host.invalid' is not known (")
    assert said.endswith("; correct url")


async def test_security_that_the_server_does_not_offer(server, tmp_path):
    from tests.conformance.opcua.certificates import make

    agent = make(tmp_path, "agent")
    files = {"certificate_file": agent.certificate, "key_file": agent.key}
    said = await refusal(server.url, security={}, trusted_dir=tmp_path, **files)
    assert said == (
        "the server does not offer security Basic256Sha256 SignAndEncrypt; it offers: None None_; "
        "correct security, or the server"
    )


async def test_a_user_that_the_server_does_not_want(server, tmp_path):
    (tmp_path / "password").write_text("x")
    user = {"username": "edge", "password_file": tmp_path / "password"}
    said = await refusal(server.url, user=user)
    assert "in clear" in said or "correct user" in said


async def test_files_that_are_not_there(server, tmp_path):
    files = {"certificate_file": tmp_path / "a.der", "key_file": tmp_path / "a.pem"}
    said = await refusal(server.url, security={}, trusted_dir=tmp_path, **files)
    assert said == f"{tmp_path / 'a.der'}: No such file or directory; create it or correct the path"


async def test_a_subscription_that_is_dropped_without_a_word_is_noticed(server):
    node = await server.add(1, ua.VariantType.Int64)
    made = driver(server.url, instrument("device", profile({"x": {"type": "INT64", "s": node}})))
    try:
        await made.connect()
        (frame,) = await taken(made, 1)
        await made.committed(frame)
        await asyncio.to_thread(server.forget_subscriptions)
        async with asyncio.timeout(15):
            with pytest.raises(LinkLost, match=r"silent|ended the subscription"):
                await made.next()
        await made.connect()
        await server.write(node, 2)
        items = await taken(made, 1)
        assert [item.values for item in items if isinstance(item, Frame)] == [(2,)]
    finally:
        await made.close()

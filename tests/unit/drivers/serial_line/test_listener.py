"""A device that sends by itself: whole lines become values, everything else a loss with its reason.

Method: a server on loopback writes what a device would send.
"""

import asyncio

import pytest

from drivers.serial_line import DRIVER
from drivers.serial_line.listener import WAITING_MAX
from edgeagent.driver import Frame, Instrument, LinkLost, Loss
from edgeagent.model.clock import SystemClock
from tests.conformance.serial_line.instruments import load

KEY = b"k" * 32


class Sender:
    """What a scanner or a balance hangs on."""

    async def start(self) -> None:
        self.writer = None
        self._connected = asyncio.Event()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer) -> None:
        self.writer = writer
        self._connected.set()

    async def send(self, *pieces: bytes) -> None:
        await self._connected.wait()
        for piece in pieces:
            self.writer.write(piece)
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self._server.close()
        if self.writer is not None:
            self.writer.transport.abort()
        await asyncio.sleep(0)


@pytest.fixture
async def sender():
    made = Sender()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def listen(sender, tmp_path):
    opened = []
    key = tmp_path / "key"
    key.write_bytes(KEY)

    async def connect(name, rested=True, key_file=key):
        stated = load(name).model_dump(exclude_unset=True)
        stated["serial_line"] |= {"timeout": "40 ms", "deadline": "40 ms", "slowest_reply": "40 ms"}
        for group in stated["groups"].values():
            group["period"] = "1 s"
        profile = DRIVER.profile.model_validate(stated)
        settings = DRIVER.instrument_settings(pseudonym_key_file=key_file)
        it = Instrument("x", profile, settings, profile.schemas("x", {}))
        link = DRIVER.link_settings(host="127.0.0.1", port=sender.port)
        driver = DRIVER.open(link, [it], SystemClock())
        opened.append(driver)
        await driver.connect()
        assert all(loss.from_utc_ns == loss.to_utc_ns for loss in await driver.next())
        if rested:
            await asyncio.sleep(0.06)
        return driver

    yield connect
    for driver in opened:
        await driver.close()


async def taken(driver, count: int) -> list:
    found = []
    async with asyncio.timeout(5):
        while len(found) < count:
            found += await driver.next()
    return found


async def test_a_scan_becomes_a_pseudonym_and_nothing_of_it_leaves_the_driver(sender, listen):
    driver = await listen("barcode-scanner")
    await sender.send(b"=W0000", b"26000100\r")
    (frame,) = await taken(driver, 1)
    (shown,) = frame.values
    assert shown.startswith("hmac-sha256-128:")
    assert frame.raw == b"[removed]"
    assert "W0000" not in repr(frame)


async def test_equal_scans_are_equal(sender, listen):
    driver = await listen("barcode-scanner")
    await sender.send(b"A\rB\rA\r")
    first, second, third = [frame.values[0] for frame in await taken(driver, 3)]
    assert first == third != second


async def test_without_a_key_nothing_is_heard(listen, tmp_path):
    with pytest.raises(LinkLost, match="head -c 32"):
        await listen("barcode-scanner", key_file=tmp_path / "none")


async def test_a_printed_weight_is_uncertain_without_a_unit(sender, listen):
    driver = await listen("sartorius-sbi-print")
    await sender.send(b"N     +   123.56    \r\n", b"N     +   123.57 g  \r\n")
    moving, resting = await taken(driver, 2)
    assert (moving.values, moving.status >> 30 if isinstance(moving.status, int) else 1) == (
        (123.56,),
        1,
    )
    assert (resting.values, resting.status) == ((123.57,), 0)


async def test_the_rest_of_a_line_that_began_before_is_a_loss_not_a_value(sender, listen):
    driver = await listen("sartorius-sbi-print", rested=False)
    await sender.send(b"+    23.56 g  \r\n", b"N     +   123.57 g  \r\n")
    loss, frame = await taken(driver, 2)
    assert isinstance(loss, Loss)
    assert "beginning" in loss.detail
    assert frame.values == (123.57,)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"N     +   1?3.57 g  \r\n", "no reply"),
        (b"x" * 300 + b"\r\n", "more than 256"),
        (b"Stat      High      \r\n", "overload"),
        (b"N     +   123.57 lb \r\n", "'lb'"),
    ],
)
async def test_what_is_no_value_is_a_loss_with_its_reason(sender, listen, sent, words):
    driver = await listen("sartorius-sbi-print")
    await sender.send(sent, b"N     +   123.57 g  \r\n")
    loss, frame = await taken(driver, 2)
    assert isinstance(loss, Loss)
    assert words in loss.detail
    assert loss.from_utc_ns < loss.to_utc_ns
    assert isinstance(frame, Frame)


async def test_a_line_that_stops_in_the_middle_is_a_loss(sender, listen):
    driver = await listen("sartorius-sbi-print")
    await sender.send(b"N     +   12")
    (loss,) = await taken(driver, 1)
    assert "without an end" in loss.detail
    await sender.send(b"N     +   123.57 g  \r\n")
    (frame,) = await taken(driver, 1)
    assert frame.values == (123.57,)


async def test_what_nobody_takes_is_bounded_and_the_rest_a_loss(sender, listen):
    driver = await listen("barcode-scanner")
    await sender.send(b"".join(b"%d\r" % n for n in range(WAITING_MAX + 50)))
    await asyncio.sleep(0.1)
    found = await driver.next()
    assert len(found) == WAITING_MAX + 1
    assert isinstance(found[-1], Loss)
    assert found[-1].cause == "overrun"
    await sender.send(b"next\r")
    assert len(await taken(driver, 1)) == 1


async def test_nothing_is_ever_sent(sender, listen):
    heard = []
    driver = await listen("barcode-scanner")
    sender.writer.transport.pause_reading()
    driver._ear.send = heard.append
    await sender.send(b"A\r")
    await taken(driver, 1)
    assert heard == []

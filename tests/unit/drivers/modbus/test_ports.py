"""Serial ports that are missing, forbidden, in use or pulled out: a lost link that says the mend.

Method: pseudo-terminals behind a stable path, as /dev/serial/by-id is.
"""

import errno
import fcntl
import os
import termios
import tty
from contextlib import suppress
from pathlib import Path

import pytest

from drivers.modbus.line import LineWire
from drivers.modbus.settings import ModbusLinkSettings
from drivers.serial_port import refusal
from edgeagent.model.errors import LinkLost

OURSELVES = f"{Path('/proc/self/comm').read_text().strip()} (process {os.getpid()})"


class Adapter:
    """A serial adapter that can be pulled out and plugged in again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.master = -1

    def plug(self) -> None:
        self.master, port = os.openpty()
        tty.setraw(port)
        self.path.symlink_to(os.ttyname(port))
        os.close(port)

    def pull(self) -> None:
        self.path.unlink()
        os.close(self.master)


@pytest.fixture
def adapter(tmp_path):
    made = Adapter(tmp_path / "adapter")
    made.plug()
    yield made
    with suppress(OSError):
        made.pull()


def handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def settings_of(path: object, **keys) -> ModbusLinkSettings:
    stated = {"framing": "rtu", "device": str(path), "parity": "none", "timeout": "20 ms"}
    return ModbusLinkSettings.model_validate(stated | keys)


def wire_on(path: object, **keys) -> LineWire:
    return LineWire(settings_of(path, **keys), {})


async def refused(wire: LineWire) -> str:
    with pytest.raises(LinkLost) as caught:
        await wire.open()
    assert not wire.is_active()
    return str(caught.value)


async def test_a_port_that_is_not_there(tmp_path):
    text = await refused(wire_on(tmp_path / "adapter"))
    assert str(tmp_path / "adapter") in text
    assert "no such port" in text
    assert "/dev/serial/by-id" in text


async def test_a_file_that_is_no_port(tmp_path):
    (tmp_path / "adapter").write_text("")
    assert "no serial port; correct the path" in await refused(wire_on(tmp_path / "adapter"))


async def test_a_port_in_use_names_who_has_it(adapter):
    first, second = wire_on(adapter.path), wire_on(adapter.path)
    await first.open()
    text = await refused(second)
    assert f"in use by {OURSELVES}" in text
    first.close()
    await second.open()
    second.close()


async def test_nobody_else_can_open_a_port_that_is_open(adapter):
    """The kernel refuses everybody but root, who does not need to ask for the lock."""
    wire = wire_on(adapter.path)
    await wire.open()
    port = os.open(adapter.path, os.O_RDWR | os.O_NOCTTY) if os.geteuid() == 0 else None
    if port is None:
        with pytest.raises(OSError, match="busy"):
            os.open(adapter.path, os.O_RDWR | os.O_NOCTTY)
    else:
        exclusive = fcntl.ioctl(port, getattr(termios, "TIOCGEXCL", 0x80045440), bytes(4))
        assert any(exclusive)
        os.close(port)
    wire.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "denied"), ["no permission", "to the group", "udev"]),
        (OSError(errno.EBUSY, "busy"), ["in use by", "only one master"]),
        (OSError(errno.EIO, "error"), ["gone", "plug the adapter in again"]),
        (termios.error(errno.EINVAL, "Invalid argument"), ["refuses 19200 baud, 8 data bits"]),
    ],
)
async def test_each_refusal_says_how_to_mend_it(adapter, error, words):
    text = refusal(settings_of(adapter.path), error)
    assert text.startswith(str(adapter.path))
    assert all(word in text for word in words), text


async def test_a_port_that_cannot_do_what_the_link_states(adapter):
    text = await refused(wire_on(adapter.path, parity="even"))
    assert "parity even" in text
    assert "correct the link" in text


async def test_a_port_that_is_pulled_out_is_lost_at_once_and_returns_at_the_same_path(adapter):
    wire = wire_on(adapter.path)
    await wire.open()
    adapter.pull()
    await wire._lost.wait()
    with pytest.raises(LinkLost, match=str(adapter.path)):
        await wire.ask(1, b"\x03\0\0\0\1")
    assert "no such port" in await refused(wire_on(adapter.path))

    adapter.plug()
    again = wire_on(adapter.path)
    await again.open()
    assert again.is_active()
    again.close()


async def test_closing_any_number_of_times_leaves_no_handle(adapter):
    before = handles()
    for _ in range(3):
        wire = wire_on(adapter.path)
        await wire.open()
        wire.close()
        wire.close()
    assert handles() == before

"""What the service manager hears (sd_notify(3)), and that only progress puts the watchdog off.

Method: a socket stands in for the service manager; the watchdog's time is virtual.
"""

import asyncio
import os
import socket
from contextlib import contextmanager

import pytest

from edgeagent.operate.notify import Notifier, keep_alive


@contextmanager
def service_manager(address):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.setblocking(False)
        yield listener


@pytest.fixture
def manager(tmp_path):
    with service_manager(str(tmp_path / "notify")) as listener:
        yield listener


def heard(listener):
    """Every message so far."""
    messages = []
    while True:
        try:
            messages.append(listener.recv(4096).decode())
        except BlockingIOError:
            return messages


def notifier_of(listener, **environ):
    return Notifier.from_environment({"NOTIFY_SOCKET": listener.getsockname(), **environ})


async def test_each_message_is_one_datagram_of_assignments(manager):
    notifier = notifier_of(manager)
    notifier.status("opening the journal")
    notifier.ready("3 links")
    notifier.alive()
    notifier.stopping()
    assert heard(manager) == [
        "STATUS=opening the journal",
        "READY=1\nSTATUS=3 links",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


async def test_a_reload_says_when_it_began_on_the_monotonic_clock(manager):
    before_us = int(asyncio.get_running_loop().time() * 1e6)
    notifier_of(manager).reloading()
    (message,) = heard(manager)
    first, second = message.split("\n")
    assert first == "RELOADING=1"
    name, _, began_us = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before_us <= int(began_us) <= asyncio.get_running_loop().time() * 1e6


def test_a_text_cannot_carry_a_second_assignment(manager):
    notifier_of(manager).status("journal\nMAINPID=1\r\nis full")
    assert heard(manager) == ["STATUS=journal MAINPID=1 is full"]


def test_an_abstract_socket_is_reached():
    name = f"edgeagent-notify-{os.getpid()}"
    with service_manager(f"\0{name}") as listener:
        Notifier.from_environment({"NOTIFY_SOCKET": f"@{name}"}).alive()
        assert heard(listener) == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    "environ",
    [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}],
    ids=["unset", "empty", "other family"],
)
def test_without_a_service_manager_nothing_is_sent(environ):
    notifier = Notifier.from_environment(environ)
    assert notifier == Notifier(None, None)
    notifier.ready("nobody hears this")


def test_a_service_manager_that_is_gone_or_names_nonsense_harms_nobody(tmp_path):
    Notifier(str(tmp_path / "gone")).alive()
    Notifier(str(tmp_path / ("long" * 100))).alive()


def test_a_service_manager_that_does_not_listen_blocks_nobody(manager):
    notifier = notifier_of(manager)
    for _ in range(10_000):  # far more than its queue holds
        notifier.alive()
    assert 0 < len(heard(manager)) < 10_000
    notifier.alive()
    assert heard(manager) == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "me"}, None),
    ],
)
def test_the_watchdog_is_ours_only_if_it_names_us(manager, environ, watchdog_s):
    assert notifier_of(manager, **environ).watchdog_s == watchdog_s


async def run_for(seconds, notifier, progress):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await keep_alive(notifier, progress)


@pytest.mark.looptime
async def test_progress_puts_the_watchdog_off_three_times_in_its_time(manager):
    async def progress():
        await asyncio.sleep(4)  # slow, yet within the step of ten seconds

    await run_for(59, notifier_of(manager, WATCHDOG_USEC="30000000"), progress)
    assert heard(manager) == ["WATCHDOG=1"] * 6


@pytest.mark.looptime
async def test_work_that_hangs_lets_the_watchdog_bite(manager):
    calls = []

    async def progress():
        calls.append(1)
        if len(calls) == 3:
            await asyncio.Event().wait()

    await run_for(3600, notifier_of(manager, WATCHDOG_USEC="30000000"), progress)
    assert heard(manager) == ["WATCHDOG=1"] * 2


@pytest.mark.looptime
async def test_work_that_fails_is_no_sign_of_life_but_work_that_recovers_is(manager):
    calls = []

    async def progress():
        calls.append(1)
        if len(calls) in (2, 3):
            raise RuntimeError("the writer thread does not answer")

    await run_for(45, notifier_of(manager, WATCHDOG_USEC="30000000"), progress)
    assert len(calls) == 5
    assert heard(manager) == ["WATCHDOG=1"] * 3


async def test_without_a_watchdog_nobody_is_asked(manager):
    async def progress():
        raise AssertionError("asked")

    await keep_alive(notifier_of(manager), progress)
    assert heard(manager) == []

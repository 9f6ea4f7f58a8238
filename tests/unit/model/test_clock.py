"""The machine's clocks: the one place where real time is asked for."""

from pathlib import Path

import pytest

from edgeagent.model import clock as clock_module
from edgeagent.model.clock import BOOT_ID_VARIABLE, SystemClock, read_boot_id


def test_the_boot_clock_never_goes_back_and_utc_is_nanoseconds():
    clock = SystemClock()
    boots = [clock.boot_ns() for _ in range(100)]
    assert boots == sorted(boots)
    assert 1.6e18 < clock.utc_ns() < 4.2e18  # 2020 to 2103


def test_the_boot_id_is_the_kernels():
    assert SystemClock().boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture
def hidden(monkeypatch):
    """The kernel's file cannot be read, as in a service with ``ProcSubset=pid``."""

    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr(clock_module.Path, "read_text", refuse)


def test_a_hidden_boot_id_is_the_service_managers_in_the_kernels_spelling(hidden, monkeypatch):
    monkeypatch.setenv(BOOT_ID_VARIABLE, "0c2f5a3e9d6b4f1c8a7e6d5c4b3a2910")
    assert read_boot_id() == "0c2f5a3e-9d6b-4f1c-8a7e-6d5c4b3a2910"


def test_the_kernel_is_believed_before_the_environment(monkeypatch):
    monkeypatch.setenv(BOOT_ID_VARIABLE, "0c2f5a3e9d6b4f1c8a7e6d5c4b3a2910")
    assert read_boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.parametrize("said", [None, "", "yesterday's"])
def test_a_hidden_boot_id_that_nobody_says_is_unknown(hidden, monkeypatch, said):
    monkeypatch.delenv(BOOT_ID_VARIABLE, raising=False)
    if said is not None:
        monkeypatch.setenv(BOOT_ID_VARIABLE, said)
    assert read_boot_id() == "unknown"

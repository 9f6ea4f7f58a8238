"""The machine's clocks: the one place where real time is asked for."""

from pathlib import Path

from edgeagent.model import clock as clock_module
from edgeagent.model.clock import SystemClock, read_boot_id


def test_the_boot_clock_never_goes_back_and_utc_is_nanoseconds():
    clock = SystemClock()
    boots = [clock.boot_ns() for _ in range(100)]
    assert boots == sorted(boots)
    assert 1.6e18 < clock.utc_ns() < 4.2e18  # 2020 to 2103


def test_the_boot_id_is_the_kernels():
    assert SystemClock().boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_a_hidden_boot_id_is_said_to_be_unknown(monkeypatch):
    def hidden(*_, **__):
        raise PermissionError

    monkeypatch.setattr(clock_module.Path, "read_text", hidden)
    assert read_boot_id() == "unknown"

"""The service on a booted system: systemd starts, watches, reloads and stops the installed agent.

Goal: what the unit promises holds with the real agent, under its full sandbox, with a broker that
wants a password, an instrument on TCP, one on a serial port, and chrony.

Method: the installed tree in a Debian of its own (systemd-nspawn). The watchdog's time is shortened
by a drop-in, as a site would do it; nothing else differs from what is shipped.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.adapter import SerialAdapter
from tests.system.chain import wait_until
from tests.system.container import Container
from tests.system.installed import CHECKOUT, output_of
from tests.system.manufacturing_pc import (
    CREDENTIAL,
    LINKS,
    PASSWORD,
    SCENARIO,
    SITE,
    WATCHDOG_S,
    Machine,
    prepare,
)

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

STOP_WITHIN_S = 30
PROBE = """\
import importlib, mmap, pathlib, socket, ssl, sysconfig
packages = pathlib.Path(sysconfig.get_path("purelib"))
for file in packages.rglob("*.*.so"):
    if not file.relative_to(packages).parts[0].endswith(".libs"):
        names = (*file.relative_to(packages).parts[:-1], file.name.split(".")[0])
        module = ".".join(name for name in names if name != "__init__")
        importlib.import_module(module)
        print("loaded", module)
ssl.create_default_context()
for refused in (
    lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    lambda: open("/etc/edgeagent/new", "w"),
    lambda: open("/proc/1/cmdline"),
    lambda: open("/dev/kmsg", "w"),
):
    try:
        refused()
    except OSError as error:
        print("refused", error.errno)
"""


@pytest.fixture(scope="module")
def serial_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A serial port of this machine, with a simulated instrument at the other end of the line."""
    folder = tmp_path_factory.mktemp("bus")
    scenario = folder / "scenario.yaml"
    scenario.write_text(SCENARIO.format(wire="{kind: modbus-rtu, port: 15021}"))
    with subprocess.Popen(
        [sys.executable, "-m", "simulators", "run", scenario],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as simulator:
        try:
            assert simulator.stdout is not None
            ready = json.loads(simulator.stdout.readline())
            end = ready["devices"]["freezer"]
            with SerialAdapter(end["host"], end["port"]) as adapter:
                yield adapter.device
        finally:
            simulator.terminate()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, serial_port: Path) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    devices = [(serial_port, "/dev/ttyINST0")]
    with Container(folder, prepare=prepare, devices=devices) as container:
        machine = Machine(container)
        # What docs/installing.md says of a tree that was brought from another machine.
        machine.run("systemd-sysusers")
        machine.run("systemd-tmpfiles", "--create")
        machine.systemctl("daemon-reload")
        passwords = "/etc/mosquitto/passwords"
        machine.run("mosquitto_passwd", "-b", "-c", passwords, "berlin-1", PASSWORD)
        machine.run("chown", "mosquitto", passwords)
        machine.systemctl("restart", "mosquitto", "chrony")
        machine.systemctl("enable", "--now", "--quiet", "freezer")
        machine.run("useradd", "--groups", "edgeagent-viewer", "vera")
        machine.run("useradd", "stella")
        yield machine


@pytest.fixture
def running(machine: Machine) -> Machine:
    """The machine with the service doing its work, whatever the test before did."""
    machine.site_file.write_text(SITE)
    if machine.show("ActiveState")["ActiveState"] != "active":
        machine.systemctl("start", "edgeagent")
    machine.settle()
    return machine


def owner_of(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


def restarted(machine: Machine, before: int) -> Callable[[], bool]:
    """Whether systemd has brought up another process that says it is ready."""

    def holds() -> bool:
        shown = machine.show("ActiveState", "MainPID")
        return shown["ActiveState"] == "active" and int(shown["MainPID"]) not in (0, before)

    return holds


# -- start -----------------------------------------------------------------------------------------


def test_started_means_that_the_journal_is_open_and_the_links_are_at_work(machine):
    machine.systemctl("start", "edgeagent")
    status = machine.status()  # at once: nothing is waited for
    assert {link["link"] for link in status["links"]} == set(LINKS)
    assert "agent.started" in machine.events()
    machine.settle()


def test_a_journal_that_cannot_be_opened_is_never_reported_as_started(running):
    machine = running
    machine.systemctl("stop", "edgeagent")
    state, kept = machine.root / "var/lib/edgeagent", machine.root / "root/kept"
    output_of("cp", "--archive", state, kept)
    journal = state / "journal.sqlite"
    try:
        for path in state.glob("journal.sqlite*"):
            path.unlink()
        journal.write_bytes(b"this is no journal\n" * 1000)
        shutil.chown(journal, *owner_of(state))
        since = time.time()
        assert machine.try_run("systemctl", "start", "edgeagent").returncode != 0
        log = machine.log(since)
        assert str(journal.relative_to(machine.root)) in log
        assert "Started edgeagent.service" not in log
        machine.systemctl("stop", "edgeagent")
    finally:
        shutil.rmtree(state)
        kept.rename(state)
    machine.systemctl("start", "edgeagent")


def test_a_crash_loop_never_gives_up_and_ends_by_itself_when_its_cause_does(running):
    """Goal: ten failed starts, twice what systemd allows by default; then the cause is removed."""
    machine = running
    fast = machine.root / "etc/systemd/system/edgeagent.service.d/fast.conf"
    fast.write_text("[Service]\nRestartSec=100ms\n")
    machine.systemctl("daemon-reload")
    try:
        machine.site_file.write_text(SITE + "nonsense: 1\n")
        since = time.time()
        machine.try_run("systemctl", "restart", "edgeagent")
        wait_until(
            "ten restarts",
            lambda: machine.log(since).count("Scheduled restart job") >= 10,
            timeout_s=120,
        )
        assert "nonsense" in machine.log(since)
        machine.site_file.write_text(SITE)
        machine.settle()
    finally:
        fast.unlink()
        machine.systemctl("daemon-reload")


# -- watchdog, kill, stop --------------------------------------------------------------------------


def test_an_agent_that_hangs_is_killed_by_the_watchdog_and_comes_back(running):
    machine = running
    before, since = machine.pid, time.time()
    stopped_ns = time.time_ns()
    machine.signal("STOP")
    wait_until("another process", restarted(machine, before))
    log = machine.log(since)
    assert "Watchdog timeout" in log
    assert "Current thread 0x" in log, "the stacks of the hanging process"
    machine.settle()
    assert machine.has_gap_around(stopped_ns + 10**9)


def test_an_agent_that_works_keeps_the_watchdog_off(running):
    """Goal: no restart in three of the watchdog's times."""
    before = running.pid
    time.sleep(3 * WATCHDOG_S)
    assert running.pid == before


def test_a_killed_agent_comes_back_and_says_what_it_missed(running):
    machine = running
    before, first = machine.pid, machine.status()["journal"]
    killed_ns = time.time_ns()
    machine.signal("KILL")
    wait_until("another process", restarted(machine, before))
    machine.settle()
    assert machine.has_gap_around(killed_ns + 10**9)
    assert "agent.killed" in machine.events()
    after = machine.status()["journal"]
    assert after["epoch"] == first["epoch"]
    assert after["highest"]["data"] > first["highest"]["data"]
    machine.systemctl("stop", "edgeagent")
    machine.run("edgeagent", "journal", "verify")


def test_a_stop_is_clean_within_its_time_and_the_state_outlives_it(running):
    machine = running
    first = machine.status()["journal"]
    since, began = time.time(), time.monotonic()
    machine.systemctl("stop", "edgeagent")
    assert time.monotonic() - began < STOP_WITHIN_S
    assert machine.show("Result", "ActiveState") == {"Result": "success", "ActiveState": "inactive"}
    assert "timed out" not in machine.log(since)
    assert machine.events()[-1] == "agent.stopped"
    machine.systemctl("start", "edgeagent")
    machine.settle()
    after = machine.status()["journal"]
    assert after["epoch"] == first["epoch"]
    assert after["highest"]["data"] > first["highest"]["data"]


# -- reload ----------------------------------------------------------------------------------------


def test_a_good_file_is_taken_up_without_a_restart(running):
    machine = running
    before, first = machine.pid, machine.status()["configuration"]
    machine.site_file.write_text(SITE.replace("port: 15020}", "port: 15020, timeout: 2 s}"))
    machine.systemctl("reload", "edgeagent")
    assert machine.status()["configuration"] != first
    assert machine.pid == before
    assert machine.show("ActiveState")["ActiveState"] == "active"


def test_a_broken_file_is_refused_with_its_reason_and_the_agent_goes_on(running):
    machine = running
    before, first, since = machine.pid, machine.status(), time.time()
    machine.site_file.write_text(SITE.replace("adam-4015", "no-such-thing"))
    refused = machine.try_run("systemctl", "reload", "edgeagent")
    assert refused.returncode != 0
    assert "no-such-thing" in machine.log(since)
    machine.site_file.write_text(SITE)
    assert (machine.pid, machine.status()["configuration"]) == (before, first["configuration"])
    assert machine.show("ActiveState")["ActiveState"] == "active"
    frames = {link["link"]: link["frames"] for link in first["links"]}
    for name in LINKS:
        wait_until("values", lambda name=name: machine.link(name)["frames"] > frames[name])


# -- secrets, people, ports, sandbox ---------------------------------------------------------------


def test_the_password_reaches_the_broker_and_nobody_else(running):
    machine = running
    assert machine.status()["delivery"]["state"] == "up"  # the broker refuses who has none
    path = f"/run/credentials/edgeagent.service/{CREDENTIAL}"
    assert machine.run("cat", path).strip() == PASSWORD
    for person in ("vera", "stella"):
        assert "Permission denied" in machine.try_run("cat", path, user=person).stderr
    process = f"/proc/{machine.pid}"
    assert PASSWORD not in machine.run("cat", f"{process}/environ", f"{process}/cmdline")
    assert PASSWORD not in machine.run("journalctl", "--no-pager", "--output=export")


def test_a_viewer_may_look_and_not_act_and_a_stranger_may_do_nothing(running):
    """The socket is in everybody's reach; the kernel says who comes."""
    machine = running
    looked = machine.try_run("edgeagent", "status", "--json", user="vera")
    assert json.loads(looked.stdout)["site"] == "berlin-1"
    for user, command in (
        ("vera", ("reload", "--reason", "curiosity")),
        ("stella", ("status", "--json")),
        ("stella", ("reload", "--reason", "curiosity")),
    ):
        refused = machine.try_run("edgeagent", *command, user=user)
        assert refused.returncode == 77, (user, command, refused)
        assert refused.stdout == ""
        assert "Traceback" not in refused.stderr
    assert "Permission denied" in machine.try_run("ls", "/var/lib/edgeagent", user="vera").stderr


def test_the_serial_port_is_read_through_the_sandbox(running):
    groups = running.status()["groups"]
    values = [
        value for group in groups if group["instrument"] == "freezer-2" for value in group["values"]
    ]
    assert values
    assert any(value["quality"] == "good" for value in values)
    assert running.show("DevicePolicy")["DevicePolicy"] == "closed"


def test_the_sandbox_is_in_force(running):
    machine = running
    lines = machine.run("cat", f"/proc/{machine.pid}/status").splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["Uid"].split()[0] != "0"
    limits = machine.run("cat", f"/proc/{machine.pid}/limits")
    assert "Max core file size        0" in limits


def test_every_library_works_behind_the_sandbox_and_what_nobody_needs_is_refused(running):
    """Goal: also what this site does not use, such as another driver's libraries.

    Method: the shipped unit runs a probe instead of the agent.
    """
    machine = running
    unit = (CHECKOUT / "deploy/systemd/edgeagent.service").read_text()
    for line, other in (
        (r"^Type=.*", "Type=oneshot"),
        (r"^ExecStart=.*", "ExecStart=/opt/edgeagent/bin/python /opt/probe.py"),
        (r"^(ExecReload|Restart|RestartSec|WatchdogSec|RuntimeDirectory.*|LoadCredential)=.*", ""),
    ):
        unit = re.sub(line, other, unit, flags=re.MULTILINE)
    (machine.root / "etc/systemd/system/probe.service").write_text(unit)
    (machine.root / "opt/probe.py").write_text(PROBE)
    machine.systemctl("daemon-reload")
    done = machine.try_run("systemctl", "start", "probe")
    said = machine.run("journalctl", "--unit=probe", "--output=cat", "--no-pager")
    assert done.returncode == 0, said
    assert said.count("loaded ") > 10, said
    assert said.count("refused ") == 5, said


def test_boot_and_clock_are_known_behind_the_sandbox(running):
    """Goal: ProcSubset hides the boot's identity and ProtectClock the kernel's clock state."""
    machine = running
    boot_id = machine.run("cat", "/proc/sys/kernel/random/boot_id").strip()
    contexts = [body[5] for body in machine.exported("data") if body[0] == "C"]
    assert {context["boot_id"] for context in contexts} == {boot_id}
    machine.systemctl("restart", "edgeagent")  # chrony is asked at the start

    def synced() -> bool:
        return bool(machine.status()["clock"]["state"] == "synced")

    wait_until("what chrony says has arrived", synced)
    assert machine.status()["clock"]["source"] == "chrony"


# -- the end ---------------------------------------------------------------------------------------


def test_uninstalling_stops_the_service_and_keeps_the_records(running):
    machine = running
    shutil.copy(CHECKOUT / "scripts" / "uninstall", machine.root / "root" / "uninstall")
    said = machine.run("/root/uninstall")
    assert "/var/lib/edgeagent" in said
    assert machine.show("LoadState", "ActiveState")["ActiveState"] == "inactive"
    assert not (machine.root / "opt/edgeagent").exists()
    journal = machine.root / "var/lib/edgeagent/journal.sqlite"
    assert output_of("head", "-c", "15", journal) == "SQLite format 3"
    assert machine.site_file.read_text() == SITE

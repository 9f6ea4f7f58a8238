"""A manufacturing PC with the service installed, as its administrator sees it.

The site has an instrument on TCP, one on a serial port, a broker that wants a password, and chrony.
"""

import json
from pathlib import Path
from typing import Any

from tests.system.chain import wait_until
from tests.system.container import Container
from tests.system.installed import install

PASSWORD = "Ostsee-Makrele-4711"
CREDENTIAL = "edgeagent.broker-password"
LINKS = ("freezer-gateway", "freezer-bus")
SERIAL = "/dev/edgeagent/freezer-bus"
WATCHDOG_S = 10
SITE = f"""\
site: berlin-1
state_dir: /var/lib/edgeagent
control: {{socket: /run/edgeagent/control.sock}}
broker:
  url: mqtt://localhost:1883
  username: berlin-1
  password_file: /run/credentials/edgeagent.service/{CREDENTIAL}
links:
  freezer-gateway: {{driver: modbus, host: 127.0.0.1, port: 15020}}
  freezer-bus: {{driver: modbus, framing: rtu, device: {SERIAL}, parity: none, stop_bits: 1}}
instruments:
  freezer-1: {{profile: adam-4015, link: freezer-gateway, unit_id: 1}}
  freezer-2: {{profile: adam-4015, link: freezer-bus, unit_id: 1}}
"""
SCENARIO = """\
description: one freezer
processes: {{nitrogen: {{model: ln2_freezer}}}}
wires: {{wire: {wire}}}
devices: {{freezer: {{model: adam_4015, process: nitrogen, wire: wire, unit_id: 1}}}}
"""
SIMULATOR_UNIT = """\
[Service]
Type=exec
WorkingDirectory=/root
ExecStart=/opt/edgeagent/bin/python -m simulators run /root/scenario.yaml
[Install]
WantedBy=multi-user.target
"""


class Machine:
    """The container, seen as its administrator sees it."""

    def __init__(self, container: Container) -> None:
        self.run, self.try_run = container.run, container.try_run
        self.root = container.root

    def systemctl(self, *arguments: str) -> str:
        return self.run("systemctl", *arguments)

    def show(self, *properties: str) -> dict[str, str]:
        wanted = [f"--property={name}" for name in properties]
        lines = self.systemctl("show", "edgeagent", *wanted).splitlines()
        return dict(line.split("=", 1) for line in lines)

    @property
    def pid(self) -> int:
        return int(self.show("MainPID")["MainPID"])

    def signal(self, name: str) -> None:
        """Send the agent a signal, past systemd."""
        self.run("sh", "-c", f"kill -{name} {self.pid}")

    def log(self, since_s: float) -> str:
        """What the service and systemd wrote about it since a moment."""
        unit = ("--unit=edgeagent", "--output=cat", "--no-pager")
        return self.run("journalctl", *unit, f"--since=@{since_s:.6f}")

    def status(self) -> dict[str, Any]:
        """The agent's own status; ends with 3 where health is at fault."""
        done = self.try_run("edgeagent", "status", "--json")
        assert done.returncode in (0, 3), done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def link(self, name: str) -> dict[str, Any]:
        (found,) = (link for link in self.status()["links"] if link["link"] == name)
        return found

    def is_well(self) -> bool:
        """Whether the agent answers, all links deliver values and the broker has let it in."""
        done = self.try_run("edgeagent", "status", "--json")
        if done.returncode not in (0, 3):
            return False
        found = json.loads(done.stdout)
        up = {link["link"] for link in found["links"] if link["state"] == "up" and link["frames"]}
        return up == set(LINKS) and found["delivery"]["state"] == "up"

    def settle(self) -> None:
        """Wait until the service does its work; say its last words if it does not."""
        try:
            wait_until("the service does its work", self.is_well)
        except AssertionError:
            raise AssertionError(
                self.run("journalctl", "--unit=edgeagent", "--lines=30", "--no-pager")
            ) from None

    def exported(self, lane: str) -> list[list[Any]]:
        """Every record of a lane, from the journal itself."""
        lines = self.run("edgeagent", "journal", "export", "--lane", lane).splitlines()
        return [json.loads(line) for line in lines if line.startswith("[")]

    def events(self) -> list[str]:
        return [body[5] for body in self.exported("event") if body[0] == "E"]

    def has_gap_around(self, utc_ns: int) -> bool:
        """Whether every instrument has a closed gap that holds this moment."""
        schemas = {body[2]: body[5]["instrument"] for body in self.exported("data")
                   if body[0] == "S"}  # fmt: skip
        covered = set()
        for body in self.exported("data"):
            if body[0] == "G" and body[8] and body[9] and body[8][0] <= utc_ns <= body[9][0]:
                covered.add(schemas[body[2]])
        return covered == {"freezer-1", "freezer-2"}

    @property
    def site_file(self) -> Path:
        return self.root / "etc" / "edgeagent" / "site.yaml"


def prepare(root: Path) -> None:
    """Everything that an administrator would put there, before the first boot."""
    install(root)
    (root / "etc/edgeagent/site.yaml").write_text(SITE)
    credstore = root / "etc" / "credstore"
    credstore.mkdir(mode=0o700, exist_ok=True)
    (credstore / CREDENTIAL).write_text(f"{PASSWORD}\n")
    (credstore / CREDENTIAL).chmod(0o600)
    drop_in = root / "etc/systemd/system/edgeagent.service.d/test.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text(f"[Service]\nWatchdogSec={WATCHDOG_S}s\n")
    # Names for a bound-in port come from udev on a machine; a container has no udev.
    (root / "etc/tmpfiles.d/serial.conf").write_text(
        f"z /dev/ttyINST0 0660 root edgeagent\nL+ {SERIAL} - - - - /dev/ttyINST0\n"
    )
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "root/scenario.yaml").write_text(
        SCENARIO.format(wire="{kind: modbus-tcp, port: 15020}")
    )
    (root / "etc/systemd/system/freezer.service").write_text(SIMULATOR_UNIT)
    # In a container chronyd may not set the clock (-x); it believes itself.
    (root / "etc/chrony/chrony.conf").write_text("local stratum 8\n")
    chrony = root / "etc/systemd/system/chrony.service.d/test.conf"
    chrony.parent.mkdir(parents=True)
    chrony.write_text(
        "[Unit]\nConditionCapability=\n[Service]\nExecStart=\nExecStart=!/usr/sbin/chronyd -x\n"
    )
    (root / "etc/mosquitto/conf.d/test.conf").write_text(
        "listener 1883 127.0.0.1\nallow_anonymous false\npassword_file /etc/mosquitto/passwords\n"
    )

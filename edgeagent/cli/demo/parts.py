"""The demo's processes: simulators, broker, agent, receiver; each a real one."""

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from edgeagent.cli.exits import CommandFailed, Exit

DEMO_SITE = "demo"
DEMO_CONSUMER = "central"
START_WITHIN_S = 20.0
STOP_WITHIN_S = 15.0


class Demo:
    """Everything that runs, in one directory."""

    def __init__(self, place: Path, broker: str | None, *, embedded: bool) -> None:
        self.place = place
        self.state_dir = place / "state"
        self.site_file = place / "site.yaml"
        self.database = place / "central.sqlite"
        self.broker_url = broker or ""
        self.broker_name = f"{broker} (yours)" if broker else ""
        self._embedded = embedded
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._logs: list[IO[str]] = []
        self._received: dict[str, Any] = {}

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all parts in the order of the way of a value, from both ends."""
        devices = self._start_simulators()
        if not self.broker_url:
            self._start_broker()
        site = self._write_site(devices)
        enrol = [*_edgeagent("consumer", "enrol", DEMO_CONSUMER), "--config", str(site)]
        self._once("enrol", [*enrol, "--reason", "demo"])
        receive = [*_edgeagent("receive", "--broker", self.broker_url), "--site", DEMO_SITE]
        receive += ["--consumer", DEMO_CONSUMER, "--database", f"sqlite:///{self.database}"]
        receiver = self._spawn("receiver", [*receive, "--mqtt", self._mqtt_version, "--json"])
        self._follow(receiver)
        self._spawn("agent", [*_edgeagent("run"), "--config", str(site)])
        self._wait_for("the agent", self._agent_answers)

    def stop(self) -> None:
        """Stop the agent, let the receiver take the tail, stop the rest."""
        self._end("agent")
        self._end("receiver")

    def kill(self) -> None:
        """Leave nothing running."""
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        for log in self._logs:
            log.close()

    def require_alive(self) -> None:
        """Stop the demo when one of its parts has ended by itself.

        :raises CommandFailed: naming the part and its log
        """
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise CommandFailed(f"the {name} ended; {self._last_words(name)}", Exit.INTERNAL)

    def received(self) -> dict[str, Any]:
        """Return what the receiver said last."""
        return self._received

    def log_of(self, name: str) -> Path:
        """Return where a part's own log is."""
        return self.place / f"{name}.log"

    # -- parts ---------------------------------------------------------------------------------

    def _start_simulators(self) -> dict[str, Any]:
        command = [sys.executable, "-m", "simulators", "run", DEMO_SITE, "--ephemeral"]
        command += ["--serial-dir", str(self.place.resolve())]
        process = self._spawn("simulators", command)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise CommandFailed(
                f"the simulators ended; {self._last_words('simulators')}", Exit.INTERNAL
            )
        devices: dict[str, Any] = json.loads(line)["devices"]
        return devices

    @property
    def _mqtt_version(self) -> str:
        return "3.1.1" if self.broker_name.startswith("amqtt") else "5"

    def _start_broker(self) -> None:
        port = _free_port()
        self.broker_url = f"mqtt://127.0.0.1:{port}"
        mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if mosquitto and not self._embedded:
            settings = self.place / "mosquitto.conf"
            settings.write_text(
                f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            )
            self.broker_name = "mosquitto, MQTT 5"
            self._spawn("broker", [mosquitto, "-c", str(settings)])
        else:
            self.broker_name = "amqtt (embedded), MQTT 3.1.1"
            self._spawn("broker", [sys.executable, "-m", "edgeagent.cli.demo.broker", str(port)])
        self._wait_for("the broker", lambda: _listens(port))

    def _write_site(self, devices: dict[str, Any]) -> Path:
        lines = [
            f"site: {DEMO_SITE}",
            f"state_dir: {self.state_dir}",
            "broker:",
            f"  url: {self.broker_url}",
            f'  version: "{self._mqtt_version}"',
            "links:",
        ]
        links: dict[str, str] = {}
        for device in devices.values():
            end = _link(device)
            if end not in links:
                links[end] = f"link-{len(links) + 1}"
                lines.append(f"  {links[end]}: {end}")
        lines.append("instruments:")
        for name, device in devices.items():
            lines += [
                f"  {name}:",
                f"    profile: {device['model'].replace('_', '-')}",
                f"    link: {links[_link(device)]}",
                f"    unit_id: {device['unit_id']}",
            ]
        site = self.place / "site.yaml"
        site.write_text("\n".join(lines) + "\n")
        return site

    def _agent_answers(self) -> bool:
        from edgeagent.cli.client import NotRunning, ask

        try:
            return bool(ask(self.site_file, "GET", "/status")["groups"])
        except NotRunning:
            return False

    # -- processes -----------------------------------------------------------------------------

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen[str]:
        log = self.log_of(name).open("w")
        self._logs.append(log)
        process = subprocess.Popen(  # noqa: S603 - our own programs
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if name in ("simulators", "receiver") else log,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C is for us: we stop the parts in order
        )
        self._processes[name] = process
        return process

    def _once(self, name: str, command: list[str]) -> None:
        with self.log_of(name).open("w") as log:
            done = subprocess.run(command, stdout=log, stderr=log, check=False)  # noqa: S603
        if done.returncode:
            raise CommandFailed(f"{name} failed; {self._last_words(name)}", Exit.INTERNAL)

    def _follow(self, receiver: subprocess.Popen[str]) -> None:
        def follow() -> None:
            assert receiver.stdout is not None
            for line in receiver.stdout:
                self._received = json.loads(line)

        threading.Thread(target=follow, name="demo-receiver", daemon=True).start()

    def _wait_for(self, what: str, ready: Callable[[], bool]) -> None:
        over_s = time.monotonic() + START_WITHIN_S  # noqa: TID251 - a person waits
        while not ready():
            self.require_alive()
            if time.monotonic() > over_s:  # noqa: TID251
                raise CommandFailed(f"{what} does not answer; logs: {self.place}", Exit.INTERNAL)
            time.sleep(0.05)

    def _end(self, name: str) -> None:
        process = self._processes[name]
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()

    def _last_words(self, name: str) -> str:
        text = self.log_of(name).read_text(errors="replace").strip()
        return text.splitlines()[-1] if text else "it said nothing"


def _link(device: dict[str, Any]) -> str:
    """Return the link on which a simulated device is to be found, as it stands in a site file."""
    end = {"driver": "modbus", "framing": device["wire"].removeprefix("modbus-")}
    if "device" in device:  # a pseudo-terminal, which has no parity
        end |= {"device": device["device"], "baud_rate": device["baud_rate"], "parity": "none"}
        end["slowest_reply"] = "1 s"  # a line is listened to for so long before anything is asked
    else:
        end |= {"host": device["host"], "port": device["port"]}
    return json.dumps(end)


def _edgeagent(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "edgeagent", *arguments]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0

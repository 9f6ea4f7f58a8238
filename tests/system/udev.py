"""What udev makes of a serial adapter that is not there.

udev itself reads all its rules and runs its own look-ups over a made-up /sys, in a mount namespace
of its own with an empty /dev and /run: nothing of the machine is touched.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

USB = Path("devices/pci0000:00/0000:00:14.0/usb1/1-2")
RULES = "65-edgeagent.rules"


@dataclass(frozen=True)
class Verdict:
    """What udev would do with the device node."""

    links: set[str]
    group: str
    mode: str


class Machine:
    """A made-up /sys, with a group for the service, and rules beside the system's own."""

    def __init__(self, directory: Path, *rules: Path) -> None:
        missing = [name for name in ("udevadm", "unshare") if shutil.which(name) is None]
        assert not missing, f"{missing} not found: apt-get install udev util-linux"
        self._directory = directory
        self._sys = directory / "sys"
        self._sys.mkdir(parents=True)
        self._groups = directory / "group"
        self._groups.write_text("root:x:0:\ntty:x:5:\ndialout:x:20:\nedgeagent:x:4711:\n")
        self._rules = directory / "rules.d"
        self._rules.mkdir()
        for path in rules:
            shutil.copy(path, self._rules)

    def add_usb_serial(self, name: str, *, serial: str | None, port: int | None) -> None:
        """Plug in a converter with numbered ports or, with no port, what acts as a modem."""
        interface = USB / "1-2:1.0"
        on_bus = interface
        if port is not None:
            on_bus = interface / name
            self._device(on_bus, "bus/usb-serial", {"DRIVER": "ftdi_sio"}, port_number=str(port))
        major = 188 if port is not None else 166
        self._terminal(on_bus / "tty" / name, on_bus, name, f"{major}:0")
        classes = {f"bInterface{key}": "ff" for key in ("Class", "SubClass", "Protocol")}
        self._device(
            interface, "bus/usb", {"DEVTYPE": "usb_interface"}, bInterfaceNumber="00", **classes
        )
        facts = {"idVendor": "0403", "idProduct": "6001", "bcdDevice": "0600"}
        if serial is not None:
            facts["serial"] = serial
        facts |= {"manufacturer": "FTDI", "product": "FT232R USB UART"}
        self._device(USB, "bus/usb", {"DEVTYPE": "usb_device"}, **facts)
        self._device(USB.parent, "bus/usb", {"DEVTYPE": "usb_device"}, idVendor="1d6b")
        self._device(USB.parent.parent, "bus/pci", {"DRIVER": "xhci_hcd"})

    def add_on_board(self, name: str) -> None:
        """Solder a port to the main board."""
        parent = Path("devices/pnp0/00:01")
        self._terminal(parent / "tty" / name, parent, name, "4:64")
        self._device(parent, "bus/pnp", {"DRIVER": "serial"})

    def _terminal(self, device: Path, parent: Path, name: str, number: str) -> None:
        major, minor = number.split(":")
        self._device(device, "class/tty", {"MAJOR": major, "MINOR": minor, "DEVNAME": name})
        (self._sys / device / "device").symlink_to(self._sys_path(device, parent))
        self._write(device / "dev", number)
        for index in (f"class/tty/{name}", f"dev/char/{number}"):
            path = self._sys / index
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(self._sys_path(Path(index).parent, device, inside=True))

    def _device(self, path: Path, subsystem: str, uevent: dict[str, str], **facts: str) -> None:
        (self._sys / path).mkdir(parents=True, exist_ok=True)
        (self._sys / subsystem).mkdir(parents=True, exist_ok=True)
        (self._sys / path / "subsystem").symlink_to(self._sys_path(path, Path(subsystem)))
        self._write(path / "uevent", "\n".join(f"{key}={value}" for key, value in uevent.items()))
        for name, value in facts.items():
            self._write(path / name, value)

    def _sys_path(self, start: Path, target: Path, *, inside: bool = True) -> str:
        return os.path.relpath(self._sys / target, self._sys / start)

    def _write(self, path: Path, text: str) -> None:
        (self._sys / path).write_text(f"{text}\n")

    def plugged_in(self, name: str) -> Verdict:
        """Let udev handle the arrival of a terminal."""
        script = self._directory / "inside.sh"
        script.write_text(
            "set -e\n"
            "mount -t tmpfs none /run\nmkdir -p /run/udev/rules.d\n"
            f"cp '{self._rules}'/* /run/udev/rules.d/\n"
            f"mount --bind '{self._groups}' /etc/group\n"
            f"mount --bind '{self._sys}' /sys\n"
            "mount -t tmpfs none /dev\n"
            f"exec udevadm test --action=add /sys/class/tty/{name}\n"
        )
        as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
        done = subprocess.run(
            ["unshare", "--mount", *as_root, "sh", script],
            env={**os.environ, "SYSTEMD_DEVICE_VERIFY_SYSFS": "0"},
            capture_output=True,
            text=True,
        )
        said = done.stderr.splitlines()
        assert done.returncode == 0, done.stdout + done.stderr
        wrong = [line for line in said if "/run/udev/rules.d/" in line and not _is_effect(line)]
        assert not wrong, wrong
        group, mode, links = "", "", set()
        for line in done.stdout.splitlines():
            if line.startswith("DEVLINKS="):
                links = set(line.removeprefix("DEVLINKS=").split())
        for line in said:
            words = line.split()
            if words[-2:-1] == ["GROUP"]:
                group = words[-1]
            elif words[-2:-1] == ["MODE"]:
                mode = words[-1]
        return Verdict(links, group, mode)


def _is_effect(line: str) -> bool:
    """Whether a line says what a rule did; every other line about a rule is a complaint."""
    return line.startswith(("Reading rules file:", "tty")) and " Unknown " not in line

"""What `make install` puts on a machine: complete, in order, refused by nothing, removable.

Method: the real script installs below a folder; systemd's and udev's own programs judge the files
there. Needs neither root nor a running systemd.
"""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.model.clock import BOOT_ID_VARIABLE
from tests.system.installed import CHECKOUT, LOCK, install, output_of, run_script
from tests.system.udev import RULES, Machine

DEPLOY = CHECKOUT / "deploy"
UNIT = DEPLOY / "systemd" / "edgeagent.service"
EXPOSURE_MAX = 1.5
ROLES = ("viewer", "operator", "engineer", "quality")
SYSTEM_FILES = {
    "etc/edgeagent/site.yaml",
    "usr/local/bin/edgeagent",
    "usr/local/lib/modules-load.d/edgeagent.conf",
    "usr/local/lib/systemd/system/edgeagent.service",
    "usr/local/lib/sysusers.d/edgeagent.conf",
    "usr/local/lib/tmpfiles.d/edgeagent.conf",
    f"usr/local/lib/udev/rules.d/{RULES}",
    "usr/local/share/bash-completion/completions/edgeagent",
}


def need(program: str, package: str) -> str:
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    found = shutil.which(program, path=path)
    assert found, f"{program} not found: apt-get install {package}"
    return found


# -- the unit --------------------------------------------------------------------------------------


def verify(folder: Path) -> str:
    """What systemd says against the unit in a folder: its exit code is 0 even so."""
    unit = folder / "edgeagent.service"
    return output_of(need("systemd-analyze", "systemd"), "verify", unit)


@pytest.fixture
def unit_folder(tmp_path: Path) -> Path:
    """The unit with a program that exists."""
    shutil.copytree(DEPLOY / "examples" / "edgeagent.service.d", tmp_path / "edgeagent.service.d")
    unit = tmp_path / "edgeagent.service"
    unit.write_text(UNIT.read_text().replace("/opt/edgeagent/bin/edgeagent", "/bin/true"))
    return tmp_path


def test_systemd_has_nothing_to_say_against_the_unit_and_its_example_drop_in(unit_folder):
    assert verify(unit_folder) == ""


def test_a_misspelt_key_would_be_seen(unit_folder):
    drop_in = unit_folder / "edgeagent.service.d" / "network.conf"
    drop_in.write_text(drop_in.read_text().replace("IPAddressDeny", "IPAddressDenied"))
    assert "IPAddressDenied" in verify(unit_folder)


@pytest.mark.parametrize("drop_in", [False, True], ids=["as shipped", "with the drop-in"])
def test_the_sandbox_leaves_little_exposed(unit_folder, drop_in):
    if not drop_in:
        shutil.rmtree(unit_folder / "edgeagent.service.d")
    analyze = need("systemd-analyze", "systemd")
    said = output_of(analyze, "security", "--offline=true", unit_folder / "edgeagent.service")
    found = re.search(r"Overall exposure level for edgeagent\.service: (\d+\.\d)", said)
    assert found, said
    assert float(found[1]) <= EXPOSURE_MAX


def test_the_unit_and_the_program_use_the_same_names():
    unit = UNIT.read_text()
    assert f"Environment={BOOT_ID_VARIABLE}=%b\n" in unit
    passed = set(re.findall(r"^LoadCredential=(\S+)$", unit, re.MULTILINE))
    example = (DEPLOY / "examples" / "site.yaml").read_text()
    used = set(re.findall(r"/run/credentials/edgeagent\.service/(\S+)", example))
    assert used == passed


# -- accounts, folders, serial ports ---------------------------------------------------------------


def test_the_account_and_a_group_for_each_role_are_made():
    conf = DEPLOY / "systemd" / "sysusers.d" / "edgeagent.conf"
    said = output_of(need("systemd-sysusers", "systemd"), "--dry-run", conf)
    exists = {line.split(":")[0] for line in Path("/etc/group").read_text().splitlines()}
    for name in ("edgeagent", *(f"edgeagent-{role}" for role in ROLES)):
        assert name in exists or f"Creating group '{name}'" in said
    assert "edgeagent" in exists or "Creating user 'edgeagent'" in said


def test_the_folders_are_made_and_the_journals_is_closed_to_others(tmp_path):
    """The account stands for the one who runs the test: to give files away takes root."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(
        f"root:x:{os.getuid()}:{os.getgid()}::/:/bin/sh\n"
        f"edgeagent:x:{os.getuid()}:{os.getgid()}::/:/bin/sh\n"
    )
    (tmp_path / "etc" / "group").write_text(f"root:x:{os.getgid()}:\nedgeagent:x:{os.getgid()}:\n")
    conf = DEPLOY / "systemd" / "tmpfiles.d" / "edgeagent.conf"
    tmpfiles = need("systemd-tmpfiles", "systemd")
    assert output_of(tmpfiles, f"--root={tmp_path}", "--create", conf) == ""
    assert (tmp_path / "var/lib/edgeagent").stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "etc/edgeagent").stat().st_mode & 0o7777 == 0o755


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine", DEPLOY / "systemd" / "udev" / RULES)


def ours(links: set[str]) -> set[str]:
    return {link for link in links if link.startswith("/dev/edgeagent/")}


def test_a_serial_adapter_gets_a_name_for_itself_and_one_for_its_socket(machine):
    machine.add_usb_serial("ttyUSB0", serial="A5XK3RJT", port=0)
    verdict = machine.plugged_in("ttyUSB0")
    assert ours(verdict.links) == {
        "/dev/edgeagent/adapter-FTDI_FT232R_USB_UART_A5XK3RJT-if00-port0",
        "/dev/edgeagent/port-pci-0000:00:14.0-usb-0:2:1.0-port0",
    }
    assert (verdict.group, verdict.mode) == ("4711", "0660")


def test_an_adapter_without_a_serial_number_is_named_by_its_socket_alone(machine):
    machine.add_usb_serial("ttyACM0", serial=None, port=None)
    verdict = machine.plugged_in("ttyACM0")
    assert ours(verdict.links) == {"/dev/edgeagent/port-pci-0000:00:14.0-usb-0:2:1.0"}
    assert (verdict.group, verdict.mode) == ("4711", "0660")


def test_a_port_on_the_main_board_is_left_alone(machine):
    machine.add_on_board("ttyS0")
    verdict = machine.plugged_in("ttyS0")
    assert ours(verdict.links) == set()
    assert verdict.group == "20"


def test_the_names_by_hand_work_as_the_rules_show_them(tmp_path):
    """The lines that a reader would copy are taken from the comment."""
    rules = DEPLOY / "systemd" / "udev" / RULES
    shown = re.findall(r'^#\s+(SUBSYSTEM==.*SYMLINK\+=".*")$', rules.read_text(), re.MULTILINE)
    own = tmp_path / "66-site.rules"
    own.write_text("\n".join(shown) + "\n")
    machine = Machine(tmp_path / "machine", rules, own)
    machine.add_usb_serial("ttyACM0", serial=None, port=None)
    machine.add_on_board("ttyS0")
    assert "/dev/edgeagent/freezer-bus" in machine.plugged_in("ttyACM0").links
    on_board = machine.plugged_in("ttyS0")
    assert ours(on_board.links) == {"/dev/edgeagent/pump"}
    assert (on_board.group, on_board.mode) == ("4711", "0660")


# -- the lock --------------------------------------------------------------------------------------


def locked(path: Path) -> dict[str, str]:
    """Every requirement of a lock, with its marker and hashes, by name."""
    joined = path.read_text().replace("\\\n", " ")
    entries = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return {re.split(r"[=<>! ]", entry)[0]: entry for entry in entries}


def test_the_service_gets_what_it_needs_at_the_versions_that_are_tested_and_no_more():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    names = {
        re.split(r"[\[=<>! ]", wanted)[0].replace("_", "-").replace(".", "-").lower()
        for wanted in project["dependencies"]
    }
    service, tested = locked(LOCK), locked(LOCK.with_name("dev.txt"))
    assert names <= service.keys(), "make lock"
    versions = {name: entry.split()[0] for name, entry in service.items()}
    assert versions == {name: tested[name].split()[0] for name in service}, "make lock"
    assert all("--hash=sha256:" in entry for entry in service.values())
    assert not service.keys() & {"amqtt", "psycopg", "psycopg-binary", "hatchling", "pytest"}


# -- install, upgrade, uninstall -------------------------------------------------------------------


def files(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if path.is_symlink() or not path.is_dir())


def outside_the_program(root: Path) -> set[str]:
    names = {str(path.relative_to(root)) for path in files(root)}
    return {name for name in names if not name.startswith("opt/edgeagent/")}


def command(root: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The installed command: its first line names an interpreter that is not there yet."""
    program = root / "opt" / "edgeagent" / "bin"
    return subprocess.run(
        [program / "python", program / "edgeagent", *arguments],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An installation, made under the umask of a careful administrator."""
    folder = tmp_path_factory.mktemp("root")
    install(folder, umask=0o077)
    yield folder
    shutil.rmtree(folder)


def test_everything_is_where_it_belongs(root):
    assert outside_the_program(root) == SYSTEM_FILES
    link = root / "usr/local/bin/edgeagent"
    assert str(link.readlink()) == "/opt/edgeagent/bin/edgeagent"
    program = root / "opt" / "edgeagent"
    assert {path.name for path in (program / "bin").iterdir()} == {
        "edgeagent", "python", "python3", (program / "bin" / "python").resolve().name,
    }  # fmt: skip
    assert (program / "bin" / "edgeagent").read_text().startswith("#!/opt/edgeagent/bin/python")
    documentation = re.search(r"^Documentation=file://(\S+)", UNIT.read_text(), re.MULTILINE)
    assert documentation
    assert (root / documentation[1].lstrip("/")).is_file()


def test_nothing_remembers_the_folder_in_which_it_was_made(root):
    place = os.fsencode(root)
    assert [path for path in files(root) if path.is_file() and place in path.read_bytes()] == []


def test_the_services_account_can_read_all_of_it(root):
    closed = [
        path
        for path in (root, *root.rglob("*"))
        if path != root and not path.is_symlink()
        if path.stat().st_mode & (0o005 if path.is_dir() else 0o004)
        != (0o005 if path.is_dir() else 0o004)
    ]
    assert closed == []


def test_it_is_compiled_so_that_a_read_only_system_starts_fast(root):
    package = next((root / "opt/edgeagent/lib").glob("python3*/site-packages/edgeagent"))
    sources = {path.stem for path in package.glob("*.py")}
    assert sources
    assert {path.name.split(".")[0] for path in (package / "__pycache__").iterdir()} == sources


def test_the_command_runs_and_the_example_lacks_only_the_name_of_the_site(root, tmp_path):
    assert command(root, "--version").stdout.startswith("edgeagent")
    example = root / "etc" / "edgeagent" / "site.yaml"
    refused = command(root, "check", "--config", example)
    assert refused.returncode == 78
    (fault,) = refused.stderr.splitlines()
    assert "site: is missing" in fault
    named = tmp_path / "site.yaml"
    named.write_text(example.read_text().replace("# site: ", "site: "))
    done = command(root, "check", "--config", named)
    assert done.returncode == 0, done.stderr


def test_the_example_is_right_also_where_it_is_commented_out(root, tmp_path):
    """A person who wants the credentials takes away the signs in front of them, and checks."""
    example = (root / "etc" / "edgeagent" / "site.yaml").read_text()
    lines = [
        re.sub(r"^( *)# ((?:site|username|password_file|serial_number|area): )", r"\1\2", line)
        for line in example.splitlines()
    ]
    named = tmp_path / "site.yaml"
    named.write_text("\n".join(lines) + "\n")
    assert "\n  password_file: /run/credentials/" in named.read_text()
    done = command(root, "check", "--config", named)
    assert done.returncode == 0, done.stderr


def test_bash_completes_the_command(root):
    completion = root / "usr/local/share/bash-completion/completions/edgeagent"
    output_of("bash", "-n", completion)
    assert "complete -o nosort -F _edgeagent_completion edgeagent" in completion.read_text()


def test_an_upgrade_replaces_the_program_and_keeps_what_the_site_wrote(root):
    site = root / "etc" / "edgeagent" / "site.yaml"
    before = site.read_text()
    left_over = root / "opt" / "edgeagent" / "left-over-of-the-version-before"
    left_over.touch()
    site.write_text("site: ours\n")
    try:
        install(root)
        assert site.read_text() == "site: ours\n"
    finally:
        site.write_text(before)
    assert not left_over.exists()
    assert outside_the_program(root) == SYSTEM_FILES


def test_an_installation_that_fails_leaves_the_version_before(root, tmp_path):
    failed = run_script("install", root, find_links=tmp_path)
    assert failed.returncode != 0
    assert command(root, "--version").returncode == 0
    assert outside_the_program(root) == SYSTEM_FILES


def test_without_root_nothing_is_begun():
    """Root's number is not that of a fresh user namespace."""
    if os.geteuid() != 0:
        done = subprocess.run([CHECKOUT / "scripts/install"], capture_output=True, text=True)
    else:
        done = subprocess.run(
            ["unshare", "--user", CHECKOUT / "scripts/install"], capture_output=True, text=True
        )
    assert done.returncode == 1
    assert "sudo make install" in done.stderr


def test_uninstalling_keeps_records_and_configuration_and_says_so(root, tmp_path):
    copy = tmp_path / "root"
    shutil.copytree(root, copy, symlinks=True)
    journal = copy / "var" / "lib" / "edgeagent" / "journal.sqlite"
    journal.parent.mkdir(parents=True)
    journal.touch()
    for _ in range(2):  # the second time there is nothing left to do
        done = run_script("uninstall", copy)
        assert done.returncode == 0, done.stderr
        left = {str(path.relative_to(copy)) for path in files(copy)}
        assert left == {"etc/edgeagent/site.yaml", "var/lib/edgeagent/journal.sqlite"}
        assert str(journal.parent) in done.stdout

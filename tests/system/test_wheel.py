"""The wheel is complete: installed away from the checkout, it brings all code and data it needs.

The wheel is built from the checkout and installed into a folder of its own. Each check then runs in
an interpreter that sees only that folder, the standard library and third-party packages: ``-I -S``
keeps out the environment, the current folder and the path file of an editable install.
"""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("edgeagent", "drivers", "simulators", "deploy")


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, CHECKOUT)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-index", "--no-deps", "--target", folder, wheel)
    return folder


def run(installed: Path, code: str, *arguments: str) -> str:
    """Run `code` where only the installed wheel can answer for our packages."""
    third_party = sysconfig.get_path("purelib"), sysconfig.get_path("platlib")
    prologue = f"import sys; sys.path[:0] = {[str(installed), *third_party]!r}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", prologue + code, *arguments],
        cwd=installed.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_holds_the_four_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    own = {name for name in names if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(CHECKOUT))
        for package in PACKAGES
        for path in (CHECKOUT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert own == expected
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]


def test_all_four_packages_come_from_the_wheel(installed: Path) -> None:
    code = "import edgeagent, drivers, simulators, deploy\n"
    code += "for module in edgeagent, drivers, simulators, deploy: print(module.__file__)"
    assert run(installed, code).split() == [
        str(installed / package / "__init__.py") for package in PACKAGES
    ]


def test_every_profile_loads_as_a_package_resource(installed: Path) -> None:
    code = """
from importlib.resources import files
from ruamel.yaml import YAML
for file in files("drivers.profiles").iterdir():
    if file.name.endswith(".yaml"):
        assert YAML(typ="safe").load(file.read_text(encoding="utf-8")), file
        print(file)
"""
    profiles = sorted((CHECKOUT / "drivers" / "profiles").glob("*.yaml"))
    assert profiles
    assert sorted(run(installed, code).splitlines()) == [
        str(installed / "drivers" / "profiles" / profile.name) for profile in profiles
    ]


def test_modbus_driver_is_found_by_entry_point(installed: Path) -> None:
    code = """
from importlib.metadata import entry_points
(entry,) = entry_points(group="edgeagent.drivers", name="modbus")
print(entry.load().name, sys.modules["drivers.modbus"].__file__)
"""
    assert run(installed, code).split() == [
        "modbus",
        str(installed / "drivers" / "modbus" / "__init__.py"),
    ]


def test_command_shows_its_help(installed: Path) -> None:
    code = """
from importlib.metadata import entry_points
(entry,) = entry_points(group="console_scripts", name="edgeagent")
main = entry.load()
assert sys.modules["edgeagent"].__file__.startswith(sys.path[0])
sys.argv[0] = "edgeagent"
sys.exit(main())
"""
    assert "Usage: edgeagent" in run(installed, code, "--help")

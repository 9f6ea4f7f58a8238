"""The simulators share nothing with what they test."""

import ast
import sys
from pathlib import Path

import simulators

ALLOWED = sys.stdlib_module_names | {"simulators", "ruamel"}
OPCUA_WIRE = ("opcua_server.py", "opcua_space.py")


def test_only_the_standard_library_a_yaml_reader_and_one_opcua_server_are_imported():
    package = Path(simulators.__file__).parent
    for file in package.rglob("*.py"):
        allowed = ALLOWED | {"asyncua"} if file.name in OPCUA_WIRE else ALLOWED
        for node in ast.walk(ast.parse(file.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, file
                modules = [node.module or ""]
            for module in modules:
                assert module.split(".")[0] in allowed, (file, module)


def test_processes_know_neither_devices_nor_clocks_nor_sockets():
    folder = Path(simulators.__file__).parent / "process"
    for file in folder.glob("*.py"):
        text = file.read_text()
        for word in ("simulators.devices", "simulators.wire", "import time", "asyncio", "socket"):
            assert word not in text, (file, word)

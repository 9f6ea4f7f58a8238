"""The program as a whole: one line when ready, a quick and clean stop, plain errors."""

import json
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

PROGRAM = [sys.executable, "-m", "simulators"]


def run(*arguments):
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, timeout=10, check=False
    )


@pytest.fixture
def start():
    started = []

    def start_program(*arguments):
        process = subprocess.Popen(
            [*PROGRAM, "run", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start_program
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_when_it_is_ready_answers_and_stops(start, tmp_path, number):
    ledger = tmp_path / "truth.jsonl"
    process = start("demo", "--ephemeral", "--ledger", str(ledger), "--seed", "3")
    ready = json.loads(process.stdout.readline())
    assert ready["ready"] is True
    where = ready["devices"]["ph-1"]
    assert where["wire"] == "modbus-tcp"

    with socket.create_connection((where["host"], where["port"]), timeout=2) as wire:
        request = struct.pack(">HHHBBHH", 5, 0, 6, where["unit_id"], 3, 2089, 10)
        wire.sendall(request)
        reply = wire.recv(29, socket.MSG_WAITALL)
    assert reply[:9] == bytes.fromhex("0005 0000 0017 01 03 14")
    (line,) = ledger.read_text().splitlines()
    assert json.loads(line)["reply"] == reply[7:].hex()

    stopped_s = time.monotonic()
    process.send_signal(number)
    assert process.wait(timeout=5) == 0
    assert time.monotonic() - stopped_s < 2
    assert process.communicate() == ("", "")


def all_free(first: int, count: int) -> bool:
    for port in range(first, first + count):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return False
    return True


def test_a_port_base_moves_every_wire(start):
    base = next(base for base in range(20_000, 30_000, 37) if all_free(base + 1, 3))
    process = start("demo", "--port-base", str(base))
    line = process.stdout.readline()
    assert json.loads(line)["devices"]["particle-counter-1"]["port"] == base + 1


def test_it_lists_its_scenarios():
    listed = run("list")
    assert listed.returncode == 0
    assert "demo" in listed.stdout


def test_help_has_an_example():
    assert "python -m simulators run demo" in run("run", "--help").stdout


def test_a_bad_scenario_is_one_line_and_exit_78(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("description: x\nspeeed: 2\n")
    failed = run("run", str(bad))
    assert failed.returncode == 78
    assert failed.stderr == f"{bad}:2: speeed: unknown key (did you mean speed?)\n"
    assert failed.stdout == ""


def test_a_taken_port_is_one_line_and_exit_69(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        base = taken.getsockname()[1] - 1
        failed = run("run", "demo", "--port-base", str(base))
    assert failed.returncode == 69
    assert failed.stdout == ""
    assert len(failed.stderr.splitlines()) == 1

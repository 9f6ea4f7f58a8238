"""The witness itself: what the ledger slave answers, what it writes down, what we expect of it."""

import itertools
import math
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from drivers.modbus.profile import ModbusProfile
from tests.system import ledger
from tests.system.ledger import LedgerSlave, differences, expected_block, expected_values

READ_ALL = (0, ledger.REGISTERS)


@pytest.fixture(scope="module", autouse=True)
def program() -> Path:
    """Build the slave once; where its tools are missing this fails with the line that mends it."""
    return ledger.built()


@pytest.fixture
def slave(tmp_path: Path) -> Iterator[LedgerSlave]:
    with LedgerSlave(tmp_path / "ledger", 3) as running:
        yield running


class Client:
    """A Modbus TCP master by hand: nothing of ours, nothing of libmodbus."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.transaction = 0

    def ask(self, pdu: bytes) -> bytes:
        self.transaction += 1
        self.socket.sendall(struct.pack(">HHHB", self.transaction, 0, len(pdu) + 1, 17) + pdu)
        transaction, protocol, length, unit = struct.unpack(">HHHB", self._exactly(7))
        assert (transaction, protocol, unit) == (self.transaction, 0, 17)
        return self._exactly(length - 1)

    def read(self, address: int, quantity: int) -> bytes:
        reply = self.ask(struct.pack(">BHH", 3, address, quantity))
        assert reply[:2] == bytes((3, 2 * quantity))
        return reply[2:]

    def _exactly(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            piece = self.socket.recv(size - len(received))
            assert piece, "connection closed"
            received += piece
        return received

    def close(self) -> None:
        self.socket.close()


def read_block(port: int, times: int = 1) -> list[bytes]:
    client = Client(port)
    try:
        return [client.read(*READ_ALL) for _ in range(times)]
    finally:
        client.close()


# Goal: both implementations of the register rule agree. Method: enough replies that every branch
# of the rule, every extreme and every special float has occurred (37 * 12 replies).
def test_registers_are_what_the_rule_says(slave: LedgerSlave) -> None:
    for index, port in enumerate(slave.ports):
        for k, block in enumerate(read_block(port, 450), 1):
            assert block == expected_block(index, k), (index, k)


def test_the_rule_contains_what_it_promises() -> None:
    values = [expected_values(0, k) for k in range(1, 500)]
    integers = {value for each in values for value in each[1:49]}
    floats = [value for each in values for value in each[49:]]
    assert {-32768, 32767, 0, -1} <= integers
    assert any(math.isnan(value) for value in floats)
    assert {math.inf, -math.inf} <= set(floats)
    assert any(value == 0 and math.copysign(1, value) < 0 for value in floats)
    assert any(0 < abs(value) < 2**-126 for value in floats)
    assert len(set(values)) == len(values)
    assert all(len(each) == 73 and each[0] == k for k, each in enumerate(values, 1))


def test_every_reply_stands_in_the_ledger(slave: LedgerSlave) -> None:
    read_block(slave.ports[1], 5)
    read_block(slave.ports[2], 2)
    answers = slave.answers()
    expected = [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 1), (2, 2)]
    assert [(each.port_index, each.k) for each in answers] == expected
    assert all(each.counted and each.function == 3 and each.registers == 100 for each in answers)
    assert ledger.last_replies(answers) == {1: 5, 2: 2}
    for before, after in itertools.pairwise(answers):
        assert before.realtime_ns <= after.realtime_ns
        assert before.boottime_ns < after.boottime_ns


def test_the_counter_outlives_connections(slave: LedgerSlave) -> None:
    first, second = read_block(slave.ports[0])[0], read_block(slave.ports[0])[0]
    assert [first[:8], second[:8]] == [(1).to_bytes(8, "big"), (2).to_bytes(8, "big")]


def test_two_clients_of_one_port_share_its_counter(slave: LedgerSlave) -> None:
    clients = [Client(slave.ports[0]) for _ in range(2)]
    seen = [client.read(*READ_ALL) for client in clients * 3]
    assert seen == [expected_block(0, k) for k in range(1, 7)]
    for client in clients:
        client.close()


# Goal: a killed agent does not take its witness along. Method: clients that vanish with a request
# half sent, with a reply unread, and with a reset instead of a farewell.
def test_clients_may_vanish(slave: LedgerSlave) -> None:
    for rude in range(20):
        client = Client(slave.ports[0])
        client.read(*READ_ALL)
        request = struct.pack(">HHHBBHH", 9, 0, 6, 17, 3, 0, 100)
        client.socket.sendall(request[:5] if rude % 3 == 0 else request)
        if rude % 3 == 1:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    k = int.from_bytes(read_block(slave.ports[0])[0][:8], "big")
    assert 21 <= k <= 41
    assert [each.k for each in slave.answers()] == list(range(1, k + 1))


def test_a_partial_read_sees_the_last_reply_and_is_not_counted(slave: LedgerSlave) -> None:
    client = Client(slave.ports[0])
    whole = client.read(*READ_ALL)
    assert client.read(4, 10) == whole[8:28]
    assert client.read(*READ_ALL) == expected_block(0, 2)
    client.close()
    assert [(each.counted, each.registers, each.k) for each in slave.answers()] == [
        (True, 100, 1),
        (False, 10, 1),
        (True, 100, 2),
    ]


def test_every_read_is_a_reply_of_its_own_where_that_is_asked_for(tmp_path: Path) -> None:
    with LedgerSlave(tmp_path / "ledger", 1, every_read=True) as slave:
        client = Client(slave.ports[0])
        assert client.read(4, 10) == expected_block(0, 1)[8:28]
        assert client.read(50, 3) == expected_block(0, 2)[100:106]
        answers = slave.answers()
        client.close()
    assert [(each.address, each.registers, each.k) for each in answers] == [(4, 10, 1), (50, 3, 2)]
    assert struct.pack(">3H", *ledger.answered(answers[1])) == expected_block(0, 2)[100:106]


def test_input_registers_hold_the_complement(slave: LedgerSlave) -> None:
    client = Client(slave.ports[0])
    reply = client.ask(struct.pack(">BHH", 4, *READ_ALL))
    client.close()
    assert reply[2:] == bytes(byte ^ 0xFF for byte in expected_block(0, 1))
    (answer,) = slave.answers()
    assert struct.pack(">100H", *ledger.answered(answer)) == reply[2:]


def test_the_identity_never_changes_and_is_not_counted(slave: LedgerSlave) -> None:
    client = Client(slave.ports[2])
    for _ in range(2):
        assert client.read(ledger.IDENTITY_ADDRESS, 4) == b"LEDGER\0\2"
        client.read(*READ_ALL)
    client.close()
    assert [(each.address, each.counted, each.k) for each in slave.answers()] == [
        (1000, False, 0),
        (0, True, 1),
        (1000, False, 1),
        (0, True, 2),
    ]


def test_a_slave_on_a_line_ends_with_the_line(tmp_path: Path) -> None:
    """Else each run of tests that was killed would leave slaves behind."""
    ours, theirs = os.openpty()
    slave = LedgerSlave(tmp_path / "ledger", serial=(Path(os.ttyname(theirs)), 17))
    slave.__enter__()
    assert slave._process is not None
    os.close(ours)
    os.close(theirs)
    assert slave._process.wait(10) == 1
    with pytest.raises(RuntimeError, match="status 1"):
        slave.__exit__(None, None, None)


def test_writes_are_refused_and_written_down(slave: LedgerSlave) -> None:
    client = Client(slave.ports[0])
    assert client.ask(struct.pack(">BHH", 6, 0, 1)) == bytes((0x86, 1))
    assert client.ask(struct.pack(">BHH", 3, 90, 20)) == bytes((0x83, 2))
    assert client.read(*READ_ALL) == expected_block(0, 1)
    client.close()
    written = [(each.function, each.counted) for each in slave.answers()]
    assert written == [(6, False), (3, False), (3, True)]


def test_the_counter_uses_all_64_bits(tmp_path: Path) -> None:
    first = 2**64 - 3
    with LedgerSlave(tmp_path / "ledger", 1, first=first) as slave:
        numbers = [first, first + 1]
        assert read_block(slave.ports[0], 2) == [expected_block(0, k) for k in numbers]
        assert [each.k for each in slave.answers()] == numbers


@pytest.mark.parametrize("registers", [4, 5, 10, 99, 125])
def test_other_widths(tmp_path: Path, registers: int) -> None:
    with LedgerSlave(tmp_path / "ledger", 1, registers=registers) as slave:
        client = Client(slave.ports[0])
        assert client.read(0, registers) == expected_block(0, 1, registers)
        client.close()


def test_a_second_start_appends(tmp_path: Path) -> None:
    for _ in range(2):
        with LedgerSlave(tmp_path / "ledger", 1) as slave:
            read_block(slave.ports[0], 3)
    assert [each.k for each in ledger.read_ledger(tmp_path / "ledger")] == [1, 2, 3, 1, 2, 3]


def test_an_unusable_ledger_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="status 1"), LedgerSlave(tmp_path / "no" / "folder", 1):
        pass


def test_bad_arguments_end_with_status_2(program: Path) -> None:
    asked = subprocess.run([program, "--ports", "0", "0"], capture_output=True, check=False)
    assert asked.returncode == 2
    assert b"usage" in asked.stderr


@pytest.mark.parametrize("registers", [10, 100, 125])
def test_the_profile_is_one_that_the_driver_accepts(registers: int) -> None:
    text = ledger.profile_text("500 ms", registers)
    profile = ModbusProfile.model_validate(YAML(typ="safe").load(text))
    (schema,) = profile.schemas("device-0", {})
    assert schema.period_ns == 500_000_000
    assert len(schema.tags) == len(expected_values(0, 1, registers))


def test_a_device_for_each_port() -> None:
    sections = YAML(typ="safe").load(ledger.site_sections([1502, 1503]))
    assert sections["links"]["line-1"] == {"driver": "modbus", "host": "127.0.0.1", "port": 1503}
    assert sections["instruments"]["device-1"] == {"profile": "ledger-slave", "link": "line-1"}


def delivered(port_index: int, k: int) -> tuple[list[int | float | None], list[list[int]]]:
    """Return what a faultless agent delivers, in JSON's terms."""
    counter, *rest = expected_values(port_index, k)
    scaled = [value / 10 for value in rest[:48]]
    floats = [value if math.isfinite(value) else None for value in rest[48:]]
    bad = [[index, ledger._status(value)] for index, value in enumerate(rest, 1)]
    return [counter, *scaled, *floats], [pair for pair in bad if pair[1]]


def test_differences_accepts_a_faultless_delivery() -> None:
    for k in range(1, 500):
        values, status = delivered(1, k)
        assert differences(1, k, values, status or 0) == []


def test_differences_reads_the_shortest_float32() -> None:
    values, status = delivered(0, 2)
    reading = expected_values(0, 2)[49]
    assert reading != round(reading, 2)
    values[49] = round(reading, 2)
    assert differences(0, 2, values, status or 0) == []


@pytest.mark.parametrize(
    ("index", "wrong"),
    [(0, 3), (1, 1e9), (48, None), (49, 0.0), (72, None)],
)
def test_differences_finds_one_altered_value(index: int, wrong: float | None) -> None:
    values, status = delivered(0, 2)
    values[index] = wrong
    found = differences(0, 2, values, status or 0)
    assert len(found) == 1
    assert found[0].startswith(f"value {index}:")


def test_differences_finds_a_lost_sign_of_zero() -> None:
    k = next(k for k in range(1, 500) if str(-0.0) in map(str, expected_values(0, k)[49:]))
    values, status = delivered(0, k)
    values[[str(value) for value in values].index("-0.0")] = 0.0
    assert len(differences(0, k, values, status or 0)) == 1


def test_differences_finds_another_devices_frame() -> None:
    values, status = delivered(0, 7)
    assert differences(1, 7, values, status or 0)


def test_differences_finds_a_wrong_status() -> None:
    values, _ = delivered(0, 2)
    assert len(differences(0, 2, values, [[3, 0x40000000]])) == 1

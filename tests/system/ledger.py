"""Modbus slaves that keep a ledger of every answer, as a witness outside the agent.

Builds and runs ``ledger_slave.c`` (libmodbus; its head states the register rule and the ledger's
record), reads the ledger, and says what an answer must have contained: the rule is written a
second time here, from the same words.
"""

import hashlib
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

SOURCE = Path(__file__).with_name("ledger_slave.c")
INSTALL = "apt-get install -y gcc libc6-dev pkg-config libmodbus-dev"
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror")
STOP_WITHIN_S = 5.0

READ_HOLDING, READ_INPUT = 3, 4
IDENTITY_ADDRESS = 1000
REGISTERS = 100
PROFILE = "ledger-slave"
SCALE_DENOMINATOR = 10
"""The profile reads each INT16 as tenths."""

MASK = (1 << 64) - 1
EXTREMES = (-32768, 32767, 0, -1)
SPECIALS = (
    0x7FC00000,  # quiet NaN
    0x80000000,  # -0.0
    0x00000001,  # smallest denormal
    0x7F800000,  # +infinity
    0x007FFFFF,  # largest denormal
    0xFF800000,  # -infinity
    0x00800000,  # smallest normal
    0x7F7FFFFF,  # largest finite
    0x7F800001,  # signalling NaN
    0x80000001,  # largest negative denormal
    0xFF7FFFFF,  # lowest finite
    0xFFFFFFFF,  # NaN, all bits set
)

STATUS_NAN = 0x803C0400
STATUS_PLUS_INFINITY = 0x803C0600
STATUS_MINUS_INFINITY = 0x803C0500


class MissingTool(RuntimeError):
    """The slave cannot be built; the text holds the line that mends it."""


class Answer(NamedTuple):
    """One ledger record: a request that was about to be answered.

    :ivar port_index: of a unit on a serial line its unit id
    :ivar address: of the first register asked for; 0 where the function has none
    :ivar function: Modbus function code asked for
    :ivar counted: whether it was a read that made reply number ``k`` of its port: of the whole
        block, or with ``every_read`` of any of it
    :ivar registers: number of registers asked for; 0 where the function has none
    """

    port_index: int
    address: int
    function: int
    counted: bool
    registers: int
    k: int
    realtime_ns: int
    boottime_ns: int


_ANSWER = struct.Struct("<HHB?HQQQ")


class Shape(NamedTuple):
    """How many values of each type stand in the registers, one UINT64 apart."""

    integers: int
    floats: int


def shape(registers: int = REGISTERS) -> Shape:
    """Return the mix: half of the registers behind the counter are floats, rounded down."""
    floats = (registers - 4) // 4
    return Shape(registers - 4 - 2 * floats, floats)


def expected_block(port_index: int, k: int, registers: int = REGISTERS) -> bytes:
    """Return the bytes of all registers in reply ``k`` of a port."""
    integers, floats = shape(registers)
    noise = _noise(port_index, k)
    words = [_integer(noise, k, i) for i in range(integers)]
    patterns = [_pattern(noise, k, j) for j in range(floats)]
    return struct.pack(f">Q{integers}h{floats}I", k, *words, *patterns)


def expected_values(port_index: int, k: int, registers: int = REGISTERS) -> tuple[int | float, ...]:
    """Return the raw values of reply ``k`` of a port: the counter, the integers, the floats."""
    integers, floats = shape(registers)
    block = expected_block(port_index, k, registers)
    return struct.unpack(f">Q{integers}h{floats}f", block)


def answered(answer: Answer, registers: int = REGISTERS) -> tuple[int, ...]:
    """Return the registers that a counted answer brought, as unsigned numbers."""
    words = struct.unpack(f">{registers}H", expected_block(answer.port_index, answer.k, registers))
    asked = words[answer.address : answer.address + answer.registers]
    return asked if answer.function == READ_HOLDING else tuple(~word & 0xFFFF for word in asked)


def _noise(port_index: int, k: int) -> int:
    s = (k * 0x9E3779B97F4A7C15 + (port_index + 1) * 0xBF58476D1CE4E5B9) & MASK
    s = (s ^ (s >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    s = (s ^ (s >> 27)) * 0x94D049BB133111EB & MASK
    return s ^ (s >> 31)


def _integer(noise: int, k: int, i: int) -> int:
    if ((k + i) & MASK) % 61 == 0:
        return EXTREMES[k // 61 % 4]
    low = ((noise >> i % 48) + i * 40503) & 0xFFFF
    return low - 0x10000 if low & 0x8000 else low


def _pattern(noise: int, k: int, j: int) -> int:
    if ((k + j) & MASK) % 37 == 0:
        return SPECIALS[k // 37 % 12]
    if j % 2:
        return (noise * (2 * j + 1) & MASK) >> 32
    reading = ((noise >> j & 0xFFFF) - 20000) / 100
    return int.from_bytes(struct.pack(">f", reading), "big")


def differences(
    port_index: int,
    k: int,
    values: Sequence[int | float | None],
    status: int | Sequence[Sequence[int]],
    registers: int = REGISTERS,
) -> list[str]:
    """Compare a delivered frame with the reply that the device gave; return every difference.

    :param values: position 11 of the frame's body, as a JSON parser returns it
    :param status: position 7: one code for all, or ``[index, code]`` pairs
    """
    raw = expected_values(port_index, k, registers)
    if len(values) != len(raw):
        return [f"{len(values)} values instead of {len(raw)}"]
    codes = _codes(status, len(raw))
    integers = shape(registers).integers
    found = []
    for index, (sent, got) in enumerate(zip(raw, values, strict=True)):
        if index == 0:
            fits = got == sent and isinstance(got, int)
        elif index <= integers:
            fits = got == sent / SCALE_DENOMINATOR
        else:
            fits = _is_float32(sent, got)
        code = codes[index]
        if not fits or code != _status(sent):
            found.append(f"value {index}: sent {sent!r}, got {got!r} with status {code:#010x}")
    return found


def _codes(status: int | Sequence[Sequence[int]], count: int) -> list[int]:
    """Return one code per value."""
    if isinstance(status, int):
        return [status] * count
    codes = [0] * count
    for index, code in status:
        codes[index] = code
    return codes


def _status(sent: float) -> int:
    if math.isnan(sent):
        return STATUS_NAN
    if math.isinf(sent):
        return STATUS_PLUS_INFINITY if sent > 0 else STATUS_MINUS_INFINITY
    return 0


def _is_float32(sent: float, got: float | None) -> bool:
    """Return whether the delivered number reads back as the very bits that were sent."""
    if not math.isfinite(sent):
        return got is None
    return got is not None and struct.pack(">f", got) == struct.pack(">f", sent)


def built() -> Path:
    """Return the compiled slave, built unless the same source already was.

    :raises MissingTool: if gcc, pkg-config or libmodbus is not installed
    """
    folder = Path(tempfile.gettempdir()) / f"edgeagent-tests-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    program = folder / f"ledger_slave-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}"
    if not program.exists():
        fresh = program.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        files = [str(SOURCE), "-o", str(fresh)]
        subprocess.run(["gcc", *FLAGS, *files, *_library_flags()], check=True)
        fresh.rename(program)  # at once, so that two test runs never start half a program
    return program


def _library_flags() -> list[str]:
    if shutil.which("gcc") is None or shutil.which("pkg-config") is None:
        raise MissingTool(f"the ledger slave needs a compiler: {INSTALL}")
    command = ["pkg-config", "--cflags", "--libs", "libmodbus"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode:
        raise MissingTool(f"the ledger slave needs libmodbus: {INSTALL}")
    return asked.stdout.split()


class LedgerSlave:
    """Running slaves: ``count`` ports of 127.0.0.1, one per device, or one unit on a serial line.

    :ivar ports: their TCP ports; the position in the tuple is the port index
    """

    def __init__(
        self,
        ledger: Path,
        count: int = 0,
        *,
        base: int = 0,
        serial: tuple[Path, int] | None = None,
        registers: int = REGISTERS,
        first: int = 1,
        every_read: bool = False,
    ) -> None:
        """Prepare; nothing runs before ``with``.

        :param base: first TCP port; 0 means any free ones
        :param serial: serial port and unit id of an RTU slave, instead of TCP ports
        :param first: number of the first reply of each port
        :param every_read: whether a read of some of the registers is a counted reply too
        """
        self.ledger = ledger
        self.ports: tuple[int, ...] = ()
        place = ["--serial", *serial] if serial else ["--ports", base, count]
        options = ["--ledger", ledger, "--registers", registers, "--first", first]
        options += ["--every-read"] if every_read else []
        self._arguments = [str(part) for part in (*place, *options)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "LedgerSlave":
        self._process = subprocess.Popen(
            [str(built()), *self._arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._process.stdout.close()
            raise RuntimeError(f"the ledger slave ended with status {self._process.returncode}")
        self.ports = tuple(json.loads(line)["ports"])
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._process.stdout.close()
        if status:
            raise RuntimeError(f"the ledger slave ended with status {status}")

    @property
    def pid(self) -> int:
        """Process id of the slave."""
        assert self._process is not None, "not started"
        return self._process.pid

    def answers(self) -> list[Answer]:
        """Return the ledger so far."""
        return list(read_ledger(self.ledger))

    def profile_text(self, period: str) -> str:
        """Return the profile of each device."""
        return profile_text(period)

    def site_sections(self) -> str:
        """Return the sections of a site file that lead to the devices."""
        return site_sections(self.ports)


def read_ledger(path: Path) -> Iterator[Answer]:
    """Yield the records of a ledger, in the order in which they were written."""
    content = path.read_bytes()
    whole = len(content) - len(content) % _ANSWER.size
    for fields in _ANSWER.iter_unpack(content[:whole]):
        yield Answer(*fields)


def last_replies(answers: Iterable[Answer]) -> dict[int, int]:
    """Return the number of the last counted reply by port index."""
    return {answer.port_index: answer.k for answer in answers if answer.counted}


def profile_text(
    period: str = "100 ms", registers: int = REGISTERS, *, identity: bool = False
) -> str:
    """Return the profile of the slave, as the file ``ledger-slave.yaml``.

    The block is atomic, so that each poll is one counted reply.

    :param identity: whether the slave is to be asked who it is
    """
    integers, floats = shape(registers)
    tags = [_tag("counter", 0, "UINT64")]
    for i in range(integers):
        tags.append(_tag(f"i{i:02}", 4 + i, "INT16", f", scale: 1/{SCALE_DENOMINATOR}"))
    for j in range(floats):
        tags.append(_tag(f"f{j:02}", 4 + integers + 2 * j, "FLOAT32"))
    head = _PROFILE_HEAD.format(
        profile=PROFILE,
        period=period,
        registers=registers,
        identity=_IDENTITY if identity else _NO_IDENTITY,
    )
    return "\n".join((head, *tags, ""))


_IDENTITY = f"""\
identity:
  name: {{type: STRING, address: {IDENTITY_ADDRESS}, length: 3, expect: LEDGER}}
  unit: {{type: UINT16, address: {IDENTITY_ADDRESS + 3}}}"""

_NO_IDENTITY = "identity_unavailable: a test device that is asked for one block and nothing else"

_PROFILE_HEAD = """\
profile: {profile}
version: 1.0.0
make: edgeagent
model: ledger slave
device_class: test
driver: modbus
source:
  - {{manual: tests/system/ledger_slave.c, confidence: simulated-only}}
{identity}
modbus:
  address_base: 0-based
  byte_order: ABCD
  atomic: [{{address: 0, count: {registers}}}]
groups:
  block:
    period: {period}
    tags:"""


def _tag(name: str, address: int, data_type: str, more: str = "") -> str:
    return f"      {name}: {{address: {address}, type: {data_type}{more}}}"


def instrument_name(port_index: int) -> str:
    """Return the name that :func:`site_sections` gives to a device."""
    return f"device-{port_index}"


def site_sections(ports: Sequence[int]) -> str:
    """Return the sections ``links`` and ``instruments`` of a site file with one device per port."""
    links = ["links:"]
    instruments = ["instruments:"]
    for index, port in enumerate(ports):
        name = instrument_name(index)
        links.append(f"  line-{index}: {{driver: modbus, host: 127.0.0.1, port: {port}}}")
        instruments.append(f"  {name}: {{profile: {PROFILE}, link: line-{index}}}")
    return "\n".join((*links, *instruments, ""))

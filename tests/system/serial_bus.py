"""An RS-485 line of pseudo-terminals: what one end says, all others hear, and the line has faults.

Frames are told apart by silence, as on a real line. Faults have names and probabilities and come
from one seed; they strike what the master hears or says, never what the slaves say to each other.
A pseudo-terminal has no bit rate: a frame arrives at once, :data:`SILENCE_S` after its last byte.
"""

import asyncio
import contextlib
import os
import threading
import tty
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from random import Random
from types import TracebackType

SILENCE_S = 0.001
"""Ends a frame. Longer than the 3.5 characters of the standard: a scheduler comes between."""

LATE = (1.05, 3.0)
"""A late reply comes so many timeouts of the master after the request, and before all later ones
of the same unit: a slave does one thing after the other."""

SPLIT_S = 0.003
READ_BYTES = 4096


class BusFault(StrEnum):
    """What the line does to one frame."""

    CORRUPT = "corrupt"
    """One to three bits flip."""
    TRUNCATE = "truncate"
    """The end is missing."""
    DROP = "drop"
    SPLIT = "split"
    """A pause in the middle."""
    ECHO = "echo"
    """The master hears its own request. Strikes requests only."""
    EXTRA_BEFORE = "extra_before"
    """One to four random bytes, then the frame."""
    EXTRA_AFTER = "extra_after"
    LATE = "late"
    """See :data:`LATE`."""
    WRONG_UNIT = "wrong_unit"
    """Another unit id, in a frame that is whole."""
    DUPLICATE = "duplicate"
    """The frame comes twice, a pause between."""
    EXCEPTION = "exception"
    """One of the bus's `exception_codes` instead of the reply, in a frame that is whole."""


Probabilities = Mapping[BusFault, float]


class SerialBus:
    """A line with one master and named slaves; use as ``async with``.

    :ivar master: path of the master's serial port, a link that stays the same over a replug
    :ivar slaves: paths of the slaves' ports, by name
    :ivar struck: how many frames each fault has struck
    :ivar requests: how many frames the master has said
    """

    def __init__(
        self,
        directory: Path,
        slaves: tuple[str, ...],
        *,
        requests: Probabilities | None = None,
        replies: Probabilities | None = None,
        exception_codes: tuple[int, ...] = (1, 2, 3, 4, 5, 6),
        timeout_s: float = 0.03,
        seed: int = 0,
    ) -> None:
        """Prepare; nothing is open before ``async with``.

        :param requests: faults of what the master says
        :param replies: faults of what the master hears
        :param timeout_s: the master's, which decides what is late
        """
        self.master = directory / "master"
        self.slaves = {name: directory / name for name in slaves}
        self.struck: Counter[BusFault] = Counter()
        self.requests = 0
        self._request_faults = requests or {}
        self._reply_faults = replies or {}
        self._exception_codes = exception_codes
        self._timeout_s = timeout_s
        self._dice = Random(seed)
        self._master = _Port(self.master, self._from_master)
        self._slaves = [
            _Port(path, partial(self._from_slave, path)) for path in self.slaves.values()
        ]
        self._timers: set[asyncio.TimerHandle] = set()
        self._requested_s = 0.0
        self._busy_until_s: dict[Path, float] = {}

    async def __aenter__(self) -> "SerialBus":
        self.master.parent.mkdir(parents=True, exist_ok=True)
        for port in (self._master, *self._slaves):
            port.plug()
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for timer in self._timers:
            timer.cancel()
        for port in (self._master, *self._slaves):
            port.unplug()

    def unplug(self) -> None:
        """Take the master's serial adapter away, as pulling its USB plug does."""
        self._master.unplug()

    def replug(self) -> None:
        """Bring it back under another device, with the same link to it."""
        self._master.plug()

    def heal(self) -> None:
        """End all faults."""
        self._request_faults = self._reply_faults = {}

    # -- frames --------------------------------------------------------------------------------

    def _from_master(self, frame: bytes) -> None:
        self.requests += 1
        self._requested_s = asyncio.get_running_loop().time()
        fault = self._throw(self._request_faults)
        if fault is BusFault.ECHO:
            self._master.write(frame)
            fault = None
        self._in_order(self.master, fault, frame, self._to_slaves)

    def _from_slave(self, speaker: Path, frame: bytes) -> None:
        self._to_slaves(frame, speaker)
        fault = self._throw(self._reply_faults)
        self._in_order(speaker, fault, frame, self._master.write)

    def _to_slaves(self, frame: bytes, speaker: Path | None = None) -> None:
        for port in self._slaves:
            if port.link != speaker:
                port.write(frame)

    def _throw(self, faults: Probabilities) -> BusFault | None:
        at = self._dice.random()
        for fault, probability in faults.items():
            at -= probability
            if at < 0:
                self.struck[fault] += 1
                return fault
        return None

    def _in_order(
        self,
        speaker: Path,
        fault: BusFault | None,
        frame: bytes,
        hear: Callable[[bytes], None],
    ) -> None:
        """Let a frame be heard now, or when it is late, or after what the same end said before."""
        now_s = asyncio.get_running_loop().time()
        due_s = self._busy_until_s.get(speaker, now_s)
        if fault is BusFault.LATE:
            due_s = max(due_s, self._requested_s + self._timeout_s * self._dice.uniform(*LATE))
        if due_s <= now_s:
            self._say(fault, frame, hear)
            return
        self._busy_until_s[speaker] = due_s + SPLIT_S
        self._later(due_s - now_s, lambda late: self._say(fault, late, hear), frame)

    def _say(self, fault: BusFault | None, frame: bytes, hear: Callable[[bytes], None]) -> None:
        dice = self._dice
        match fault:
            case BusFault.CORRUPT:
                hear(_corrupted(frame, dice))
            case BusFault.TRUNCATE:
                hear(frame[: dice.randrange(1, len(frame))])
            case BusFault.DROP:
                pass
            case BusFault.SPLIT:
                cut = dice.randrange(1, len(frame))
                hear(frame[:cut])
                self._later(SPLIT_S, hear, frame[cut:])
            case BusFault.EXTRA_BEFORE:
                hear(dice.randbytes(dice.randint(1, 4)) + frame)
            case BusFault.EXTRA_AFTER:
                hear(frame + dice.randbytes(dice.randint(1, 4)))
            case BusFault.WRONG_UNIT:
                others = [unit for unit in range(1, 248) if unit != frame[0]]
                hear(sealed(bytes([dice.choice(others)]) + frame[1:-2]))
            case BusFault.DUPLICATE:
                hear(frame)
                self._later(SPLIT_S, hear, frame)
            case BusFault.EXCEPTION:
                hear(sealed(bytes([frame[0], frame[1] | 0x80, dice.choice(self._exception_codes)])))
            case _:
                hear(frame)

    def _later(self, delay_s: float, hear: Callable[[bytes], None], frame: bytes) -> None:
        def due() -> None:
            self._timers.discard(timer)
            hear(frame)

        timer = asyncio.get_running_loop().call_later(delay_s, due)
        self._timers.add(timer)


@contextmanager
def in_background(bus: SerialBus) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Run a line in a thread of its own; yield what calls a function of it there."""
    loop = asyncio.new_event_loop()
    ready, over = threading.Event(), asyncio.Event()

    def in_its_thread(act: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(act)

    async def serve() -> None:
        async with bus:
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="serial bus")
    thread.start()
    try:
        assert ready.wait(5), "the serial bus does not start"
        yield in_its_thread
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


class _Port:
    """One end of the line: a pseudo-terminal behind a link, and the frame that it is saying."""

    def __init__(self, link: Path, said: Callable[[bytes], None]) -> None:
        self.link = link
        self._said = said
        self._heard = bytearray()
        self._silence: asyncio.TimerHandle | None = None
        self._ends: tuple[int, int] | None = None

    def plug(self) -> None:
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        self._ends = ours, theirs  # theirs too: else each close at the other side ends the port
        fresh = self.link.with_name(f"{self.link.name}.new")
        fresh.symlink_to(os.ttyname(theirs))
        fresh.rename(self.link)
        asyncio.get_running_loop().add_reader(ours, self._read)

    def unplug(self) -> None:
        if self._ends is None:
            return
        asyncio.get_running_loop().remove_reader(self._ends[0])
        if self._silence is not None:
            self._silence.cancel()
        self._heard.clear()
        self.link.unlink()
        for end in self._ends:
            os.close(end)
        self._ends = None

    def write(self, frame: bytes) -> None:
        """Let this end hear something. Nobody listens: it is lost, as on a real line."""
        if self._ends is not None and frame:
            with contextlib.suppress(BlockingIOError):
                os.write(self._ends[0], frame)

    def _read(self) -> None:
        assert self._ends is not None
        self._heard += os.read(self._ends[0], READ_BYTES)
        if self._silence is not None:
            self._silence.cancel()
        self._silence = asyncio.get_running_loop().call_later(SILENCE_S, self._frame_ends)

    def _frame_ends(self) -> None:
        self._silence = None
        frame = bytes(self._heard)
        self._heard.clear()
        self._said(frame)


def sealed(frame: bytes) -> bytes:
    """Append the CRC (Modbus over Serial Line V1.02, section 6.2.2), low byte first."""
    crc = 0xFFFF
    for byte in frame:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return frame + crc.to_bytes(2, "little")


def _corrupted(frame: bytes, dice: Random) -> bytes:
    bits = dice.sample(range(8 * len(frame)), dice.randint(1, 3))
    damaged = bytearray(frame)
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)

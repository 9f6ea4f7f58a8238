"""Goal: what ``append`` returned for survives ``kill -9``, again and again in one directory.

Method: a process of its own (``appender.py``) prints what was returned for; it is killed after a
random number of lines, that is somewhere in the append or the packing that follows. What its pipe
still holds was returned for, too.
"""

import subprocess
import sys
from pathlib import Path
from random import Random

from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import Reader
from edgeagent.model.record import Lane
from tests.unit.journal.witness import event, frame, proved

KILLS = 10
ROOT = Path(__file__).parents[3]


def lines_until_killed(directory: Path, seed: int, lines: int) -> list[str]:
    command = [sys.executable, "-m", "tests.unit.journal.appender", str(directory), str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    with process.stdout:
        seen = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        seen += process.stdout.readlines()
    assert process.wait() == -9, "it ended by itself"
    return [line for line in seen if line.endswith("\n") and line != "open\n"]


def test_nothing_that_was_returned_for_is_lost_by_kill_9(tmp_path):
    random = Random(4711)
    promised: list[str] = []
    for seed in range(KILLS):
        promised += lines_until_killed(tmp_path, seed, 1 + random.choice([0, 1, 10, 40]))
    reader = Reader(tmp_path / FILE_NAME)
    (epoch,) = reader.epochs()
    assert len(promised) > 2 * KILLS
    for line in promised:
        lane, last, chain = line.split()
        held = reader.chain_at(epoch, Lane(lane), int(last))
        assert held is not None, f"{lane} {last} is missing"
        assert held.hex() == chain
    for lane in Lane:
        make = frame if lane is Lane.DATA else lambda n: event(str(n))
        count, faults = proved(reader, epoch, lane)
        entries = reader.read(epoch, lane, 0, bytes_max=1 << 40)
        assert faults == []
        assert [e.body for e in entries] == [make(float(n)).body(n) for n in range(1, count + 1)]
    assert all(reader.packed(epoch, lane) for lane in Lane)
    reader.close()

"""Run reports through the whole chain: every row of every file is at the receiver once.

Method: an agent with a folder that simulated platforms fill, well and badly, in CSV, XML and JSON.
The agent is killed with `kill -9` again and again meanwhile. The truth is what the files hold, read
here by other means; the receiver's database is judged by it.
"""

import csv
import io
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from random import Random
from types import TracebackType
from zoneinfo import ZoneInfo

from simulators.devices.run_report import (
    Manner,
    Run,
    Sample,
    apheresis_json,
    deliver,
    freezer_csv,
    processing_xml,
)
from tests.system.chain import Chain, by_device, wait_until

START_UTC_S = 1_795_435_200.0
NAMES = ("freezer", "processor", "apheresis")


class Platforms:
    """Three platforms that share a folder; in the place of slaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = folder / "none"

    def __enter__(self) -> "Platforms":
        self.folder.mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def answers(self) -> list:
        return []

    def profile_text(self, period: str) -> str:
        """A profile that nobody uses: those that are needed ship."""
        return (Path(__file__).parents[2] / "drivers/profiles/apheresis-report.yaml").read_text()

    def site_sections(self) -> str:
        return (
            f"links:\n  reports: {{driver: file_drop, folder: {self.folder}, "
            "look_every: 50 ms, settle: 150 ms, timeout: 5 s}\n"
            "instruments:\n"
            "  freezer: {profile: controlled-rate-freezer-report, link: reports,"
            ' files: "*.csv", serial_number: "0001"}\n'
            "  processor: {profile: cell-processing-report, link: reports,"
            ' files: "*.xml", serial_number: "0002"}\n'
            "  apheresis: {profile: apheresis-report, link: reports,"
            ' files: "*.json", serial_number: "0003"}\n'
        )


def run_of(dice: Random, serial: str, number: int, rows: int) -> Run:
    begin = START_UTC_S + 10_000 * number
    samples = tuple(
        Sample(
            begin + 10 * row,
            (
                dice.randrange(0, 4000) / 100,
                float(dice.randrange(0, 99)),
                dice.randrange(0, 900) / 10,
                float(dice.randrange(0, 2)),
            ),
        )
        for row in range(rows)
    )
    return Run(serial, "3.1", samples, person="DE-4711-0815")


def freezer_text(run: Run) -> str:
    """A freezer has three values in a row."""
    return freezer_csv(
        replace(run, samples=tuple(Sample(s.utc_s, s.values[:3]) for s in run.samples))
    )


def freezer_rows(content: str) -> Iterator[tuple[int, float]]:
    """The rows of a freezer's file: time in ns and set-point, read by the standard library."""
    for cells in csv.reader(io.StringIO(content), delimiter=";"):
        if len(cells) == 6 and cells[0] != "Date":
            at = datetime.strptime(f"{cells[0]} {cells[1]}", "%d.%m.%Y %H:%M:%S")
            at = at.replace(tzinfo=ZoneInfo("Europe/Berlin"))
            yield round(at.timestamp()) * 10**9, float(cells[2].replace(",", "."))


def test_every_row_is_at_the_receiver_once_whatever_is_killed(tmp_path: Path) -> None:
    dice = Random(4711)
    platforms = Platforms(tmp_path / "reports")
    truth: dict[str, Counter] = {name: Counter() for name in NAMES}
    chain = Chain(tmp_path, period="1 s", slave=platforms)
    manners = list(Manner)
    with chain:
        for number in range(9):
            manner = manners[number % len(manners)]
            for name, serial in zip(NAMES, ("0001", "0002", "0003"), strict=True):
                run = run_of(dice, serial, number, rows=dice.randrange(50, 400))
                if name == "freezer":
                    text = freezer_text(run)
                    truth[name].update(freezer_rows(text))
                    content, suffix = text.encode("cp1252"), "csv"
                else:
                    write = processing_xml if name == "processor" else apheresis_json
                    truth[name].update((round(s.utc_s) * 10**9, s.values[0]) for s in run.samples)
                    content, suffix = write(run).encode(), "json"
                    suffix = "xml" if name == "processor" else "json"
                for _ in deliver(
                    platforms.folder, f"DE-4711-{number}.{suffix}", content, manner, dice
                ):
                    time.sleep(dice.uniform(0, 0.3))
            time.sleep(dice.uniform(0.1, 0.6))
            chain.agent.kill()
            chain.agent.start()

        def held() -> dict[str, Counter]:
            found = by_device(chain.bodies())
            return {
                name: Counter((frame[9], frame[11][0]) for frame in found[name].frames)
                for name in NAMES
            }

        wait_until(
            "every row is at the receiver",
            lambda: all(not truth[name] - held()[name] for name in NAMES),
        )
        chain.finish()
        assert held() == truth
        assert all(sum(truth[name].values()) > 400 for name in NAMES)
        bodies = list(chain.bodies())
        assert "DE-4711" not in repr(bodies) + repr(list(chain.bodies("event")))
        assert "DE-4711" not in chain.agent.log.read_text()
    frames = [body for body in bodies if body[0] == "F"]
    assert {frame[6] for frame in frames} == {1}, "rows of a report are history"
    assert all(len(frame[13]) == 66 for frame in frames), "the evidence is the file's SHA-256"


def test_a_kill_in_the_middle_of_a_file_loses_and_doubles_no_row(tmp_path: Path) -> None:
    platforms = Platforms(tmp_path / "reports")
    chain = Chain(tmp_path, period="1 s", slave=platforms)
    rows = 20_000
    run = run_of(Random(4711), "0001", 1, rows)
    text = freezer_text(run)
    with chain:
        wait_until("the receiver holds the first records", lambda: _records(chain))
        for _ in deliver(
            platforms.folder, "a.csv", text.encode("cp1252"), Manner.ATOMIC, Random(1)
        ):
            pass
        for kill in range(3):
            before = _records(chain)
            wait_until(
                f"rows have come before kill {kill}",
                lambda since=before: _records(chain) > since + 500,
            )
            chain.agent.kill()
            chain.agent.start()
        assert _records(chain) < rows, "no kill was in the middle: take more rows"
        wait_until("every row has come", lambda: _records(chain) > rows)
        chain.finish()
        frames = by_device(chain.bodies())["freezer"].frames
    assert [(frame[9], frame[11][0]) for frame in frames] == list(freezer_rows(text))


def test_a_folder_that_comes_and_goes_is_a_gap_with_both_ends(tmp_path: Path) -> None:
    platforms = Platforms(tmp_path / "reports")
    chain = Chain(tmp_path, period="1 s", slave=platforms)
    with chain:
        wait_until("the folder is watched", lambda: _gaps(chain, "first_value") == 3)
        platforms.folder.rename(tmp_path / "away")
        wait_until("the link is lost", lambda: _gaps(chain, "link_lost", is_open=True) == 3)
        (tmp_path / "away").rename(platforms.folder)
        wait_until("the link is back", lambda: _gaps(chain, "link_lost") == 3)
        chain.finish()


def _records(chain: Chain) -> int:
    """Return how many records the receiver holds."""
    try:
        with closing(sqlite3.connect(f"file:{chain.database}?mode=ro", uri=True)) as held:
            return int(held.execute("SELECT count(*) FROM record").fetchone()[0])
    except sqlite3.OperationalError:  # it has not begun yet
        return 0


def _gaps(chain: Chain, cause: str, *, is_open: bool = False) -> int:
    """Return how many gaps of a cause are closed, or open."""
    if not _records(chain):
        return 0
    gaps = [gap for device in by_device(chain.bodies()).values() for gap in device.gaps]
    return sum(gap.cause == cause and (gap.until_ns == float("inf")) == is_open for gap in gaps)

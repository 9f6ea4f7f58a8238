"""Profiles of reports, and drivers of folders, for tests."""

import asyncio
import copy
from pathlib import Path

from ruamel.yaml import YAML

import drivers.profiles
from drivers.file_drop import DRIVER
from drivers.file_drop.reading import Reader
from edgeagent.driver import Frame, Identity, Instrument, Loss
from edgeagent.model.clock import SystemClock
from tests.clocks import ManualClock

WAIT_S = 20.0

TABLE = {
    "profile": "test",
    "version": "1.0.0",
    "make": "test",
    "model": "test",
    "device_class": "test",
    "driver": "file_drop",
    "source": [{"manual": "none", "confidence": "simulated-only"}],
    "file_drop": {"files": "*.csv", "format": "csv", "time": {"fields": ["time"]}},
    "clock": {"zone": "UTC"},
    "identity_unavailable": "a test",
    "groups": {
        "g": {"period": "1 s", "tags": {"x": {"type": "INT64", "field": "x"}}},
    },
}


def changed(*changes, base=TABLE) -> dict:
    """The profile with these changes: (path, value); a value of ``...`` removes the key."""
    data = copy.deepcopy(base)
    for path, value in changes:
        *way, last = path.split("/")
        at = data
        for step in way:
            at = at.setdefault(step, {})
        if value is ...:
            del at[last]
        else:
            at[last] = value
    return data


def profile(*changes):
    return DRIVER.profile.model_validate(changed(*changes))


def shipped(name: str):
    path = Path(drivers.profiles.__file__).parent / f"{name}.yaml"
    return DRIVER.profile.model_validate(YAML(typ="safe", pure=True).load(path.read_text()))


def instrument(stated, name: str = "a", expected=(), **settings) -> Instrument:
    own = DRIVER.instrument_settings.model_validate(settings)
    return Instrument(name, stated, own, stated.schemas(name, {}), expected)


def read(stated, content: bytes | str, known=None, **settings):
    """Read a file with a profile; return its frames and losses, and the reading."""
    made = instrument(stated, **settings)
    data = content if isinstance(content, bytes) else content.encode()
    marks = {group: dict(known or {}) for group in made.groups}
    reading = Reader(made, ManualClock()).read(data, marks, lambda group, key: False)
    items = []
    while batch := reading.batch(7):
        items += batch
    return items, reading


def frames(items) -> list[Frame]:
    return [item for item in items if isinstance(item, Frame)]


def values(items) -> list:
    return [frame.values if len(frame.values) > 1 else frame.values[0] for frame in frames(items)]


def losses(items) -> list[str]:
    """The details of what was lost; that the folder is watched again is no loss."""
    return [i.detail for i in items if isinstance(i, Loss) and i.from_utc_ns != i.to_utc_ns]


def places(items) -> dict[str, str]:
    """Marks as a key by place, after these frames."""
    marks: dict[str, str | None] = {}
    for frame in frames(items):
        marks.update(frame.marks)
    return {place: key for key, place in marks.items() if place is not None}


def driver(folder: Path, *instruments: Instrument, clock=None, **settings):
    stated = {"look_every": "10 ms", "settle": "20 ms", "timeout": "5 s"} | settings
    made = DRIVER.link_settings.model_validate({"folder": str(folder)} | stated)
    return DRIVER.open(made, instruments, clock or SystemClock())


async def taken(open_driver, count: int) -> list[Frame | Loss | Identity]:
    """Everything up to so many frames."""
    items: list[Frame | Loss | Identity] = []
    async with asyncio.timeout(WAIT_S):
        while len(frames(items)) < count:
            items += await open_driver.next()
    return items


async def until_loss(open_driver, words: str) -> list:
    """Everything up to a loss whose detail contains these words."""
    items: list = []
    async with asyncio.timeout(WAIT_S):
        while not any(words in detail for detail in losses(items)):
            items += await open_driver.next()
    return items

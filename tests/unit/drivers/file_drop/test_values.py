"""Times: nothing is guessed where a local time comes twice, or never was."""

import pytest

from drivers.file_drop.values import Unreadable, moment_of, zone_of
from edgeagent.model import quality
from tests.unit.drivers.file_drop.reports import frames, losses, profile, read, values

BERLIN = (("clock/zone", "Europe/Berlin"),)


def source_s(items) -> list[int]:
    return [frame.source_utc_ns // 10**9 for frame in frames(items)]


def table(*times: str) -> str:
    return "time,x\n" + "".join(f"{time},{n}\n" for n, time in enumerate(times, 1))


def test_local_time_is_read_in_the_declared_zone():
    items, _ = read(profile(*BERLIN), table("2026-07-01 12:00:00", "2026-12-01 12:00:00"))
    assert source_s(items) == [1_782_900_000, 1_796_122_800]


def test_a_site_may_name_another_zone():
    items, _ = read(profile(*BERLIN), table("2026-07-01 12:00:00"), time_zone="Europe/Helsinki")
    assert source_s(items) == [1_782_900_000 - 3600]


def test_an_offset_in_the_report_goes_before_the_zone():
    items, _ = read(profile(*BERLIN), table("2026-07-01T12:00:00+05:00"))
    assert source_s(items) == [1_782_900_000 - 3 * 3600]


def test_a_time_that_comes_twice_is_in_doubt_and_ordered_by_its_row():
    # Summer time ended on 2026-10-25 at 03:00, which was 02:00 again.
    times = ["01:59:59", "02:10:00", "02:50:00", "02:10:00", "02:50:00", "03:00:00"]
    items, _ = read(profile(*BERLIN), table(*(f"2026-10-25 {time}" for time in times)))
    first = 1_792_886_399  # 01:59:59 of summer
    assert source_s(items) == [first + s for s in (0, 601, 3001, 4201, 6601, 7201)]
    assert [f.status for f in frames(items)] == [
        quality.GOOD,
        *[(quality.UNCERTAIN,)] * 4,
        quality.GOOD,
    ]


def test_a_time_that_never_was_costs_its_row():
    times = ["2026-03-29 01:59:59", "2026-03-29 02:30:00", "2026-03-29 03:00:00"]
    items, _ = read(profile(*BERLIN), table(*times))
    assert values(items) == [1, 3]
    assert "line 3 has a time that never was in Europe/Berlin" in losses(items)[0]


@pytest.mark.parametrize(
    ("form", "text", "expected_ns"),
    [
        ("iso", "2026-11-23T12:00:00.250", 1_795_435_200_250_000_000),
        ("unix", "1795435200.123456789", 1_795_435_200_123_456_789),
        ("%d.%m.%Y %H:%M", "23.11.2026 12:00", 1_795_435_200_000_000_000),
        ("%Y%m%d%H%M%S%z", "20261123120000+0100", 1_795_431_600_000_000_000),
    ],
)
def test_forms_of_time(form, text, expected_ns):
    stated = profile(("file_drop/time", {"fields": ["time"], "form": form})).file_drop.time
    found = moment_of(stated, {"time": text}, zone_of("UTC"), None)
    assert found == (expected_ns, False)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("iso", ""),
        ("iso", "yesterday"),
        ("iso", "9999-12-31T00:00:00"),
        ("iso", "0001-01-01T00:00:00"),
        ("unix", "NaN"),
        ("unix", "-1"),
        ("unix", "1e30"),
        ("unix", "1e9999"),
        ("%d.%m.%Y %H:%M", "23.11.2026"),
        ("iso", "2" * 500),
    ],
)
def test_what_is_no_time_is_told(form, text):
    stated = profile(("file_drop/time", {"fields": ["time"], "form": form})).file_drop.time
    with pytest.raises(Unreadable):
        moment_of(stated, {"time": text}, zone_of("UTC"), None)


def test_no_error_quotes_the_report():
    secret = "Musterfrau-19610401"
    text = f"time,x\n{secret},1\n2026-11-23 12:00:00,{secret}\n{secret}\n2026-11-23 12:00:01,5\n"
    items, _ = read(profile(), text)
    assert values(items) == [5]
    assert secret not in repr(items)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("INT8", "-128", -128),
        ("INT8", "128", None),
        ("UINT16", "-1", None),
        ("UINT16", "65535", 65535),
        ("FLOAT32", "0.1", 0.10000000149011612),
        ("FLOAT32", "1e39", None),
        ("FLOAT64", "1_000", None),
        ("FLOAT64", "٣", None),
        ("FLOAT64", "0x10", None),
        ("FLOAT64", ".5", 0.5),
    ],
)
def test_numbers_are_read_strictly(kind, text, value):
    items, _ = read(
        profile(("groups/g/tags/x/type", kind)), f"time,x\n2026-11-23 12:00:00,{text}\n"
    )
    assert values(items) == ([] if value is None else [value])
    assert bool(losses(items)) == (value is None)

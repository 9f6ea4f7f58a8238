"""What a profile and a site may state, and that every fault is told at once, with its place."""

import pytest
from pydantic import ValidationError

from drivers.file_drop import DRIVER
from tests.unit.drivers.file_drop.reports import changed, instrument, profile


def problems(*changes) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        DRIVER.profile.model_validate(changed(*changes))
    return {"/".join(map(str, e["loc"])): e["msg"] for e in caught.value.errors()}


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        ([("clock/zone", "Europe/Bärlin")], "clock/zone", "not known"),
        ([("clock/zone", "../../etc/passwd")], "clock/zone", "not known"),
        ([("file_drop/encoding", "utf-9")], "file_drop/encoding", "not known"),
        ([("file_drop/encoding", "utf-7")], "file_drop/encoding", "not read here"),
        ([("file_drop/decimal", "comma")], "file_drop/decimal", "write delimiter ';'"),
        ([("file_drop/rows", "/r")], "file_drop/rows", "remove it"),
        ([("file_drop/units", "line"), ("groups/g/tags/x/field", 2),
          ("file_drop/time/fields", [1]), ("file_drop/header_lines", 0)],
         "file_drop/units", "remove it"),
        ([("file_drop/header_lines", 3)], "file_drop/header_lines", "names (time)"),
        ([("file_drop/format", "tsv"), ("file_drop/delimiter", ";")],
         "file_drop/delimiter", "tabulators"),
        ([("file_drop/format", "xml")], "file_drop/rows", "where the rows are"),
        ([("file_drop/format", "json"), ("file_drop/rows", "/r"), ("file_drop/units", "line")],
         "file_drop/units", "means nothing in json"),
        ([("file_drop/time/form", "%d.%m.")], "file_drop/time/form", "date, hour and minute"),
        ([("groups/g/tags/x/type", "BOOL")], "groups/g/tags/x", "true_texts"),
        ([("groups/g/tags/x/unit_texts", ["m"])], "groups/g/tags/x", "file_drop.units"),
        ([("groups/g/tags/x/privacy", "pseudonym")], "groups/g/tags/x", "needs a driver"),
        ([("groups/g/tags/x/field", 0)], "groups/g/tags/x/field/constrained-int", "greater"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place_and_the_mend(changes, place, words):
    found = problems(*changes)
    assert any(words in text for at, text in found.items() if at.startswith(place[:25])), found


def test_all_faults_are_told_at_once():
    changes = [
        ("clock/zone", "Nowhere/At"),
        ("file_drop/decimal", "comma"),
        ("file_drop/rows", "/r"),
    ]
    assert len(problems(*changes)) == 3


def misfit(stated, **settings) -> str | None:
    return DRIVER.misfit(instrument(stated, **settings), ())


def test_somebody_must_say_in_which_zone_local_times_are():
    local = profile(("clock", ...), ("file_drop/time/form", "%d.%m.%Y %H:%M"))
    assert "add time_zone" in misfit(local)
    assert misfit(local, time_zone="Europe/Berlin") is None
    assert "not known" in misfit(local, time_zone="Berlin")
    assert misfit(profile(("clock", ...))) is None  # an ISO time may bear its offset


def test_two_instruments_do_not_take_the_same_files():
    one, other = (DRIVER.instrument_settings(files=f) for f in ("a*.csv", "b*.csv"))
    neither = DRIVER.instrument_settings()
    assert DRIVER.clash(one, other) is None
    assert "both take" in DRIVER.clash(one, one)
    assert "neither says" in DRIVER.clash(neither, neither)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("folder", "reports", "begin with /"), ("file_bytes_max", "1 GB", "256 MB or less")],
)
def test_a_link_is_checked(key, value, words):
    with pytest.raises(ValidationError, match=words):
        DRIVER.link_settings.model_validate({"folder": "/reports", key: value})


def test_two_links_to_one_folder_have_one_end():
    ends = {
        DRIVER.endpoint(DRIVER.link_settings.model_validate({"folder": folder}))
        for folder in ("/reports", "/reports/")
    }
    assert len(ends) == 1

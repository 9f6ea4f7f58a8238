"""Tables: what a row says is what stands in the file; a torn row costs itself only."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.file_drop.values import Unreadable
from edgeagent.model import quality
from edgeagent.model.frame import Origin
from tests.unit.drivers.file_drop import reports
from tests.unit.drivers.file_drop.reports import losses, places, profile, read, values

HEAD = "time,x\n"


def rows(*numbers: int) -> str:
    return "".join(f"2026-11-23 12:{n // 60 % 60:02d}:{n % 60:02d},{n}\n" for n in numbers)


def test_rows_become_frames_in_order_with_the_time_of_the_report_and_the_digest_of_the_file():
    items, reading = read(profile(), HEAD + rows(1, 2))
    assert values(items) == [1, 2]
    first = items[0]
    assert first.source_utc_ns == 1_795_435_201 * 10**9
    assert first.origin is Origin.BACKFILL
    assert first.raw == reading.digest
    assert len(first.raw) == 32


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_encoding_is_declared_or_marked_in_the_file(encoding, end):
    declared = encoding.removesuffix("-sig")
    stated = profile(
        ("file_drop/encoding", declared),
        ("groups/g/tags/x", {"type": "STRING", "field": "°", "privacy": "none"}),
    )
    text = f"time,°{end}2026-11-23 12:00:00,ä\u0a00{end}2026-11-23 12:00:01,ö{end}"
    text = text.replace("\u0a00", "") if encoding == "cp1252" else text.replace("\u0a00", "\u0a05")
    items, _ = read(stated, text.encode(encoding))
    assert [v[0] for v in values(items)] == ["ä", "ö"]


def test_a_byte_order_mark_goes_before_the_declared_encoding():
    items, _ = read(profile(), (HEAD + rows(1)).encode("utf-16"))
    assert values(items) == [1]


def test_decimal_commas_and_tabulators():
    stated = profile(
        ("file_drop/format", "tsv"),
        ("file_drop/decimal", "comma"),
        ("groups/g/tags/x/type", "FLOAT64"),
    )
    text = "time\tx\n2026-11-23 12:00:00\t-3,25\n2026-11-23 12:00:01\t-3.25\n"
    items, _ = read(stated, text)
    assert values(items) == [-3.25]
    assert "line 3 x has a decimal point instead of a comma" in losses(items)[0]


def test_columns_by_number_where_there_is_no_header():
    stated = profile(
        ("file_drop/header_lines", 1), ("file_drop/time/fields", [2]), ("groups/g/tags/x/field", 1)
    )
    items, _ = read(stated, "4 lines follow\n7,2026-11-23 12:00:00,rest\n")
    assert values(items) == [7]


def test_a_row_that_cannot_be_read_costs_itself_and_is_told_with_its_line():
    text = HEAD + rows(1) + "2026-11-23 12:00:02,4x\n" + rows(3) + "torn\n" + "torn\n" + rows(6)
    items, _ = read(profile(), text)
    assert values(items) == [1, 3, 6]
    first, second = losses(items)
    assert "line 3 x is no whole number" in first
    assert "lines 5 to 6: the first has 1 cells, and the header 2" in second
    loss = next(item for item in items if getattr(item, "cause", "") == "bad_reply")
    assert (loss.from_utc_ns, loss.to_utc_ns) == (1_795_435_201 * 10**9, 1_795_435_203 * 10**9)


def test_a_cell_that_cannot_be_read_costs_itself_where_others_can():
    stated = profile(("groups/g/tags/y", {"type": "FLOAT64", "field": "y"}))
    text = "time,x,y\n2026-11-23 12:00:00,oh,1.5\n2026-11-23 12:00:01,,2.5\n"
    items, _ = read(stated, text)
    assert values(items) == [(None, 1.5), (None, 2.5)]
    bad, empty = reports.frames(items)
    assert bad.status == (quality.BAD_DECODING_ERROR, quality.GOOD)
    assert (empty.present, empty.status) == ((1,), quality.GOOD)


def test_quotes_hold_separators_and_no_lines():
    stated = profile(("groups/g/tags/x", {"type": "STRING", "field": "x", "privacy": "none"}))
    text = HEAD + '2026-11-23 12:00:00,"a,b"\n2026-11-23 12:00:01,"open\n' + rows(3)
    items, _ = read(stated, text)
    assert values(items) == ["a,b", "3"]
    assert len(losses(items)) == 1


@pytest.mark.parametrize(
    ("cell", "status"),
    [("---", quality.BAD_SENSOR_FAILURE), ("1e999", quality.BAD_DECODING_ERROR)],
)
def test_texts_that_mean_no_value_and_numbers_that_are_none(cell, status):
    stated = profile(
        ("groups/g/tags/y", {"type": "FLOAT64", "field": "y", "sentinels": ["---"]}),
    )
    items, _ = read(stated, f"time,x,y\n2026-11-23 12:00:00,1,{cell}\n")
    assert values(items) == [(1, None)]
    assert reports.frames(items)[0].status == (quality.GOOD, status)


class TestTheHeader:
    UNITS = (("groups/g/tags/x/unit", "Cel"), ("groups/g/tags/x/unit_texts", ["°C", "C"]))

    @pytest.mark.parametrize("header", ["x [°C]", "x (C)", "x/°C", "x °C".replace(" °", " [°")])
    def test_a_unit_stands_behind_the_name(self, header):
        stated = profile(("file_drop/units", "header"), *self.UNITS)
        items, _ = read(stated, f"time,{header}\n" + rows(1))
        assert values(items) == [1]

    @pytest.mark.parametrize("header", ["x [F]", "x"])
    def test_another_unit_is_refused_for_the_whole_file(self, header):
        stated = profile(("file_drop/units", "header"), *self.UNITS)
        with pytest.raises(Unreadable, match="another unit in column x than °C or C"):
            read(stated, f"time,{header}\n" + rows(1))

    def test_units_may_stand_in_a_line_of_their_own(self):
        stated = profile(("file_drop/units", "line"), *self.UNITS)
        items, _ = read(stated, HEAD + ",[°C]\n" + rows(1))
        assert values(items) == [1]
        with pytest.raises(Unreadable, match="another unit"):
            read(stated, HEAD + ",K\n" + rows(1))

    def test_a_column_that_begins_alike_is_another(self):
        stated = profile(("file_drop/units", "header"), *self.UNITS)
        items, _ = read(stated, "time,x 2 [°C],x [°C]\n2026-11-23 12:00:00,5,6\n")
        assert values(items) == [6]

    @pytest.mark.parametrize("text", ["", "time\n", "garbage\n" * 300, "time,x,x\n"])
    def test_a_file_without_the_columns_is_told(self, text):
        with pytest.raises(Unreadable, match=r"no line with the names|has 2 columns x"):
            read(profile(), text)

    def test_facts_stand_before_it(self):
        stated = profile(
            ("identity_unavailable", ...),
            ("identity", {"serial_number": {"field": "Serial"}, "model": {"field": "Model"}}),
        )
        _, reading = read(stated, "Serial:,0042\nother,1\n" + HEAD + rows(1))
        assert reading.facts == {"serial_number": "0042"}


class TestTheEnd:
    def test_a_last_line_without_end_may_be_cut_and_is_not_taken(self):
        items, _ = read(profile(), HEAD + rows(1, 23)[:-1])
        assert values(items) == [1]
        assert "line 3 has no end of line, so it may be cut" in losses(items)[0]

    def test_in_a_file_that_grows_it_is_simply_not_there_yet(self):
        items, _ = read(profile(("file_drop/grows", True)), HEAD + rows(1, 23)[:-1])
        assert (values(items), losses(items)) == ([1], [])

    def test_a_profile_may_say_that_reports_end_so(self):
        stated = profile(("file_drop/unterminated", True))
        cut = HEAD + rows(1, 23)[:-1]
        items, _ = read(stated, cut)
        assert values(items) == [1, 23]
        again, _ = read(stated, cut + "\n" + rows(24), known=places(items))
        assert values(again) == [24]

    def test_a_declared_end_is_waited_for(self):
        stated = profile(("file_drop/end", "End of"))
        with pytest.raises(Unreadable, match="has no end"):
            read(stated, HEAD + rows(1))
        items, _ = read(stated, HEAD + rows(1) + "End of run,5\n")
        assert (values(items), losses(items)) == ([1], [])


def test_lines_that_are_no_rows_are_passed_over():
    items, _ = read(profile(("file_drop/ignore", ["#"])), HEAD + "# note\n" + rows(1) + "\n,\n")
    assert (values(items), losses(items)) == ([1], [])


def test_a_line_without_measure_costs_itself():
    items, _ = read(profile(), HEAD + rows(1) + "x" * 70_000 + "\n" + rows(3))
    assert values(items) == [1, 3]
    assert "more than 65536 bytes" in losses(items)[0]


def test_what_could_not_be_read_at_the_end_is_told_once():
    text = HEAD + rows(1) + "torn\n"
    items, _ = read(profile(), text)
    assert len(losses(items)) == 1
    again, reading = read(profile(), text, known=places(items))
    assert again == []
    assert reading.resumed


@given(
    numbers=st.lists(st.integers(0, 3599), max_size=20),
    cuts=st.lists(st.integers(0, 700), max_size=6),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-16-be"]),
    grows=st.booleans(),
)
@settings(deadline=None)
def test_any_cuts_of_a_growing_file_give_each_row_once(numbers, cuts, end, encoding, grows):
    stated = profile(("file_drop/grows", grows), ("file_drop/encoding", encoding))
    whole = (HEAD + rows(*numbers)).replace("\n", end).encode(encoding)
    marks: dict[str, str] = {}
    found = []
    for cut in [*sorted(cuts), len(whole)]:
        try:
            items, _ = read(stated, whole[:cut], known=marks)
        except Unreadable:
            continue
        marks |= places(items)
        found += values(items)
    assert found == numbers


@given(
    start=st.sampled_from([b"", b"time,x\n", "time,x\n".encode("utf-16")]),
    garbage=st.binary(max_size=300) | st.text("0123456789,:- \n\"'\0\r;\ufeff").map(str.encode),
)
@settings(deadline=None)
def test_garbage_gives_no_value_that_does_not_stand_there(start, garbage):
    data = start + garbage
    try:
        items, _ = read(profile(), data)
    except Unreadable:
        return
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = data.decode(encoding, "replace")
    assert set(values(items)) <= {int(number) for number in re.findall(r"[+-]?[0-9]+", text)}

"""XML and JSON: whole or not at all, nothing but what stands there, each row once."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.file_drop import DRIVER
from drivers.file_drop.values import Unreadable
from edgeagent.model import quality
from tests.unit.drivers.file_drop.reports import (
    changed,
    frames,
    losses,
    places,
    read,
    values,
)

XML = (
    ("file_drop/files", "*.xml"),
    ("file_drop/format", "xml"),
    ("file_drop/rows", "/r/s"),
    ("file_drop/time/fields", ["@t"]),
)
JSON = (
    ("file_drop/files", "*.json"),
    ("file_drop/format", "json"),
    ("file_drop/rows", "/r/s"),
    ("file_drop/time/fields", ["t"]),
)


def profile(*changes):
    return DRIVER.profile.model_validate(changed(*changes))


def xml(*rows: tuple[int, object], head: str = "") -> str:
    samples = "".join(f'<s t="2026-11-23T12:00:{n:02d}Z"><x>{x}</x></s>' for n, x in rows)
    return f"<r>{head}{samples}</r>"


def as_json(*rows: tuple[int, object]) -> str:
    return json.dumps({"r": {"s": [{"t": f"2026-11-23T12:00:{n:02d}Z", "x": x} for n, x in rows]}})


@pytest.mark.parametrize(("layout", "write"), [(XML, xml), (JSON, as_json)], ids=["xml", "json"])
class TestBoth:
    def test_rows_become_frames(self, layout, write):
        items, _ = read(profile(*layout), write((1, 5), (2, 6)))
        assert values(items) == [5, 6]
        assert [f.source_utc_ns % (60 * 10**9) for f in frames(items)] == [10**9, 2 * 10**9]

    def test_a_row_that_cannot_be_read_costs_itself(self, layout, write):
        items, _ = read(profile(*layout), write((1, 5), (2, "oh"), (3, 7)))
        assert values(items) == [5, 7]
        assert "row 2 x is no whole number" in losses(items)[0]

    def test_a_report_that_was_written_again_with_more_rows_goes_on_behind_the_old_ones(
        self, layout, write
    ):
        first, _ = read(profile(*layout), write((1, 5), (2, 6)))
        again, reading = read(profile(*layout), write((1, 5), (2, 6), (3, 7)), known=places(first))
        assert values(again) == [7]
        assert reading.resumed

    def test_a_cut_report_is_not_used_at_all(self, layout, write):
        whole = write((1, 5), (2, 6))
        for cut in range(len(whole)):
            with pytest.raises(Unreadable, match="not well-formed"):
                read(profile(*layout), whole[:cut])

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_encodings_as_the_format_defines_them(self, layout, write, encoding):
        items, _ = read(profile(*layout), write((1, 5)).encode(encoding))
        assert values(items) == [5]

    @given(garbage=st.binary(max_size=200))
    @settings(deadline=None)
    def test_garbage_is_told(self, layout, write, garbage):
        with pytest.raises(Unreadable):
            read(profile(*layout), garbage)


class TestXml:
    @pytest.mark.parametrize(
        "text",
        [
            '<!DOCTYPE r [<!ENTITY a "1"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><r>&b;</r>',
            '<!DOCTYPE r SYSTEM "file:///etc/passwd"><r/>',
            '<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/hostname">]><r><s><x>&e;</x></s></r>',
        ],
        ids=["entities", "external type", "external entity"],
    )
    def test_a_document_type_is_refused(self, text):
        with pytest.raises(Unreadable, match="document type"):
            read(profile(*XML), text)

    def test_depth_is_bounded(self):
        with pytest.raises(Unreadable, match="nested"):
            read(profile(*XML), "<r>" * 100_000)

    def test_names_are_without_namespaces(self):
        text = xml((1, 5)).replace("<r>", '<q:r xmlns:q="urn:q">').replace("</r>", "</q:r>")
        assert values(read(profile(*XML), text)[0]) == [5]

    def test_facts_and_units_have_paths(self):
        stated = profile(
            *XML,
            ("identity_unavailable", ...),
            ("identity", {"serial_number": {"field": "/r/@serial"}}),
            ("groups/g/tags/x/unit_field", "x/@u"),
            ("groups/g/tags/x/unit_texts", ["kg"]),
        )
        text = (
            '<r serial="7"><s t="2026-11-23T12:00:00Z"><x u="kg">1</x></s>'
            '<s t="2026-11-23T12:00:01Z"><x u="lb">2</x></s></r>'
        )
        items, reading = read(stated, text)
        assert reading.facts == {"serial_number": "7"}
        assert values(items) == [1]
        assert "x has another unit than kg" in losses(items)[0]


class TestJson:
    @pytest.mark.parametrize("text", ['{"r":{"s":[],"s":[]}}', '{"r":{"s":[NaN]}}', "[" * 100_000])
    def test_what_is_no_report_is_told(self, text):
        with pytest.raises(Unreadable, match="not well-formed"):
            read(profile(*JSON), text)

    @pytest.mark.parametrize("text", ["1", "[]", '{"r":[]}', '{"r":{"s":{}}}'])
    def test_rows_are_where_the_profile_says(self, text):
        with pytest.raises(Unreadable, match="no list of rows"):
            read(profile(*JSON), text)

    def test_numbers_are_taken_as_written(self):
        stated = profile(*JSON, ("groups/g/tags/x/type", "UINT64"))
        whole, _ = read(stated, as_json((1, 2**64 - 1)))
        assert values(whole) == [2**64 - 1]
        assert losses(read(stated, as_json((1, 2**64)))[0])
        assert losses(read(stated, as_json((1, 1.0)))[0])

    def test_truth_and_nothing(self):
        stated = profile(
            *JSON,
            ("groups/g/tags/x/type", "BOOL"),
            ("groups/g/tags/x/true_texts", ["true"]),
            ("groups/g/tags/x/false_texts", ["false"]),
        )
        items, _ = read(stated, as_json((1, True), (2, None), (3, False)))
        assert values(items) == [True, False]
        assert [frame.status for frame in frames(items)] == [quality.GOOD, quality.GOOD]

    def test_memory_is_bounded_by_the_size_of_the_file(self):
        text = as_json(*((n % 60, n) for n in range(5_000)))
        tracemalloc.start()
        try:
            read(profile(*JSON), text)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 40 * len(text)

"""From bytes to values: the examples of the manuals, and that nothing else becomes a value."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from drivers.serial_line import DRIVER
from drivers.serial_line.codec import BadLine, Refused, Span, compile_command
from drivers.serial_line.values import Missing, number_of, value_of
from edgeagent.model import quality
from edgeagent.model.frame import DataType
from tests.conformance.serial_line.instruments import LISTENED, POLLED, load
from tests.unit.drivers.serial_line.replies import EXAMPLES, LOGGER, MORE

PROFILES = {case.profile: load(case.profile) for case in (*POLLED, *LISTENED)}
COMMANDS = [
    compile_command(profile, name, None)
    for profile in PROFILES.values()
    for name in profile.commands
]


def command(profile: str, name: str):
    return compile_command(PROFILES[profile], name, None)


def values(profile: str, name: str, heard: bytes) -> dict:
    """The raw values of every tag that a reply brings."""
    found = command(profile, name).decode(heard).found
    assert not isinstance(found, Refused)
    return {
        tag_name: value_of(
            tag, found, found if tag.unit_command is None else {"unit": Span("SCCM", 0, 4)}
        ).value
        for group in PROFILES[profile].groups.values()
        for tag_name, tag in group.tags.items()
        if tag.command == name
    }


def checked(heard: str) -> bytes:
    return command("thermo-heracell-vios", "version").framing.checksum_sent.of(heard.encode())


# -- the manuals' examples ---------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids="-".join)
def test_a_request_is_the_manuals_byte_for_byte(example):
    assert command(*example).sent == EXAMPLES[example][0]


@pytest.mark.parametrize("example", EXAMPLES, ids="-".join)
def test_a_reply_is_cut_as_the_manual_shows(example):
    _, heard, parts = EXAMPLES[example]
    asked = command(*example)
    assert asked.is_whole(heard)
    found = asked.decode(heard).found
    assert parts.items() <= {name: span.text for name, span in found.items()}.items()


@pytest.mark.parametrize("example", MORE, ids="-".join)
def test_further_replies_fit(example):
    for heard in MORE[example]:
        assert command(*example).is_whole(heard)
        assert not isinstance(command(*example).decode(heard).found, Refused)


def test_the_record_of_the_incubators_manual_is_read():
    # 2006-01-11 15:55, periodic, 37.5 C, 4.0 % CO2, 21.2 % O2.
    found = values(
        "thermo-heracell-vios", "newest_records", LOGGER.encode() + checked(LOGGER) + b"\r"
    )
    assert found == {
        "event": 1,
        "logged_day": 11,
        "logged_month": 1,
        "logged_hour": 15,
        "logged_minute": 55,
        "device_status": 0,
        "temperature": 375,
        "co2": 40,
        "o2": 212,
        "humidity": 0,
    }


def test_the_thermostats_numbers_are_signed():
    assert values("huber-pb", "internal", b"{S01FB2E\r\n") == {"internal": -1234}
    assert values("huber-pb", "internal", b"{S01C504\r\n") == {"internal": -15_100}
    assert values("huber-pb", "internal", b"{S010E74\r\n") == {"internal": 3700}


def test_a_flow_below_zero_is_told_from_one_above_the_capacity():
    # 32000 is 100 %; above 41942 (0xA3D6) it is negative.
    reply = ":06030201" + "20%04X\r\n"
    for raw, expected in ((16_000, 16_000), (41_942, 41_942), (41_943, -23_593), (65_216, -320)):
        found = values("bronkhorst-propar", "measure", (reply % raw).encode())
        assert found == {"measure": expected}


def test_a_placeholder_is_no_value_and_a_defect_of_the_converter_none_either():
    tags = PROFILES["alicat-mc"].groups["flow"].tags
    for poll, status in (
        (b"A +014.62 +021.89 +000.00 --- +078.95     N2\r", quality.BAD_SENSOR_FAILURE),
        (b"A +014.62 +021.89 +000.00 +000.00 +078.95     N2 ADC\r", quality.BAD_DEVICE_FAILURE),
    ):
        found = command("alicat-mc", "poll").decode(poll).found
        assert value_of(tags["mass_flow"], found, {"unit": Span("SCCM", 0, 4)}) == (None, status)


@pytest.mark.parametrize(
    ("profile", "name", "heard", "status"),
    [
        ("mettler-mt-sics", "weight", b"ES\r\n", quality.BAD_NOT_SUPPORTED),
        ("mettler-mt-sics", "weight", b"S I\r\n", quality.BAD_RESOURCE_UNAVAILABLE),
        ("mettler-mt-sics", "weight", b"S +\r\n", quality.BAD_OUT_OF_RANGE),
        ("sartorius-sbi", "print", b"Stat      High      \r\n", quality.BAD_OUT_OF_RANGE),
        ("sartorius-sbi", "print", b"      Low     \r\n", quality.BAD_OUT_OF_RANGE),
        ("sartorius-sbi", "print", b"Stat     ERR 054    \r\n", quality.BAD_DEVICE_FAILURE),
        ("thermo-heracell-vios", "version", b"!:0005:02:?1:d7\r", quality.BAD_NOT_SUPPORTED),
        ("ami-186", "level", b"-8\r\n", quality.BAD_NOT_SUPPORTED),
        ("alicat-mc", "maker", b"?\r", quality.BAD_NOT_SUPPORTED),
        ("adam-4015-ascii", "name", b"?01\r", quality.BAD_NOT_SUPPORTED),
        ("bronkhorst-propar", "flow", b":0403000404\r\n", quality.BAD_NOT_SUPPORTED),
    ],
)
def test_a_reply_that_says_no_is_a_refusal_with_its_status(profile, name, heard, status):
    asked = command(profile, name)
    assert asked.is_whole(heard)
    found = asked.decode(heard).found
    assert isinstance(found, Refused)
    assert found.status == status
    assert found.text


# -- what is no value --------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids="-".join)
def test_a_part_of_a_reply_is_never_taken_for_a_whole_one(example):
    heard = EXAMPLES[example][1]
    for end in range(len(heard)):
        assert not command(*example).is_whole(heard[:end])


@pytest.mark.parametrize("example", EXAMPLES, ids="-".join)
def test_two_replies_are_none(example):
    with pytest.raises(BadLine, match="behind"):
        command(*example).is_whole(EXAMPLES[example][1] * 2)


@given(st.data())
def test_one_wrong_character_never_passes_the_checksum(data):
    heard = bytearray(LOGGER.encode() + checked(LOGGER) + b"\r")
    at = data.draw(st.integers(0, len(heard) - 2))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte not in (heard[at], 0x0D)))
    heard[at] = other
    with pytest.raises(BadLine):
        command("thermo-heracell-vios", "newest_records").decode(bytes(heard))


@given(st.sampled_from(COMMANDS), st.binary(max_size=600))
def test_no_bytes_make_the_parser_fail_otherwise_than_with_words(asked, heard):
    try:
        whole = asked.is_whole(heard)
        reading = asked.decode(heard) if whole else None
    except BadLine:
        return
    if reading is not None and not isinstance(reading.found, Refused):
        text = heard.decode("latin-1")
        assert all(span.text in text for span in reading.found.values() if "\n" not in span.text)


@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_whatever_is_changed_in_a_reply_its_values_stand_in_what_came(example, data):
    heard = bytearray(EXAMPLES[example][1])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(heard) - 1))
        heard[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        if not heard:
            return
    asked, profile = command(*example), PROFILES[example[0]]
    try:
        found = asked.decode(bytes(heard)).found if asked.is_whole(bytes(heard)) else None
    except BadLine:
        return
    if found is None or isinstance(found, Refused):
        return
    for group in profile.groups.values():
        for tag in group.tags.values():
            if tag.command != example[1] or tag.number != "decimal" or not tag.is_number:
                continue
            try:
                value = value_of(
                    tag,
                    found,
                    {part: Span(t, 0, 1) for part in ("unit", "value") for t in tag.unit_texts}
                    or found,
                ).value
            except Missing:
                continue
            if value is not None:
                said = found[tag.field].text.replace(" ", "").encode()
                assert said in bytes(heard).replace(b" ", b"")
                assert float(said) == value


def test_characters_beyond_ascii_point_at_the_line_settings():
    with pytest.raises(BadLine, match="parity"):
        command("lakeshore-218", "identity").decode(b"\xccSCI,\xcd,x,y\r\n")


# -- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "form", "value"),
    [
        ("+   123.56", DataType.FLOAT64, "decimal", 123.56),
        ("- 0.10", DataType.FLOAT64, "decimal", -0.1),
        ("1.25E-03", DataType.FLOAT64, "decimal", 0.00125),
        (".5", DataType.FLOAT64, "decimal", 0.5),
        ("12,5", DataType.FLOAT64, "decimal-comma", 12.5),
        ("-0042", DataType.INT16, "decimal", -42),
        ("18446744073709551615", DataType.UINT64, "decimal", 2**64 - 1),
        ("FB2E", DataType.INT16, "hexadecimal", -1234),
        ("ff", DataType.UINT16, "hexadecimal", 255),
        ("41480000", DataType.FLOAT32, "hexadecimal-float", 12.5),
    ],
)
def test_a_number_is_read_exactly(text, kind, form, value):
    found = number_of(text, kind, form)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "form"),
    [
        ("", DataType.FLOAT64, "decimal"),
        ("nan", DataType.FLOAT64, "decimal"),
        ("inf", DataType.FLOAT64, "decimal"),
        ("1_0", DataType.FLOAT64, "decimal"),
        ("1.2.3", DataType.FLOAT64, "decimal"),
        ("--1", DataType.FLOAT64, "decimal"),
        ("12,5", DataType.FLOAT64, "decimal"),
        ("1.000,5", DataType.FLOAT64, "decimal-comma"),
        ("0x10", DataType.UINT8, "decimal"),
        ("256", DataType.UINT8, "decimal"),
        ("-1", DataType.UINT8, "decimal"),
        ("1.0", DataType.INT16, "decimal"),
        ("٣", DataType.INT16, "decimal"),
        ("2E", DataType.INT16, "hexadecimal"),
        ("1FFFF", DataType.UINT16, "hexadecimal"),
        ("4148", DataType.FLOAT32, "hexadecimal-float"),
    ],
)
def test_what_is_no_number_of_the_stated_form_is_none(text, kind, form):
    with pytest.raises(Missing):
        number_of(text, kind, form)


@given(st.text(max_size=100))
def test_no_text_makes_a_number_otherwise_than_by_its_digits(text):
    for kind in (DataType.FLOAT64, DataType.INT32, DataType.UINT64):
        for form in ("decimal", "decimal-comma", "hexadecimal"):
            if form == "hexadecimal" and kind is DataType.FLOAT64:
                continue
            try:
                number = number_of(text, kind, form)
            except Missing:
                continue
            assert isinstance(number, int | float)
            assert any(character.isdigit() or character in "abcdefABCDEF" for character in text)


# -- privacy -----------------------------------------------------------------------------------


def test_the_evidence_of_a_scan_holds_nothing_of_the_code():
    scan = command("barcode-scanner", "scan")
    reading = scan.decode(b"=W000026000100\r")
    assert reading.raw == b"[removed]"
    assert reading.found["code"].text == "=W000026000100"


def test_what_does_not_fit_is_not_quoted_where_it_may_name_a_person():
    with pytest.raises(BadLine) as caught:
        command("barcode-scanner", "scan").decode(b"DONOR\x80\r")
    assert "DONOR" not in str(caught.value)


# -- the documentation -------------------------------------------------------------------------


def test_the_example_of_the_documentation_is_a_valid_profile_and_reads_its_table():
    page = Path(__file__).parents[4] / "docs" / "adding-an-instrument.md"
    section = page.read_text(encoding="utf-8").split("\n## Lines of text\n")[1]
    example = section.split("```yaml\n")[1].split("```")[0]
    profile = DRIVER.profile.model_validate(YAML(typ="safe", pure=True).load(example))
    tag = profile.groups["level"].tags["level"]
    level = compile_command(profile, "level", "2")
    assert level.sent == b"2?L\r"
    assert value_of(tag, level.decode(b"2:+045.2 cm\r").found) == (45.2, quality.GOOD)
    assert value_of(tag, level.decode(b"2:----\r").found) == (None, quality.BAD_SENSOR_FAILURE)
    with pytest.raises(Missing, match="'in'"):
        value_of(tag, level.decode(b"2:+017.8 in\r").found)
    assert level.decode(b"2:ERR\r").found.status == quality.BAD_NOT_SUPPORTED
    with pytest.raises(BadLine):
        level.decode(b"1:+045.2 cm\r")
    who = compile_command(profile, "identity", "2").decode(b"2:L10;0815;1.3\r").found
    assert who["serial_number"].text == "0815"

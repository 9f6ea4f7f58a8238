"""What a profile of an instrument that writes run reports may state.

Everything is checked here, before a folder is opened. After that the driver trusts a profile.
"""

import codecs
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)

from drivers.file_drop.values import zone_of
from edgeagent.model.checked import fault_line
from edgeagent.model.frame import DataType, TagSchema
from edgeagent.model.profile import Group, IdentityItem, Profile, Strict, Tag

Form = Literal["csv", "tsv", "xml", "json"]
TABLES: tuple[Form, ...] = ("csv", "tsv")

_PROBE = datetime(2026, 11, 23, 13, 14, 15)
_WIDE = ("utf-16", "utf-16-le", "utf-16-be")


def _known_encoding(name: str) -> str:
    try:
        normal = codecs.lookup(name).name
        one_byte = len("\n,;0".encode(normal)) == len("\n,;0") and normal not in ("utf-7", "idna")
    except (LookupError, UnicodeError):
        raise ValueError(f"encoding {name!r} is not known; write e.g. utf-8 or cp1252") from None
    if normal not in _WIDE and not one_byte:
        raise ValueError(f"encoding {name!r} is not read here; convert, or use utf-8 or utf-16")
    return normal


def _time_form(form: str) -> str:
    if form in ("iso", "unix"):
        return form
    try:
        text = _PROBE.strftime(form) if "%z" not in form else _PROBE.astimezone().strftime(form)
        found = datetime.strptime(text, form)
    except ValueError:
        found = None
    if found is None or found.replace(tzinfo=None, second=0) != _PROBE.replace(second=0):
        raise ValueError(
            f"{form!r} does not give date, hour and minute; write iso, unix, or a form as in "
            "'%d.%m.%Y %H:%M:%S'"
        )
    return form


Location = (
    Annotated[str, StringConstraints(min_length=1, max_length=200)]
    | Annotated[int, Field(ge=1, le=1000)]
)
"""Of a table: the name or the number (from 1) of a column; of a tree: a path as in ``Probe/@id``,
from the row; with a slash in front from the root."""


class FileDropTag(Tag):
    """One value of a row."""

    field: Location = Field(description="column of the table, or path in the tree")
    unit_texts: tuple[str, ...] = Field(
        (),
        description="how the report writes the declared unit; with any other text it is refused",
    )
    unit_field: str | None = Field(
        None, description="of a tree: path of the unit; of a table see file_drop.units"
    )
    true_texts: tuple[str, ...] = Field((), description="of a BOOL: texts that mean true")
    false_texts: tuple[str, ...] = Field((), description="of a BOOL: texts that mean false")

    def compile(self, name: str, critical: bool | None = None) -> TagSchema:
        """See :class:`Tag`; texts that stand for 'no value' are told apart here, not downstream."""
        schema = super().compile(name, critical)
        numbers = tuple(s for s in schema.sentinels if not isinstance(s, str))
        return TagSchema(
            schema.name,
            schema.type,
            schema.unit,
            schema.scale,
            schema.low,
            schema.high,
            numbers if self.is_number else (),
            schema.critical,
        )


class FileDropGroup(Group[FileDropTag]):
    """Values that one row brings; ``period`` is the nominal time between two rows."""


class FileDropIdentityItem(IdentityItem):
    """One fact that the report states before its rows, or outside of them."""

    field: str = Field(
        min_length=1,
        description="of a table: first cell of the line whose second cell is the fact; of a tree: "
        "path from the root",
    )


class ReportTime(Strict):
    """Where and how a row states its time."""

    fields: tuple[Location, ...] = Field(
        min_length=1, max_length=3, description="joined by a space where there are several"
    )
    form: Annotated[str, AfterValidator(_time_form)] = Field(
        "iso", description="iso, unix (seconds since 1970), or as in '%d.%m.%Y %H:%M:%S'"
    )


class FileDropLayout(Strict):
    """How a report is written."""

    files: str = Field(min_length=1, description="pattern of the names, with * and ?")
    format: Form
    opaque_names: bool = Field(
        False, description="whether no name says anything of a person, so that one may be logged"
    )
    time: ReportTime
    encoding: Annotated[str, AfterValidator(_known_encoding)] = Field(
        "utf-8", description="of a table; a byte order mark in the file goes before"
    )
    delimiter: str | None = Field(None, min_length=1, max_length=1, description="of csv; default ,")
    decimal: Literal["point", "comma"] = "point"
    header_lines: int | None = Field(
        None,
        ge=0,
        le=200,
        description="lines before the first row, where the columns have no names; otherwise the "
        "header is the first line with all names",
    )
    units: Literal["header", "line"] | None = Field(
        None,
        description="where a table states units: behind the name, or in the line below the header",
    )
    ignore: tuple[str, ...] = Field(
        (), description="of a table: beginnings of lines that are no rows"
    )
    end: str | None = Field(
        None,
        min_length=1,
        description="of a table: beginning of the last line, without which the report is not whole",
    )
    grows: bool = Field(False, description="whether rows are added to a file after it was read")
    unterminated: bool = Field(
        False, description="of a table: whether its last row ends with the file, not with a line"
    )
    rows: str | None = Field(None, min_length=2, description="of a tree: path of the rows")

    @property
    def is_table(self) -> bool:
        """Whether the report has lines and columns."""
        return self.format in TABLES

    @property
    def separator(self) -> str:
        """What stands between two cells."""
        return "\t" if self.format == "tsv" else self.delimiter or ","


class Fault(NamedTuple):
    """One fault and its place in the file."""

    place: tuple[str | int, ...]
    text: str


class FileDropProfile(Profile[FileDropGroup, FileDropIdentityItem]):
    """A whole profile file of the driver ``file_drop``."""

    driver: Literal["file_drop"]
    file_drop: FileDropLayout

    @model_validator(mode="wrap")
    @classmethod
    def _checked(
        cls, data: Any, handler: ModelWrapValidatorHandler["FileDropProfile"]
    ) -> "FileDropProfile":
        profile = handler(data)
        lines = [fault_line(place, text) for place, text in profile.faults()]
        if lines:
            raise ValidationError.from_exception_data(cls.__name__, lines)
        return profile

    @property
    def needs_zone(self) -> bool:
        """Whether the site must say in which time zone the reports are written."""
        form = self.file_drop.time.form
        return self.clock is None and form not in ("iso", "unix") and "%z" not in form

    def faults(self) -> Iterator[Fault]:
        """Yield what shows only when the parts are held against each other."""
        layout = self.file_drop
        if self.clock is not None:
            try:
                zone_of(self.clock.zone)
            except (ZoneInfoNotFoundError, ValueError):
                text = f"{self.clock.zone!r} is not known; write one as in Europe/Berlin"
                yield Fault(("clock", "zone"), text)
        yield from self._of_table() if layout.is_table else self._of_tree()
        for group, tags in self.groups.items():
            for name, tag in tags.tags.items():
                place = ("groups", group, "tags", name)
                for text in _of_tag(tag, layout):
                    yield Fault(place, text)

    def _of_table(self) -> Iterator[Fault]:
        layout = self.file_drop
        if layout.rows is not None:
            yield Fault(("file_drop", "rows"), "a table has no path of rows; remove it")
        if layout.format == "tsv" and layout.delimiter is not None:
            yield Fault(("file_drop", "delimiter"), "tsv has tabulators; remove it, or write csv")
        if layout.decimal == "comma" and layout.separator == ",":
            text = "the comma separates cells too; write delimiter ';', or decimal point"
            yield Fault(("file_drop", "decimal"), text)
        named = [f for f in self._fields() if isinstance(f, str)]
        if layout.header_lines is None and not named:
            text = "no column has a name by which the header is found; add header_lines"
            yield Fault(("file_drop", "header_lines"), text)
        if layout.header_lines is not None and named:
            text = f"columns have names ({named[0]}), which the header says; remove it"
            yield Fault(("file_drop", "header_lines"), text)
        if layout.units is not None and not named:
            text = "units stand with names of columns, and there are none; remove it"
            yield Fault(("file_drop", "units"), text)

    def _of_tree(self) -> Iterator[Fault]:
        layout = self.file_drop
        if layout.rows is None or not layout.rows.startswith("/"):
            text = "says not where the rows are; write a path from the root as in /report/samples"
            yield Fault(("file_drop", "rows"), text)
        meaningless = ("delimiter", "header_lines", "units", "end")
        for key in (*meaningless, "ignore", "unterminated", "encoding"):
            if key in layout.model_fields_set:
                yield Fault(("file_drop", key), f"means nothing in {layout.format}; remove it")
        if layout.format == "json" and layout.decimal == "comma":
            yield Fault(("file_drop", "decimal"), "JSON has a point; remove it")
        for name, item in self.identity.items():
            if not item.field.startswith("/"):
                text = "is outside the rows; write a path from the root, with / in front"
                yield Fault(("identity", name, "field"), text)
        for field in self._fields():
            if isinstance(field, int):
                text = f"a tree has no column {field}; write a path"
                yield Fault(("file_drop", "rows"), text)

    def _fields(self) -> list[str | int]:
        """Return all places of a row that are read."""
        groups = [group.acquired().values() for group in self.groups.values()]
        of_tags = [tag.field for tags in groups for tag in tags]
        return [*self.file_drop.time.fields, *of_tags]


def _of_tag(tag: FileDropTag, layout: FileDropLayout) -> Iterator[str]:
    if tag.type is DataType.BOOL and not (tag.true_texts and tag.false_texts):
        yield "a BOOL needs texts that mean true and false; add true_texts and false_texts"
    if set(tag.true_texts) & set(tag.false_texts):
        yield "a text cannot mean true and false; remove it from one of them"
    if tag.type is not DataType.BOOL and (tag.true_texts or tag.false_texts):
        yield "only a BOOL has true_texts and false_texts; remove them"
    if tag.unit_field is not None and layout.is_table:
        yield "a table states units with its header; remove unit_field, and see file_drop.units"
    if tag.unit_field is not None and not tag.unit_texts:
        yield "nobody says how the unit is written; add unit_texts"
    if tag.unit_texts and (layout.units if layout.is_table else tag.unit_field) is None:
        where = "file_drop.units" if layout.is_table else "unit_field"
        yield f"nobody says where the unit stands; add {where}"
    if tag.unit_texts and isinstance(tag.field, int):
        yield "a column without a name has no unit that could be read; remove unit_texts"

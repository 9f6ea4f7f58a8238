"""Reports in lines and columns. A row is one line; one that is torn costs itself only."""

import codecs
import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from drivers.file_drop.profile import FileDropLayout
from drivers.file_drop.report import PLACE_BYTES, Report, Row, Wanted
from drivers.file_drop.values import Unreadable

LINE_BYTES_MAX = 65_536
HEADER_LINES_MAX = 200
_BLANK = " \t\r\n\v\f\u00a0\ufeff"
_BRACKETS = _BLANK + "[](){}/,"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class _Line(NamedTuple):
    """One line: its number, the bytes up to its end, and whether it has one."""

    number: int
    start: int
    stop: int
    terminated: bool


class _Columns(NamedTuple):
    """Which cell holds what, and how many cells a row has; ``None``: as many as it likes."""

    places: tuple[tuple[str | int, int], ...]
    cells: int | None


def read_table(layout: FileDropLayout, wanted: Wanted, data: bytes) -> Report:
    """Return the report that a file holds.

    :raises Unreadable: if nothing of it can be used
    """
    text = _Text(layout, data)
    lines = iter(text.lines())
    facts, columns, first = _beginning(layout, wanted, text, lines)
    if layout.end is not None and not _is_whole(text, layout.end):
        raise Unreadable("has no end: its last line is not the one that the profile declares")
    return Report(facts, lambda: _rows(layout, text, columns, first))


class _Text:
    """The bytes of a file as lines of cells."""

    def __init__(self, layout: FileDropLayout, data: bytes) -> None:
        self.data = data
        self._separator = layout.separator
        self.begin, self._encoding = 0, layout.encoding
        for mark, encoding in _MARKS:
            if data.startswith(mark):
                self.begin, self._encoding = len(mark), encoding
                break
        else:
            if layout.encoding == "utf-16":
                raise Unreadable("is UTF-16 without a byte order mark; declare utf-16-le or -be")
        self._end = "\n".encode(self._encoding)

    def lines(self, start: int | None = None, number: int = 1) -> Iterator[_Line]:
        """Yield the lines from a place on, the first of which has this number."""
        width, data = len(self._end), self.data
        start = self.begin if start is None else start
        search = start
        while start < len(data):
            at = data.find(self._end, search)
            if at >= 0 and (at - self.begin) % width:
                search = at + 1
                continue
            stop = len(data) if at < 0 else at + width
            yield _Line(number, start, stop, at >= 0)
            number, start, search = number + 1, stop, stop

    def cells(self, line: _Line) -> list[str]:
        """Return the cells of a line, none for an empty one.

        :raises Unreadable: if it has none
        """
        if line.stop - line.start > LINE_BYTES_MAX:
            raise Unreadable(f"has more than {LINE_BYTES_MAX} bytes")
        try:
            text = self.data[line.start : line.stop].decode(self._encoding)
        except UnicodeDecodeError:
            raise Unreadable(f"is not {self._encoding}") from None
        text = text.rstrip("\r\n")
        if not text.strip(_BLANK):
            return []
        if "\r" in text or "\0" in text:
            raise Unreadable("has characters that no line has")
        try:
            (cells,) = csv.reader([text], delimiter=self._separator, strict=True)
        except (csv.Error, ValueError):
            raise Unreadable("has quotes that do not fit together") from None
        return [cell.strip(_BLANK) for cell in cells]


def _is_whole(text: _Text, end: str) -> bool:
    last: _Line | None = None
    for line in text.lines():
        if text.data[line.start : line.stop].strip(b" \t\r\n\0"):
            last = line
    try:
        return last is not None and _begins(text.cells(last), (end,))
    except Unreadable:
        return False


def _begins(cells: Sequence[str], beginnings: Sequence[str]) -> bool:
    return bool(cells) and any(cells[0].startswith(beginning) for beginning in beginnings)


def _beginning(
    layout: FileDropLayout, wanted: Wanted, text: _Text, lines: Iterator[_Line]
) -> tuple[Mapping[str, str], _Columns, tuple[int, int]]:
    """Return the facts, the columns, and where the rows begin: byte and number of the line."""
    facts: dict[str, str] = {}
    names = {field: name for name, field in wanted.facts.items()}
    columns: _Columns | None = None
    if layout.header_lines is not None:
        columns = _Columns(tuple((f, f - 1) for f in wanted.fields if isinstance(f, int)), None)
        if layout.header_lines == 0:
            return facts, columns, (text.begin, 1)
    for line in lines:
        if line.number > HEADER_LINES_MAX or not line.terminated:
            break
        cells = _cells_or_none(text, line)
        if layout.header_lines is None:
            columns = _columns(layout, wanted, cells)
        if len(cells) > 1 and cells[0].rstrip(_BLANK + ":=") in names:
            facts.setdefault(names[cells[0].rstrip(_BLANK + ":=")], cells[1])
        if columns is not None and line.number >= (layout.header_lines or 0):
            last = _units(wanted, columns, text, lines) if layout.units == "line" else line
            return facts, columns, (last.stop, last.number + 1)
    raise Unreadable(
        "has fewer lines than its header should have"
        if layout.header_lines is not None
        else "has no line with the names of all columns"
    )


def _cells_or_none(text: _Text, line: _Line) -> list[str]:
    try:
        return text.cells(line)
    except Unreadable:
        return []  # a line before the header that cannot be read is not the header


def _columns(layout: FileDropLayout, wanted: Wanted, cells: Sequence[str]) -> _Columns | None:
    """Return the columns that a line names, ``None`` if it does not name all."""
    places: list[tuple[str | int, int]] = []
    wrong: list[str] = []
    for field in wanted.fields:
        if isinstance(field, int):
            places.append((field, field - 1))
            continue
        texts = wanted.units.get(field) if layout.units == "header" else None
        found = [i for i, cell in enumerate(cells) if _names(cell, field, texts is not None)]
        if not found:
            return None
        if len(found) > 1:
            wrong.append(f"has {len(found)} columns {field}")
        elif texts is not None and cells[found[0]][len(field) :].strip(_BRACKETS) not in texts:
            wrong.append(f"has another unit in column {field} than {' or '.join(texts)}")
        places.append((field, found[0]))
    if wrong:
        raise Unreadable("; ".join(wrong))
    return _Columns(tuple(places), len(cells))


def _names(cell: str, field: str, with_unit: bool) -> bool:
    if not with_unit:
        return cell == field
    rest = cell[len(field) :].lstrip(_BLANK)
    return cell.startswith(field) and (not rest or rest[0] in _BRACKETS)


def _units(wanted: Wanted, columns: _Columns, text: _Text, lines: Iterator[_Line]) -> _Line:
    line = next(lines, None)
    if line is None or not line.terminated:
        raise Unreadable("has no line of units below its header")
    cells = text.cells(line)
    for field, place in columns.places:
        texts = wanted.units.get(str(field))
        if texts and (place >= len(cells) or cells[place].strip(_BRACKETS) not in texts):
            raise Unreadable(f"has another unit in column {field} than {' or '.join(texts)}")
    return line


def _rows(
    layout: FileDropLayout, text: _Text, columns: _Columns, first: tuple[int, int]
) -> Iterator[Row]:
    start, number = first
    digest = hashlib.sha256(text.data[:start])
    passed_over = (*layout.ignore, *((layout.end,) if layout.end else ()))
    for line in text.lines(start, number):
        # Without its end, so that a last line is the same one when it has got it.
        digest.update(text.data[line.start : line.stop].rstrip(b"\r\n\0") + b"\n")
        if not line.terminated and not layout.unterminated:
            if not layout.grows and text.data[line.start : line.stop].strip(b" \t\r\0"):
                yield Row(line.number, None, "has no end of line, so it may be cut")
            return
        fields = _row(text, columns, line, passed_over)
        if fields is not None:
            yield Row(line.number, digest.digest()[:PLACE_BYTES].hex(), fields)


def _row(
    text: _Text, columns: _Columns, line: _Line, passed_over: Sequence[str]
) -> Mapping[str | int, str] | str | None:
    try:
        cells = text.cells(line)
    except Unreadable as error:
        return str(error)
    if not any(cells) or _begins(cells, passed_over):
        return None
    if columns.cells is not None:
        while len(cells) > columns.cells and not cells[-1]:
            cells.pop()
        if len(cells) != columns.cells:
            return f"has {len(cells)} cells, and the header {columns.cells}"
    return {field: cells[place] for field, place in columns.places if place < len(cells)}

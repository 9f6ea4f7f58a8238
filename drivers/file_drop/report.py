"""What a report is, whatever its format: facts, and rows in order.

How far a report was read is a *digest*: of everything from its beginning to the end of a row. A
report that begins with the same bytes, or elements, is the same one, grown; its name says nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers.file_drop.values import Fields

if TYPE_CHECKING:
    from drivers.file_drop.profile import FileDropProfile

PLACE_BYTES = 16
"""Of a digest: as much of SHA-256 as tells reports apart (NIST SP 800-107, 5.1)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a report.

    :ivar number: of its line in a table, of its element in a tree; from 1
    :ivar place: digest up to its end; ``None`` while the row may still change
    :ivar fields: what it says, or why it cannot be read
    """

    number: int
    place: str | None
    fields: Fields | str


@dataclass(frozen=True, slots=True)
class Report:
    """One report, as it was when it was read.

    :ivar facts: identity items that it states
    :ivar rows: returns the rows from the first on, each time anew
    """

    facts: Mapping[str, str]
    rows: Callable[[], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a report is read.

    :ivar facts: place of each identity item by name
    :ivar fields: places within a row
    :ivar units: by column of a table, the texts that its unit may have
    """

    facts: Mapping[str, str]
    fields: Sequence[str | int]
    units: Mapping[str, tuple[str, ...]]


def wanted_of(profile: "FileDropProfile") -> Wanted:
    """Return what is read of the reports of a profile."""
    tags = [tag for group in profile.groups.values() for tag in group.acquired().values()]
    of_tags = [field for tag in tags for field in (tag.field, tag.unit_field) if field is not None]
    return Wanted(
        {name: item.field for name, item in profile.identity.items()},
        tuple(dict.fromkeys([*profile.file_drop.time.fields, *of_tags])),
        {str(tag.field): tag.unit_texts for tag in tags if tag.unit_texts},
    )

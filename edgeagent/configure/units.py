"""Units are UCUM codes (ucum.org); their grammar takes long to load and is for ``check`` alone."""

from collections.abc import Iterable, Iterator

from edgeagent.configure.document import Document, Path_
from edgeagent.model.errors import Fault


def unit_faults(profiles: Iterable[Document]) -> list[Fault]:
    """Return a fault for each unit that is no UCUM code, in profiles that are sound otherwise."""
    from lark.exceptions import LarkError
    from ucumvert import get_ucum_parser  # type: ignore[import-untyped]

    parser = get_ucum_parser()
    mend = "write a UCUM code, e.g. Cel, %, Pa, [pH], 1"
    faults = []
    for profile in profiles:
        for path, unit in _units(profile):
            try:
                parser.parse(unit)
            except LarkError:
                faults.append(profile.fault(path, f"{unit!r} is no UCUM code", mend))
    return faults


def _units(profile: Document) -> Iterator[tuple[Path_, str]]:
    for group, stated in profile.data["groups"].items():
        for name, tag in stated["tags"].items():
            if "unit" in tag:
                yield ("groups", group, "tags", name, "unit"), tag["unit"]

"""Units are UCUM codes (ucum.org); their grammar takes long to load and is for ``check`` alone."""

from collections.abc import Iterable

from edgeagent.configure.plan import SitePlan
from edgeagent.model.errors import Fault


def unit_faults(plan: SitePlan) -> list[Fault]:
    """Return a fault for each unit in use that is no UCUM code."""
    from lark.exceptions import LarkError
    from ucumvert import get_ucum_parser  # type: ignore[import-untyped]

    parser = get_ucum_parser()
    faults = []
    for unit, (profile, tag) in sorted(_units(plan)):
        try:
            parser.parse(unit)
        except LarkError:
            key = f"tags.{tag}.unit"
            mend = "write a UCUM code, e.g. Cel, %, Pa, [pH], 1"
            faults.append(Fault(f"{profile}.yaml", None, key, f"{unit!r} is no UCUM code", mend))
    return faults


def _units(plan: SitePlan) -> Iterable[tuple[str, tuple[str, str]]]:
    return {
        tag.unit: (group.profile, tag.name) for group in plan.groups for tag in group.tags
    }.items()

"""The profile that a person reads and approves, as YAML text; pure."""

import re
from collections.abc import Iterator, Mapping, Sequence

from drivers.opcua.discover.model import DI, LADS, MACHINERY, PACKML, UA, Name, written
from drivers.opcua.discover.recognise import Device, Kind, shown
from drivers.opcua.discover.tags import Found, Section, Way, snake
from edgeagent.model.frame import DataType

_ALIASES = {DI: "di", MACHINERY: "machinery", LADS: "lads", PACKML: "packml"}

_ABOUT = {
    Kind.LADS: "recognised as a LADS device (OPC 30500-1) by its type",
    Kind.PACKML: "recognised as a PackML object (OPC 30050) by its type",
    Kind.DI: "recognised as a device (OPC 10000-100) by its type",
    Kind.OTHER: "not of a type that is known; every variable was taken",
}

_MANUALS = {
    Kind.LADS: ("OPC 30500-1 Laboratory and Analytical Devices 1.0", "7"),
    Kind.PACKML: ("OPC 30050 PackML 1.01", "6"),
    Kind.DI: ("OPC 10000-100 Devices 1.04", "5"),
}

_IDENTITY_EXPECTED = ("make", "model")


def profile_names(devices: Sequence[Device]) -> list[str]:
    """Return a name for the profile of each device, no two alike."""
    names: list[str] = []
    for device in devices:
        base = _class(device)[:58]
        tails = ("", *(f"-{number}" for number in range(2, len(devices) + 1)))
        names.append(next(base + tail for tail in tails if base + tail not in names))
    return names


def _class(device: Device) -> str:
    return snake(device.name).replace("_", "-")


def draft(device: Device, name: str, url: str) -> str:
    """Return the profile of a device.

    :param name: of the profile, and so of its file
    :param url: of the server that it was drawn from
    """
    return "\n".join(_lines(device, name, url)) + "\n"


def _lines(device: Device, name: str, url: str) -> Iterator[str]:
    aliases = _aliases(device)
    mapped = [each for each in device.found if each.type is not None]
    doubts = sum(bool(each.doubt) for each in mapped)
    yield _comment(f"Drawn from {url}: {device.name}, {_ABOUT[device.kind]}.")
    yield _comment(f"{len(mapped)} tags; {doubts} of them are in doubt: see 'assumed'.")
    yield "# Hold it against the manual, then remove the next line: with it nothing is acquired."
    yield "draft: true"
    yield f"profile: {_quoted(name)}"
    yield "version: 0.1.0"
    said = {fact.name: fact.text for fact in device.identity}
    yield f"make: {_quoted(said.get('make') or 'unknown')}"
    yield f"model: {_quoted(said.get('model') or device.name)}"
    yield f"device_class: {_class(device)}"
    yield "driver: opcua"
    yield "source:"
    if device.kind in _MANUALS:
        manual, section = _MANUALS[device.kind]
        yield f"  - {{manual: {_quoted(manual)}, sections: [{_quoted(section)}], " \
            "confidence: documented}"  # fmt: skip
    yield f"  - {{manual: {_quoted(f'the server at {url}')}, confidence: assumed}}"
    yield "opcua:"
    if aliases:
        yield "  namespaces:"
        yield from (f"    {_key(alias)}: {_quoted(uri)}" for uri, alias in aliases.items())
    yield f"  start: {_quoted(_start(device, aliases))}"
    yield from _identity(device, aliases)
    yield from _groups(device, mapped, aliases)
    yield from _remarks(device)


def _start(device: Device, aliases: Mapping[str, str]) -> str:
    return _path(device.path, aliases) if device.is_unique else written(device.node, aliases)


def _identity(device: Device, aliases: Mapping[str, str]) -> Iterator[str]:
    if not device.identity:
        yield f"identity_unavailable: {_quoted('the server states nothing of the device')}"
        return
    yield "identity:"
    for fact in device.identity:
        expect = ""
        if fact.name in _IDENTITY_EXPECTED and fact.text:
            expect = f", expect: {_quoted(re.escape(fact.text))}"
        yield f"  {fact.name}: {{node: {_quoted(_node(fact.way, aliases))}{expect}}}"


def _groups(device: Device, mapped: Sequence[Found], aliases: Mapping[str, str]) -> Iterator[str]:
    groups: dict[str, list[Found]] = {}
    for each in mapped:
        groups.setdefault(_group(device, each), []).append(each)
    yield "groups:" if groups else "groups: {}"
    for group, found in groups.items():
        yield f"  {_key(group)}:"
        yield "    period: 1 s"
        if found[0].section is not Section.VALUES:
            yield "    every_change: true"
        yield "    tags:"
        for each in found:
            yield f"      {_key(each.name)}:"
            yield from (f"        {line}" for line in _tag(each, aliases))


def _group(device: Device, each: Found) -> str:
    """Return the group of a tag: of what kind, and of several functional units which."""
    section = each.section.value
    if len(device.units) < 2:
        return section
    return f"{each.way.unit[:50] or 'device'}_{section}"


def _tag(each: Found, aliases: Mapping[str, str]) -> Iterator[str]:
    assert each.type is not None
    facts = each.way.node.facts
    assert facts is not None
    yield f"type: {each.type.value}"
    yield f"node: {_quoted(_node(each.way, aliases))}"
    if each.array:
        yield "array: true"
    is_number = each.type not in (DataType.BOOL, DataType.STRING)
    if is_number:
        yield f"unit: {_quoted(each.unit)}"
        if facts.range is not None:
            yield f"range: {_range(facts.range)}"
    if each.type is DataType.STRING:
        if each.is_free_text:
            yield "privacy: drop  # 'none' once it is sure that no person is ever named here"
        else:
            yield "privacy: none"
    if is_number and (facts.units is not None or facts.range is not None):
        stated = []
        if facts.units is not None:
            stated.append(f"unit_id: {facts.units.unit_id}")
            stated.append(f"unit: {_quoted(facts.units.display)}")
        if facts.range is not None:
            stated.append(f"range: {_range(facts.range)}")
        yield f"stated: {{{', '.join(stated)}}}"
    if each.description:
        yield f"description: {_quoted(each.description)}"
    if each.doubt:
        yield f"assumed: {_quoted(each.doubt)}"


def _range(bounds: tuple[float, float]) -> str:
    low, high = bounds
    return f"{{low: {low!r}, high: {high!r}}}"


def _remarks(device: Device) -> Iterator[str]:
    """Return what is not acquired, so that nobody wonders."""
    left = [each for each in device.found if each.type is None]
    lines = [f"not mapped: {shown(each.way.steps)}: {each.doubt}" for each in left]
    lines += device.notes
    if lines:
        yield "# Also on the server:"
        yield from (_comment(f"  {line}") for line in lines)


def _node(way: Way, aliases: Mapping[str, str]) -> str:
    return _path(way.steps, aliases) if way.is_unique else written(way.node.id, aliases)


def _path(steps: Sequence[Name], aliases: Mapping[str, str]) -> str:
    return "".join(f"/{_step(step, aliases)}" for step in steps)


def _step(step: Name, aliases: Mapping[str, str]) -> str:
    namespace, name = step
    escaped = re.sub(r"([&/:])", r"&\1", name)
    return escaped if namespace == UA else f"{aliases[namespace]}:{escaped}"


def _aliases(device: Device) -> dict[str, str]:
    """Return short names for the namespaces that the draft uses."""
    used = [name[0] for name in device.path] if device.is_unique else [device.node.namespace]
    for way in [*(each.way for each in device.found), *(fact.way for fact in device.identity)]:
        used += [name[0] for name in way.steps] if way.is_unique else [way.node.id.namespace]
    aliases: dict[str, str] = {}
    for uri in dict.fromkeys(used):
        if uri and uri != UA:
            aliases[uri] = _ALIASES.get(uri) or _free(uri, aliases)
    return aliases


def _free(uri: str, aliases: Mapping[str, str]) -> str:
    """Return a short name after the last word of a URI."""
    taken = {*aliases.values(), *_ALIASES.values()}
    words = re.findall(r"[a-z0-9]+", uri.lower())
    base = words[-1][:24] if words else "ns"
    names = [base, *(f"{base}{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def _quoted(text: str) -> str:
    r"""Return a YAML scalar in double quotes; what cannot be printed as ``\U``."""
    plain = "".join(
        f"\\{c}" if c in '"\\' else c if c.isprintable() else f"\\U{ord(c):08X}" for c in text
    )
    return f'"{plain}"'


def _key(name: str) -> str:
    """Return a name as a key; in quotes where YAML would read a number or a truth in it."""
    return name if re.match(r"[a-z]", name) and name not in _WORDS else f'"{name}"'


_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def _comment(text: str) -> str:
    return "# " + "".join(c if c.isprintable() else " " for c in text)

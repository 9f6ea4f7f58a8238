#!/usr/bin/env python3
"""Write docs/instruments.md from the profiles that ship, or say whether it is up to date.

python scripts/list_instruments.py [--check]
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PROFILES = ROOT / "drivers" / "profiles"
PAGE = ROOT / "docs" / "instruments.md"

HEAD = """\
# Instruments

Every profile that ships. This page is written by `scripts/list_instruments.py` from the profiles
themselves; a test holds the two together.

**Confidence** says where the facts of a profile come from: *documented* by the manufacturer,
*third-party* code or captures, *assumed*, or *simulated-only*: a simulated interface, not
vendor-documented. What is assumed must be tried with the real instrument before its values count;
[adding-an-instrument.md](adding-an-instrument.md) says how. **Wire** is the usual setting of the
line as far as it is known; the link of the site states what the instrument is really set to.

"""

WIRES = {"modbus": "Modbus", "opcua": "OPC UA", "serial_line": "serial, ASCII", "file_drop": "file"}
LINK = re.compile(r"link: \{framing: (\w+)([^}]*)\}")


def load(path: Path) -> dict[str, Any]:
    """A profile as plain data."""
    data: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return data


def wire(profile: Mapping[str, Any]) -> str:
    """What the line is set to in the factory, as far as the profile says it."""
    stated = profile.get(profile["driver"], {}).get("factory_line")
    if stated:
        return f"{WIRES[profile['driver']]}, {stated}"
    notes = " ".join(_one_line(source.get("note", "")) for source in profile["source"])
    found = LINK.search(notes)
    if found is None:
        return WIRES[profile["driver"]]
    framing, rest = found[1], dict(re.findall(r"(\w+): (\w+)", found[2]))
    if framing == "tcp":
        return "Modbus TCP"
    bits = rest.get("data_bits", "7" if framing == "ascii" else "8")
    parity = rest.get("parity", "even")[0].upper()
    line = f"{rest.get('baud_rate', '')} {bits}{parity}{rest.get('stop_bits', '1')}".strip()
    return f"Modbus {framing.upper()}, {line}"


def confidence(profile: Mapping[str, Any]) -> str:
    """All confidences, in the order in which the profile states them."""
    return ", ".join(dict.fromkeys(source["confidence"] for source in profile["source"]))


def assumed(data: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Name and text of each thing in a profile that no document states."""
    if isinstance(data, Mapping):
        if "assumed" in data:
            yield name, _one_line(str(data["assumed"]))
        for key, value in data.items():
            yield from assumed(value, str(key))


def page() -> str:
    """The whole page."""
    profiles = [load(path) for path in sorted(PROFILES.glob("*.yaml"))]
    return HEAD + _table(profiles) + "".join(map(_section, profiles))


def _table(profiles: list[dict[str, Any]]) -> str:
    lines = [
        "| profile | make | model | class | driver | wire | confidence |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in profiles:
        cells = (
            f"[{each['profile']}](#{each['profile']})",
            each["make"],
            each["model"],
            each["device_class"],
            each["driver"],
            wire(each),
            confidence(each),
        )
        lines.append("| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _section(profile: Mapping[str, Any]) -> str:
    lines = [f"\n## {profile['profile']}\n"]
    for source in profile["source"]:
        sections = "; ".join(map(str, source.get("sections", ())))
        place = f" ({sections})" if sections else ""
        manual = "" if source["manual"] == "none" else f"{source['manual']}{place}. "
        note = _one_line(source.get("note", ""))
        lines.append(f"- *{source['confidence']}*: {manual}{note}".rstrip())
    by_text: dict[str, list[str]] = {}
    for name, text in assumed(profile):
        by_text.setdefault(text, []).append(f"`{name}`")
    if by_text:
        lines.append("\nAssumed of single values:\n")
        lines += [f"- {', '.join(names)}: {text}" for text, names in by_text.items()]
    if "identity_unavailable" in profile:
        lines.append(f"\nIdentity: {_one_line(profile['identity_unavailable'])}")
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def main() -> int:
    """Write the page; with ``--check`` only compare it."""
    wanted = page()
    if sys.argv[1:] == ["--check"]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == wanted:
            return 0
        sys.stdout.write("docs/instruments.md is old; run python scripts/list_instruments.py\n")
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

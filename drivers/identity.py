"""What a driver makes of the facts that an instrument states of itself."""

import re
from collections.abc import Iterator, Mapping

from edgeagent.driver import Identity, Instrument


def identity_of(instrument: Instrument, facts: Mapping[str, str]) -> Identity:
    """Hold the facts against what the profile and the site expect."""
    return Identity(instrument.name, tuple(facts.items()), tuple(_mismatches(instrument, facts)))


def _mismatches(instrument: Instrument, facts: Mapping[str, str]) -> Iterator[str]:
    items = instrument.profile.identity
    for name, item in items.items():
        if item.expect is None:
            continue
        if name not in facts:
            yield f"{name} cannot be read; the profile expects {item.expect}"
        elif not re.fullmatch(item.expect, facts[name]):
            yield f"{name} is {facts[name]!r}; the profile expects {item.expect}"
    for name, expected in instrument.expected:
        if name in items and facts.get(name) != expected:
            stated = repr(facts[name]) if name in facts else "not readable"
            yield f"{name} is {stated}; the site expects {expected!r}"

r"""Regular expressions that cannot take long, whatever text they are held against.

A profile's pattern meets text from a wire. Ordinary repetition tries again with less, and again:
on the wrong text that takes exponential time. So here a repetition takes all that it can and gives
nothing back (it is made *possessive*: ``\d+`` becomes ``\d++``), and groups do not repeat. The
time is then proportional to the length of the text.
"""

import re

_QUANTIFIERS = "*+?{"
_COUNT = re.compile(r"\{\d*(?:,\d*)?\}")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern whose repetitions give nothing back.

    :raises ValueError: if it is no regular expression, or has a form that may take long; the text
        says what, and behind a semicolon how to mend it
    """
    try:
        re.compile(pattern)
        return re.compile(_possessive(pattern), re.ASCII)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression ({error}); correct it") from None


def _possessive(pattern: str) -> str:
    written: list[str] = []
    at = 0
    while at < len(pattern):
        end = _atom_end(pattern, at)
        atom = pattern[at:end]
        _refuse_look_around(pattern, at)
        count_end = _quantifier_end(pattern, end)
        quantifier = pattern[end:count_end]
        if quantifier and pattern[count_end : count_end + 1] in ("?", "+"):
            raise ValueError(
                f"{pattern!r} repeats lazily or possessively; every repetition takes all it can "
                "here, so remove the sign behind the repetition"
            )
        if atom == ")" and quantifier not in ("", "?"):
            raise ValueError(
                f"{pattern!r} repeats a group; repeat single characters or classes, or name each "
                "part"
            )
        written.append(atom + quantifier + ("+" if quantifier and atom != ")" else ""))
        at = count_end
    return "".join(written)


def _atom_end(pattern: str, at: int) -> int:
    """Return the end of the smallest part that a quantifier may follow."""
    if pattern[at] == "\\":
        if pattern[at + 1 : at + 2].isdigit():
            raise ValueError(f"{pattern!r} refers back to a group; remove the reference")
        return at + 2
    if pattern.startswith("(?P<", at):
        return pattern.index(">", at) + 1
    if pattern.startswith("(?:", at):
        return at + 3
    if pattern[at] == "[":
        end = at + 2 if pattern.startswith("[^", at) else at + 1
        end += pattern.startswith("]", end)
        while pattern[end] != "]":
            end += 2 if pattern[end] == "\\" else 1
        return end + 1
    return at + 1


def _quantifier_end(pattern: str, at: int) -> int:
    if pattern[at : at + 1] not in _QUANTIFIERS or at >= len(pattern):
        return at
    if pattern[at] != "{":
        return at + 1
    count = _COUNT.match(pattern, at)
    return count.end() if count else at


def _refuse_look_around(pattern: str, at: int) -> None:
    if pattern.startswith("(?", at) and not pattern.startswith(("(?P<", "(?:"), at):
        raise ValueError(
            f"{pattern!r} has a special group at {pattern[at : at + 4]!r}; use (?P<name>...) and "
            "(?:...) only"
        )

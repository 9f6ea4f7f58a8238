"""Errors, grouped by who must act."""

from collections.abc import Sequence
from dataclasses import dataclass


class EdgeAgentError(Exception):
    """Base of all errors that the agent raises on purpose."""


class LinkLost(EdgeAgentError):
    """The connection is gone: acquisition reconnects with back-off."""


class BadReply(EdgeAgentError):
    """An instrument gave no usable answer: the values of that poll are a gap.

    :param cause: one of the gap causes of ``docs/mqtt.md``, e.g. ``timeout``
    :param detail: what was wrong, for a person
    """

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail


class IdentityMismatch(EdgeAgentError):
    """Another instrument answers at this address: a person must look."""


class JournalFailed(EdgeAgentError):
    """The journal cannot be written and could not be mended: the agent stops, loudly."""


class JournalFull(EdgeAgentError):
    """The disk or the byte budget is full: nothing is lost, acquisition pauses with a gap."""


class StartRefused(EdgeAgentError):
    """The agent cannot start for a reason outside its configuration.

    :param code: exit code, see :mod:`edgeagent.cli.exits`
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a configuration file, and how to mend it."""

    file: str
    line: int | None
    key: str
    problem: str
    mend: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        key = f" {self.key}:" if self.key else ""
        return f"{place}:{key} {self.problem}; {self.mend}"


class ConfigurationError(EdgeAgentError):
    """Every fault that was found in the configuration, in order of file and line."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)

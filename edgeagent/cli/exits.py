"""Exit codes, documented and stable (after sysexits.h), and how commands end."""

import sys
from collections.abc import Callable
from enum import IntEnum
from functools import wraps
from typing import ParamSpec, TypeVar

import click

from edgeagent.model.errors import ConfigurationError, JournalFailed, JournalFull, StartRefused

P = ParamSpec("P")
R = TypeVar("R")


class Exit(IntEnum):
    """Why a command ended."""

    OK = 0
    RECORDS = 1
    USAGE = 2
    FAULT = 3
    NOT_RUNNING = 69
    INTERNAL = 70
    CANNOT_CREATE = 73
    JOURNAL = 74
    ALREADY_RUNNING = 75
    NOT_ALLOWED = 77
    CONFIGURATION = 78


class CommandFailed(click.ClickException):
    """One clear line on stderr and an exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """What the shell sees."""
        return int(self.code)

    def show(self, file: object = None) -> None:
        """Write the message as it is."""
        click.echo(f"edgeagent: {self.message}", err=True)


def ends_well(command: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that a person can mend into one clear line each and an exit code."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ConfigurationError as error:
            for fault in error.faults:
                click.echo(str(fault), err=True)
            sys.exit(Exit.CONFIGURATION)
        except StartRefused as error:
            raise CommandFailed(str(error), Exit(error.code)) from None
        except (JournalFailed, JournalFull) as error:
            raise CommandFailed(str(error), Exit.JOURNAL) from None
        except BaseExceptionGroup as group:
            failed, _ = group.split((JournalFailed, StartRefused))
            if failed is None:
                raise
            cause = failed.exceptions[0]
            code = Exit(cause.code) if isinstance(cause, StartRefused) else Exit.JOURNAL
            raise CommandFailed(str(cause), code) from None

    return wrapped

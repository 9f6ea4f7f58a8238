"""Acts: what people do to a running agent. Each asks who and why, and becomes an audit record."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, ValidationError, field_validator

from edgeagent.journal import Recorder
from edgeagent.model.errors import EdgeAgentError
from edgeagent.model.profile import Strict
from edgeagent.model.settings import Role
from edgeagent.operate.access import Person

REASON_CHARACTERS_MAX = 500
SAME_REFUSAL_EVERY_NS = 60 * 10**9


class ActRefused(EdgeAgentError):
    """An act that cannot be done, in words for the person who asked."""


class NotAllowed(ActRefused):
    """An act for which the person has no role."""


@dataclass(frozen=True, slots=True)
class Act:
    """What a person asked for.

    :ivar name: one of the kinds of acts, e.g. ``consumer.enrol``
    :ivar arguments: an instance of the kind's model
    """

    name: str
    person: Person
    reason: str
    arguments: Any

    def facts(self) -> dict[str, object]:
        """Return who and why, as an audit record states it."""
        return {**self.person.facts(), "reason": self.reason}


@dataclass(frozen=True, slots=True)
class ActKind:
    """One thing that people may do.

    :ivar role: who may do it
    :ivar arguments: model of what is to be stated
    :ivar do: does it, records it, and returns what the person is shown; raises
        :class:`ActRefused` when it cannot be done
    """

    name: str
    role: Role
    arguments: type[BaseModel]
    do: Callable[[Act], Awaitable[dict[str, Any]]]


class _Request(Strict):
    act: str = Field(max_length=64)
    reason: str = Field(max_length=REASON_CHARACTERS_MAX)
    arguments: dict[str, Any] = Field({})

    @field_validator("reason")
    @classmethod
    def _says_something(cls, reason: str) -> str:
        if not reason.strip():
            raise ValueError("a reason is required: --reason '...'")
        if not reason.isprintable():
            raise ValueError("a reason is one line of text")
        return reason.strip()


class Acts:
    """Takes requests, refuses what a person may not do, and has the rest done one by one."""

    def __init__(self, recorder: Recorder, kinds: Iterable[ActKind]) -> None:
        self._recorder = recorder
        self._kinds = {kind.name: kind for kind in kinds}
        self._refused_ns: dict[tuple[int, str], int] = {}

    async def perform(self, person: Person, request: object) -> dict[str, Any]:
        """Do what is asked.

        :param request: ``{"act": …, "reason": …, "arguments": {…}}``
        :raises NotAllowed: if the person has not the role; on record
        :raises ActRefused: if it is not understood or cannot be done
        """
        asked = _validated(_Request, request)
        kind = self._kinds.get(asked.act)
        if kind is None:
            raise ActRefused(f"unknown act {asked.act!r}; known: {', '.join(sorted(self._kinds))}")
        if kind.role not in person.roles:
            self._note_refusal(person, kind, asked.reason)
            raise NotAllowed(
                f"{kind.name} takes the role {kind.role}, which {person.account} has not; "
                f"it is given by a Unix group (site file: control.roles.{kind.role})"
            )
        arguments = _validated(kind.arguments, asked.arguments)
        return await kind.do(Act(kind.name, person, asked.reason, arguments))

    def _note_refusal(self, person: Person, kind: ActKind, reason: str) -> None:
        """Record who tried what, but not each repetition: nobody may fill the journal."""
        now = self._recorder.clock.boot_ns()
        before = self._refused_ns.get((person.uid, kind.name))
        if before is not None and now - before < SAME_REFUSAL_EVERY_NS:
            return
        self._refused_ns[person.uid, kind.name] = now
        self._recorder.event(
            "access.refused",
            "warning",
            f"{person.account} has not the role {kind.role} for {kind.name}",
            act=kind.name,
            role=kind.role.value,
            reason=reason,
            **person.facts(),
        )


def _validated(model: type[BaseModel], stated: object) -> Any:
    try:
        return model.model_validate(stated)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, fault['loc'])) or 'request'}: {_said(fault['msg'])}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise ActRefused("; ".join(lines[:5])) from None


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")

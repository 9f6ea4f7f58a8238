"""Who is at the other end of a Unix socket, and which roles the groups of that person give."""

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from edgeagent.model.settings import Role
from edgeagent.operate import access
from edgeagent.operate.access import account_of, gids_of, peer_uid, person_at


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        yield ours


def test_the_services_own_user_may_do_everything(connection: socket.socket) -> None:
    person = person_at(connection, {})
    assert person.uid == peer_uid(connection) == os.geteuid()
    assert person.account == account_of(os.geteuid())
    assert person.roles == frozenset(Role)


@pytest.mark.parametrize(
    ("giving", "roles"),
    [
        ({}, set()),
        ({Role.VIEWER: {7001}}, {Role.VIEWER}),
        ({Role.VIEWER: {7001}, Role.QUALITY: {7002, 9}}, {Role.VIEWER, Role.QUALITY}),
        ({Role.ENGINEER: {500}}, {Role.ENGINEER}),
        ({Role.ENGINEER: {3}}, set()),
    ],
)
def test_membership_of_a_group_gives_a_role(
    connection: socket.socket, monkeypatch: pytest.MonkeyPatch, giving, roles
) -> None:
    """The kernel's answer is stood in for: a socket pair only ever knows this very account."""
    monkeypatch.setattr(access, "_peer", lambda _: (4242, frozenset({500, 7001, 7002})))
    person = person_at(connection, {role: frozenset(gids) for role, gids in giving.items()})
    assert person.roles == roles
    assert person.facts() == {"who": "uid:4242", "uid": 4242}


def test_a_process_with_more_groups_than_the_answer_has_room_for() -> None:
    class Crowded:
        def getsockopt(self, *_: object) -> bytes:
            raise OSError(errno.ERANGE, "Numerical result out of range")

    groups = access._supplementary(Crowded(), os.geteuid(), os.getegid())  # type: ignore[arg-type]
    assert os.getegid() in groups


def test_a_group_that_does_not_exist_gives_no_role() -> None:
    root = gids_of({Role.VIEWER: ("root", "no-such-group"), Role.OPERATOR: ("no-such-group",)})
    assert root == {Role.VIEWER: frozenset({0}), Role.OPERATOR: frozenset()}

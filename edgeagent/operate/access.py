"""Who is at the other end of the control socket, and what that person may do.

The kernel says who connected (unix(7), ``SO_PEERCRED`` and ``SO_PEERGROUPS``): nothing is to be
typed, nothing can be claimed. Membership of a Unix group gives a role; root and the service's own
user have every role, because they could read and write the files themselves.
"""

import errno
import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgeagent.model.settings import Role

_UCRED = struct.Struct("3i")  # process, user, group
_SO_PEERGROUPS = getattr(socket, "SO_PEERGROUPS", 59)  # asm-generic/socket.h, Linux 4.13
_GROUPS_BYTES_MAX = 1024  # the most that Python takes from getsockopt
_GID = struct.Struct("I")


@dataclass(frozen=True, slots=True)
class Person:
    """A person or program that asks.

    :ivar account: name of the account, from the operating system
    :ivar roles: everything that this account may do
    """

    account: str
    uid: int
    roles: frozenset[Role]

    def facts(self) -> dict[str, object]:
        """Return who this is, as an audit record states it."""
        return {"who": self.account, "uid": self.uid}


def every_role(account: str, uid: int) -> Person:
    """Return a person who may do everything: root, or the service's own user."""
    return Person(account, uid, frozenset(Role))


def account_of(uid: int) -> str:
    """Return the account name of a user id; may ask a directory server."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid:{uid}"


def gids_of(roles: Mapping[Role, Sequence[str]]) -> dict[Role, frozenset[int]]:
    """Return the group ids that give each role; a group that does not exist gives none."""
    known = {entry.gr_name: entry.gr_gid for entry in grp.getgrall()}
    return {
        role: frozenset(known[name] for name in names if name in known)
        for role, names in roles.items()
    }


def person_at(connection: socket.socket, gids: Mapping[Role, frozenset[int]]) -> Person:
    """Return who is at the other end of a connected Unix socket.

    :param gids: the group ids that give each role
    """
    uid, groups = _peer(connection)
    if uid in (0, os.geteuid()):
        roles = frozenset(Role)
    else:
        roles = frozenset(role for role, giving in gids.items() if groups & giving)
    return Person(account_of(uid), uid, roles)


def peer_uid(connection: socket.socket) -> int:
    """Return the user id at the other end."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(packed)[1])


def _peer(connection: socket.socket) -> tuple[int, frozenset[int]]:
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, uid, gid = _UCRED.unpack(packed)
    return uid, frozenset({gid, *_supplementary(connection, uid, gid)})


def _supplementary(connection: socket.socket, uid: int, gid: int) -> Iterable[int]:
    """Return the groups that the process had; of one with hundreds, those of its account."""
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES_MAX)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        return os.getgrouplist(account_of(uid), gid)
    return (value for (value,) in _GID.iter_unpack(packed))

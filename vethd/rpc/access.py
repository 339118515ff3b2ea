"""Who may do what: decided by the kernel's word about the peer of a connection, never by what it says itself.

root changes, members of `vethd` change, members of `vethd-ro` look, everybody else is refused - and the user that
workers run as always is, for a worker may have been taken over by a frame. That is the daemon's own user, when it is
not root.
"""

from __future__ import annotations

import grp
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from vethd.errors import NotPermitted
from vethd.worker.child import worker_uid

CHANGE_GROUP: Final = "vethd"
LOOK_GROUP: Final = "vethd-ro"
_SO_PEERGROUPS: Final = 59


class Role(IntEnum):
    """What a caller may do; each includes the ones before."""

    NOTHING = 0
    LOOK = 1
    CHANGE = 2


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other side: pid, uid, gid when it connected, and its role."""

    pid: int
    uid: int
    gid: int
    role: Role

    def __str__(self) -> str:
        return f"uid {self.uid}, gid {self.gid}, pid {self.pid}"

    def require(self, role: Role, method: str) -> None:
        """Raise NotPermitted unless the peer may do this."""
        if self.role < role:
            group = CHANGE_GROUP if role is Role.CHANGE else f"{LOOK_GROUP} or {CHANGE_GROUP}"
            raise NotPermitted(
                f"uid {self.uid} may not call {method}", hint=f"be root or a member of the group {group}"
            )


def peer_of(connection: socket.socket) -> Peer:
    """Who connected (SO_PEERCRED, SO_PEERGROUPS). Raises OSError."""
    pid, uid, gid = struct.unpack("=3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1024)
    except OSError:  # more groups than fit: only the primary one counts then
        raw = b""
    groups = {gid, *(group for (group,) in struct.iter_unpack("=i", raw))}
    return Peer(pid, uid, gid, _role(uid, groups))


def _role(uid: int, groups: set[int]) -> Role:
    if uid == 0:
        return Role.CHANGE
    if uid == worker_uid():
        return Role.NOTHING
    if _gid(CHANGE_GROUP) in groups:
        return Role.CHANGE
    if _gid(LOOK_GROUP) in groups:
        return Role.LOOK
    return Role.NOTHING


def _gid(name: str) -> int:
    """The gid of a group, or -1, which nobody has."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return -1

"""Being somebody else for a moment.

The kernel notes the credentials of whoever connects a unix socket. So a child process takes on another user and other
groups and connects sockets that the test made before; the test then talks over them, and is somebody else for the
daemon.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tests.kit.waiting import settled
from tests.rpc.talk import Talk

WITHIN = 10.0


def talks_of(uid: int, gid: int, groups: Sequence[int], socket: Path, many: int = 1) -> list[Talk]:
    """Open conversations of a user with these groups; the socket's directory must let it in, those above need not."""
    talks = [Talk(None) for _ in range(many)]
    pid = os.fork()
    if pid == 0:
        _connect(talks, uid, gid, groups, socket)
    ended, status = settled(lambda: os.waitpid(pid, os.WNOHANG), lambda found: found[0] == pid, WITHIN)
    if ended != pid:
        os.kill(pid, signal.SIGKILL)
        _ended, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"uid {uid}, gid {gid}, groups {groups} could not connect"
    for talk in talks:
        talk.socket.settimeout(WITHIN)
    return talks


def _connect(talks: Sequence[Talk], uid: int, gid: int, groups: Sequence[int], socket: Path) -> NoReturn:
    status = 1
    try:
        os.chdir(socket.parent)
        os.setgroups(list(groups))
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        for talk in talks:
            talk.connect(socket.name)
        status = 0
    finally:
        os._exit(status)  # nothing of the test runner may run twice

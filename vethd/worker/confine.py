"""What a worker gives up before it hears of the first frame: its user, every capability, and all ways to get one back.

The filter of system calls comes last, when everything is set up; see seccomp.py.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
#: Version 3 of capset(2): a header, and two structs of effective, permitted and inheritable.
_NO_CAPABILITIES: Final = struct.pack("=Ii", 0x20080522, 0), bytes(24)
_MOST_CAPABILITIES: Final = 64

_libc = ctypes.CDLL(None, use_errno=True)


def confine(uid: int, gid: int) -> None:
    """Become a user without rights: no uid 0, no capability, no_new_privs, and out of reach of others of that user.

    uid, gid: who to become when the process is root. Where vethd runs as another user, workers are that user, and have
    lost their capabilities when they were executed (host/capabilities.py). That it dies with its parent stays so.

    The bounding set can't be emptied without CAP_SETPCAP, and the inheritable set not where a service manager's filter
    forbids capset; they give nothing to a process that may execute no program. Raises OSError, or RuntimeError when a
    capability is left that gives something.
    """
    parent = os.getppid()
    _drop_bounding_set()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)  # leaving uid 0 empties the permitted, effective and ambient sets
    die_with(parent)
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    prctl(_PR_SET_DUMPABLE, 0)  # nobody else of this user may trace it, or look into it
    _libc.capset(*_NO_CAPABILITIES)
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    left = {name: status[name] for name in ("CapPrm", "CapEff", "CapAmb") if int(status[name], 16)}
    if left or status["NoNewPrivs"] != "1":
        raise RuntimeError(f"still privileged: {left}, NoNewPrivs {status['NoNewPrivs']}")


def _drop_bounding_set() -> None:
    for capability in range(_MOST_CAPABILITIES):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EPERM):  # there are no more; we have no CAP_SETPCAP
                return
            raise


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent is gone; it sees that by its channel, but not while stopped.

    parent: the pid of who started it. Of one that is gone already the kernel says nothing, so that is the end as well.
    To be called between fork and exec, which keeps it, and after a change of the user, which takes it back. Raises
    OSError. Source: PR_SET_PDEATHSIG(2).
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def prctl(operation: int, argument: int) -> None:
    """Change something about this process; see prctl(2). Raises OSError."""
    if _libc.prctl(operation, argument, 0, 0, 0):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), f"prctl {operation}")

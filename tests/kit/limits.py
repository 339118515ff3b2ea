"""Taking from a process what it may have of the machine, for as long as a test likes."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

from tests.kit.commands import run
from tests.kit.processes import status_field


@contextmanager
def free_descriptors(pid: int, count: int) -> Iterator[int]:
    """Let a process open just so many more descriptors than it has; its limit meanwhile."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = (number for number in range(1 << 20) if number not in taken)
    limit = [next(free) for _ in range(count + 1)][-1]
    before = _limit_descriptors(pid, limit)
    try:
        yield limit
    finally:
        _limit_descriptors(pid, before)


def _limit_descriptors(pid: int, limit: int) -> int:
    """Set the soft RLIMIT_NOFILE of a process; what it was. Whoever it belongs to may do that without a capability."""
    user, group = (status_field(pid, field).split()[0] for field in ("Uid", "Gid"))
    owner = ("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--")
    before = run(*owner, "prlimit", f"--pid={pid}", "--nofile", "--raw", "--noheadings", "--output=SOFT").out
    run(*owner, "prlimit", f"--pid={pid}", f"--nofile={limit}:")
    return resource.RLIM_INFINITY if before.strip() == "unlimited" else int(before)

"""What the daemon may take of the machine: file descriptors (RLIMIT_NOFILE) and memory (its cgroups).

Both are looked at before something is made that takes them, because what happens at the limit is bad: without a free
descriptor no dead worker can be replaced, and without memory the kernel kills a process of the cgroup. So some of both
is kept back from new pairs, and some descriptors from new clients, too.
"""

from __future__ import annotations

import errno
import math
import os
import re
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vethd.errors import LimitReached

#: Descriptors that new pairs leave free, and new clients; but never more than this part of the limit.
KEPT_FROM_PAIRS: Final = 64
KEPT_FROM_CLIENTS: Final = 32
KEPT_PART: Final = 8
#: Bytes of memory that new pairs leave free: enough to start a worker; but never more than that part of the limit.
KEPT_MEMORY: Final = 48 << 20
#: Bytes that one queue of a pair takes, in the kernel and in the daemon, measured and rounded up.
QUEUE_MEMORY: Final = 128 << 10
#: Seconds for which a look at the cgroups is good for.
LOOK_EVERY: Final = 0.1

_MIB: Final = 1 << 20


def check_descriptor(fd: int, kept: int) -> None:
    """Raise LimitReached when a new descriptor is among the last `kept` that may be: the kernel gives the lowest free
    number, so few others are free then.
    """
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if fd >= soft - min(kept, soft // KEPT_PART):
        raise _too_few(soft)


def check_descriptors(needed: int) -> None:
    """Raise LimitReached when that many descriptors, for pairs, are not free."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = len(os.listdir("/proc/self/fd"))
    if taken + needed > soft - min(KEPT_FROM_PAIRS, soft // KEPT_PART):
        raise _too_few(soft, f"{needed} more are needed, ")


def _too_few(soft: int, needed: str = "") -> LimitReached:
    return LimitReached(
        f"{needed}too few file descriptors are free, of {soft} (RLIMIT_NOFILE)",
        hint="raise LimitNOFILE (ulimit -n) of the daemon; some are kept for what exists already",
        errno=errno.EMFILE,
    )


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A cgroup with a memory limit. name: its path below the mount. usage, limit: files with bytes. stat: details."""

    name: str
    usage: Path
    limit: Path
    stat: Path

    def left(self) -> tuple[int, int] | None:
        """(bytes that may still be taken, limit), file caches counted as free; None without a limit."""
        try:
            text = self.limit.read_text().strip()
            if text == "max" or int(text) >= 1 << 60:  # what version 1 says instead
                return None
            limit, used = int(text), int(self.usage.read_text())
            found = re.findall(r"^(?:total_)?inactive_file (\d+)$", self.stat.read_text(), re.MULTILINE)
        except (OSError, ValueError):  # the group is gone, or not as we know them
            return None
        return limit - used + min(used, max(map(int, found), default=0)), limit


class Memory:
    """What the cgroups of this process leave to it; one per daemon."""

    def __init__(self, groups: list[MemoryGroup] | None = None) -> None:
        self._groups = memory_groups() if groups is None else groups
        self._look_at = 0.0
        self._free: float = 0
        self._found = ""

    def take(self, queues: int) -> None:
        """Promise memory to pairs with so many queues in all, which are about to be made. Raises LimitReached."""
        if time.monotonic() >= self._look_at:
            self._look()
        wanted = queues * QUEUE_MEMORY
        if wanted > self._free:
            raise LimitReached(
                f"too little memory: {self._found}",
                hint="raise MemoryMax= of the daemon (memory.max); some is kept for what exists already",
            )
        self._free -= wanted

    def _look(self) -> None:
        self._look_at = time.monotonic() + LOOK_EVERY
        self._free = math.inf
        for group in self._groups:
            if (found := group.left()) is not None:
                left, limit = found
                free = left - min(KEPT_MEMORY, limit // KEPT_PART)
                if free < self._free:
                    self._free = free
                    self._found = f"{max(0, left) // _MIB} MiB of {limit // _MIB} MiB are left (cgroup {group.name})"


def memory_groups(proc: Path = Path("/proc/self")) -> list[MemoryGroup]:
    """The cgroups of this process that can limit its memory, innermost first. proc: its directory, for tests.

    Source: cgroup_namespaces(7), /proc/PID/cgroup in cgroups(7).
    """
    try:
        mounts = [line.split(" - ") for line in (proc / "mountinfo").read_text().splitlines()]
        memberships = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
    except OSError:
        return []
    found: list[MemoryGroup] = []
    for _number, controllers, path in memberships:
        if controllers and "memory" not in controllers.split(","):
            continue
        kind = "cgroup" if controllers else "cgroup2"
        for fields, (fstype, _source, options) in ((mount[0].split(), mount[1].split(" ", 2)) for mount in mounts):
            root, where = fields[3], Path(fields[4])
            if fstype != kind or (controllers and "memory" not in options.split(",")) or not _below(path, root):
                continue
            found += _upwards(where, path.removeprefix(root).strip("/"), version=1 if controllers else 2)
            break
    return found


def _below(path: str, root: str) -> bool:
    return root in ("/", path) or path.startswith(f"{root}/")


def _upwards(where: Path, name: str, version: int) -> list[MemoryGroup]:
    """The group of that name below a mount, and those around it, as far as they can limit memory."""
    usage, limit = (
        ("memory.usage_in_bytes", "memory.limit_in_bytes") if version == 1 else ("memory.current", "memory.max")
    )
    names = [name]
    while name:
        name = name.rpartition("/")[0]
        names.append(name)
    groups = [
        MemoryGroup(f"/{each}", where / each / usage, where / each / limit, where / each / "memory.stat")
        for each in names
    ]
    return [group for group in groups if group.limit.exists()]

"""`vethd doctor`: what this machine offers vethd, feature by feature, and what to do about what is missing.

A check is a function that returns one `Finding`; `CHECKS` lists them in the order of the report. A check looks at the
machine itself, not at what should follow from a version number, and changes nothing. Nothing is imported before the
check that needs it, so that a missing package is a finding as well.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import json
import os
import platform
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from vethd.errors import tun_missing
from vethd.frameio.choice import Wanted

#: The first kernel with all system calls and ioctls that vethd cannot do without (pidfd_open; TUNGETDEVNETNS is 5.2).
KERNEL_MIN: Final = (5, 3)
#: Numbers of the capabilities in /proc/PID/status, include/uapi/linux/capability.h.
CAPABILITIES: Final = {"CAP_NET_BROADCAST": 11, "CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
_TUN: Final = "/dev/net/tun"
_TUNGETFEATURES: Final = 0x800454CF


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    feature: what was looked for. ok: it is there. needed: without it vethd does not run; else it runs slower.
    found: what is there, or why nothing is. remedy: what to do, where it is missing.
    """

    feature: str
    ok: bool
    needed: bool
    found: str
    remedy: str | None = None


def kernel() -> Finding:
    """The kernel knows every system call that vethd needs."""
    release = platform.release()
    numbers = re.match(r"(\d+)\.(\d+)", release)
    ok = numbers is not None and (int(numbers[1]), int(numbers[2])) >= KERNEL_MIN
    oldest = ".".join(map(str, KERNEL_MIN))
    return Finding("kernel", ok, True, f"Linux {release}", None if ok else f"take Linux {oldest} or later")


def capabilities() -> Finding:
    """The daemon may make devices, enter namespaces and follow events of all namespaces."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.split("CapEff:\t", 1)[1].split("\n", 1)[0], 16)
    missing = [name for name, number in CAPABILITIES.items() if not effective >> number & 1]
    if missing:
        return Finding("capabilities", False, True, f"without {', '.join(missing)}", "run it as root, or with those")
    return Finding("capabilities", True, True, ", ".join(CAPABILITIES))


def tun() -> Finding:
    """/dev/net/tun can be opened, and the tun driver is behind it."""
    try:
        fd = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _TUNGETFEATURES, bytes(4))
        finally:
            os.close(fd)
    except OSError as error:
        number = error.errno or 0
        return Finding(_TUN, False, True, os.strerror(number), tun_missing(number).hint)
    return Finding(_TUN, True, True, "can be opened")


def pytun() -> Finding:
    """python-pytun opens TAPs."""
    remedy = "install vethd again where there are a C compiler and python3-dev: python-pytun is compiled there"
    try:
        importlib.import_module("pytun")
    except ImportError as error:
        return Finding("python-pytun", False, True, str(error), remedy)
    return Finding("python-pytun", True, True, metadata.version("python-pytun"))


def datapath() -> Finding:
    """The datapath is compiled."""
    from vethd.datapath import speed, why
    from vethd.frameio.choice import build_remedy

    ok = speed() == "compiled"
    return Finding("compiled datapath", ok, False, why(), None if ok else build_remedy())


def batches() -> Finding:
    """Reading and writing by system calls is compiled."""
    from vethd.frameio.choice import build_remedy
    from vethd.frameio.syscalls import compiled

    if compiled() is not None:
        return Finding("frame I/O in C", True, False, "extension is built")
    return Finding("frame I/O in C", False, False, "it runs in Python", build_remedy())


def worker() -> Finding:
    """A worker starts, and gives up its privileges."""
    ready = asyncio.run(_ask_worker("auto"))
    if isinstance(ready, str):
        return Finding("worker", False, True, ready, "see what it printed above")
    return Finding("worker", True, True, f"gives up its privileges; reads and writes by {ready['frameio']}")


def io_uring() -> Finding:
    """A worker can make a ring; asked of a worker, since root may what workers may not."""
    ready = asyncio.run(_ask_worker("uring"))
    if isinstance(ready, str):
        return Finding("io_uring", False, False, ready, "see `worker`")
    if ready["op"] == "unable":
        return Finding("io_uring", False, False, ready["why"], ready["remedy"])
    return Finding("io_uring", True, False, ready["why"].rpartition("; ")[2])


CHECKS: Final[tuple[Callable[[], Finding], ...]] = (
    kernel,
    capabilities,
    tun,
    pytun,
    worker,
    datapath,
    batches,
    io_uring,
)


async def _ask_worker(frameio: Wanted) -> dict[str, Any] | str:
    """The first message of a worker, `ready` or `unable`; in words why, when it died without one."""
    from vethd.worker.child import Child, WorkerDied

    child = Child(asyncio.get_running_loop(), lambda _child, _message: None, lambda _child: None, frameio)
    said: dict[str, Any] | str
    try:
        said = await child.ready
    except WorkerDied as died:
        said = child.unable or str(died)
    child.stop()
    await child.ended.wait()
    return said


def examine(as_json: bool) -> tuple[str, int]:
    """Make every check. Returns the report, and the exit status: 0 when vethd can run here, else 1."""
    findings = [check() for check in CHECKS]
    status = 0 if all(finding.ok for finding in findings if finding.needed) else 1
    if as_json:
        return json.dumps([asdict(finding) for finding in findings], indent=2), status
    return "\n".join(map(_line, findings)), status


def _line(finding: Finding) -> str:
    state = "ok" if finding.ok else "missing" if finding.needed else "slower"
    remedy = f" ({finding.remedy})" if finding.remedy else ""
    return f"{state:8}{finding.feature:19}{finding.found}{remedy}"

"""Which frame I/O a worker uses: what was asked for, or the fastest that works here - and why.

It is tried, not guessed: the ring is made by the process that will use it, after it has given up its privileges, so
that sysctls, seccomp filters and limits have had their say.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import ModuleType
from typing import Final, Literal, TypeAlias

from vethd.datapath import speed
from vethd.datapath.softnet import SoftnetData
from vethd.frameio.base import FrameIO
from vethd.frameio.syscalls import Syscalls

Wanted: TypeAlias = Literal["auto", "syscalls", "uring"]
WANTED: Final[tuple[Wanted, ...]] = ("auto", "syscalls", "uring")

#: The module of io_uring, or why there is none. Looked up at import: later a worker may not be able to read its own
#: program any more.
_uring: ModuleType | str


if speed() == "interpreted":  # C code takes the compiled Skb alone
    _uring = "the datapath is interpreted"
else:
    try:
        from vethd.frameio import uring as _uring
    except ImportError as error:
        if os.environ.get("VETHD_REQUIRE_EXTENSIONS") == "1":
            raise
        _uring = f"its module does not load ({error})"

_DISABLED: Final = Path("/proc/sys/kernel/io_uring_disabled")


class FrameIOUnavailable(Exception):
    """Raised when the frame I/O that was asked for does not work here; says why."""


def choose(wanted: Wanted, softnet: SoftnetData) -> tuple[FrameIO, str]:
    """Make the frame I/O; returns it and, in words, why it is this one. Raises FrameIOUnavailable, never for `auto`."""
    if wanted == "syscalls":
        return Syscalls(softnet), "syscalls as configured"
    try:
        return _make_ring(softnet)
    except FrameIOUnavailable as error:
        if wanted == "uring":
            raise
        return Syscalls(softnet), f"no io_uring: {error}"


def _make_ring(softnet: SoftnetData) -> tuple[FrameIO, str]:
    if isinstance(_uring, str):
        raise FrameIOUnavailable(_uring)
    try:
        ring = _uring.Uring(softnet)
    except OSError as error:
        raise FrameIOUnavailable(refusal(error)) from error
    return ring, f"io_uring with {'multishot' if ring.multishot else 'plain'} reads"


def refusal(error: OSError, disabled: Path = _DISABLED) -> str:
    """What a person can make of the errno with which the kernel refused a ring."""
    if error.errno == errno.ENOSYS:
        return "the kernel has none, or a seccomp filter says so"
    if error.errno == errno.EPERM:
        value = disabled.read_text().strip() if disabled.exists() else "0"
        return f"kernel.io_uring_disabled is {value}" if value != "0" else "forbidden by seccomp or a security module"
    if error.errno == errno.EINVAL:
        return f"the kernel is older than 5.19 ({error.strerror})"
    return str(error.strerror)

"""Which frame I/O a worker uses: what was asked for, or the fastest that works here - and why.

It is tried, not guessed: the ring is made by the process that will use it, after it has given up its privileges, so
that sysctls, seccomp filters and limits have had their say.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from vethd.datapath import speed
from vethd.datapath.softnet import SoftnetData
from vethd.frameio.base import FrameIO
from vethd.frameio.syscalls import Syscalls

if TYPE_CHECKING:
    from vethd.frameio.uring import Uring

Wanted: TypeAlias = Literal["auto", "syscalls", "uring"]
WANTED: Final[tuple[Wanted, ...]] = ("auto", "syscalls", "uring")


class FrameIOUnavailable(Exception):
    """Raised when the frame I/O that was asked for does not work here; its text says why.

    remedy: what to do about it.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


def build_remedy() -> str:
    """What to do where something compiled is not there."""
    if os.environ.get("VETHD_NO_EXTENSIONS") == "1":
        return "unset VETHD_NO_EXTENSIONS"
    return "install vethd again where there are a C compiler, python3-dev and liburing-dev"


_ALLOW: Final = "let the seccomp profile allow io_uring_setup, io_uring_enter and io_uring_register"

#: The module of io_uring, or why there is none. Looked up at import: later a worker may not be able to read its own
#: program any more.
_uring: ModuleType | FrameIOUnavailable

if speed() == "interpreted":  # C code takes the compiled Skb alone
    _uring = FrameIOUnavailable("the datapath is interpreted", build_remedy())
else:
    try:
        from vethd.frameio import uring as _uring
    except ImportError as error:
        if os.environ.get("VETHD_REQUIRE_EXTENSIONS") == "1":
            raise
        _uring = FrameIOUnavailable(f"its module does not load ({error})", build_remedy())

_DISABLED: Final = Path("/proc/sys/kernel/io_uring_disabled")


def choose(wanted: Wanted, softnet: SoftnetData) -> tuple[FrameIO, str]:
    """Make the frame I/O; returns it and, in words, why it is this one. Raises FrameIOUnavailable, never for `auto`."""
    if wanted == "syscalls":
        return Syscalls(softnet), "syscalls as configured"
    try:
        ring = _make_ring(softnet)
    except FrameIOUnavailable as error:
        if wanted == "uring":
            raise
        return Syscalls(softnet), f"no io_uring: {error}"
    if ring.multishot:
        return ring, "io_uring with multishot reads"
    if wanted == "uring":
        return ring, "io_uring with plain reads"
    ring.close()
    return Syscalls(softnet), "io_uring has no multishot reads before Linux 6.7, and without them is no faster"


def _make_ring(softnet: SoftnetData) -> Uring:
    if isinstance(_uring, FrameIOUnavailable):
        raise _uring
    try:
        ring: Uring = _uring.Uring(softnet)
    except OSError as error:
        raise refusal(error) from error
    return ring


def refusal(error: OSError, disabled: Path = _DISABLED) -> FrameIOUnavailable:
    """What a person can make of the errno with which the kernel refused a ring."""
    if error.errno == errno.ENOSYS:
        return FrameIOUnavailable(
            "the kernel has none, or a seccomp filter says so", f"take a kernel with CONFIG_IO_URING, or {_ALLOW}"
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        value = disabled.read_text().strip() if disabled.exists() else "0"
        if value != "0":
            return FrameIOUnavailable(f"kernel.io_uring_disabled is {value}", "sysctl -w kernel.io_uring_disabled=0")
        return FrameIOUnavailable("forbidden by seccomp or a security module", _ALLOW)
    if error.errno == errno.EINVAL:
        return FrameIOUnavailable(f"the kernel is older than 5.19 ({error.strerror})", "take a later kernel")
    if error.errno == errno.ENOMEM:
        return FrameIOUnavailable(str(error.strerror), "allow more locked memory (LimitMEMLOCK=, ulimit -l)")
    return FrameIOUnavailable(str(error.strerror), "see `dmesg`")
